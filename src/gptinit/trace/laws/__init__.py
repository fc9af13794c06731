"""The distribution of a recorded tensor, read from its graph."""
