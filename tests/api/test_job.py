"""What a MODEL argument stands for: a preset, code, or a module."""

from pathlib import Path
from typing import Any

import pytest
from support.foreign_models import Decoder, L, built
from torch import nn

from gptinit.api.job import FactoryJob, Job, LiveJob, PresetJob, make_job
from gptinit.errors import ConfigError, SubjectError
from gptinit.facts.schemes import get_scheme

NANO = str(Path(__file__).parents[1] / "support" / "models" / "nano.py") + ":GPT"


def job(model: Any, **more: Any) -> Job:
    """A job."""
    return make_job(model, label="m", **more)


@pytest.mark.parametrize(
    ("model", "kind", "label"),
    [
        ("gpt2", PresetJob, "gpt2"),
        ("gtp2", PresetJob, "gtp2"),
        (NANO, FactoryJob, NANO),
        (Decoder, FactoryJob, "Decoder"),
        (built("pre-norm"), LiveJob, "Decoder"),
    ],
    ids=["preset", "misspelt preset", "code", "class", "module"],
)
def test_what_a_model_argument_is_is_decided_once(model: Any, kind: type[Job], label: str) -> None:
    made = make_job(model)

    assert type(made) is kind
    assert made.label == label


def test_a_preset_is_the_built_in_gpt_with_its_scheme() -> None:
    made = job("nanogpt-char", shape={"n_layer": 2}, scheme="plain")

    subject, audit = made.subject(), made.audit(None, build="own", perturb=False, draw=False)

    assert (subject.scheme, subject.facts.n_layer) == ("plain", 2)
    assert subject.facts.name == audit.model.name == "nanogpt-char, n_layer=2"
    assert made.block_size == 256
    # It is drawn by a scheme, not by a line of code.
    steps = {str(step) for p in audit.parameters for step in p.program.provenance}
    assert steps == {"normal_(0, 0.02)", "fill_(1)"}
    assert job("nanogpt-char", reinit=get_scheme("plain"), shape={"n_layer": 2}) == made


def test_a_preset_without_a_scheme_has_the_usual_one() -> None:
    assert job("nanogpt-char", shape={"n_layer": 1}).subject().scheme == "nanogpt"


def test_a_file_is_read_and_settings_given_as_texts_are_typed() -> None:
    subject = job(NANO, shape={"n_layer": "2", "bias": "false"}).subject()

    assert (subject.facts.n_layer, subject.facts.bias, subject.scheme) == (2, False, None)


def test_a_scheme_redraws_a_foreign_model() -> None:
    assert job(NANO, shape={"n_layer": 2}, reinit=get_scheme("plain")).subject().scheme == "plain"


def test_a_class_builds_and_a_module_is_measured_as_it_is() -> None:
    module = built("pre-norm")

    assert job(Decoder).subject().facts.n_layer == L
    subject = job(module).subject()
    assert subject.is_live
    own, held = subject.own, dict(module.named_parameters())
    assert own is not None
    assert all(held[n].data_ptr() == p.data_ptr() for n, p in own(0).named_parameters())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"reinit": "plain"}, r"^reinit cannot be used with a live module: its weights are"),
        (
            {"shape": {"n_layer": 3}},
            r"^n_layer cannot be set on a live module: it is built",
        ),
    ],
)
def test_a_live_module_keeps_its_weights_and_its_shape(more: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(built("pre-norm"), **more).check()


def test_a_live_module_must_hold_values() -> None:
    with pytest.raises(ConfigError, match=r"must hold values, but it has parameters on meta"):
        job(nn.Linear(2, 2, device="meta")).check()


@pytest.mark.parametrize("model", [NANO, Decoder, nn.Linear(2, 2)], ids=["code", "class", "module"])
def test_only_a_preset_has_a_scheme(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"^scheme applies to a preset only"):
        job(model, scheme="plain")


@pytest.mark.parametrize(
    "more", [{"sites": {"blocks": "h"}}, {"roles": {"*": "other"}}, {"forward": "how.py:run"}]
)
def test_a_preset_needs_no_roles_sites_and_forward(more: Any) -> None:
    with pytest.raises(ConfigError, match="apply to your own model only, not to a preset"):
        job("gpt2", **more).check()


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ("gtp2", {}, r"model must be one of .*'gtp2'\. Did you mean gpt2"),
        ("gpt2", {"n_layer": 0}, r"n_layer must be a positive integer, got 0"),
        ("gpt2", {"layers": 3}, r"shape option must be one of .*'layers'"),
    ],
)
def test_a_wrong_preset_is_refused_before_anything_is_built(
    model: str, shape: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        job(model, shape=shape).check()


def test_foreign_models_are_not_looked_at_by_check() -> None:
    job("no/such/file.py:GPT").check()

    with pytest.raises(ConfigError, match=r"file\.py"):
        job("no/such/file.py:GPT").subject()


def test_what_builds_no_module_is_named() -> None:
    with pytest.raises(SubjectError, match="must"):
        job(lambda: 3).subject()


def test_a_module_without_blocks_is_named() -> None:
    with pytest.raises(SubjectError, match=r"Embedding must|must have repeated blocks"):
        job(lambda: nn.Embedding(9, 4)).subject()


@pytest.mark.parametrize(
    ("model", "more", "told"),
    [
        ("gpt2", {"init": "none"}, "init must be for a model defined in code, got the preset"),
        (built("pre-norm"), {"init": "none"}, "got a module that is built already"),
        ("gpt2", {"stubs": ("a", "b")}, "Python file or module only, got a, b for 'gpt2'"),
        (Decoder, {"stubs": ("a",)}, "got a for 'Decoder'"),
        (NANO, {"scheme": "gpt2"}, "scheme applies to a preset only"),
        (Decoder, {"scheme": "gpt2"}, "scheme applies to a preset only"),
        ("gpt2", {"scheme": "gpt2", "reinit": "gpt2"}, "cannot be used together"),
    ],
    ids=["init", "built", "stubs", "class", "scheme", "scheme of a class", "both"],
)
def test_what_a_kind_of_model_cannot_have_is_refused(
    model: Any, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        job(model, **more)


@pytest.mark.parametrize(("build", "perturb"), [("meta", False), ("own", True)])
def test_a_preset_is_built_in_one_way(build: Any, perturb: bool) -> None:
    with pytest.raises(ConfigError, match="build and perturb need a model defined in code"):
        job("nanogpt-char").audit(None, build=build, perturb=perturb, draw=False)
