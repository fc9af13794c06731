"""The parts of theory against closed forms: kernels of activations, averages, exponents."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from gptinit.results.exponents import angle_exponent, gradient_exponent
from gptinit.theory.activations import ACTIVATION_CURVES, erf, kernel, relu_kernel, step_kernel
from gptinit.theory.averages import average_back, causal_average, transposed_average
from gptinit.theory.mixing import mix, rotary_kernel
from gptinit.theory.model import LayerMoments, Moments, TheoryModel

Floats = npt.NDArray[np.float64]
RNG = np.random.default_rng(0)


def tiny_model(n_embd: int = 10**9) -> TheoryModel:
    one = Moments(0.0, 1.0)
    layer = LayerMoments(q=one, k=one, v=one, attn_out=one, mlp_up=one, mlp_down=one)
    return TheoryModel(
        n_layer=1, n_head=1, n_kv_head=1, head_dim=2, n_embd=n_embd, d_ff=4, vocab_size=8,
        layers=(layer,), tok_emb=one, lm_head=one, activation="relu",
    )  # fmt: skip


def at(activation: str, std: float, r: float, *, slope: bool = False) -> float:
    root = np.array([[math.sqrt(1 - r)]], dtype=np.float32)
    return float(kernel(activation, std, slope=slope)(root)[0, 0])


def gelu_kernel(std: float, r: float) -> float:
    """Closed form of E[gelu(s z) gelu(s z')].

    With a = s^2, d = 1 + 2a + a^2 (1 - r^2) and g = sqrt(d): by parts in both Gaussians of
    E[h h' Phi(h) Phi(h')] (Tsuchida et al. 2021, "Avoiding Kernel Fixed Points", for GELU).
    """
    a = std**2
    root = math.sqrt((1 + a) ** 2 - (a * r) ** 2)
    angle = math.asin(a * r / (1 + a))
    first = a * r / 4 + a * r * angle / (2 * math.pi)
    second = a**2 * (1 + r**2 + a * (1 - r**2)) / (2 * math.pi * (1 + a) * root)
    return first + second


@pytest.mark.parametrize("std", [0.3, 0.55, 2.0])
@pytest.mark.parametrize("r", [0.0, 0.3, 0.9])
def test_gelu_quadrature_meets_the_closed_form(std: float, r: float) -> None:
    # Linear interpolation between steps of 0.01 in ln std: a kernel that grows as std^4 (its
    # fastest, at r = 0) is 16 * 0.01^2 / 8 = 2e-4 too large at most; erf and float32 are below.
    assert at("gelu", std, r) == pytest.approx(gelu_kernel(std, r), rel=2.2e-4)


@pytest.mark.parametrize("r", [-0.2, 0.0, 0.5, 0.99, 1.0])
def test_relu_kernels_are_the_arc_cosine_kernels(r: float) -> None:
    # Cho & Saul 2009: J1 / (2 pi) and J0 / (2 pi); at r = 1 they are 1/2 and 1/2.
    theta = math.acos(r)
    order_one = (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
    order_zero = (math.pi - theta) / (2 * math.pi)

    assert float(relu_kernel(np.array(r))) == pytest.approx(order_one, abs=1e-9)
    assert float(step_kernel(np.array(r))) == pytest.approx(order_zero, abs=1e-9)
    assert at("relu", 3.0, r) == pytest.approx(9 * order_one, rel=1e-3)
    assert at("relu", 3.0, r, slope=True) == pytest.approx(order_zero, rel=1e-3)


@pytest.mark.parametrize("activation", ACTIVATION_CURVES)
@pytest.mark.parametrize("slope", [False, True])
def test_kernels_agree_with_samples(activation: str, slope: bool) -> None:
    std, r, count = 0.8, 0.6, 400_000
    z = RNG.standard_normal((2, count))
    curve = ACTIVATION_CURVES[activation]
    f = curve.slope if slope else curve.value
    products = f(std * z[0]) * f(std * (r * z[0] + math.sqrt(1 - r**2) * z[1]))

    # 4.5 standard errors and the interpolation in ln std.
    error = 4.5 * float(products.std()) / math.sqrt(count) + 2.2e-4 * float(products.mean())
    assert abs(at(activation, std, r, slope=slope) - float(products.mean())) < error


def test_slopes_are_the_derivatives() -> None:
    x, step = np.linspace(-3, 3, 61) + 0.013, 1e-5
    for curve in ACTIVATION_CURVES.values():
        numeric = (curve.value(x + step) - curve.value(x - step)) / (2 * step)
        assert np.allclose(curve.slope(x), numeric, atol=2e-2 * step**0.25)


@pytest.mark.parametrize(
    ("activation", "slope", "expected"),
    [("silu", True, 0.25), ("tanh", True, 1.0), ("gelu", False, 0.0), ("relu", True, 0.0)],
)
def test_units_that_are_0_everywhere_have_the_slope_at_0(
    activation: str, slope: bool, expected: float
) -> None:
    found = kernel(activation, 0.0, slope=slope)

    assert found(np.array([[0.0, 0.5], [1.0, 0.3]], dtype=np.float32)) == pytest.approx(
        np.full((2, 2), expected), abs=1e-7
    )
    assert found.equal == pytest.approx(expected, abs=1e-7)


def test_erf_is_right_to_two_in_ten_million() -> None:
    x = np.linspace(-4, 4, 801)

    assert np.abs(erf(x) - [math.erf(v) for v in x.tolist()]).max() < 2e-7


@pytest.mark.parametrize("T", [1, 2, 15, 16, 33, 64])
def test_averages_are_products_with_the_uniform_causal_matrix(T: int) -> None:
    U = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]
    x = RNG.standard_normal((T, T)).astype(np.float32)

    assert np.allclose(causal_average(x), U @ x, atol=1e-5)
    assert np.allclose(transposed_average(x), U.T @ x, atol=1e-5)
    assert np.allclose(average_back(x), U.T @ x @ U, atol=1e-5)


def random_gram(T: int) -> npt.NDArray[np.float32]:
    x = np.abs(RNG.standard_normal((T, 3)))  # streams of tokens do not point apart
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (0.7 * x @ x.T + 0.3 * np.eye(T)).astype(np.float32)


def centred_keys(R: Floats, T: int) -> tuple[Floats, Floats]:
    """U and S~ with four indices i, i', j, j', by their definitions."""
    U = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]
    once, average = U @ R, U @ R @ U.T
    return U, (
        R[None, None] - once[:, None, None, :] - once[None, :, :, None] + average[:, :, None, None]
    )


def test_the_spread_of_weights_is_the_sum_that_it_stands_for() -> None:
    T = 12
    R = random_gram(T)
    U, keys = centred_keys(R.astype(np.float64), T)
    mixing = mix(R, R, (1.0, 0.0), tiny_model(), None)
    e = random_gram(T)

    expected = np.einsum("ij,kl,ikjl,jl->ik", U, U, keys, R)
    assert np.allclose(mixing.spread, expected, atol=1e-5)
    back = np.einsum("ij,kl,ikjl,ik->jl", U, U, keys, e)
    assert np.allclose(mixing.back_through_weights(e), back, atol=1e-5)


def test_the_means_of_weights_shift_as_the_first_order_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E A_ij - U_ij = U_ij q_ii / 2 (S~_jj - its mean over keys), where scores hardly vary."""
    T, variance = 12, 1e-3
    monkeypatch.setattr("gptinit.theory.mixing._LEAST_SHIFTED", 0.0)
    R = random_gram(T)
    U, keys = centred_keys(R.astype(np.float64), T)

    shift = mix(R, np.float32(variance) * R, (1.0, 0.0), tiny_model(), None).shift

    own = np.einsum("iijj->ij", keys)
    moved = U * variance / 2 * (own - (U * own).sum(1, keepdims=True))
    expected = moved @ R @ U.T
    # Rows of keys that are alike are softened as shorter ones: by up to 10 % in a hundred Grams.
    expected += expected.T
    assert np.allclose(shift, expected, atol=0.15 * np.abs(expected).max())


def test_mild_attention_agrees_with_sampled_scores() -> None:
    T, heads, std = 16, 60_000, 0.5
    R = random_gram(T)
    root = np.linalg.cholesky(R.astype(np.float64) + 1e-9 * np.eye(T))
    scores = std * root @ RNG.standard_normal((heads, T, T)) @ root.T
    scores += np.triu(np.full((T, T), -np.inf), 1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    sampled = np.einsum("hij,jk,hlk->hil", weights, R, weights, optimize=True)
    mixing = mix(R, np.float32(std**2) * R, (1.0, 0.0), tiny_model(), None)
    predicted = mixing.average + mixing.shift + std**2 * R * mixing.spread * mixing.gain()

    # 4.5 standard errors for 136 pairs; what lies beyond first order, std^4 = 0.06 of the first, is
    # that of keys alike: taken as right to 10 % of the first order, and to 1e-3.
    first = np.abs(predicted - mixing.average)
    error = 4.5 * sampled.std(0) / math.sqrt(heads) + 0.1 * first + 1e-3
    assert np.all(np.abs(predicted - sampled.mean(0)) < error)


def test_rotary_kernel_is_one_at_no_distance_and_falls() -> None:
    kernel_ = rotary_kernel(64, 32, base=10000.0)

    assert np.allclose(kernel_.diagonal(), 1)
    # Two entries turn by one radian a position: their mean cosine is cos(1).
    assert rotary_kernel(2, 2, base=10000.0)[0, 1] == pytest.approx(math.cos(1))
    assert rotary_kernel(2, 4, base=10000.0, rotary_dim=2)[0, 1] == pytest.approx(
        (math.cos(1) + 1) / 2
    )
    assert kernel_[0, 63] < kernel_[0, 5] < 1


def test_exponents_are_the_slopes_of_the_late_layers() -> None:
    # 12 layers: a transient, then 1 - cosine falls by e^-0.2 and the squared gradient by e^-0.3.
    cosine = [0.1] * 6 + [1 - math.exp(-0.2 * layer) for layer in range(6, 12)]
    grad = [7.0] * 6 + [math.exp(-0.15 * layer) for layer in range(6, 12)]

    assert angle_exponent(cosine) == pytest.approx(-0.2)
    assert gradient_exponent(grad) == pytest.approx(0.3)


@pytest.mark.parametrize("values", [[0.5] * 3, [0.5, 0.5, 1.0, 0.5], [0.5, math.nan, 0.5, 0.5]])
def test_an_exponent_that_is_not_defined_is_none(values: list[float]) -> None:
    assert angle_exponent(values) is None


def test_a_gradient_that_vanishes_has_no_exponent() -> None:
    assert gradient_exponent([1.0, 1.0, 0.0, 1.0]) is None
