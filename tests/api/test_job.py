"""What a MODEL argument stands for: a preset, code, or a module."""

from pathlib import Path
from typing import Any

import pytest
from support.foreign_models import Decoder, L, built
from torch import nn

from gptinit.api.job import Job
from gptinit.errors import ConfigError, SubjectError
from gptinit.facts.schemes import get_scheme

NANO = str(Path(__file__).parents[1] / "support" / "models" / "nano.py") + ":GPT"


def job(model: Any, **more: Any) -> Job:
    """A job."""
    return Job(label="m", model=model, **more)


def test_a_preset_is_the_built_in_gpt_with_its_scheme() -> None:
    made = job("nanogpt-char", shape={"n_layer": 2}, scheme=get_scheme("plain"))

    subject = made.subject()
    factory, module = made.factory()

    assert made.is_preset
    assert made.name() == "nanogpt-char, n_layer=2"
    assert (subject.scheme, subject.facts.n_layer) == ("plain", 2)
    assert subject.facts.name == factory.name == "nanogpt-char, n_layer=2"
    assert module is None


def test_a_preset_without_a_scheme_has_the_usual_one() -> None:
    assert job("nanogpt-char", shape={"n_layer": 1}).subject().scheme == "nanogpt"


def test_a_file_is_read_and_settings_given_as_texts_are_typed() -> None:
    subject = job(NANO, shape={"n_layer": "2", "bias": "false"}).subject()

    assert (subject.facts.n_layer, subject.facts.bias, subject.scheme) == (2, False, None)


def test_a_scheme_redraws_a_foreign_model() -> None:
    assert job(NANO, shape={"n_layer": 2}, scheme=get_scheme("plain")).subject().scheme == "plain"


def test_a_class_builds_and_a_module_is_measured_as_it_is() -> None:
    module = built("pre-norm")

    assert job(Decoder).subject().facts.n_layer == L
    subject = job(module).subject()
    assert subject.is_live
    assert job(module).factory()[1] is module


def test_a_live_module_keeps_its_weights() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^reinit cannot be used with a live module: its weights are measured as they are\.$",
    ):
        job(built("pre-norm"), scheme=get_scheme("plain")).subject()


@pytest.mark.parametrize("more", [{"sites": {"blocks": "h"}}, {"roles": {"*": "other"}}])
def test_a_preset_needs_no_roles_and_sites(more: Any) -> None:
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
