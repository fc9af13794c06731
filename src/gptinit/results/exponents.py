"""The two Lyapunov exponents of a profile: do tokens stay apart, and do gradients keep their size?

References:
    Cowsik et al. 2024, "Geometric Dynamics of Signal Propagation Predict Trainability of
    Transformers", arXiv 2403.02579: the exponents of the angle between tokens and of gradients.
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["FEWEST_LAYERS", "angle_exponent", "gradient_exponent"]

FEWEST_LAYERS = 4
"""Layers below which no exponent is fitted."""


def angle_exponent(token_cosine: Sequence[float]) -> float | None:
    """Change per layer of ln(1 - token_cosine): negative where tokens collapse to one direction.

    Args:
        token_cosine: at every layer, first to last.

    Returns:
        The least-squares slope over the second half of the layers, n_layer // 2 to n_layer - 1,
        where the first layers' transient is over; None for fewer than FEWEST_LAYERS layers, or
        where a cosine is not below 1.

    Example:
        >>> round(angle_exponent([1 - math.exp(-0.1 * layer) for layer in range(1, 9)]), 6)
        -0.1
    """
    return _late_slope([1 - cosine for cosine in token_cosine])


def gradient_exponent(grad_rms: Sequence[float]) -> float | None:
    """Growth per layer, from output to input, of ln grad_rms^2: positive where gradients explode.

    It is the exponent of the squared end-to-end Jacobian, so its sign is that of a network read
    from input to output: a perturbation of the stream grows by half of it a layer.

    Args:
        grad_rms: of the gradient in the stream after every layer, first to last.

    Returns:
        Minus the least-squares slope of ln grad_rms^2 over the layer number, over the second half
        of the layers, n_layer // 2 to n_layer - 1; None for fewer than FEWEST_LAYERS layers, or
        where a gradient is 0 or not finite.

    Example:
        >>> round(gradient_exponent([math.exp(-0.05 * layer) for layer in range(8)]), 6)
        0.1
    """
    slope = _late_slope([rms * rms for rms in grad_rms])
    return None if slope is None else -slope


def _late_slope(values: Sequence[float]) -> float | None:
    """Least-squares slope of the logarithms of the second half of `values`."""
    if len(values) < FEWEST_LAYERS or not all(v > 0 and math.isfinite(v) for v in values):
        return None
    late = np.log(np.array(values[len(values) // 2 :]))
    layer = np.arange(len(late)) - (len(late) - 1) / 2
    return float((late * layer).sum() / (layer**2).sum())
