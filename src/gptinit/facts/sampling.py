"""What is looked at where all of it would be too much: rows of the vocabulary, query positions."""

__all__ = ["LENS_ROWS", "QUERY_ROWS", "query_rows"]

LENS_ROWS = 512
"""Vocabulary rows that the logit lens reads at layers."""

QUERY_ROWS = 32
"""Query positions a sequence whose attention scores are read."""


def query_rows(T: int, count: int) -> list[int]:
    """Positions of `count` query rows, the middles of equal strata; all of them where T is less.

    Example:
        >>> query_rows(8, 4)
        [1, 3, 5, 7]
    """
    rows = min(T, count)
    return [(2 * i + 1) * T // (2 * rows) for i in range(rows)]
