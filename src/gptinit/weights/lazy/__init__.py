"""Weights that are never drawn: queries answered from what they have in common."""
