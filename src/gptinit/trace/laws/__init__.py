"""The distribution of a recorded tensor, derived from its nodes.

laws.py looks up one rule per operator (arithmetic.py, selection.py). A rule turns the `Law`s of an
operator's arguments into that of its result: its distribution and its `Basis`, the draw behind it.
"""
