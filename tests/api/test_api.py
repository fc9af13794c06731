"""The verbs as a notebook calls them: what they promise, what they refuse, how they rank."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.foreign_models import C, Decoder, L, hearing
from support.profiles import make_profile

import gptinit
from gptinit.api.job import Job
from gptinit.config import RunConfig
from gptinit.errors import ConfigError, MeasureError, SubjectError
from gptinit.facts.apply_scheme import distributions_at
from gptinit.facts.bounds import Bound
from gptinit.facts.presets import PRESETS
from gptinit.facts.schemes import load_schemes
from gptinit.facts.vocabulary import AXES, Axis
from gptinit.gate.check_config import Acceptance, CheckConfig, ModelSpec, ScopedBound
from gptinit.results.profile import Comparison, Profile

TINY: dict[str, Any] = {"n_layer": 2, "n_embd": 64}
RUN = RunConfig(seq_len=16, seeds=1, device="cpu")
NANO = str(Path(__file__).parents[1] / "support" / "models" / "nano.py") + ":GPT"

SCHEME = """
[{slug}]
title = "one of my own"
[{slug}.roles]
tok_emb = {{dist = "normal", std = "0.02"}}
pos_emb = {{dist = "normal", std = "0.02"}}
q = {{dist = "normal", std = "{qk}"}}
k = {{dist = "normal", std = "{qk}"}}
v = {{dist = "normal", std = "0.02"}}
attn_out = {{dist = "normal", std = "0.02"}}
mlp_up = {{dist = "normal", std = "0.02"}}
mlp_down = {{dist = "normal", std = "{down}"}}
norm_weight = {{dist = "const", value = "1"}}
"""


def scheme_file(folder: Path, slug: str, *, qk: str = "0.02", down: str = "0.02") -> str:
    """A scheme of the user's for a model without biases and with a tied head."""
    path = folder / f"{slug}.toml"
    path.write_text(SCHEME.format(slug=slug, qk=qk, down=down), encoding="utf-8")
    return str(path)


def tiny(scheme: str = "nanogpt", **run: Any) -> Profile:
    return gptinit.inspect("nanogpt-char", scheme=scheme, run=replace(RUN, **run), **TINY)


def tiny_comparison(*schemes: str, **run: Any) -> Comparison:
    chosen = replace(RUN, **{"grad": True, **run})
    return gptinit.compare("schemes", schemes, model="nanogpt-char", run=chosen, **TINY)


def test_inspect_says_what_was_measured_and_how() -> None:
    profile = tiny(seeds=2, seed=3)

    assert (profile.model.name, profile.scheme) == ("nanogpt-char, n_layer=2, n_embd=64", "nanogpt")
    assert profile.model.source == f"preset nanogpt-char: {PRESETS['nanogpt-char'].source}"
    assert (profile.run.seeds, profile.run.seed, profile.run.seq_len) == (2, 3, 16)
    assert profile.run.device == "cpu"
    assert [note.kind for note in profile.notes] == ["engine"]
    assert profile.cost is None


def test_inspect_takes_a_scheme_by_alias_or_as_an_object() -> None:
    by_slug = tiny()

    assert tiny("gpt2") == by_slug
    assert (
        gptinit.inspect("nanogpt-char", scheme=gptinit.get_scheme("gpt2"), run=RUN, **TINY)
        == by_slug
    )


def test_inspect_measures_a_scheme_file(tmp_path: Path) -> None:
    profile = tiny(scheme_file(tmp_path, "mine"))

    assert profile.scheme == "mine"
    # The very rules of plain, for the roles that this model has.
    assert profile.final == tiny("plain").final


def test_timing_is_the_only_thing_that_differs() -> None:
    timed = gptinit.inspect("nanogpt-char", run=RUN, timing=True, **TINY)

    assert timed.cost is not None
    assert timed.cost.seconds > 0
    assert timed.cost.peak_bytes > 10_000_000  # torch alone is more
    assert replace(timed, cost=None) == tiny()


def test_the_default_run_is_that_of_run_config() -> None:
    profile = gptinit.inspect("nanogpt-char", n_layer=1, n_embd=64, block_size=8)

    assert (profile.run.seeds, profile.run.seq_len, profile.run.data) == (3, 8, "zipf")


def test_progress_is_told_under_the_name_of_the_job() -> None:
    told: list[tuple[str, int, int]] = []

    gptinit.compare(
        "depths",
        [1, 2],
        model="nanogpt-char",
        run=RUN,
        progress=lambda *step: told.append(step),
        n_embd=64,
    )

    assert told == [("1", 1, 1), ("2", 1, 2), ("2", 2, 2)]


def test_healthy_schemes_have_no_findings() -> None:
    assert tiny().findings == ()


def test_a_bound_that_is_missed_is_one_warning(tmp_path: Path) -> None:
    # Scores have std std_q std_k n_embd = 64, and the bound is 2.
    profile = tiny(scheme_file(tmp_path, "loud", qk="1"))

    (finding,) = profile.findings
    assert (finding.rule, finding.severity) == ("out-of-bounds", "warning")
    assert finding.where == "layers 0-1"
    assert finding.message.startswith("2 of 2 layers, worst layer ")


def test_drowned_embeddings_are_found_by_the_growth_of_the_stream(tmp_path: Path) -> None:
    profile = tiny(scheme_file(tmp_path, "drowned", down="2"))

    found = {f.where: f.message for f in profile.findings}
    assert found["whole"].startswith("resid_growth must be at most 1000, got ")
    assert all(f.severity == "warning" for f in profile.findings)


def overflowing(folder: Path) -> str:
    """A scheme whose first MLP writes infinities into a stream of bfloat16."""
    return scheme_file(folder, "overflowing", down="1e38 * 1e3 / 1e3")


def test_nan_is_exactly_one_error_that_names_where_it_starts(tmp_path: Path) -> None:
    # std 1e38 passes float32's and bfloat16's 3.4e38 at 3.4 sigma of a sum of 256 products.
    profile = tiny(overflowing(tmp_path), dtype="bfloat16", grad=True)

    (finding,) = profile.findings
    assert (finding.rule, finding.severity, finding.where) == ("nonfinite", "error", "layer 0")
    assert "resid_growth" not in profile.whole.values
    assert all(math.isfinite(v) for _, place in profile.places() for v in place.values.values())


@pytest.mark.parametrize("axis", AXES)
def test_labels_are_what_was_asked_for_in_that_order(axis: Axis) -> None:
    asked: dict[str, tuple[str | int, ...]] = {
        "schemes": ("plain", "gpt2"),
        "depths": (2, 1),
        "widths": (128, 64),
        "models": ("nanogpt-char", NANO),
        "engines": ("lazy", "theory"),
    }
    shape: dict[str, Any] = {"n_layer": 1} if axis != "depths" else {"n_embd": 64}

    found = gptinit.compare(axis, asked[axis], model="nanogpt-char", run=RUN, **shape)

    assert found.axis == axis
    assert (
        found.labels
        == {
            "schemes": ("plain", "nanogpt"),
            "depths": ("2", "1"),
            "widths": ("128", "64"),
            "models": ("nanogpt-char", NANO),
            "engines": ("lazy", "theory"),
        }[axis]
    )
    assert (found.ranking is not None) == (axis == "schemes")
    told = [(p.scheme, p.model.n_layer, p.model.n_embd) for p in found.profiles]
    assert (
        told
        == {
            "schemes": [("plain", 1, 384), ("nanogpt", 1, 384)],
            "depths": [("nanogpt", 2, 64), ("nanogpt", 1, 64)],
            "widths": [("nanogpt", 1, 128), ("nanogpt", 1, 64)],
            "models": [("nanogpt", 1, 384), (None, 1, 64)],
            "engines": [("nanogpt", 1, 384)] * 2,
        }[axis]
    )


def test_no_names_compare_every_built_in_scheme() -> None:
    assert tiny_comparison(grad=False).labels == tuple(load_schemes())


def test_a_comparison_runs_the_backward_pass_unless_told_otherwise() -> None:
    found = gptinit.compare("depths", [1], model="nanogpt-char", n_embd=64, block_size=8)

    assert "grad_growth" in found.profiles[0].embedding.values


def test_depths_and_widths_take_the_scheme() -> None:
    asked: dict[Axis, tuple[int, dict[str, Any]]] = {
        "depths": (2, {"n_embd": 64}),
        "widths": (64, {"n_layer": 2}),
    }
    for axis, (value, shape) in asked.items():
        found = gptinit.compare(
            axis, [value], scheme="plain", model="nanogpt-char", run=RUN, **shape
        )

        assert [p.scheme for p in found.profiles] == ["plain"]
        assert found.profiles[0].final == tiny("plain").final


def test_the_name_of_a_model_does_not_depend_on_the_order_of_its_options() -> None:
    one = gptinit.inspect("nanogpt-char", run=RUN, n_layer=2, n_embd=64)
    other = gptinit.inspect("nanogpt-char", run=RUN, n_embd=64, n_layer=2)

    assert one == other


def test_a_profile_of_a_comparison_equals_that_of_inspect_but_for_its_name() -> None:
    found = gptinit.compare("widths", [64], model="nanogpt-char", run=RUN, n_layer=2)

    assert found.profiles == (tiny(),)


def test_schemes_are_ranked_by_bounds_missed_then_by_the_flattest_gradient(tmp_path: Path) -> None:
    loud = scheme_file(tmp_path, "loud", qk="1")

    found = tiny_comparison("plain", loud, "nanogpt")

    steepness = {
        label: abs(math.log(p.embedding.values["grad_growth"]))
        for label, p in zip(found.labels, found.profiles, strict=True)
    }
    missed = [len(p.findings) for p in found.profiles]
    assert missed == [0, 1, 0]
    assert steepness["nanogpt"] < steepness["plain"]
    assert found.ranking is not None
    assert found.ranking.order == ("nanogpt", "plain", "loud")
    assert "fewest bounds missed" in found.ranking.by


def test_a_scheme_that_is_not_finite_is_ranked_last(tmp_path: Path) -> None:
    # Misses two bounds or more, and has numbers all the same.
    noisy = scheme_file(tmp_path, "noisy", qk="1", down="2")

    found = tiny_comparison(overflowing(tmp_path), noisy, dtype="bfloat16")

    assert [len(p.findings) >= 2 for p in found.profiles] == [False, True]
    assert found.ranking is not None
    assert found.ranking.order == ("noisy", "overflowing")


def test_the_criterion_speaks_of_gradients_only_where_there_are_some() -> None:
    found = tiny_comparison("plain", "nanogpt", grad=False)

    assert found.ranking is not None
    assert "gradient" not in found.ranking.by


@pytest.mark.parametrize(
    ("axis", "values", "shape", "message"),
    [
        ("heads", [1], {}, "axis must be one of depths, engines, models, schemes, widths, got"),
        ("engines", ["lasy"], {}, "engine must be one of dense, lazy, stream, theory, got 'lasy'"),
        ("engines", ["auto"], {}, "engine must be one of dense, lazy, stream, theory, got 'auto'"),
        ("depths", [], {}, "no depths to compare: name at least one"),
        ("depths", [2, 2], {}, "depths to compare must differ, got 2 twice"),
        ("depths", [2], {"n_layer": 3}, "n_layer cannot be set when depths are compared"),
        ("depths", [2.5], {}, "n_layer must be a positive integer, got 2.5"),
        ("widths", ["64"], {}, "n_embd must be a positive integer, got '64'"),
        ("schemes", ["plain", "plian"], {}, "Did you mean plain"),
        ("schemes", [], {"n_heads": 3}, "shape option must be one of .* Did you mean n_head"),
    ],
)
def test_nothing_is_measured_where_one_value_is_wrong(
    axis: Axis,
    values: list[Any],
    shape: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure_job = "gptinit.api.compare.measure_job"
    monkeypatch.setattr(measure_job, lambda *args, **kwargs: pytest.fail("it ran"))

    with pytest.raises(ConfigError, match=message):
        gptinit.compare(axis, values, **shape)


def config(scheme: str, **changes: Any) -> CheckConfig:
    """A check of one tiny model, without a file."""
    bound = Bound(stat="resid_growth", where="whole", max=50, why="It drowns.")
    made = CheckConfig(
        path=Path("nowhere.toml"),
        run=replace(RUN, seeds=6),
        models=(
            ModelSpec(name="small", model="nanogpt-char", scheme=scheme, overrides={"n_layer": 2}),
        ),
        bounds=(ScopedBound(bound=bound),),
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("scheme", "verdict", "severities"),
    [("nanogpt", "ok", []), ("plain", "violated", ["error"])],
)
def test_check_takes_a_configuration_as_an_object(
    scheme: str, verdict: str, severities: list[str]
) -> None:
    report = gptinit.check(config(scheme))

    assert [(r.model, r.where, r.verdict) for r in report.results] == [("small", "whole", verdict)]
    assert [f.severity for f in report.findings] == severities


def test_check_reports_nan_that_no_bound_watches(tmp_path: Path) -> None:
    checked = config(overflowing(tmp_path), run=replace(RUN, seeds=6, dtype="bfloat16"))

    report = gptinit.check(checked)

    assert [r.verdict for r in report.results] == ["violated"]
    assert report.results[0].value is None
    found = [(f.rule, f.severity, f.location) for f in report.findings]
    assert ("nonfinite", "error", "small: layer 0") in found


def test_check_measures_every_model_and_holds_it_to_its_own_bounds() -> None:
    specs = tuple(
        ModelSpec(name=s, model="nanogpt-char", scheme=s, overrides={"n_layer": 2})
        for s in ("nanogpt", "plain")
    )
    bound = Bound(stat="resid_growth", where="whole", max=50, why="It drowns.")
    only = (ScopedBound(bound=bound, models=("nanogpt",)),)

    report = gptinit.check(config("nanogpt", models=specs, bounds=only))

    assert [(r.model, r.verdict) for r in report.results] == [("nanogpt", "ok")]


def test_check_looks_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"must have a gptinit\.toml or \[tool\.gptinit\]"):
        gptinit.check()


def test_distributions_are_told_once_unless_layers_differ(tmp_path: Path) -> None:
    path = tmp_path / "depth.toml"
    path.write_text(
        '[depth.roles]\nq = {dist = "normal", std = "0.02"}\n'
        'mlp_down = {dist = "normal", std = "0.02 / sqrt(layer + 1)"}\n',
        encoding="utf-8",
    )

    found = distributions_at(gptinit.get_scheme(str(path)), gptinit.GPTConfig(n_layer=4))

    assert [d.std for d in found["q"]] == [0.02]
    assert [d.std for d in found["mlp_down"]] == [0.02, 0.01]


def test_inspect_takes_what_builds_a_model_and_a_model() -> None:
    built = gptinit.inspect(Decoder, run=RUN)
    live = gptinit.inspect(Decoder(), run=RUN)

    assert (built.run.weights, live.run.weights) == ("traced", "own")
    assert (len(built.layers), len(live.layers)) == (L, L)
    assert (built.model.name, live.model.name) == ("Decoder", "Decoder")


class WantsMore(Decoder):
    """Wants a state besides ids, which nothing supplies."""

    def forward(self, ids: Any, state: Any = None) -> Any:  # noqa: D102 # as of every module
        assert state == {"step": 0}
        return super().forward(ids)


def with_state(model: Any, ids: Any) -> Any:
    """The way to call it."""
    return model(ids, {"step": 0})


def test_a_model_that_wants_more_than_ids_is_called_as_the_user_says() -> None:
    plain, odd = Decoder(), WantsMore()
    odd.load_state_dict(plain.state_dict())
    run = replace(RUN, grad=True)

    for usual, wants in ((plain, odd), (Decoder, WantsMore)):
        expected = gptinit.inspect(usual, run=run)
        found = gptinit.inspect(wants, run=run, forward=with_state)
        assert found.places() == expected.places()
    assert gptinit.audit(WantsMore, forward=with_state).notes == ()
    assert "--forward" in gptinit.audit(WantsMore).notes[0].message


def refusing(model: Any, ids: Any) -> Any:
    """Is wrong."""
    raise ValueError("no cache")


def wanting(model: Any, ids: Any, cache: Any) -> Any:
    """Wants what nobody gives."""


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        (refusing, r"of Decoder for token ids, got ValueError: no cache \(test_api\.py:\d+\)\."),
        (wanting, r"of Decoder .*: wanting\(\) missing 1 required positional argument: 'cache'"),
        (lambda model, ids: None, r"of shape .*, got None for ids of shape \(1, 8\)\."),
    ],
)
@pytest.mark.parametrize("is_live", [False, True])
def test_a_way_to_call_that_fails_is_an_error(forward: Any, told: str, *, is_live: bool) -> None:
    # C1: the audit went on by names alone, and said "1 warning".
    with pytest.raises(SubjectError, match=rf"^--forward \(test_api\.py:\d+\) .* {told}"):
        gptinit.audit(Decoder() if is_live else Decoder, forward=forward)


def test_a_model_that_wants_more_than_ids_is_compared() -> None:
    found = gptinit.compare("schemes", ["plain"], model=WantsMore, forward=with_state, run=RUN)

    assert len(found.profiles[0].layers) == L


def test_a_live_model_stays_as_it_is() -> None:
    module = Decoder().train()
    module.h.register_forward_hook(lambda *_: None)
    held = {n: (id(p), p.detach().clone()) for n, p in module.named_parameters()}
    rng = torch.get_rng_state()

    gptinit.inspect(module, run=replace(RUN, grad=True, dtype="bfloat16"))
    gptinit.audit(module)

    assert module.training
    assert all(m.training for m in module.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert len(module.h._forward_hooks) == 1
    for name, p in module.named_parameters():
        assert (id(p), p.requires_grad, p.dtype, p.grad) == (
            held[name][0], True, torch.float32, None,
        )  # fmt: skip
        assert torch.equal(p, held[name][1])


def test_tokens_of_the_caller_are_those_that_run() -> None:
    ids = np.arange(2 * 9).reshape(2, 9)

    with hearing() as record:
        profile = gptinit.inspect(Decoder, ids, run=RUN)

    assert (profile.run.data, profile.run.batch_size, profile.run.seq_len) == ("given", 2, 8)
    assert profile.run.data_sha256 == hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
    assert [t.shape for kind, t in record if kind == "embedding"][-1] == (2, 8, C)
    with hearing() as again:
        gptinit.inspect(Decoder, ids.tolist(), run=RUN)
    assert torch.equal(record[-1][1], again[-1][1])


def test_tokens_work_for_a_preset_too_and_wrong_ones_are_named() -> None:
    profile = gptinit.inspect("nanogpt-char", [[1, 2, 3]], run=RUN, **TINY)

    assert profile.run.seq_len == 2
    with pytest.raises(ConfigError, match="below vocab_size=65, got 1 to 65"):
        gptinit.inspect("nanogpt-char", [[1, 65]], run=RUN, **TINY)


def test_a_live_model_cannot_be_redrawn_moved_or_rebuilt() -> None:
    with pytest.raises(ConfigError, match=r"^reinit cannot be used with a live module"):
        gptinit.inspect(Decoder(), reinit="plain", run=RUN)
    for more in ({"build": "both"}, {"perturb": True}):
        with pytest.raises(ConfigError, match=r"^build and perturb cannot be used with a live"):
            gptinit.audit(Decoder(), **more)


def test_the_wrong_word_for_a_scheme_is_named() -> None:
    with pytest.raises(ConfigError, match="scheme applies to a preset only"):
        gptinit.inspect(Decoder, scheme="plain", run=RUN)


def test_a_role_that_there_is_not_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"role must be a known name, got 'mlp_dwn'\. Did you mean mlp_"
    ):
        gptinit.audit(Decoder, roles={"*": "mlp_dwn"})


def test_audit_of_a_preset_a_file_and_a_class() -> None:
    preset, file, own = (
        gptinit.audit("gpt2", n_layer=2), gptinit.audit(NANO, n_layer=2), gptinit.audit(Decoder),
    )  # fmt: skip

    for found in (preset, file):
        assert found.findings == ()
        assert found.closest is not None
        assert (found.closest.name, found.closest.exact) == ("nanogpt", True)
    assert len(preset.parameters) == len(file.parameters)
    assert own.build == "own"


def test_audit_accepts_what_is_known_with_its_reason() -> None:
    claim = gptinit.audit(NANO, scheme="plain", n_layer=2)
    worst = claim.findings[0]
    assert worst.severity == "error"

    accepted = gptinit.audit(
        NANO,
        scheme="plain",
        n_layer=2,
        accept=[
            Acceptance(rule=f.rule, where=f.where, reason="on purpose") for f in claim.findings
        ],
    )

    assert {f.severity for f in accepted.findings} == {"note"}
    assert accepted.findings[0].message.endswith("Accepted: on purpose")


def test_audit_of_a_model_that_cannot_run_has_a_note() -> None:
    class Stuck(Decoder):
        def forward(self, ids: Any) -> Any:
            raise OSError("no\ndisk")

    found = gptinit.audit(Stuck)

    assert [n.where for n in found.notes] == ["roles"]
    assert "\n" not in found.notes[0].message


def test_models_are_compared_with_the_inits_that_they_have() -> None:
    found = gptinit.compare("models", ["nanogpt-char", NANO], run=RUN, n_layer=2)

    assert found.labels == ("nanogpt-char", NANO)
    assert [p.scheme for p in found.profiles] == ["nanogpt", None]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"device": "cuda"}, "device must be auto or cpu with engine='theory'"),
        ({"dtype": "bfloat16"}, "dtype must be float32 with engine='theory'"),
        ({"weights": "own"}, "weights must be traced with engine='theory'"),
    ],
)
def test_theory_refuses_a_setting_that_it_would_ignore(
    setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        gptinit.inspect("gpt2", run=RunConfig(engine="theory", **setting))


def test_theory_is_compared_with_a_run_of_another_type() -> None:
    run = RunConfig(dtype="bfloat16", seeds=1, seq_len=8, device="cpu")

    found = gptinit.compare("engines", ["lazy", "theory"], model="nanogpt-char", n_layer=1, run=run)

    assert [p.run.dtype for p in found.profiles] == ["bfloat16", "float32"]
    assert [p.torch is None for p in found.profiles] == [False, True]


@pytest.mark.parametrize(
    ("named", "refused", "labels"),
    [
        # All engines: without those that cannot run, unless it is the one that always can.
        ((), {"lazy", "theory"}, ("dense", "stream")),
        ((), {"dense"}, None),
        (("stream", "lazy"), {"theory"}, ("stream", "lazy")),
        (("stream", "lazy"), {"lazy"}, None),
    ],
)
@pytest.mark.parametrize("error", [ConfigError, MeasureError])
def test_an_engine_that_cannot_run_is_left_out_unless_it_was_named(
    named: tuple[str, ...],
    refused: set[str],
    labels: tuple[str, ...] | None,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(job: Job, run: RunConfig, **_: object) -> Profile:
        if job.label in refused:
            raise error(f"{job.label} must not be used.")
        return make_profile()

    monkeypatch.setattr("gptinit.api.compare.measure_job", measured)

    if labels is None:
        with pytest.raises(error, match="must not be used"):
            gptinit.compare("engines", named, model="nanogpt-char")
        return
    found = gptinit.compare("engines", named, model="nanogpt-char")

    assert found.labels == labels
    left_out = [] if named else [
        ("approximate", "lazy", "Left out: lazy must not be used."),
        ("theory-missing", "theory", "Left out: theory must not be used."),
    ]  # fmt: skip
    first, *others = ([(n.kind, n.where, n.message) for n in p.notes] for p in found.profiles)
    assert first == left_out
    assert others == [[]]


def test_a_prediction_is_what_stands_beside_a_measurement() -> None:
    run = RunConfig(seeds=2, seq_len=16, device="cpu", grad=True)
    measured = gptinit.inspect("nanogpt-char", n_layer=2, run=run)
    expected = gptinit.inspect("nanogpt-char", n_layer=2, run=replace(run, engine="theory"))

    for (_, one), (_, other) in zip(measured.places(), expected.places(), strict=True):
        assert one.predicted == {s: v for s, v in other.values.items() if s in one.values}


def test_a_check_is_of_measurements() -> None:
    checked = config("nanogpt", run=RunConfig(engine="theory", seeds=6))

    with pytest.raises(ConfigError, match="engine = 'theory' cannot be used in a check"):
        gptinit.check(checked)


def test_a_setting_may_have_the_name_of_an_argument() -> None:
    def build(init: int = 1, run: int = 2) -> Decoder:
        assert (init, run) == (3, 4)
        return Decoder()

    settings = {"init": 3, "run": 4}
    audit = gptinit.audit(build, settings=settings)
    profile = gptinit.inspect(build, settings=settings, run=RunConfig(seeds=1, seq_len=4))

    assert audit.model.name == profile.model.name == "build, init=3, run=4"
