"""Every rule on the bug it is named for, and silent on the right model beside it."""

import math
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from support.programs import (
    ONE,
    ZERO,
    D,
    F,
    L,
    V,
    by_role,
    every,
    gpt2,
    llama,
    matrix,
    nanogpt,
    plain,
    redrawn,
    torch_default,
    vector,
    with_padding,
)

from gptinit.audit_rules import FINDERS, RULES, explain
from gptinit.audit_rules.hints import HINTS
from gptinit.audit_rules.matching import expectations
from gptinit.auditing.program import findings_of
from gptinit.config import InitCall
from gptinit.errors import ConfigError
from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Fixed,
    Measured,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.facts.names import layer_pattern
from gptinit.facts.schemes import Scheme, get_scheme
from gptinit.facts.step import Step
from gptinit.results.profile import Finding
from gptinit.results.program import (
    Draw,
    FirstGradient,
    ModelProgram,
    NameBranch,
    ParameterProgram,
    UncalledInit,
)

DEPTH = math.sqrt(2 * L)


def normal(std: float) -> Normal:
    return Normal(0.0, std)


def rules(program: ModelProgram, claim: Scheme | None = None) -> dict[str, list[str]]:
    """Where each rule finds something above a note."""
    found: dict[str, list[str]] = {}
    for finding in findings_of(program, expectations(claim, program) if claim else None):
        if finding.severity != "note":
            found.setdefault(finding.rule, []).extend(finding.places)
    return found


def only(program: ModelProgram, rule: str, claim: Scheme | None = None) -> Finding:
    held = expectations(claim, program) if claim else None
    (finding,) = [f for f in findings_of(program, held) if f.rule == rule]
    return finding


def measured(std: float, *, count: int = 65536, law: float = 3.0) -> Measured:
    """A perfect sample of so many normal values."""
    return Measured(
        mean=0.0, std=std, mean_stderr=std / math.sqrt(count),
        std_stderr=std / math.sqrt(2 * count), low=-4.3 * std, high=4.3 * std,
        kurtosis=law, count=count,
    )  # fmt: skip


# --- right models -------------------------------------------------------------------------------


def fan_in_law(role: str, _layer: int, width: int = D, d_ff: int = 768) -> Distribution:
    fan_in = d_ff if role == "mlp_down" else width
    return normal(1 / math.sqrt(fan_in))


def neox(role: str, _layer: int) -> Distribution:
    wang = role in ("attn_out", "mlp_down")
    return normal(2 / (L * math.sqrt(D)) if wang else math.sqrt(2 / (5 * D)))


def mitchell(role: str, layer: int) -> Distribution:
    """OLMo 1: one over sqrt(fan_in), residual ones divided by sqrt(2 (layer + 1)), cut at 3."""
    fan_in = 768 if role == "mlp_down" else D
    scaled = role in ("attn_out", "mlp_down")
    std = 1 / math.sqrt(fan_in * (2 * (layer + 1) if scaled else 1))
    return TruncatedNormal(0.0, std, -3 * std, 3 * std)


def nanochat(role: str, _layer: int) -> Distribution:
    if role in ("attn_out", "mlp_down"):
        return ZERO
    if role in ("tok_emb", "lm_head"):
        return normal(0.8 if role == "tok_emb" else 0.001)
    bound = math.sqrt(3 / D) * (0.4 if role == "mlp_up" else 1.0)
    return Uniform(-bound, bound)


def torchtitan(role: str, layer: int) -> Distribution:
    scaled = role in ("attn_out", "mlp_up", "mlp_down")
    if role in ("tok_emb", "lm_head"):
        return normal(1.0 if role == "tok_emb" else 1 / math.sqrt(D))
    return TruncatedNormal(0.0, 0.02 / math.sqrt(2 * (layer + 1) if scaled else 1), -2.0, 2.0)


def olmocore_llama(role: str, _layer: int) -> Distribution:
    """Up and down both scaled: the branch is damped twice, by design."""
    scaled = role in ("attn_out", "mlp_up", "mlp_down")
    return normal(0.02 / DEPTH if scaled else 0.02)


def zero_centred_norms(program: ModelProgram) -> ModelProgram:
    """Gemma as it should be: weight 0, gain 1."""
    return every(
        program,
        lambda p: p.role == "norm_weight",
        lambda p: replace(p, distribution=ZERO, gain=1.002),
    )


def mamba() -> ModelProgram:
    """State-space blocks: A_log alike in all layers, time-step biases of their own."""
    a_log = Fixed(mean=1.8, std=0.7, low=0.0, high=2.77)
    found = []
    for i in range(L):
        h = f"backbone.layers.{i}.mixer"
        law: Distribution = a_log if i == 0 else Copy("backbone.layers.0.mixer.A_log", a_log)
        found += [
            vector(f"{h}.A_log", "other", law, i, 16),
            vector(f"{h}.dt_bias", "other", measured(1.2), i, 16),
            vector(f"{h}.dt_proj.bias", "linear_bias", Uniform(-6.0, -2.0), i, 512),
            vector(f"{h}.conv1d.bias", "other", Uniform(-0.5, 0.5), i, 512),
            vector(f"backbone.layers.{i}.norm.weight", "norm_weight", ONE, i),
        ]
    return replace(llama(), parameters=(*llama().parameters, *found))


def experts() -> ModelProgram:
    """A mixture of experts: each drawn by itself, and a router with a bias."""
    found = []
    for i in range(L):
        for e in range(4):
            h = f"model.layers.{i}.mlp.experts.{e}"
            found.append(matrix(f"{h}.up_proj.weight", "mlp_up", normal(0.02), D, D // 4, layer=i))
            found.append(
                matrix(f"{h}.down_proj.weight", "mlp_down", normal(0.02), D // 4, D, layer=i)
            )
        gate = f"model.layers.{i}.mlp.gate.bias"
        found.append(vector(gate, "linear_bias", Uniform(-0.1, 0.1), i, 4))
    kept = tuple(p for p in llama().parameters if ".mlp." not in p.name)
    return replace(llama(), parameters=(*kept, *found))


def looked_at(program: ModelProgram) -> ModelProgram:
    """The program as a module that is already built shows it: values with errors."""

    def change(p: ParameterProgram) -> ParameterProgram:
        return replace(p, distribution=measured(p.distribution.std * 1.01, count=p.numel))

    return every(program, lambda p: p.distribution.std > 0, change)


def cerebras(role: str, layer: int) -> Distribution:
    std = nanogpt(role, layer).std
    return TruncatedNormal(0.0, std, -2 * std, 2 * std)


def split_fan_in(role: str, layer: int) -> Distribution:
    return fan_in_law(role, layer)


def spectral(role: str, _layer: int) -> Distribution:
    """min(1, sqrt(fan_out/fan_in))/sqrt(fan_in): at d_ff = 4 n_embd down is up / 4."""
    return normal((0.25 if role == "mlp_down" else 1.0) / math.sqrt(D))


RIGHT: dict[str, Callable[[], ModelProgram]] = {
    "nanogpt": gpt2,
    "nanogpt, 2 layers": lambda: gpt2(lambda r, i: nanogpt(r, i, 2), n_layer=2),
    "nanogpt, 1 layer": lambda: gpt2(lambda r, i: nanogpt(r, i, 1), n_layer=1),
    "gpt2 of transformers": lambda: replace(gpt2(), architecture="gpt2"),
    "gpt2 of transformers, 2 layers": lambda: replace(
        gpt2(lambda r, i: nanogpt(r, i, 2), n_layer=2), architecture="gpt2"
    ),
    "gpt2 as OpenAI's file": lambda: redrawn(gpt2(plain), "wpe.weight", normal(0.01)),
    "llama of transformers": llama,
    "llama, 2 layers": lambda: llama(n_layer=2),
    "llama, 16384 wide": lambda: llama(n_embd=16384, d_ff=53248, n_layer=126),
    "opt of another shape": lambda: replace(gpt2(plain), architecture="opt"),
    "gpt-neox": lambda: gpt2(neox),
    "gpt-neox, gated": lambda: llama(neox),
    "fan-in": lambda: llama(split_fan_in),
    "olmo 1": lambda: llama(mitchell),
    "spectral, 8 layers: 1/sqrt(2 n_layer) is 1/4 too": lambda: llama(
        spectral, n_layer=8, d_ff=4 * D
    ),
    "nanochat": lambda: llama(nanochat),
    "torchtitan": lambda: llama(torchtitan),
    "olmo-core": lambda: llama(olmocore_llama),
    "cerebras-gpt": lambda: gpt2(cerebras),
    "gemma": lambda: zero_centred_norms(llama()),
    "mamba": mamba,
    "experts": experts,
    "torch's defaults, untied": lambda: torch_default(llama()),
    "padding row held at zero": lambda: with_padding(llama(), 0),
    "built already": lambda: looked_at(gpt2()),
    "built already, llama": lambda: looked_at(llama()),
    "bfloat16": lambda: every(llama(), lambda _: True, lambda p: replace(p, dtype="bfloat16")),
    "one block, built and left": lambda: llama(n_layer=1),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_model_has_no_finding_above_a_note(name: str) -> None:
    program = RIGHT[name]()

    assert [f for f in findings_of(program) if f.severity != "note"] == []


@pytest.mark.parametrize(
    ("claim", "program"),
    [
        ("nanogpt", gpt2()),
        ("plain", gpt2(plain)),
        ("plain", llama()),
        ("gpt2-code", redrawn(gpt2(plain), "wpe.weight", normal(0.01))),
        ("nanogpt", llama(nanogpt)),
        ("nanogpt", with_padding(llama(nanogpt), V - 1)),
        ("pytorch-default", torch_default(llama())),
        ("cproj-0.02", redrawn(gpt2(), "c_proj.weight", normal(0.0004))),
        ("nanogpt", zero_centred_norms(llama(nanogpt))),
    ],
)
def test_a_model_that_keeps_its_claim_has_no_finding(claim: str, program: ModelProgram) -> None:
    assert rules(program, get_scheme(claim)) == {}


# --- the cases that shipped -----------------------------------------------------------------------


def hf_gpt2_cproj() -> ModelProgram:
    return replace(gpt2(plain), architecture="gpt2")


def left_uncalled() -> ModelProgram:
    call = InitCall(
        call="init_weights()", name="init_weights", file="m.py", line=3, chosen_by="found"
    )
    left = UncalledInit(init=call, changes={"transformer.wte.weight": Constant(0.0)})
    return replace(gpt2(nanogpt), uncalled=(left,))


def llama2c_w3() -> ModelProgram:
    swapped = redrawn(llama(nanogpt), "up_proj.weight", normal(0.02 / DEPTH))
    return redrawn(swapped, "down_proj.weight", normal(0.02))


def lingua() -> ModelProgram:
    def law(role: str, layer: int) -> Distribution:
        scale = DEPTH if role not in ("tok_emb", "lm_head") else 1.0
        std = fan_in_law(role, layer).std / scale
        return TruncatedNormal(0.0, std, -3 * std, 3 * std)

    return llama(law)


def olmo_ffout() -> ModelProgram:
    program = redrawn(llama(), "down_proj.weight", normal(0.02 / DEPTH))
    drawn = (Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 9)),)
    return every(program, lambda p: p.role == "mlp_down", lambda p: replace(p, history=drawn))


def tinyllama() -> ModelProgram:
    return redrawn(llama(neox), "o_proj.weight", normal(math.sqrt(2 / (5 * D))))


def packed_attention() -> ModelProgram:
    bound = math.sqrt(6 / (D + 3 * D))  # xavier_uniform_ of the packed matrix
    return redrawn(torch_default(gpt2()), "c_attn.weight", Uniform(-bound, bound))


def torch_clones() -> ModelProgram:
    source = {p.name: p.distribution for p in torch_default(gpt2()).parameters}

    def change(p: ParameterProgram) -> ParameterProgram:
        first = p.name.replace(f".h.{p.layer}.", ".h.0.")
        return replace(p, distribution=Copy(first, source[first]))

    return every(torch_default(gpt2()), lambda p: bool(p.layer), change)


def gemma_norm() -> ModelProgram:
    return every(llama(), lambda p: p.role == "norm_weight", lambda p: replace(p, gain=2.011))


def ppb_layernorm() -> ModelProgram:
    def change(p: ParameterProgram) -> ParameterProgram:
        return replace(p, distribution=normal(0.02), gain=None)

    return every(gpt2(), lambda p: p.role.startswith("norm"), change)


def unset(which: Callable[[ParameterProgram], bool]) -> ModelProgram:
    return every(llama(), which, lambda p: replace(p, distribution=Unset(), gain=None))


def broken_tie() -> ModelProgram:
    return replace(llama(), claims_tied=True)


def embedding_as_head() -> ModelProgram:
    return redrawn(gpt2(), "wte.weight", normal(1.0))


def overwritten() -> ModelProgram:
    drawn = (
        Draw(distribution=normal(0.02 / DEPTH), step=Step("normal_", (0, 0.0041), "model.py", 12)),
        Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 30)),
    )
    program = gpt2(plain)
    return every(
        program, lambda p: p.name.endswith("c_proj.weight"), lambda p: replace(p, history=drawn)
    )


def reloaded() -> ModelProgram:
    drawn = (
        Draw(distribution=Constant(0.5), step=Step("copy_", None, "modeling_utils.py", 700)),
        Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 30)),
    )
    return every(llama(), lambda p: p.role == "q", lambda p: replace(p, history=drawn))


def old_truncation() -> ModelProgram:
    """The moments that two million values of torch's former trunc_normal_ had in bfloat16."""
    law = Measured(
        mean=-0.0039, std=0.09077, mean_stderr=6.4e-5, std_stderr=1e-3, low=-2.0, high=0.09,
        kurtosis=460.0, count=2_000_000,
    )  # fmt: skip
    return every(
        llama(), lambda p: p.role == "q", lambda p: replace(p, distribution=law, dtype="bfloat16")
    )


def same_experts() -> ModelProgram:
    def change(p: ParameterProgram) -> ParameterProgram:
        first = p.name.replace(".experts.3.", ".experts.0.")
        return replace(p, distribution=Copy(first, normal(0.02)))

    return every(experts(), lambda p: ".experts.3." in p.name, change)


def gate_is_up() -> ModelProgram:
    def change(p: ParameterProgram) -> ParameterProgram:
        return replace(p, distribution=Copy(p.name.replace("gate_", "up_"), normal(0.02)))

    return every(llama(), lambda p: p.role == "mlp_gate", change)


def random_biases() -> ModelProgram:
    return redrawn(gpt2(), "c_fc.bias", Uniform(-1 / 16, 1 / 16))


def all_zero() -> ModelProgram:
    """Zeros in q and k, v and attn_out, gate and mlp_down, as the forward pass tells of them."""
    partner = {"q": "k_proj", "k": "q_proj", "v": "o_proj", "attn_out": "v_proj",
               "mlp_gate": "down_proj", "mlp_down": "gate_proj"}  # fmt: skip

    def stuck(p: ParameterProgram) -> ParameterProgram:
        here = p.name.rpartition(".")[0].rpartition(".")[0]
        waits = (f"{here}.{partner[p.role]}.weight",) if p.role in partner else ()
        law = ZERO if waits else p.distribution
        never = FirstGradient(step=None if waits else 0, waits_for=waits)
        return replace(p, distribution=law, gradient=never)

    return every(llama(), lambda _: True, stuck)


def waiting(zero: str, *, role: str, step: int = 1) -> ModelProgram:
    """Zeros in one parameter, for which those of a role wait."""

    def told(p: ParameterProgram) -> ParameterProgram:
        if p.name.endswith(zero):
            return replace(p, distribution=ZERO, gradient=FirstGradient(step=0))
        waits = p.role == role
        names = [q.name for q in llama().parameters if q.name.endswith(zero) and q.layer == p.layer]
        first = FirstGradient(step=step, waits_for=tuple(names)) if waits else FirstGradient(step=0)
        return replace(p, gradient=first)

    return every(llama(), lambda _: True, told)


def constant_logits(name: str) -> ModelProgram:
    program = every(
        llama(),
        lambda p: p.name == name,
        lambda p: replace(p, distribution=ZERO, gain=None, gradient=FirstGradient(step=0)),
    )
    return replace(program, constant_logits=(name,))


def asks(meant: tuple[str, ...], missed: tuple[str, ...] = ()) -> ModelProgram:
    branch = NameBranch(
        file="model.py", line=7, test="name == 'o_proj.weight'", asked=111, meant=meant,
        missed=missed,
    )  # fmt: skip
    return replace(llama(), never_taken=(branch,))


CASES: list[tuple[str, Callable[[], ModelProgram], str | None, dict[str, list[str]]]] = [
    (
        "hf-gpt2-cproj", hf_gpt2_cproj, None,
        {"residual-scaling-missing": ["transformer.h.*.attn.c_proj.weight",
                                      "transformer.h.*.mlp.c_proj.weight"]},
    ),
    (
        "hf-gpt2-cproj of one layer",
        lambda: replace(gpt2(plain, n_layer=1), architecture="gpt2"), None,
        {"residual-scaling-missing": ["transformer.h.0.attn.c_proj.weight",
                                      "transformer.h.0.mlp.c_proj.weight"]},
    ),
    (
        "hf-gpt2-cproj against its claim", hf_gpt2_cproj, "nanogpt",
        {"residual-scaling-missing": ["transformer.h.*.attn.c_proj.weight",
                                      "transformer.h.*.mlp.c_proj.weight"]},
    ),
    ("an init that nothing calls", left_uncalled, None, {"init-not-called": ["*"]}),
    (
        "llama2c-w3", llama2c_w3, None,
        {"residual-scaling-missing": ["model.layers.*.mlp.down_proj.weight"],
         "residual-scaling-wrong-tensor": ["model.layers.*.mlp.up_proj.weight"]},
    ),
    (
        "llama2c-w3 against its claim", llama2c_w3, "nanogpt",
        {"residual-scaling-missing": ["model.layers.*.mlp.down_proj.weight"],
         "residual-scaling-wrong-tensor": ["model.layers.*.mlp.up_proj.weight"]},
    ),
    (
        "lingua-depth", lingua, None,
        {"residual-scaling-wrong-tensor": [
            f"model.layers.*.{name}.weight"
            for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                         "mlp.gate_proj", "mlp.up_proj")]},
    ),
    (
        "olmo-ffout", olmo_ffout, None,
        {"residual-scaling-missing": ["model.layers.*.self_attn.o_proj.weight"],
         "residual-branches-unequal": ["model.layers.*.mlp.down_proj.weight"],
         "scaled-twice": ["model.layers.*.mlp.down_proj.weight"]},
    ),
    (
        "olmo-ffout against its claim", olmo_ffout, "plain",
        {"scaled-twice": ["model.layers.*.mlp.down_proj.weight"]},
    ),
    (
        "hf-t5-head", lambda: redrawn(llama(), "lm_head.weight", normal(1.0)), "plain",
        {"role-std-mismatch": ["lm_head.weight"], "logit-scale": ["lm_head.weight"]},
    ),
    (
        "hf-t5-head without a claim", lambda: redrawn(llama(), "lm_head.weight", normal(1.0)),
        None, {"logit-scale": ["lm_head.weight"]},
    ),
    (
        "nanochat-doc", lambda: redrawn(llama(nanogpt), "up_proj.weight", normal(0.008)), "nanogpt",
        {"role-std-mismatch": ["model.layers.*.mlp.up_proj.weight"]},
    ),
    (
        "torch-mha-packed", packed_attention, None,
        {"tied-role-std-conflict": ["transformer.wte.weight"],
         "fan-in-wrong": ["transformer.h.*.attn.c_attn.weight"],
         "bias-nonzero": ["transformer.h.*.attn.c_attn.bias"]},
    ),
    (
        "hf-gemma-norm", gemma_norm, None,
        {"norm-weight-wrong": ["model.layers.*.input_layernorm.weight",
                               "model.layers.*.post_attention_layernorm.weight",
                               "model.norm.weight"]},
    ),
    (
        "ppb-layernorm", ppb_layernorm, None,
        {"norm-weight-wrong": ["transformer.h.*.ln_1.weight", "transformer.h.*.ln_2.weight",
                               "transformer.ln_f.weight"],
         "bias-nonzero": ["transformer.h.*.ln_1.bias", "transformer.h.*.ln_2.bias",
                          "transformer.ln_f.bias"]},
    ),
    (
        "hf-meta-norm", lambda: unset(lambda p: p.role == "norm_weight"), None,
        {"uninitialised": ["model.layers.*.input_layernorm.weight",
                           "model.layers.*.post_attention_layernorm.weight",
                           "model.norm.weight"]},
    ),
    ("hf-meta-noop", lambda: unset(lambda _: True), None, {"init-never-called": ["*"]}),
    ("hf-43522", broken_tie, None, {"tie-broken": ["lm_head.weight"]}),
    (
        "tie that nobody asked for", lambda: replace(gpt2(), claims_tied=False), None,
        {"tie-unexpected": ["transformer.wte.weight"]},
    ),
    (
        "torch-trunc-bf16", old_truncation, None,
        {"dtype-rounding": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "torch-trunc-bf16 against its claim", old_truncation, "plain",
        {"dtype-rounding": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "hf-46620", reloaded, None,
        {"pretrained-overwritten": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "modalities-456", embedding_as_head, None,
        {"tied-role-std-conflict": ["transformer.wte.weight"]},
    ),
    ("easylm-114", lambda: llama(by_role({}, normal(1.0))), None,
     {"logit-scale": ["lm_head.weight"]}),
    (
        "tinyllama-117", tinyllama, None,
        {"residual-scaling-missing": ["model.layers.*.self_attn.o_proj.weight"],
         "residual-branches-unequal": ["model.layers.*.mlp.down_proj.weight"]},
    ),
    (
        "padding-idx", lambda: replace(llama(), padding={"model.embed_tokens.weight": 0}), None,
        {"padding-row-nonzero": ["model.embed_tokens.weight"]},
    ),
    (
        "pythia-135", lambda: redrawn(llama(), "q_proj.weight", normal(0.009882)), "plain",
        {"role-std-mismatch": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "general rule last", overwritten, None,
        {"special-init-overwritten": ["transformer.h.*.attn.c_proj.weight",
                                      "transformer.h.*.mlp.c_proj.weight"]},
    ),
    (
        "experts alike", same_experts, None,
        {"duplicate-experts": ["model.layers.*.mlp.experts.*.up_proj.weight",
                               "model.layers.*.mlp.experts.*.down_proj.weight"]},
    ),
    ("w1 is w3", gate_is_up, None,
     {"duplicate-tensors": ["model.layers.*.mlp.gate_proj.weight"]}),
    ("biases left to torch", random_biases, None,
     {"bias-nonzero": ["transformer.h.*.mlp.c_fc.bias"]}),
    (
        "gain 0", all_zero, None,
        {"parameters-without-gradient": [
            "model.layers.*.self_attn.q_proj.weight", "model.layers.*.self_attn.k_proj.weight",
            "model.layers.*.self_attn.v_proj.weight", "model.layers.*.self_attn.o_proj.weight",
            "model.layers.*.mlp.gate_proj.weight", "model.layers.*.mlp.down_proj.weight"]},
    ),
    (
        "embedding of zeros", lambda: redrawn(llama(), "embed_tokens.weight", ZERO), None,
        {"zeros": ["model.embed_tokens.weight"]},
    ),
    ("final norm 0", lambda: constant_logits("model.norm.weight"), None,
     {"logits-constant": ["model.norm.weight"]}),
    (
        "bounds in units of nothing",
        lambda: redrawn(llama(), "q_proj.weight", TruncatedNormal(0.0, 0.02, -0.2, 0.2)), None,
        {"truncation-without-effect": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "default bounds beside bounds",
        lambda: redrawn(
            llama(by_role({}, TruncatedNormal(0.0, 0.02, -0.06, 0.06))), "q_proj.weight",
            TruncatedNormal(0.0, 0.02, -2.0, 2.0),
        ), None,
        {"truncation-without-effect": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "bounds of the others",
        lambda: redrawn(
            llama(by_role({}, TruncatedNormal(0.0, 0.02, -0.04, 0.04))), "q_proj.weight",
            TruncatedNormal(0.0, 0.01, -0.04, 0.04),
        ), None,
        {"truncation-without-effect": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "a name that begins at the root",
        lambda: asks(tuple(f"model.layers.{i}.self_attn.o_proj.weight" for i in range(L))), None,
        {"init-branch-never-taken": ["model.layers.*.self_attn.o_proj.weight"]},
    ),
    (
        "variance for std", lambda: redrawn(gpt2(), "c_proj.weight", normal(0.0004)), None,
        {"std-vs-variance": ["transformer.h.*.attn.c_proj.weight",
                             "transformer.h.*.mlp.c_proj.weight"]},
    ),
    (
        "variance for std against a claim",
        lambda: redrawn(llama(), "v_proj.weight", normal(0.0004)), "plain",
        {"std-vs-variance": ["model.layers.*.self_attn.v_proj.weight"]},
    ),
    (
        "scaled twice", lambda: redrawn(gpt2(), "c_proj.weight", normal(0.02 / (2 * L))), None,
        {"scaled-twice": ["transformer.h.*.attn.c_proj.weight",
                          "transformer.h.*.mlp.c_proj.weight"]},
    ),
    (
        "uniform of equal std",
        lambda: redrawn(
            llama(), "q_proj.weight", Uniform(-0.02 * math.sqrt(3), 0.02 * math.sqrt(3))
        ),
        "plain", {"wrong-distribution": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "cut that was not claimed",
        lambda: redrawn(llama(), "q_proj.weight", TruncatedNormal(0.0, 0.02, -0.04, 0.04)),
        "plain", {"wrong-distribution": ["model.layers.*.self_attn.q_proj.weight"]},
    ),
    (
        "rows for columns",
        lambda: redrawn(
            redrawn(gpt2(by_role({}, normal(D**-0.5))), "c_fc.weight", normal(F**-0.5)),
            "mlp.c_proj.weight", normal(D**-0.5),
        ),
        None,
        {"fan-in-wrong": ["transformer.h.*.mlp.c_fc.weight", "transformer.h.*.mlp.c_proj.weight"]},
    ),
    (
        "n_embd for d_ff against a claim",
        lambda: redrawn(
            torch_default(llama()), "down_proj.weight", Uniform(-(D**-0.5), D**-0.5)
        ),
        "pytorch-default", {"fan-in-wrong": ["model.layers.*.mlp.down_proj.weight"]},
    ),
    (
        "half precision",
        lambda: every(
            redrawn(llama(), "k_proj.weight", normal(2e-5)),
            lambda p: p.role == "k", lambda p: replace(p, dtype="float16"),
        ),
        None, {"dtype-rounding": ["model.layers.*.self_attn.k_proj.weight"]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("case", "make", "claim", "expected"), CASES, ids=[c[0] for c in CASES])
def test_each_bug_is_named_by_its_rule_and_nothing_else_is_said(
    case: str,
    make: Callable[[], ModelProgram],
    claim: str | None,
    expected: dict[str, list[str]],
) -> None:
    assert rules(make(), get_scheme(claim) if claim else None) == expected


def test_layers_cloned_from_one_are_named_matrices_and_biases() -> None:
    found = [f for f in findings_of(torch_clones()) if f.rule == "duplicate-layers"]

    (matrices,) = (f for f in found if f.severity == "error")
    (biases,) = (f for f in found if f.severity == "warning")
    # The block has four of each; norms are constant.
    assert len(matrices.places) == len(biases.places) == 4
    assert all("Layers 1-11 of 12." in f.message for f in found)


def test_every_rule_that_one_program_can_show_has_a_case() -> None:
    shown = {rule for _, _, _, found in CASES for rule in found}
    # Each has a test of its own: layers above, equal blocks of one matrix in docs/test_bugs.py.
    shown |= {"duplicate-layers", "duplicate-shards"}

    assert shown == set(FINDERS)


# --- severities, messages, places -----------------------------------------------------------------


def test_a_missing_residual_scaling_says_what_is_meant_and_the_ratio() -> None:
    (finding, _) = findings_of(hf_gpt2_cproj())

    assert finding.severity == "error"
    assert finding.message == (
        "Weights that write to the residual stream must be drawn with std 0.02/sqrt(2 n_layer) = "
        "0.004082, got N(0, 0.02): ratio 4.899 = sqrt(2 n_layer), the residual scaling is missing "
        "(gpt2 is documented to scale them)."
    )


def test_an_init_that_nothing_calls_says_what_it_would_change() -> None:
    (finding,) = findings_of(left_uncalled())

    assert (finding.severity, finding.message) == (
        "warning",
        "The init that a model defines must run, got init_weights() (m.py:3), which nothing calls. "
        "It would change tok_emb N(0, 0.02) -> 0. If the trainer runs it, add --init "
        "init_weights.",
    )


def test_nanogpt_names_with_plain_stds_are_a_warning_at_most() -> None:
    found = findings_of(gpt2(plain))

    assert {(f.rule, f.severity) for f in found} == {("residual-scaling-missing", "warning")}


def test_another_base_std_does_not_hide_a_missing_residual_scaling() -> None:
    wider = gpt2(by_role({}, normal(0.05)))

    assert "residual-scaling-missing" in rules(replace(wider, architecture="gpt2"))


def test_some_layers_only_are_told_by_number() -> None:
    odd = {3, *range(8, 12)}
    program = every(
        llama(),
        lambda p: p.role == "q" and p.layer in odd,
        lambda p: replace(p, distribution=Unset()),
    )

    finding = only(program, "uninitialised")
    assert finding.message.endswith("Layers 3, 8-11 of 12.")


def test_one_parameter_is_named_itself() -> None:
    program = every(
        llama(), lambda p: p.role == "q" and p.layer == 3, lambda p: replace(p, distribution=ZERO)
    )
    claimed = only(program, "zeros", get_scheme("plain"))  # the claim draws it

    assert claimed.where == "model.layers.3.self_attn.q_proj.weight"


def test_an_unset_part_and_an_unset_buffer_are_found() -> None:
    half = Piecewise(((V // 2, normal(0.02)), (V - V // 2, Unset())))
    buffer = replace(vector("model.rotary.inv_freq", "other", Unset(), None, 32), kind="buffer")
    program = replace(redrawn(llama(), "embed_tokens.weight", half), buffers=(buffer,))

    found = {f.where: f for f in findings_of(program)}
    assert found["model.embed_tokens.weight"].severity == "error"
    assert "in part" in found["model.embed_tokens.weight"].message
    assert found["model.rotary.inv_freq"].severity == "warning"


def test_a_zero_residual_projection_head_and_query_are_by_design() -> None:
    zeroed = llama(by_role({"attn_out": ZERO, "mlp_down": ZERO, "lm_head": ZERO}, normal(0.02)))
    query = redrawn(llama(), "q_proj.weight", ZERO)

    assert findings_of(zeroed) == ()
    assert findings_of(query) == ()


def test_what_waits_for_a_zero_projection_is_a_note_with_its_count() -> None:
    found = findings_of(waiting("o_proj.weight", role="v"))

    assert [(f.rule, f.severity, f.where) for f in found] == [
        ("parameters-without-gradient", "note", "model.layers.*.self_attn.o_proj.weight")
    ]
    assert found[0].message.startswith(
        f"{L} of {len(llama().parameters)} parameters (model.layers.*.self_attn.v_proj.weight) get "
        "no gradient in the first step"
    )
    assert "All have one by step 2" in found[0].message


def test_zeros_that_block_each_other_are_one_finding_a_block_of_causes() -> None:
    found = [f for f in findings_of(all_zero()) if f.rule == "parameters-without-gradient"]

    assert [len(f.places) for f in found] == [2, 2, 2]
    assert all("start as zeros and nothing changes that" in f.message for f in found)


def test_what_the_forward_does_not_use_is_a_note_but_for_experts_beside_a_used_one() -> None:
    expert = "model.layers.0.mlp.experts.{}.up_proj.weight"
    used = [
        replace(
            matrix(expert.format(i), "mlp_up", normal(0.02), D, F, layer=0),
            gradient=FirstGradient(step=0 if i == 0 else None, is_used=i == 0),
        )
        for i in range(2)
    ]
    lost = replace(vector("lost", "other", ONE), gradient=FirstGradient(step=None, is_used=False))
    program = replace(llama(), parameters=(*llama().parameters, *used, lost))

    assert [(f.rule, f.severity, f.where) for f in findings_of(program)] == [
        ("parameters-without-gradient", "note", "lost")
    ]


def test_a_head_of_zeros_is_a_note_and_says_all_that_waits_for_it() -> None:
    head = constant_logits("lm_head.weight")
    program = every(
        head,
        lambda p: p.role != "lm_head",
        lambda p: replace(p, gradient=FirstGradient(step=1, waits_for=("lm_head.weight",))),
    )

    found = findings_of(program)

    assert [(f.rule, f.severity) for f in found] == [("logits-constant", "note")]


def test_a_final_norm_of_zeros_is_told_once() -> None:
    program = every(
        constant_logits("model.norm.weight"),
        lambda p: p.name == "model.norm.weight",
        lambda p: replace(p, gain=0.0),
    )

    assert rules(program) == {"logits-constant": ["model.norm.weight"]}


def test_the_zero_shift_of_a_norm_is_not_blamed_for_its_zero_gain() -> None:
    names = ("transformer.ln_f.weight", "transformer.ln_f.bias")
    program = replace(redrawn(gpt2(nanogpt), names[0], ZERO), constant_logits=names)

    assert rules(program)["logits-constant"] == [names[0]]


def test_a_truncation_that_cuts_what_its_siblings_cut_is_no_finding() -> None:
    def law(role: str, _: int) -> Distribution:
        std = 0.02 / DEPTH if role in ("attn_out", "mlp_down") else 0.02
        return TruncatedNormal(0.0, std, -3 * std, 3 * std)

    assert findings_of(llama(law)) == ()


def test_default_bounds_throughout_are_a_note() -> None:
    """As in torchtitan: a normal in effect, and nobody asked for more."""
    found = findings_of(llama(by_role({}, TruncatedNormal(0.0, 0.02, -2.0, 2.0))))

    assert [(f.rule, f.severity) for f in found] == [("truncation-without-effect", "note")]


def test_a_branch_that_asks_for_a_name_that_no_parameter_has_is_a_note() -> None:
    (finding,) = findings_of(asks(()))

    assert (finding.rule, finding.severity, finding.where) == (
        "init-branch-never-taken",
        "note",
        "*",
    )
    assert "`if name == 'o_proj.weight'` at model.py:7" in finding.message


def test_a_branch_that_is_never_asked_about_the_names_it_is_for_is_a_warning() -> None:
    (finding,) = findings_of(asks((), missed=("model.layers.0.self_attn.o_proj.weight",)))

    assert (finding.rule, finding.severity) == ("init-branch-never-taken", "warning")
    assert finding.message.endswith(
        "none of them is called so, and model.layers.0.self_attn.o_proj.weight was not among them."
    )


def by_layer(*roles: str) -> ModelProgram:
    """0.02, in these roles over sqrt(2 (layer + 1))."""

    def law(role: str, layer: int) -> Distribution:
        return normal(0.02 / math.sqrt(2 * (layer + 1)) if role in roles else 0.02)

    return llama(law)


@pytest.mark.parametrize(("role", "severity"), [("mlp_gate", "error"), ("mlp_up", "note")])
def test_a_factor_scaled_beside_its_output_is_told_in_every_layer(role: str, severity: str) -> None:
    """By torchtitan and OLMo-core the linear factor is meant so; the gate by nobody."""
    scaled = dict.fromkeys((role, "attn_out", "mlp_down"), normal(0.02 / DEPTH))
    programs = llama(by_role(scaled, normal(0.02))), by_layer(role, "attn_out", "mlp_down")
    formulas = "1/sqrt(2 n_layer)", "1/sqrt(2 (layer + 1))"

    for program, formula in zip(programs, formulas, strict=True):
        (finding,) = findings_of(program)
        assert (finding.rule, finding.severity) == ("residual-scaling-wrong-tensor", severity)
        assert finding.where == f"model.layers.*.mlp.{role.removeprefix('mlp_')}_proj.weight"
        assert f"ratio {formula}, the residual scaling is on {role} and on mlp_down" in finding.fact
        assert "of 12." not in finding.fact  # all layers


def test_outputs_scaled_by_their_layer_are_no_finding() -> None:
    assert rules(by_layer("attn_out", "mlp_down")) == {}


def test_torch_biases_beside_torch_weights_are_a_note() -> None:
    found = [f for f in findings_of(torch_default(gpt2())) if f.rule == "bias-nonzero"]

    (finding,) = found  # one cause: torch's own default
    assert finding.severity == "note"
    assert len(finding.places) == 4


def test_an_architecture_that_divides_its_logits_may_have_a_wide_head() -> None:
    wide = embedding_as_head()

    assert rules(replace(wide, architecture="t5")) == {}
    assert "tied-role-std-conflict" in rules(replace(wide, architecture="llama"))


@pytest.mark.parametrize(
    ("std", "severity"),
    [
        (2.99 / 16, None),
        (3.01 / 16, "warning"),
        (2 * math.sqrt(2 * math.log(V)) / 16 * 0.99, "warning"),  # 16 = sqrt(n_embd)
        (2 * math.sqrt(2 * math.log(V)) / 16 * 1.01, "error"),
    ],
)
def test_logits_are_judged_by_their_std(std: float, severity: str | None) -> None:
    found = findings_of(redrawn(llama(), "lm_head.weight", normal(std)))

    assert [f.severity for f in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("vocab_size", "std", "told"),
    [
        # Beyond a std of sqrt(2 ln 1000) = 3.717 one token has all the weight: 3.2^2/2 below, and
        # 8 x 3.717 - ln 1000 above.
        (V, 3.2, "logit std 3.2, a first loss about 5.12 nats above ln(vocab_size) = 6.91."),
        (V, 8.0, "logit std 8, a first loss about 22.8 nats above ln(vocab_size) = 6.91."),
        (None, 8.0, "22.8 nats above ln(vocab_size) = 6.91."),  # the head has V rows
        (2, 4.0, "logit std 4, a first loss about 4.02 nats above ln(vocab_size) = 0.693."),
    ],
)
def test_wide_logits_say_what_they_cost(vocab_size: int | None, std: float, told: str) -> None:
    program = redrawn(llama(), "lm_head.weight", normal(std / 16))
    sized = replace(program, facts=replace(program.facts, vocab_size=vocab_size))

    message = only(sized, "logit-scale").message

    assert told in message
    assert "a normalised stream of 256 features" in message
    assert message.endswith("1/sqrt(n_embd) = 0.0625 gives 1.")


@pytest.mark.parametrize(
    ("architecture", "multiplier", "found"),
    [
        (None, None, True),
        # Where the forward was followed, its factor counts and the name does not.
        (None, 1.0, True),
        (None, 0.1, False),
        ("cohere", 1.0, True),
        ("cohere", 0.1, False),
        ("cohere", None, False),
        ("t5", None, True),  # divides only what a tied head reads
    ],
)
def test_a_factor_on_the_logits_is_taken_from_the_forward_or_else_from_the_name(
    architecture: str | None, multiplier: float | None, found: bool
) -> None:
    program = redrawn(llama(), "lm_head.weight", normal(1.0))
    told = rules(replace(program, architecture=architecture, logit_multiplier=multiplier))

    assert ("logit-scale" in told) is found


def test_exchanged_fans_say_which_std_is_right() -> None:
    (make,) = (make for case, make, *_ in CASES if case == "rows for columns")

    up, down = (f.message for f in findings_of(make()) if f.rule == "fan-in-wrong")

    # 1/sqrt(256) and 1/sqrt(1024), each where the other was drawn.
    assert up.startswith("The std must follow fan_in = 256, which gives 0.0625 by the rule of")
    assert down.startswith("The std must follow fan_in = 1024, which gives 0.03125 by the rule of")


def test_a_final_norm_of_gain_two_doubles_the_logits() -> None:
    program = redrawn(llama(), "lm_head.weight", normal(2.0 / 16))
    doubled = every(
        program, lambda p: p.name == "model.norm.weight", lambda p: replace(p, gain=2.0)
    )

    assert rules(program) == {}
    assert "logit std 4" in only(doubled, "logit-scale").message


def test_a_claim_that_draws_both_ends_of_a_tie_differently_is_told() -> None:
    finding = only(torch_default(gpt2()), "tied-role-std-conflict", get_scheme("pytorch-default"))

    assert finding.severity == "error"  # std 1 on a head counts first


def test_a_measured_std_counts_as_wrong_only_beyond_five_standard_errors() -> None:
    scheme, count = get_scheme("plain"), 65536
    stderr = 0.02 / math.sqrt(2 * count)
    near, far = (redrawn(llama(), "q_proj.weight", measured(0.02 + k * stderr)) for k in (4.9, 5.2))

    assert rules(near, scheme) == {}
    assert list(rules(far, scheme)) == ["role-std-mismatch"]


def test_a_measured_uniform_is_told_from_a_normal_by_its_kurtosis() -> None:
    uniform = redrawn(llama(), "q_proj.weight", measured(0.02, law=1.8))

    assert list(rules(uniform, get_scheme("plain"))) == ["wrong-distribution"]


def test_placeholders_and_draws_that_all_share_are_no_overwritten_init() -> None:
    zeros = Draw(distribution=ZERO, step=Step("zeros", (256, 256), "model.py", 3))
    general = Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 9))
    default = Draw(distribution=Uniform(-1.0, 1.0), step=Step("uniform_"), by_default=True)
    last = Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 12))
    program = every(
        llama(),
        lambda p: len(p.shape) == 2,
        lambda p: replace(p, history=(default, zeros, general, last)),
    )

    assert rules(program) == {}


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (normal(0.0208), normal(0.02), False),
        (normal(0.02), normal(0.0208), False),
        (normal(0.034), normal(0.0323), False),  # 5 %, and not a bit more
        (normal(0.0212), normal(0.02), True),
        (normal(0.02), normal(0.0212), True),
        (ZERO, normal(0.02), True),
        (Constant(0.5), ZERO, True),
        (ZERO, ZERO, False),
    ],
)
def test_an_init_is_overwritten_by_one_of_another_size(
    first: Distribution, last: Distribution, found: bool
) -> None:
    drawn = tuple(
        Draw(distribution=law, step=Step("normal_", (0,), "model.py", line))
        for law, line in ((first, 12), (last, 30))
    )
    program = llama(by_role({}, last))
    program = every(program, lambda p: p.role == "attn_out", lambda p: replace(p, history=drawn))

    told = [f.where for f in findings_of(program) if f.rule == "special-init-overwritten"]

    assert told == ["model.layers.*.self_attn.o_proj.weight"] * found


def test_a_special_draw_after_the_general_one_is_right() -> None:
    general = Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 9))
    special = Draw(
        distribution=normal(0.02 / DEPTH), step=Step("normal_", (0, 0.0041), "model.py", 12)
    )
    program = every(
        gpt2(),
        lambda p: len(p.shape) == 2,
        lambda p: replace(
            p, history=(general, special) if p.name.endswith("c_proj.weight") else (general,)
        ),
    )

    assert rules(program) == {}


def test_only_copied_values_count_as_loaded_whatever_the_file_is_called() -> None:
    def filled(step: Step) -> ModelProgram:
        drawn = (
            Draw(distribution=Constant(0.5), step=step),
            Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 30)),
        )
        return every(llama(), lambda p: p.role == "q", lambda p: replace(p, history=drawn))

    assert "pretrained-overwritten" in rules(filled(Step("copy_", None, "model.py", 7)))
    assert "pretrained-overwritten" not in rules(filled(Step("fill_", (0.5,), "reload.py", 7)))
    assert "pretrained-overwritten" not in rules(filled(Step("fill_", (0.5,), "copy_.py", 7)))


def test_copies_of_constants_and_tables_are_no_duplicates() -> None:
    program = every(
        gpt2(),
        lambda p: p.role == "norm_weight" and bool(p.layer),
        lambda p: replace(p, distribution=Copy(p.name.replace(f".{p.layer}.", ".0."), ONE)),
    )

    assert rules(program) == {}


def test_every_place_accepts_the_parameters_it_stands_for() -> None:
    for name in ("model.layers.11.mlp.experts.3.up_proj.weight", "transformer.h.3.mlp.0.weight"):
        layer = 11 if "11" in name else 3
        assert fnmatchcase(name, layer_pattern(name, layer, experts=True))
    assert not fnmatchcase(
        "transformer.h.3.mlp.2.weight", layer_pattern("transformer.h.3.mlp.0.weight", 3)
    )


# --- documentation --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_documented_with_a_real_bug(name: str) -> None:
    rule = explain(name)

    assert rule.name == name
    assert rule.severity in ("error", "warning", "note")
    assert all(len(text) > 20 for text in (rule.title, rule.what, rule.why, rule.fix))
    assert "\n" not in rule.title
    assert "#" in rule.bug or "@" in rule.bug or "(" in rule.bug  # an issue, commit or repository
    assert "/" in rule.bug


def test_rules_and_ratios_name_rules_that_there_are() -> None:
    causes = {cause for rule in RULES.values() for cause in rule.silenced_by}

    assert causes == {"tied-role-std-conflict", "special-init-overwritten", "dtype-rounding",
                      "pretrained-overwritten", "logits-constant", "zeros",
                      "tie-broken"}  # fmt: skip
    assert causes <= set(RULES)
    assert {rule for hint in HINTS for rule in hint.rules.values()} <= set(FINDERS)


def test_a_broken_tie_is_one_finding_though_both_tensors_have_the_same_values() -> None:
    program = every(
        broken_tie(),
        lambda p: p.role == "lm_head",
        lambda p: replace(p, distribution=Copy("model.embed_tokens.weight", normal(0.02))),
    )

    assert rules(program) == {"tie-broken": ["lm_head.weight"]}


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"got 'tie-brokn'. Did you mean tie-broken"):
        explain("tie-brokn")


@pytest.mark.parametrize("mean", [-0.5, 0.5])
def test_a_matrix_around_a_mean_of_either_sign_is_named(mean: float) -> None:
    program = redrawn(llama(), "up_proj.weight", Normal(mean, 0.02))

    assert rules(program)["wrong-distribution"] == ["model.layers.*.mlp.up_proj.weight"]


def test_of_two_lines_that_set_equally_many_tensors_none_overwrites_the_other() -> None:
    special = Draw(
        distribution=normal(0.02 / DEPTH), step=Step("normal_", (0, 0.0041), "model.py", 12)
    )
    last = Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 30))
    general = Draw(distribution=normal(0.02), step=Step("normal_", (0, 0.02), "model.py", 9))

    def change(p: ParameterProgram) -> ParameterProgram:
        is_special = p.name.endswith("c_proj.weight")
        return replace(p, history=(special, last) if is_special else (general,))

    program = every(gpt2(plain), lambda p: len(p.shape) == 2, change)

    assert "special-init-overwritten" not in rules(program)


def test_scaling_by_the_layers_own_index_in_one_branch_leaves_the_other_behind() -> None:
    def law(role: str, layer: int) -> Distribution:
        return normal(0.02 / math.sqrt(2 * (layer + 1)) if role == "attn_out" else 0.02)

    found = rules(llama(law))

    assert found == {
        "residual-scaling-missing": ["model.layers.*.mlp.down_proj.weight"],
        "residual-branches-unequal": ["model.layers.*.self_attn.o_proj.weight"],
    }


def test_scaling_twice_where_the_claim_has_none_is_named() -> None:
    program = redrawn(gpt2(plain), "c_proj.weight", normal(0.02 / (2 * L)))

    assert rules(program, get_scheme("plain")) == {
        "scaled-twice": ["transformer.h.*.attn.c_proj.weight", "transformer.h.*.mlp.c_proj.weight"]
    }


@pytest.mark.parametrize(
    ("made", "end", "where"),
    [
        (gpt2, "c_attn.weight", "transformer.h.*.attn.c_attn.weight"),
        *[
            (llama, f"{name}.weight", f"model.layers.*.{name}.weight")
            for name in (
                "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
            )
        ],
        (llama, "lm_head.weight", "lm_head.weight"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("law", [Constant(0.02), Normal(0.5, 0.02)], ids=["equal", "off centre"])
def test_a_wrong_distribution_is_named_in_every_matrix_that_multiplies(
    made: Callable[[], ModelProgram], end: str, where: str, law: Distribution
) -> None:
    assert rules(redrawn(made(), end, law))["wrong-distribution"] == [where]
