"""Laws compared with what a scheme says: kinds, cuts, pieces, rounding and sampling errors."""

import math
from dataclasses import replace

import pytest
from support.programs import D, L, facts, gpt2, llama, matrix, nanogpt, vector

from gptinit.audit_rules import matching
from gptinit.audit_rules.matching import (
    agrees,
    expectations,
    ratio_of,
    relative_error,
    rms,
    same_law,
    same_moments,
    tolerance_of,
    without_padding,
)
from gptinit.facts.algebra import FAR_CUT, simplified
from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Measured,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.facts.schemes import Scheme, get_scheme, load_schemes
from gptinit.results.program import ModelProgram

N = Normal(0.0, 0.02)


def sample(std: float, *, kurtosis: float = 3.0, count: int = 10_000) -> Measured:
    return Measured(
        mean=0.0, std=std, mean_stderr=std / math.sqrt(count),
        std_stderr=std / math.sqrt(2 * count), low=-4 * std, high=4 * std,
        kurtosis=kurtosis, count=count,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (N, N, True),
        (Normal(0.0, 0.02 * (1 + 5e-7)), N, True),  # float32 rounding
        (Normal(0.0, 0.02 * (1 + 5e-6)), N, False),
        (TruncatedNormal(0.0, 0.02, -2.0, 2.0), N, True),  # cut at 100 std
        (TruncatedNormal(0.0, 0.02, -0.06, 0.06), N, False),
        (Uniform(-0.02 * math.sqrt(3), 0.02 * math.sqrt(3)), N, False),
        (Copy("other", N), N, True),
        (Scaled(Normal(0.0, 1.0), 0.02), N, True),
        (Normal(0.0, 0.0), Constant(0.0), True),
        (Uniform(0.5, 0.5), Constant(0.5), True),
        (Piecewise(((2, N), (4, N))), N, True),
        (Piecewise(((2, N), (4, Constant(0.0)))), N, False),
        (Piecewise(((2, N), (4, Constant(0.0)))), Piecewise(((2, N), (4, Constant(0.0)))), True),
        (
            Piecewise(((2, N), (2, N), (2, Constant(0.0)))),
            Piecewise(((4, N), (2, Constant(0.0)))),
            True,
        ),
        (Piecewise(((3, N), (3, Constant(0.0)))), Piecewise(((2, N), (4, Constant(0.0)))), False),
        (Piecewise(((3, N), (4, Constant(0.0)))), Piecewise(((3, N), (3, Constant(0.0)))), False),
        (Unset(), N, False),
        (Orthogonal(0.32, 256), N, False),  # std 0.02 too
        (sample(0.02), N, True),
        (sample(0.02 * (1 + 4.9 / math.sqrt(20_000))), N, True),  # 4.9 standard errors
        (sample(0.02 * (1 + 5.2 / math.sqrt(20_000))), N, False),
        (sample(0.02, kurtosis=1.8), N, False),
        (sample(0.02, kurtosis=3 + 4.9 * math.sqrt(24 / 10_000)), N, True),
        (sample(0.02, kurtosis=1.8), Uniform(-0.02 * math.sqrt(3), 0.02 * math.sqrt(3)), True),
    ],
)
def test_laws_are_one_or_not(actual: Distribution, expected: Distribution, same: bool) -> None:
    assert same_law(actual, expected) is same


def test_bfloat16_may_round_a_std_by_a_256th() -> None:
    rounded = Normal(0.0, 0.02 * (1 + 2**-9))

    assert same_law(rounded, N, "bfloat16")
    assert not same_law(rounded, N, "float32")


def test_a_truncated_sample_has_the_kurtosis_of_its_law() -> None:
    # Kurtosis of a normal cut at 2 sigma: (3 m2 - 8 e) / m2^2, e = 2 pdf(2) / erf(sqrt 2)
    # = 0.113126, m2 = 1 - 2 e = 0.773748; so 2.365.
    law = TruncatedNormal(0.0, 0.02, -0.04, 0.04)

    assert same_law(sample(law.std, kurtosis=2.365), law)
    assert not same_law(sample(law.std, kurtosis=3.0), law)


def test_a_ratio_needs_two_known_sizes() -> None:
    assert ratio_of(N, Normal(0.0, 0.01)) == pytest.approx(2.0, rel=1e-12)
    assert ratio_of(Constant(2.0), Constant(1.0)) == pytest.approx(2.0, rel=1e-12)
    assert ratio_of(N, Constant(0.0)) is None
    assert ratio_of(Unset(), N) is None


def test_a_mixture_of_one_law_is_that_law() -> None:
    assert simplified(Mixture(((5, N), (3, Copy("a", N))))) == N
    assert simplified(Mixture(((5, N), (3, Constant(0.0))))).kind == "mixture"


def with_rules(**formulas: str) -> Scheme:
    """nanogpt, but for the fused roles named, which get a rule with this std."""
    base, fan = get_scheme("nanogpt"), get_scheme("pytorch-default")
    rules = dict(base.rules) | {role: fan.rules[role] for role in formulas}
    return replace(base, rules=rules)


def test_a_fused_matrix_is_expected_block_by_block() -> None:
    scheme = with_rules(v="fan_in")
    wide = matrix("c_attn.weight", "qkv", N, D, 3 * D, layer=0)
    program = ModelProgram(facts=facts(), parameters=(wide,))
    turned = replace(program, parameters=(replace(wide, shape=(D, 3 * D)),))

    bound = 1 / math.sqrt(D)
    assert expectations(scheme, program).expected == {
        "c_attn.weight": Piecewise(((D, N), (D, N), (D, Uniform(-bound, bound))))
    }
    assert (
        expectations(scheme, turned).expected["c_attn.weight"].kind == "mixture"
    )  # columns, not rows


def test_a_bias_is_expected_by_the_fans_of_its_matrix() -> None:
    expected = expectations(get_scheme("pytorch-default"), gpt2()).expected

    assert expected["transformer.h.0.mlp.c_proj.bias"] == Uniform(-1 / 32, 1 / 32)  # d_ff = 1024


def test_what_nobody_knows_is_not_expected() -> None:
    program = llama()
    blind = replace(program, parameters=tuple(
        replace(p, fan_in=None, fan_out=None) for p in program.parameters
    ))  # fmt: skip

    expected = expectations(get_scheme("pytorch-default"), blind).expected
    assert "model.layers.0.mlp.up_proj.weight" not in expected
    assert expected["model.embed_tokens.weight"] == Normal(0.0, 1.0)


def test_a_scheme_without_a_value_at_this_shape_expects_nothing() -> None:
    nanogpt_scheme = get_scheme("nanogpt")

    assert nanogpt_scheme.expected("attn_out", facts(n_layer=0)) is None
    assert nanogpt_scheme.expected("attn_out", facts(n_layer=8)) == Normal(0.0, 0.005)
    assert nanogpt_scheme.expected("other", facts()) is None


@pytest.mark.parametrize("slug", load_schemes())
def test_every_scheme_expects_the_embedding_of_a_foreign_model(slug: str) -> None:
    program = llama(nanogpt, n_layer=L)

    assert "model.embed_tokens.weight" in expectations(load_schemes()[slug], program).expected


@pytest.mark.parametrize(("share", "same"), [(0.9, True), (1.1, False)])
@pytest.mark.parametrize("end", ["low", "high"])
def test_bounds_may_be_off_by_the_rounding_of_the_farthest_cut(
    share: float, same: bool, end: str
) -> None:
    law = TruncatedNormal(0.0, 0.5, -2.0, 2.0)
    room = share * 2**-8 * 0.5 * FAR_CUT

    for sign in (-1, 1):
        moved = replace(law, **{end: getattr(law, end) + sign * room})
        assert _bounds(moved, law) is same


def _bounds(actual: TruncatedNormal, expected: TruncatedNormal) -> bool:
    same = matching._same_bounds(actual, expected, tolerance_of("bfloat16"))
    assert same == matching._same_bounds(expected, actual, tolerance_of("bfloat16"))
    return same


@pytest.mark.parametrize(
    ("value", "gain", "same"),
    [
        (1.0, 1.019, True),
        (1.0, 1.021, False),
        (1.0, 0.981, True),
        (1.0, 0.979, False),
        (0.5, 0.519, True),
        (0.5, 0.521, False),
        (4.0, 4.079, True),
        (4.0, 4.081, False),
        (-4.0, -4.079, True),
        (0.0, 0.019, True),
        (0.0, 0.021, False),
    ],
)
def test_a_gain_may_be_off_by_two_percent_of_itself_or_of_one(
    value: float, gain: float, same: bool
) -> None:
    norm = replace(vector("norm.weight", "norm_weight", Constant(7.0)), gain=gain)

    assert agrees(norm, Constant(value), gpt2()) is same


@pytest.mark.parametrize(("count", "same"), [(999, True), (1000, False)])
def test_a_kurtosis_is_judged_from_a_thousand_values_on(count: int, same: bool) -> None:
    assert same_law(sample(0.02, kurtosis=1.0, count=count), N) is same


def test_a_cut_off_the_middle_has_no_kurtosis_to_compare_with() -> None:
    law = TruncatedNormal(0.0, 0.02, -0.04, 0.05)
    measured = replace(sample(law.std, kurtosis=9.0), mean=law.mean)

    assert same_law(measured, law)


@pytest.mark.parametrize(
    ("mean", "std", "same"),
    [
        (0.049, 1.0, True),  # 4.9 errors of 0.01
        (-0.051, 1.0, False),
        (0.0, 1.0 + 4.9 / math.sqrt(20_000), True),
        (0.0, 1.0 - 5.1 / math.sqrt(20_000), False),
    ],
)
def test_measured_moments_agree_within_five_errors(mean: float, std: float, same: bool) -> None:
    measured = replace(sample(1.0), mean=mean, std=std)

    assert same_moments(measured, Normal(0.0, 1.0)) is same


def test_sizes_and_errors_of_laws_are_those_of_their_parts() -> None:
    mixed = Piecewise(((1, sample(2.0, count=50)), (1, sample(1.0, count=200)), (1, N)))

    assert relative_error(mixed) == pytest.approx(0.1)
    assert relative_error(N) == 0.0
    assert rms(Uniform(0.0, 3.0)) == pytest.approx(math.sqrt(3.0))


@pytest.mark.parametrize(
    ("row", "pieces", "kept"),
    [
        (0, ((1, Constant(0.0)), (9, N)), N),
        (-1, ((9, N), (1, Constant(0.0))), N),
        (4, ((4, N), (1, Constant(0.0)), (5, N)), N),
        # Not where it should be, not zero, or more than one row.
        (3, ((4, N), (1, Constant(0.0)), (5, N)), None),
        (5, ((4, N), (1, Constant(0.0)), (5, N)), None),
        (4, ((4, N), (1, Constant(1.0)), (5, N)), None),
        (4, ((4, N), (2, Constant(0.0)), (4, N)), None),
        (None, ((1, Constant(0.0)), (9, N)), None),
    ],
)
def test_a_row_of_padding_is_left_out_where_it_is_zero(
    row: int | None,
    pieces: tuple[tuple[int, Distribution], ...],
    kept: Distribution | None,
) -> None:
    parameter = matrix("wte.weight", "tok_emb", Piecewise(pieces), 4, 10)
    program = replace(gpt2(), padding={} if row is None else {"wte.weight": row})

    found = without_padding(parameter, program)

    assert simplified(found) == (simplified(Piecewise(pieces)) if kept is None else kept)


def test_a_norm_of_zeros_without_a_known_gain_may_add_one_to_its_weight() -> None:
    norm = vector("norm.weight", "norm_weight", Constant(0.0))

    assert agrees(replace(norm, gain=None), Constant(1.0), gpt2())
    assert not agrees(replace(norm, gain=0.0), Constant(1.0), gpt2())
    assert not agrees(replace(norm, role="norm_bias", gain=None), Constant(1.0), gpt2())
