"""Renderers: results in, text out, and the same bytes for the same result."""
