"""Numbers as people read them."""

import math

import pytest

from gptinit.report.numbers import cell, large, short, with_error


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000803, "0.000803"),
        (0.08893, "0.0889"),
        (9.534, "9.53"),
        (0.5, "0.500"),
        (11943.0, "11900"),  # thousands without a separator
        (999.9, "1000"),  # rounds up to four digits
        (0.0001, "0.000100"),
        (0.00009999, "0.000100"),  # rounds up to where exponents end
        (0.0000999, "9.99e-05"),
        (999499.0, "999000"),
        (999999.0, "1.00e+06"),  # rounds up to where exponents begin
        (-0.02, "-0.0200"),
        (0.0, "0"),
        (-0.0, "0"),
        (1234567, "1234567"),  # a count
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (None, ""),
    ],
)
def test_three_significant_digits_are_written(value: float | None, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.08893, 0.00131, "0.0889 ± 0.0013"),
        (0.08893, None, "0.0889"),
        (None, None, ""),
        (11943.0, 120.0, "11940 ± 120"),
        (9.9999, 0.5, "10.00 ± 0.50"),
        (-3.2, 0.0996, "-3.20 ± 0.10"),  # an error that rounds up to a new power of ten
        (-0.0001, 0.5, "0.00 ± 0.50"),  # never minus zero
        (0.00005, 0.0012, "0.0001 ± 0.0012"),
        (0.0, 0.01, "0.000 ± 0.010"),
        (1e-7, 2e-9, "(1.000 ± 0.020)e-07"),
        (999_400.0, 1234.0, "999400 ± 1200"),
        (999_600.0, 1234.0, "(0.9996 ± 0.0012)e+06"),  # a million to three digits
        (1234567.0, 23456.0, "(1.235 ± 0.023)e+06"),
        (5.0, 0.0, "5.00 ± 0"),
        (5.0, 1e-9, "5.00 ± 1.0e-09"),  # ten digits of a value help nobody
        (math.inf, 1.0, "inf ± 1.00"),
        (1.0, math.nan, "1.00 ± nan"),
    ],
)
def test_a_value_is_written_as_far_as_its_error(
    value: float | None, stderr: float | None, text: str
) -> None:
    assert with_error(value, stderr) == text


@pytest.mark.parametrize(
    ("stat", "value", "stderr", "text"),
    [
        ("nonfinite", 12345.0, 0.0, "12345"),
        ("nonfinite", 0.5, None, "0.500"),  # a mean over seeds
        ("nonfinite", 2.0, 1.0, "2.0 ± 1.0"),
        ("loss", 7.0, None, "7.00"),
        ("nonfinite", math.nan, None, "nan"),
        ("nonfinite", None, None, ""),
    ],
)
def test_only_whole_counts_are_written_in_full(
    stat: str, value: float | None, stderr: float | None, text: str
) -> None:
    assert cell(stat, value, stderr) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (999_999, "999999"),
        (10**6, "1 M"),
        (10**9 - 10**6, "999 M"),
        (10**9, "1 B"),
        (10**12 - 10**9, "999 B"),
        (10**12, "1 T"),
    ],
)
def test_a_round_number_is_one_of_the_larger_unit(number: int, text: str) -> None:
    assert large(number) == text
