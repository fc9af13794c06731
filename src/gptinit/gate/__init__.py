"""Profiles, bounds and a baseline in; verdicts and findings out."""
