"""Which known scheme a program is closest to."""

import math
from dataclasses import replace

import pytest
from support.programs import (
    D,
    L,
    V,
    by_role,
    every,
    gpt2,
    llama,
    nanogpt,
    plain,
    redrawn,
    with_padding,
)

from gptinit.audit_rules.closest import closest_scheme, differing_roles
from gptinit.audit_rules.matching import expectations
from gptinit.config import GPTConfig
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Measured,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.results.program import ModelProgram, ParameterProgram


def named(program: ModelProgram) -> tuple[str, bool, tuple[str, ...]]:
    found = closest_scheme(program)
    assert found is not None
    return found.name, found.exact, found.differs


def scaled_w3() -> ModelProgram:
    """As llama2.c: the depth factor on mlp_up in place of mlp_down."""
    factor = Normal(0.0, 0.02 / math.sqrt(2 * L))
    return llama(by_role(dict.fromkeys(("attn_out", "mlp_up"), factor), Normal(0.0, 0.02)))


def drawn_by(slug: str) -> ModelProgram:
    """The GPT-2 shape drawn as a scheme says, fused projections block by block."""
    config = GPTConfig(n_layer=L, n_head=4, n_embd=D, vocab_size=V, block_size=128)
    scheme, program = get_scheme(slug), gpt2()
    matrices = {p.name: p for p in program.parameters}

    def law(p: ParameterProgram, role: str) -> Distribution:
        matrix = matrices[f"{p.name.rpartition('.')[0]}.weight"]  # a bias has its fans
        fan_out = D if p.role == "qkv" else matrix.fan_out
        return scheme.distribution(
            role, config, layer=p.layer, fan_in=matrix.fan_in, fan_out=fan_out
        )

    def change(p: ParameterProgram) -> ParameterProgram:
        if p.role == "qkv":
            return replace(p, distribution=Piecewise(tuple((D, law(p, r)) for r in "qkv")))
        return replace(p, distribution=law(p, p.role))

    return every(program, lambda _: True, change)


@pytest.mark.parametrize("slug", load_schemes())
def test_a_model_drawn_by_a_scheme_is_exactly_that_scheme_or_its_equal(slug: str) -> None:
    program = drawn_by(slug)
    name, exact, differs = named(program)

    assert exact
    assert differs == ()
    # Schemes that agree on this shape may share it; the one drawn from is among the exact ones.
    for scheme in map(get_scheme, (slug, name)):
        assert not differing_roles(program, expectations(scheme, program))


@pytest.mark.parametrize(
    ("program", "name", "differs"),
    [
        (gpt2(), "nanogpt", ()),
        (gpt2(plain), "plain", ()),
        (llama(), "plain", ()),  # no positions: gpt2-code fits as well, plain comes first
        # One role off either of two schemes: the rules say that the other branch is right.
        (redrawn(gpt2(), "mlp.c_proj.weight", Normal(0.0, 0.02)), "nanogpt", ("mlp_down",)),
        # Documented to be scaled: what is found missing is the scheme's exception.
        (replace(gpt2(plain), architecture="gpt2"), "nanogpt", ("attn_out", "mlp_down")),
        (scaled_w3(), "nanogpt", ("mlp_up", "mlp_down")),
        (redrawn(gpt2(), "mlp.c_proj.weight", Normal(0.0, 0.01)), "nanogpt", ("mlp_down",)),
        (redrawn(gpt2(), "wpe.weight", Normal(0.0, 0.01)), "nanogpt", ("pos_emb",)),
        (redrawn(gpt2(plain), "wpe.weight", Normal(0.0, 0.01)), "gpt2-code", ()),
        (redrawn(gpt2(), "c_fc.weight", Unset()), "nanogpt", ("mlp_up",)),
        (redrawn(gpt2(), "c_fc.bias", Uniform(-0.1, 0.1)), "nanogpt", ("linear_bias",)),
        (with_padding(llama(), 0), "plain", ()),
        (with_padding(llama(), V - 1), "plain", ()),
        (
            redrawn(
                gpt2(), "c_attn.weight",
                Piecewise(((D, Normal(0.0, 0.02)), (D, Normal(0.0, 0.02)), (D, Constant(0.0)))),
            ),
            "nanogpt", ("qkv",),
        ),
        (
            redrawn(llama(nanogpt), "q_proj.weight", TruncatedNormal(0.0, 0.02, -0.04, 0.04)),
            "nanogpt", ("q",),
        ),
        (
            redrawn(llama(nanogpt), "q_proj.weight", TruncatedNormal(0.0, 0.02, -2.0, 2.0)),
            "nanogpt", (),
        ),
    ],
)  # fmt: skip
def test_the_closest_scheme_has_the_fewest_roles_that_differ(
    program: ModelProgram, name: str, differs: tuple[str, ...]
) -> None:
    assert named(program) == (name, not differs, differs)


def test_of_equally_many_roles_the_smaller_ratios_win() -> None:
    # 0.021/sqrt(n_layer): 1.05 times cproj-sqrt-l, 1.48 times nanogpt, 0.74 of
    # cproj-sqrt-2-over-l; each differs in two roles.
    program = redrawn(gpt2(), "c_proj.weight", Normal(0.0, 0.021 / math.sqrt(L)))

    assert named(program) == ("cproj-sqrt-l", False, ("attn_out", "mlp_down"))


def times(program: ModelProgram, factor: float, cut: float | None = None) -> ModelProgram:
    """The program with other stds, and with normals truncated at so many of them."""

    def change(p: ParameterProgram) -> ParameterProgram:
        std = factor * p.distribution.std
        law = Normal(0.0, std) if cut is None else TruncatedNormal(0.0, std, -cut * std, cut * std)
        return replace(p, distribution=law)

    return every(program, lambda p: p.distribution.std > 0, change)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (times(gpt2(nanogpt), 1.5), ("nanogpt", 1.5, None, ())),
        (times(gpt2(plain), 1.0, cut=3.0), ("plain", 1.0, 3.0, ())),
        (times(gpt2(nanogpt), 0.3, cut=2.0), ("nanogpt", 0.3, 2.0, ())),
        (
            redrawn(times(gpt2(nanogpt), 1.5), "mlp.c_proj.weight", Normal(0.0, 0.03)),
            ("nanogpt", 1.5, None, ("mlp_down",)),
        ),
        # One or two roles that share a ratio are as many exceptions, and no factor.
        (
            redrawn(gpt2(nanogpt), "wte.weight", Normal(0.0, 0.03)),
            ("nanogpt", 1.0, None, ("tok_emb",)),
        ),
    ],
)
def test_one_factor_or_one_truncation_of_all_draws_is_one_exception(
    program: ModelProgram, expected: tuple[str, float, float | None, tuple[str, ...]]
) -> None:
    found = closest_scheme(program)

    assert found is not None
    name, factor, cut, differs = expected
    assert (found.name, found.cut, found.differs) == (name, cut, differs)
    assert found.factor == pytest.approx(factor, rel=1e-9)
    assert found.is_close
    assert not found.exact


def test_a_scheme_that_few_matrices_match_is_not_close() -> None:
    def change(p: ParameterProgram) -> ParameterProgram:  # Xavier's uniform: no scheme has it
        bound = math.sqrt(6 / ((p.fan_in or 0) + (p.fan_out or 0)))
        return replace(p, distribution=Uniform(-bound, bound))

    program = every(llama(), lambda p: bool(p.fan_in) and p.distribution.std > 0, change)
    found = closest_scheme(program)

    assert found is not None
    assert not found.is_close


def test_norms_count_by_their_gain() -> None:
    zero = every(
        llama(),
        lambda p: p.role == "norm_weight",
        lambda p: replace(p, distribution=Constant(0.0), gain=1.0),
    )
    doubled = every(zero, lambda p: p.role == "norm_weight", lambda p: replace(p, gain=2.0))
    unknown = every(zero, lambda p: p.role == "norm_weight", lambda p: replace(p, gain=None))

    assert named(zero) == ("plain", True, ())
    assert named(doubled) == ("plain", False, ("norm_weight",))
    assert named(unknown) == ("plain", True, ())


def test_a_measured_model_is_told_within_its_errors() -> None:
    def sample(std: float) -> Measured:
        return Measured(
            mean=0.0, std=std * 1.002, mean_stderr=std / 256, std_stderr=std / 362,
            low=-4 * std, high=4 * std, kurtosis=3.0, count=65536,
        )  # fmt: skip

    program = every(
        gpt2(),
        lambda p: p.distribution.std > 0,
        lambda p: replace(p, distribution=sample(p.distribution.std)),
    )

    assert named(program) == ("nanogpt", True, ())


def test_a_model_of_no_known_role_has_no_closest_scheme() -> None:
    program = every(llama(), lambda _: True, lambda p: replace(p, role="other"))

    assert closest_scheme(program) is None


def test_roles_are_told_in_the_order_of_tables() -> None:
    odd = llama(by_role({"q": Normal(0.0, 0.07), "tok_emb": Normal(0.0, 0.05)}, Normal(0.0, 0.02)))

    assert named(odd)[2] == ("tok_emb", "q")


def test_a_role_is_as_far_from_a_scheme_as_the_farthest_of_its_parameters() -> None:
    def law(role: str, layer: int) -> Distribution:
        factor = {0: 4.0, 1: 0.125}.get(layer, 1.5) if role == "mlp_down" else 1.0
        return Normal(0.0, 0.02 * factor)

    program = gpt2(law)

    found = differing_roles(program, expectations(get_scheme("plain"), program))

    assert found == {"mlp_down": pytest.approx(math.log(8))}


def test_a_bias_is_judged_with_the_fans_of_its_matrix_or_with_its_own() -> None:
    program = drawn_by("pytorch-default")

    def changed(**fields: object) -> ModelProgram:
        return every(
            program,
            lambda p: p.role == "linear_bias",
            lambda p: replace(p, **fields),  # type: ignore[arg-type] # fields vary
        )

    assert named(changed(distribution=Uniform(-0.1, 0.1)))[2] == ("linear_bias",)
    assert named(changed(fan_in=7, fan_out=7))[2] == ("linear_bias",)
    assert named(changed(name="alone.bias")) == ("pytorch-default", True, ())  # of no matrix


@pytest.mark.parametrize("order", [("said", "seen"), ("seen", "said")])
def test_of_equal_schemes_one_found_in_code_comes_before_one_that_is_claimed(
    order: tuple[str, str],
) -> None:
    plain_scheme = get_scheme("plain")
    both = {
        "said": replace(plain_scheme, slug="said", verified="claim"),
        "seen": replace(plain_scheme, slug="seen", verified="yes"),
    }

    found = closest_scheme(llama(), {slug: both[slug] for slug in order})

    assert found is not None
    assert found.name == "seen"
