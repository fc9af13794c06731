"""The built-in schemes against the rules they claim, and files of the user's."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gptinit.config import GPTConfig, ModelFacts
from gptinit.errors import ConfigError
from gptinit.facts.apply_scheme import apply_scheme, distributions_at
from gptinit.facts.distributions import Normal, Piecewise, TruncatedNormal, Uniform
from gptinit.facts.gpt import GPTParameter, gpt_parameters
from gptinit.facts.schemes import Scheme, get_scheme, load_schemes, scheme_names
from gptinit.facts.vocabulary import ROLES

CONFIG = GPTConfig(n_layer=48)

# Std of a residual projection at 48 layers and 768 wide, from the rule in words of each scheme.
RESIDUAL_STD = {
    "plain": 0.02,
    "nanogpt": 0.02 / math.sqrt(96),
    "cproj-0.02": 0.0004,
    "cproj-sqrt-l": 0.02 / math.sqrt(48),
    "cproj-sqrt-2-over-l": 0.02 * math.sqrt(2 / 48),
    "inv-sqrt-width": 0.02 / math.sqrt(768),
    "pytorch-default": 1 / math.sqrt(3 * 768),
    "gpt2-code": 0.02,
}


SMALL = GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=10, vocab_size=17)

FANS = {
    "tok_emb": (768, 50257),
    "pos_emb": (768, 1024),
    "mlp_up": (768, 3072),
    "mlp_down": (3072, 768),
    "lm_head": (768, 50257),
}
"""(fan_in, fan_out) of the matrices of CONFIG that are not square."""


def std(slug: str, role: str, *, layer: int = 0) -> float:
    fan_in, fan_out = FANS.get(role, (768, 768))
    scheme = get_scheme(slug)
    return scheme.distribution(role, CONFIG, layer=layer, fan_in=fan_in, fan_out=fan_out).std


def test_the_schemes_asked_for_are_all_there() -> None:
    assert list(load_schemes()) == list(RESIDUAL_STD)


@pytest.mark.parametrize("slug", RESIDUAL_STD)
def test_residual_projections_have_the_std_of_the_rule(slug: str) -> None:
    assert std(slug, "attn_out") == pytest.approx(RESIDUAL_STD[slug], rel=1e-12)
    # mlp_down has fan_in 3072, which only pytorch-default looks at.
    wider = 2.0 if slug == "pytorch-default" else 1.0
    assert std(slug, "mlp_down") == pytest.approx(RESIDUAL_STD[slug] / wider, rel=1e-12)


@pytest.mark.parametrize(
    ("slug", "role", "expected"),
    [
        ("plain", "tok_emb", 0.02),
        ("plain", "pos_emb", 0.02),
        ("nanogpt", "mlp_up", 0.02),
        ("nanogpt", "lm_head", 0.02),
        ("gpt2-code", "pos_emb", 0.01),
        ("gpt2-code", "tok_emb", 0.02),
        ("inv-sqrt-width", "tok_emb", 0.02),
        ("inv-sqrt-width", "mlp_up", 0.02 / math.sqrt(768)),
        ("inv-sqrt-width", "lm_head", 0.02 / math.sqrt(768)),
        ("pytorch-default", "tok_emb", 1.0),
        ("pytorch-default", "q", 1 / math.sqrt(3 * 768)),
        ("pytorch-default", "linear_bias", 1 / math.sqrt(3 * 768)),
    ],
)
def test_other_roles_have_the_std_of_the_rule(slug: str, role: str, expected: float) -> None:
    assert std(slug, role) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("slug", RESIDUAL_STD)
def test_every_scheme_writes_out_every_role_and_has_a_source(slug: str) -> None:
    scheme = get_scheme(slug)

    assert set(scheme.rules) == set(ROLES) - {"qkv"}
    assert all(scheme.source)
    assert scheme.notes
    assert scheme.verified in ("yes", "partly", "claim")


def test_alias_resolves_to_the_canonical_slug() -> None:
    assert get_scheme("gpt2") is get_scheme("nanogpt")
    assert scheme_names()["gpt2"] == "nanogpt"


def test_unknown_scheme_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"got 'nanogtp'. Did you mean nanogpt\?"):
        get_scheme("nanogtp")


MINE = """
[mine]
title = "depth by layer index"
source = ["my notebook"]
[mine.roles]
tok_emb = { dist = "normal", std = 0.02 }
attn_out = { dist = "normal", std = "0.02 / sqrt(2 * (layer + 1))" }
mlp_up = { dist = "truncated_normal", std = "1 / sqrt(fan_in)", cut = 3 }
mlp_down = { dist = "uniform", bound = "1 / sqrt(fan_in)" }
norm_weight = { dist = "const", value = 1 }
"""


def test_a_file_of_the_users_is_a_scheme(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)

    scheme = get_scheme(str(path))

    assert (scheme.slug, scheme.verified) == ("mine", "user")
    assert scheme.distribution("attn_out", CONFIG, layer=7) == Normal(0.0, 0.02 / 4)
    assert scheme.distribution("mlp_up", CONFIG, fan_in=100) == TruncatedNormal(
        0.0, 0.1, -3 * 0.1, 3 * 0.1
    )
    assert scheme.distribution("mlp_down", CONFIG, fan_in=100) == Uniform(-0.1, 0.1)


def test_a_role_the_file_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)

    with pytest.raises(ConfigError, match="scheme mine must have a rule for the role pos_emb"):
        get_scheme(str(path)).distribution("pos_emb", CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mine", "must be valid TOML"),
        ("", "must hold exactly one scheme, got 0: none"),
        ("[a.roles]\n[b.roles]\n", "must hold exactly one scheme, got 2: a, b"),
        ("mine = 3", "must be a table, got 3"),
        ("[mine]\n", r"\[mine\] roles must be a table, got None"),
        ("[mine]\nrols = 1\n", r"key must be one of .*, got 'rols'. Did you mean roles"),
        ("[mine.roles]\nmlp_out = {}", "key must be .*, got 'mlp_out'. Did you mean"),
        ("[mine.roles]\nq = {dist = 'norm'}", "q dist must be one of .*, got 'norm'. Did you mean"),
        ("[mine.roles]\nq = {dist = 'normal'}", "q must have std with dist='normal', got none"),
        (
            "[mine.roles]\nq = {dist = 'normal', std = 1, bound = 2}",
            "q must have only std, mean with normal, got bound",
        ),
        ("[mine.roles]\nq = {dist = 'normal', std = 'n_layr'}", "q: variable in formula 'n_layr'"),
        ("[mine]\nsource = 3\n[mine.roles]\n", "source must be a list of texts, got 3"),
        ("[plain.roles]\n", r"must give its scheme an unused name, got the built-in \[plain\]"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=message) as raised:
        get_scheme(str(path))
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no/such.toml must be an existing file"):
        get_scheme("no/such.toml")


def test_a_negative_std_is_refused_where_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[mine.roles]\nq = {dist = 'normal', std = '12 - n_layer'}")

    with pytest.raises(ConfigError, match="scheme mine, role q: std must be finite and not negat"):
        get_scheme(str(path)).distribution("q", CONFIG)


def scheme_of(tmp_path: Path, **rules: str) -> Scheme:
    """A scheme of normals with these stds."""
    path = tmp_path / "own.toml"
    lines = (f'{role} = {{dist = "normal", std = "{std}"}}\n' for role, std in rules.items())
    path.write_text("[own.roles]\n" + "".join(lines), encoding="utf-8")
    return get_scheme(str(path))


@pytest.mark.parametrize("slug", load_schemes())
def test_a_scheme_draws_every_parameter_of_the_built_in_gpt(slug: str) -> None:
    parameters = gpt_parameters(SMALL)

    drawn = apply_scheme(get_scheme(slug), parameters, SMALL, complete=True)

    assert list(drawn) == [p.name for p in parameters]


def test_a_bias_is_drawn_by_the_fans_of_its_matrix_and_a_layer_by_its_index(tmp_path: Path) -> None:
    scheme = scheme_of(tmp_path, linear_bias="1 / fan_in + 1 / fan_out", mlp_up="layer + 1")

    drawn = apply_scheme(scheme, gpt_parameters(SMALL), SMALL)

    assert drawn["transformer.h.1.attn.c_attn.bias"].std == pytest.approx(1 / 8 + 1 / 24)
    assert drawn["transformer.h.1.mlp.c_proj.bias"].std == pytest.approx(1 / 32 + 1 / 8)
    ups = [drawn[f"transformer.h.{layer}.mlp.c_fc.weight"].std for layer in (0, 1)]
    assert ups == [1.0, 2.0]


def test_a_fused_projection_is_drawn_block_by_block(tmp_path: Path) -> None:
    alike = scheme_of(tmp_path, q="1 / fan_out", k="1 / fan_out", v="1 / fan_out")
    name = "transformer.h.0.attn.c_attn.weight"

    # 8 outputs each, not the 24 of the whole.
    assert apply_scheme(alike, gpt_parameters(SMALL), SMALL)[name] == Normal(0.0, 1 / 8)
    apart = scheme_of(tmp_path, q="1", k="1", v="2")
    one, two = Normal(0.0, 1.0), Normal(0.0, 2.0)
    assert apply_scheme(apart, gpt_parameters(SMALL), SMALL)[name] == Piecewise(
        ((8, one), (8, one), (8, two))
    )


def test_grouped_queries_share_a_fused_projection_unevenly(tmp_path: Path) -> None:
    scheme = scheme_of(tmp_path, q="1 / fan_out", k="1 / fan_out", v="1 / fan_out")
    facts = ModelFacts(
        name="m", source="s", n_layer=1, n_head=4, n_kv_head=2, head_dim=2, n_embd=8, bias=False,
        tied=True, n_params=1,
    )  # fmt: skip
    fused = GPTParameter(name="c", shape=(16, 8), role="qkv", layer=0, fan_in=8, fan_out=16)

    query, key = Normal(0.0, 1 / 8), Normal(0.0, 1 / 4)
    assert apply_scheme(scheme, [fused], facts) == {
        "c": Piecewise(((8, query), (4, key), (4, key)))
    }
    # As 18 outputs it is of no heads that these facts know, and is taken for three equal parts.
    other = replace(fused, shape=(18, 8), fan_out=18)
    assert apply_scheme(scheme, [other], facts) == {"c": Normal(0.0, 1 / 6)}
    odd = replace(fused, shape=(17, 8), fan_out=17)
    assert apply_scheme(scheme, [odd], facts) == {}


def test_what_a_scheme_does_not_say_is_left_out_or_refused(tmp_path: Path) -> None:
    scheme = scheme_of(tmp_path, tok_emb="1", mlp_up="1 / (n_layer - 2)")

    assert list(apply_scheme(scheme, gpt_parameters(SMALL), SMALL)) == ["transformer.wte.weight"]
    with pytest.raises(ConfigError, match="must have a rule for the role pos_emb"):
        apply_scheme(scheme, gpt_parameters(SMALL), SMALL, complete=True)
    with pytest.raises(ConfigError, match="role mlp_up: formula must have a finite value"):
        scheme.distribution("mlp_up", SMALL)


def test_a_size_that_is_not_known_is_named() -> None:
    with pytest.raises(ConfigError, match="role mlp_up: its formula needs fan_in, which is not"):
        get_scheme("pytorch-default").distribution("mlp_up", SMALL)
    assert get_scheme("pytorch-default").expected("mlp_up", SMALL) is None


def test_a_truncated_normal_is_cut_around_its_own_mean(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    rule = 'dist = "truncated_normal", mean = 0.5, std = 0.1, cut = 2'
    path.write_text(f"[mine]\n[mine.roles]\ntok_emb = {{ {rule} }}\n", encoding="utf-8")

    law = get_scheme(str(path)).rules["tok_emb"].distribution({})

    assert isinstance(law, TruncatedNormal)
    assert (law.mean, law.low, law.high) == pytest.approx((0.5, 0.3, 0.7))


def test_each_part_of_a_fused_projection_is_shown_by_its_own_fans(tmp_path: Path) -> None:
    others = dict.fromkeys(("tok_emb", "pos_emb", "norm_weight", "linear_bias"), "1")
    scheme = scheme_of(tmp_path, q="1 / fan_out", k="2 / fan_out", v="1 / fan_in", **others)

    found = distributions_at(scheme, SMALL)

    # A width of 8 goes to 8 outputs each, not to the 24 of the whole.
    assert [found[role] for role in "qkv"] == [
        (Normal(0.0, 1 / 8),),
        (Normal(0.0, 2 / 8),),
        (Normal(0.0, 1 / 8),),
    ]
