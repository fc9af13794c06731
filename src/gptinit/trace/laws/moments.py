"""Distributions of values: their moments, where nothing better is known."""

import math

import torch
from torch import Tensor

from gptinit.facts.distributions import Constant, Distribution, Fixed, Measured, Unset

__all__ = ["measured", "of_fixed_values", "unanswered"]


def measured(values: Tensor) -> Measured:
    """Moments of values with the standard errors of independent entries.

    Shape:
        values: any, at least one entry, finite.

    Example:
        >>> measured(torch.tensor([1.0, 3.0])).std
        1.0
    """
    x = values.double().flatten()
    count = x.numel()
    mean, std = float(x.mean()), float(x.std(correction=0))
    fourth = float(((x - mean) ** 4).mean())
    kurtosis = fourth / std**4 if std > 0 and std**4 > 0 else 0.0
    # Standard error of a std: std sqrt((kurtosis - 1) / 4n), to first order in 1/n.
    return Measured(
        mean=mean,
        std=std,
        mean_stderr=std / math.sqrt(count),
        std_stderr=std * math.sqrt(max(kurtosis - 1, 0.0) / (4 * count)),
        low=float(x.min()),
        high=float(x.max()),
        kurtosis=kurtosis,
        count=count,
    )


def unanswered() -> Measured:
    """NaN moments: of draws that no rule covers and that are too many to compute."""
    return Measured(
        mean=math.nan, std=math.nan, mean_stderr=math.nan, std_stderr=math.nan,
        low=-math.inf, high=math.inf, kurtosis=math.nan, count=0,
    )  # fmt: skip


def of_fixed_values(values: Tensor) -> Distribution:
    """The distribution of values that are the same for every seed; Unset if some are NaN."""
    if not values.numel():
        return Constant(0.0)
    if values.dtype.is_complex:
        values = torch.view_as_real(values.resolve_conj().to(torch.complex128))
    x = values.double()
    if bool(torch.isnan(x).any()):
        return Unset()
    low, high = float(x.min()), float(x.max())
    if low == high and math.isfinite(low):
        return Constant(low)
    return Fixed(float(x.mean()), float(x.std(correction=0)), low, high)
