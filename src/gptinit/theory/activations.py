"""Activations between Gaussian pre-activations: E[f(h) f(h')] as a function of their correlation.

With h = s z and h' = s z' and z, z' standard normals of correlation r, every kernel is a smooth
function of sqrt(1 - r), also where the activation has a kink (arc-cosine kernels are), so a
polynomial in it serves them all.

References:
    Cho & Saul 2009, "Kernel Methods for Deep Learning": the kernels of ReLU and of its derivative.
    Abramowitz & Stegun 1964, "Handbook of Mathematical Functions", 7.1.26: erf to 1.5e-7.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from gptinit.theory.arrays import Floats, Gram

__all__ = ["ACTIVATION_CURVES", "Curve", "Kernel", "erf", "kernel", "relu_kernel", "step_kernel"]


_DEGREE = 8
_GRID = 0.01  # of ln s, between whose points kernels are interpolated


def erf(x: Floats) -> Floats:
    """The error function, to 1.5e-7 (Abramowitz & Stegun 7.1.26).

    Shape:
        x, result: any.
    """
    size = np.abs(x)
    t = 1 / (1 + 0.3275911 * size)
    poly = 0.254829592 + t * (
        -0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))
    )
    value: Floats = np.sign(x) * (1 - t * poly * np.exp(-(size**2)))
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """An activation and its derivative; `has_kink` where quadrature needs closed forms instead."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    has_kink: bool = False


def _cdf(x: Floats) -> Floats:
    return (1 + erf(x / math.sqrt(2))) / 2


def _gelu_slope(x: Floats) -> Floats:
    slope: Floats = _cdf(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return slope


_ROOT, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(x: Floats) -> Floats:
    value: Floats = x * (1 + np.tanh(_ROOT * (x + _CUBIC * x**3))) / 2
    return value


def _gelu_tanh_slope(x: Floats) -> Floats:
    tanh = np.tanh(_ROOT * (x + _CUBIC * x**3))
    slope: Floats = (1 + tanh) / 2 + x * (1 - tanh**2) * _ROOT * (1 + 3 * _CUBIC * x**2) / 2
    return slope


def _sigmoid(x: Floats) -> Floats:
    return (1 + np.tanh(x / 2)) / 2


def _silu_slope(x: Floats) -> Floats:
    gate = _sigmoid(x)
    return gate * (1 + x * (1 - gate))


ACTIVATION_CURVES: Mapping[str, Curve] = MappingProxyType(
    {
        "gelu": Curve(value=lambda x: x * _cdf(x), slope=_gelu_slope),
        "gelu_tanh": Curve(value=_gelu_tanh, slope=_gelu_tanh_slope),
        "silu": Curve(value=lambda x: x * _sigmoid(x), slope=_silu_slope),
        "tanh": Curve(value=np.tanh, slope=lambda x: 1 - np.tanh(x) ** 2),
        "relu": Curve(
            value=lambda x: np.maximum(x, 0.0),
            slope=lambda x: (x > 0).astype(np.float64),
            has_kink=True,
        ),
        "relu2": Curve(
            value=lambda x: np.maximum(x, 0.0) ** 2, slope=lambda x: 2 * np.maximum(x, 0.0)
        ),
    }
)
"""Activations that theory knows, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """E[f(s z) f(s z')] at every correlation.

    Attributes:
        coefficients: of a polynomial in sqrt(1 - r), lowest first. Shape: (degree + 1,).
        equal: at r = 1, exactly.
    """

    coefficients: Floats
    equal: float

    def __call__(self, root: Gram) -> Gram:
        """The kernel where `root` is sqrt(1 - r).

        Shape:
            root, result: (T, T).
        """
        value = np.full_like(root, self.coefficients[-1])
        for coefficient in self.coefficients[-2::-1].tolist():
            value *= root
            value += np.float32(coefficient)
        return value


def kernel(activation: str, std: float, *, slope: bool = False) -> Kernel:
    """The kernel of an activation (or of its derivative) at pre-activations of std `std`.

    Example:
        >>> round(kernel("relu", 2.0).equal, 3)
        2.0
    """
    if std == 0:
        at = ACTIVATION_CURVES[activation]
        still = float((at.slope if slope else at.value)(np.zeros(1))[0]) ** 2
        return Kernel(coefficients=np.array([still] + [0.0] * _DEGREE), equal=still)
    place = math.log(std) / _GRID
    low = math.floor(place)
    x = place - low
    one, other = _kernel_at(activation, slope, low), _kernel_at(activation, slope, low + 1)
    return Kernel(
        coefficients=(1 - x) * one.coefficients + x * other.coefficients,
        equal=(1 - x) * one.equal + x * other.equal,
    )


@lru_cache(maxsize=4096)
def _kernel_at(activation: str, slope: bool, step: int) -> Kernel:
    """The kernel at a point of the grid of ln std."""
    std = math.exp(step * _GRID)
    curve = ACTIVATION_CURVES[activation]
    root = 0.5 - 0.5 * np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)
    correlation = 1 - root**2
    if curve.has_kink:
        values = step_kernel(correlation) if slope else std**2 * relu_kernel(correlation)
    else:
        values = _integrate(curve.slope if slope else curve.value, std, correlation)
    fit = np.linalg.solve(np.vander(root, increasing=True), values)
    return Kernel(coefficients=np.asarray(fit, dtype=np.float64), equal=float(values[0]))


def relu_kernel(r: Floats) -> Floats:
    """E[relu(z) relu(z')] at correlation r.

    Shape:
        r, result: any.

    References:
        Cho & Saul 2009, equation 6, over 2: theirs is of 2 E.
    """
    angle = np.arccos(np.clip(r, -1, 1))
    value: Floats = (np.sqrt(np.maximum(1 - r**2, 0)) + (math.pi - angle) * r) / (2 * math.pi)
    return value


def step_kernel(r: Floats) -> Floats:
    """P(z > 0, z' > 0) at correlation r: the kernel of ReLU's derivative.

    Shape:
        r, result: any.
    """
    value: Floats = (math.pi - np.arccos(np.clip(r, -1, 1))) / (2 * math.pi)
    return value


def _integrate(curve: Callable[[Floats], Floats], std: float, correlation: Floats) -> Floats:
    """The kernel by quadrature over z and the part of z' that is independent of it.

    Shape:
        correlation, result: (n,).
    """
    step = min(0.25, 0.5 / std)
    z = np.arange(-8.0, 8.0 + step, step)
    weight = np.exp(-(z**2) / 2) * step / math.sqrt(2 * math.pi)
    other = correlation[:, None, None] * z[:, None] + np.sqrt(1 - correlation**2)[:, None, None] * z
    inner = curve(std * other) @ weight  # (n, z)
    value: Floats = inner @ (curve(std * z) * weight)
    return value
