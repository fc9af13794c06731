"""Every init bug that shipped and that one process can show, named by its rule; its twin is clean.

Real modules of torch, and models of our own for the rest (support/bug_models.py). What needs
transformers: tests/hf/test_bugs.py, and for releases that had a bug tests/hf/test_releases.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from support import bug_models as models
from support.bug_models import DEPTH, HIDDEN, WIDTH
from torch import nn

import gptinit

DEPTH_RATIO = math.sqrt(2 * DEPTH)
BRANCHES = ("blocks.*.attn.wo.weight", "blocks.*.mlp.w2.weight")
MATRICES = (
    "embed.weight",
    *(f"blocks.*.attn.w{name}.weight" for name in "qkvo"),
    *(f"blocks.*.mlp.w{number}.weight" for number in "123"),
    "head.weight",
)
NORMS = ("blocks.*.norm_1.weight", "blocks.*.norm_2.weight", "norm.weight")
LAYER_NORM_BIASES = tuple(name.replace("weight", "bias") for name in NORMS)
COPIED = (
    "self_attn.in_proj_weight",
    "self_attn.out_proj.weight",
    "linear1.weight",
    "linear2.weight",
)


def scheme_file(stds: Mapping[str, str]) -> str:
    """The text of a scheme with a normal for each role."""
    rules = [f'{role} = {{ dist = "normal", std = "{std}" }}' for role, std in stds.items()]
    head = ["[claim]", 'title = "What is claimed"', "year = 2024", 'source = ["a test"]']
    return "\n".join([*head, 'notes = "None."', "[claim.roles]", *rules])


NANOCHAT_DOC = scheme_file({"tok_emb": "1.0", "mlp_up": "1 / sqrt(n_embd)"})
NEOX = scheme_file(
    {
        **dict.fromkeys(("tok_emb", "q", "k", "v", "mlp_up", "mlp_gate"), "sqrt(2 / (5 * n_embd))"),
        **dict.fromkeys(("attn_out", "mlp_down"), "2 / (n_layer * sqrt(n_embd))"),
        "lm_head": "sqrt(2 / (5 * n_embd))",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One bug.

    Attributes:
        id: its name in docs/bugs.md.
        wrong: builds a model that has it.
        right: the same model without it.
        found: rule to the places that it must name.
        severity: of the finding.
        ratio: real over expected std of the first place, if the audit has an expectation there.
        claim: slug, or the text of a scheme file, that the model is held to.
        settings: of gptinit.audit.
    """

    id: str
    wrong: Callable[..., nn.Module]
    right: Callable[..., nn.Module]
    found: Mapping[str, tuple[str, ...]]
    severity: str = "error"
    ratio: float | None = None
    claim: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


CASES = (
    Case(
        id="hf-gpt2-cproj", wrong=models.never_matches, right=models.neutral, claim="nanogpt",
        found={"residual-scaling-missing": BRANCHES, "init-branch-never-taken": BRANCHES},
        ratio=DEPTH_RATIO,
    ),
    Case(
        id="llama2c-w3", wrong=models.scaled_w3, right=models.neutral,
        found={
            "residual-scaling-wrong-tensor": ("blocks.*.mlp.w3.weight",),
            "residual-scaling-missing": ("blocks.*.mlp.w2.weight",),
        },
        ratio=1 / DEPTH_RATIO,  # beside `nanogpt`, the closest scheme
    ),
    Case(
        id="llama2c-w3 against the claim", wrong=models.scaled_w3, right=models.neutral,
        claim="nanogpt",
        found={
            "residual-scaling-wrong-tensor": ("blocks.*.mlp.w3.weight",),
            "residual-scaling-missing": ("blocks.*.mlp.w2.weight",),
        },
        ratio=1 / DEPTH_RATIO,
    ),
    Case(
        id="lingua-depth", wrong=models.scaled_throughout, right=models.scaled_outputs,
        found={
            "residual-scaling-wrong-tensor": (
                *(f"blocks.*.attn.w{name}.weight" for name in "qkv"),
                "blocks.*.mlp.w1.weight",
                "blocks.*.mlp.w3.weight",
            )
        },
    ),
    Case(
        id="olmo-ffout", wrong=models.divided_again, right=models.neutral_plain,
        found={
            "scaled-twice": ("blocks.*.mlp.w2.weight",),
            "residual-branches-unequal": ("blocks.*.mlp.w2.weight",),
            "residual-scaling-missing": ("blocks.*.attn.wo.weight",),  # or that: nobody can know
        },
        ratio=1 / DEPTH_RATIO,
    ),
    Case(
        id="hf-t5-head", wrong=models.unit_head, right=models.narrow_head,
        found={"logit-scale": ("head.weight",)},
    ),
    Case(
        id="hf-t5-head against the claim", wrong=models.unit_head, right=models.narrow_head,
        claim=scheme_file({"lm_head": "1 / sqrt(n_embd)"}),
        found={"role-std-mismatch": ("head.weight",), "logit-scale": ("head.weight",)},
        ratio=math.sqrt(WIDTH),
    ),
    Case(
        id="nanochat-doc", wrong=models.as_coded, right=models.as_documented, claim=NANOCHAT_DOC,
        found={"role-std-mismatch": ("blocks.*.mlp.w3.weight", "embed.weight")}, ratio=0.4,
    ),
    Case(
        id="torch-mha-packed", wrong=models.packed, right=models.packed_apart, severity="warning",
        found={"fan-in-wrong": ("blocks.*.attn.inner.in_proj_weight",)},
    ),
    Case(
        id="torch-clones", wrong=models.cloned, right=models.redrawn,
        found={
            "duplicate-layers": tuple(f"body.layers.*.{name}" for name in COPIED),
            "fan-in-wrong": ("body.layers.*.self_attn.in_proj_weight",),
        },
    ),
    Case(
        id="torch-clones, nn.Transformer", wrong=models.half_cloned, right=models.redrawn,
        severity="warning",
        found={
            "duplicate-layers": ("body.layers.*.linear1.bias", "body.layers.*.linear2.bias"),
            "fan-in-wrong": ("body.layers.*.self_attn.in_proj_weight",),
        },
    ),
    Case(
        id="hf-gemma-norm", wrong=models.doubled_norm, right=models.single_norm,
        found={"norm-weight-wrong": NORMS},
    ),
    Case(
        id="ppb-layernorm", wrong=models.drawn_norm, right=models.layer_norm,
        found={"norm-weight-wrong": NORMS, "bias-nonzero": LAYER_NORM_BIASES},
    ),
    Case(
        id="hf-meta-norm", wrong=models.forgets_norms, right=models.neutral,
        settings={"build": "meta"}, found={"uninitialised": NORMS},
    ),
    Case(
        id="hf-meta-noop", wrong=models.draws_once, right=models.neutral,
        settings={"build": "meta"}, found={"init-never-called": ("*",)},
    ),
    Case(
        id="litgpt-1150", wrong=models.forgets_call, right=models.makes_call, severity="warning",
        found={"init-not-called": ("*",)},
    ),
    Case(
        id="nanochat-uninit", wrong=models.forgets_scalars, right=models.sets_scalars,
        settings={"build": "meta"}, found={"uninitialised": ("smear", "backout")},
    ),
    Case(
        id="hf-43522", wrong=models.loses_tie, right=models.keeps_tie,
        settings={"build": "meta", "tie_word_embeddings": True},
        found={"tie-broken": ("head.weight",)},
    ),
    Case(
        id="hf-43522, both ways", wrong=models.loses_tie, right=models.keeps_tie,
        settings={"build": "both", "tie_word_embeddings": True},
        found={"tie-broken": ("head.weight",)},
    ),
    Case(
        id="fsdp-cpu-shards and olmocore-307, in one process", wrong=models.same_shards,
        right=models.own_shards, settings={"draw": True}, found={"duplicate-shards": MATRICES},
        ratio=1.0,  # of the first place: the std looks right
    ),
    Case(
        id="torch-trunc-bf16", wrong=models.rounded_inverse, right=models.rounded_after,
        settings={"draw": True}, found={"dtype-rounding": MATRICES},
    ),
    Case(
        id="hf-46620", wrong=models.loaded_then_drawn, right=models.loaded_last,
        found={"pretrained-overwritten": MATRICES},
    ),
    Case(
        id="modalities-456", wrong=models.unit_tied, right=models.narrow_tied,
        found={"tied-role-std-conflict": ("embed.weight",)},
    ),
    Case(
        id="easylm-114", wrong=models.ones_for_hundredths, right=models.neutral_plain,
        claim="plain", found={"role-std-mismatch": MATRICES, "logit-scale": ("head.weight",)},
        ratio=50.0,
    ),
    Case(
        id="tinyllama-117", wrong=models.half_scaled, right=models.neutral,
        found={
            "residual-scaling-missing": ("blocks.*.attn.wo.weight",),
            "residual-branches-unequal": ("blocks.*.mlp.w2.weight",),
        },
    ),
    Case(
        id="tinyllama-117, fan_in", wrong=models.small_by_width, right=models.small_by_inputs,
        claim=scheme_file(
            dict.fromkeys(("q", "k", "v", "attn_out", "mlp_up", "mlp_gate", "mlp_down"),
                          "sqrt(2 / (5 * fan_in))")
        ),
        found={"fan-in-wrong": ("blocks.*.mlp.w2.weight",)}, ratio=math.sqrt(HIDDEN / WIDTH),
    ),
    Case(
        id="padding-idx", wrong=models.drawn_padding, right=models.zero_padding,
        severity="warning", found={"padding-row-nonzero": ("embed.weight",)},
    ),
    Case(
        id="llm-foundry-gain", wrong=models.zero_gain, right=models.unit_gain,
        found={
            "parameters-without-gradient": (
                *(f"blocks.*.attn.w{name}.weight" for name in "qkvo"),
                *(f"blocks.*.mlp.w{number}.weight" for number in "123"),
            )
        },
    ),
    Case(
        id="final-norm-lost", wrong=models.zeroed_final_norm, right=models.neutral,
        found={"logits-constant": ("norm.weight",)},
    ),
    Case(
        id="fms-289", wrong=models.default_bounds, right=models.own_bounds, severity="warning",
        found={"truncation-without-effect": BRANCHES},
    ),
    Case(
        id="pythia-135", wrong=models.neutral, right=models.small_and_wang, claim=NEOX,
        found={"role-std-mismatch": MATRICES},
        ratio=0.02 / math.sqrt(2 / (5 * WIDTH)),
    ),
)  # fmt: skip


def audited(
    case: Case, build: Callable[..., nn.Module], folder: Path, **settings: object
) -> gptinit.Audit:
    """The audit of one of a case's two models."""
    claim = case.claim
    if claim is not None and "\n" in claim:
        file = folder / "claim.toml"
        file.write_text(claim, encoding="utf-8")
        claim = str(file)
    return gptinit.audit(build, scheme=claim, **{**case.settings, **settings})  # type: ignore[arg-type] # settings of a verb


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_bug_is_named_by_its_rule_where_it_is(case: Case, tmp_path: Path) -> None:
    audit = audited(case, case.wrong, tmp_path)

    found: dict[str, set[str]] = {}
    for finding in audit.findings:
        if finding.severity != "note":
            found.setdefault(finding.rule, set()).update(finding.places)
    missing = {rule: set(places) - found.get(rule, set()) for rule, places in case.found.items()}
    assert not any(missing.values()), missing
    assert set(found) == set(case.found)
    first = next(iter(case.found))
    worst = {f.severity for f in audit.findings if f.rule == first}
    assert case.severity in worst
    assert_ratio_is_exact(case, audit)
    assert_docs_quote(case, audit)


def assert_ratio_is_exact(case: Case, audit: gptinit.Audit) -> None:
    """Laws are read and not sampled: what is left is the rounding of a float32 argument."""
    if case.ratio is not None:
        pattern = next(iter(case.found.values()))[0]
        rows = [p for p in audit.parameters if fnmatchcase(p.program.name, pattern)]
        assert rows
        assert [p.ratio for p in rows] == pytest.approx([case.ratio] * len(rows), rel=1e-5)


def assert_docs_quote(case: Case, audit: gptinit.Audit) -> None:
    """What docs/bugs.md shows of a case that has a command there."""
    said = [f"{f.severity} `{f.rule}` | `{f.where}`: {f.message}" for f in audit.findings]
    for row in OF_OURS:
        if row.split(" | ")[2].strip("`") == command_of(case):
            shown = " | ".join(row.split(" | ")[3:])
            start = shown.partition(" ...")[0]  # where a line number follows
            quoted = (shown.startswith(s) or (start != shown and start in s) for s in said)
            assert any(quoted), said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_its_correct_twin_is_not_accused(case: Case, tmp_path: Path) -> None:
    audit = audited(case, case.right, tmp_path)

    assert [f for f in audit.findings if f.severity != "note"] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_two_models_of_a_case_have_the_same_parameters(case: Case) -> None:
    settings = {k: v for k, v in case.settings.items() if k == "tie_word_embeddings"}
    build = [models.DecoderConfig(**settings)] if settings else []  # type: ignore[arg-type] # one flag

    wrong, right = (dict(f(*build).named_parameters()) for f in (case.wrong, case.right))

    assert {n: p.shape for n, p in wrong.items()} == {n: p.shape for n, p in right.items()}


DOCS = Path(__file__).parents[2] / "docs" / "bugs.md"
ROWS = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
OF_OURS = [row for row in ROWS if "tests/support/bug_models.py:" in row]


def command_of(case: Case) -> str:
    """How the docs write the audit of a case."""
    words = [f"gptinit audit tests/support/bug_models.py:{case.wrong.__name__}"]
    if case.claim is not None:
        words.append(f"--scheme {'claim.toml' if chr(10) in case.claim else case.claim}")
    for name, value in case.settings.items():
        switch = {"build": f"--build {value}", "draw": "--draw"}
        words.append(switch.get(name, f"--set {name}={str(value).lower()}"))
    return " ".join(words)


def test_the_docs_have_a_row_for_every_bug() -> None:
    told = {row.split(" | ")[0].strip("| \\*") for row in ROWS}

    assert told == {
        "hf-gpt2-cproj", "llama2c-w3", "lingua-depth", "olmo-ffout", "hf-t5-head", "nanochat-doc",
        "torch-mha-packed", "torch-clones", "hf-gemma-norm", "ppb-layernorm", "hf-meta-norm",
        "hf-meta-noop", "nanochat-uninit", "hf-43522", "fsdp-cpu-shards", "torch-trunc-bf16",
        "hf-46620", "modalities-456", "olmocore-307", "easylm-114", "tinyllama-117", "padding-idx",
        "pythia-135", "openai-gpt", "litgpt-1150", "llm-foundry-gain", "final-norm-lost", "fms-289",
    }  # fmt: skip
    assert len(OF_OURS) == 24
    commands = {row.split(" | ")[2].strip("`") for row in OF_OURS}
    assert commands <= {command_of(case) for case in CASES}


def test_equal_shards_are_seen_in_a_model_that_is_built_already() -> None:
    torch.manual_seed(0)
    found = [
        {f.rule for f in gptinit.audit(build(), draw=True).findings if f.severity == "error"}
        for build in (models.same_shards, models.own_shards)
    ]

    assert found == [{"duplicate-shards"}, set()]


def test_a_rounded_inverse_is_seen_in_a_model_that_is_built_already() -> None:
    torch.manual_seed(0)
    found = [
        {f.rule for f in gptinit.audit(build()).findings if f.severity == "error"}
        for build in (models.rounded_inverse, models.rounded_after)
    ]

    assert found == [{"dtype-rounding"}, set()]


def test_copied_layers_are_seen_in_a_model_that_is_built_already() -> None:
    torch.manual_seed(0)
    audit = gptinit.audit(models.cloned(), draw=True)

    assert any(f.rule.startswith("duplicate") for f in audit.findings if f.severity == "error")


def test_what_is_drawn_on_meta_is_right_by_the_constructor() -> None:
    for case in CASES:
        if case.settings.get("build") == "meta" and "tie_word_embeddings" not in case.settings:
            assert gptinit.audit(case.wrong).findings == ()
