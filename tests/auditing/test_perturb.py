"""Init settings are moved: a role that should follow and does not is named."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from support.programs import gpt2, matrix, nanogpt, vector

from gptinit.auditing.perturb import PERTURBATION, init_settings, perturb
from gptinit.errors import SubjectError
from gptinit.facts.distributions import Constant, Normal, Uniform
from gptinit.load.factory import Factory
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram


def settings_of(**settings: object) -> Factory:
    """A factory with settings; what it builds is what `program_of` says."""

    def moved(changes: Mapping[str, object]) -> Factory:
        return settings_of(**{**settings, **changes})

    return Factory(name="m", source="tests", build=_never, settings=settings, with_settings=moved)


def _never() -> Any:
    """Nothing is built in these tests."""
    raise AssertionError


@pytest.mark.parametrize(
    "name",
    [
        "initializer_range", "init_std", "std", "weight_std", "text_config.initializer_range",
        "init_cutoff_factor", "embed_init_std", "sigma",
    ],
)  # fmt: skip
def test_settings_of_an_init_are_known_by_their_names(name: str) -> None:
    assert init_settings(settings_of(**{name: 0.02})) == {name: 0.02}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer_norm_epsilon", 1e-5), ("layer_norm_init_eps", 1e-5), ("rope_theta", 1e4),
        ("dropout", 0.1), ("n_layer", 3), ("initializer_range", 0.0), ("init_std", True),
        ("init_std", "0.02"), ("initializer_range", float("inf")), ("standard", 0.5),
        ("initial_temperature", 1.0),
    ],
)  # fmt: skip
def test_other_settings_are_left_alone(name: str, value: object) -> None:
    assert init_settings(settings_of(**{name: value})) == {}


def program_of(base: float, embedding: float) -> ModelProgram:
    """A model with one std for embeddings and one for the rest."""
    return gpt2(lambda role, _: Normal(0.0, embedding if "emb" in role else base), n_layer=2)


def read(factory: Factory) -> ModelProgram:
    """A model that follows `init_std`, its embeddings `emb_std`, and nobody `other_init_std`."""
    found = {k: v for k, v in factory.settings.items() if isinstance(v, float)}
    return program_of(found["init_std"], found.get("emb_std", 0.02))


def findings(factory: Factory) -> list[Finding]:
    """What moving says."""
    return perturb(factory, read(factory), read)


def test_a_setting_that_nobody_follows_is_an_error() -> None:
    (found,) = findings(settings_of(init_std=0.5, emb_std=0.3, other_init_std=0.02))[-1:]

    assert (found.rule, found.severity, found.where) == (
        "setting-ignored",
        "error",
        "other_init_std",
    )
    assert found.message.endswith("nothing changed: the setting is ignored.")
    assert f"from 0.02 to {0.02 * PERTURBATION:g}" in found.message


def test_roles_that_do_not_follow_are_a_note_or_a_warning_where_they_look_as_if_they_did() -> None:
    special, usual = findings(settings_of(init_std=0.5)), findings(settings_of(init_std=0.02))

    assert [(f.severity, f.where) for f in special] == [("note", "init_std")]
    assert special[0].message.endswith("pos_emb, tok_emb did not follow.")
    # At the default both have 0.02: nobody would see that it is written into the code.
    assert [f.severity for f in usual] == ["warning"]


@pytest.mark.parametrize(
    ("followers", "is_said"),
    [
        ({0, 1, 2}, False),
        ({0}, False),
        ({1}, False),
        ({2}, False),
        ({0, 2}, False),
        (set(), True),
    ],
)
@pytest.mark.parametrize("roles", [{"mlp_up"}, {"attn_out", "mlp_up"}])
def test_a_role_follows_if_a_parameter_of_any_layer_does(
    roles: set[str], followers: set[int], is_said: bool
) -> None:
    def drawn(factory: Factory) -> ModelProgram:
        std = factory.settings["init_std"]
        assert isinstance(std, float)

        def law(role: str, layer: int) -> Normal:
            return Normal(0.0, 0.5 if role in roles and layer not in followers else std)

        return gpt2(law, n_layer=3)

    factory = settings_of(init_std=0.5)
    found = [f.message for f in perturb(factory, drawn(factory), drawn)]

    still = ", ".join(sorted(roles))
    assert found == [f"init_std was moved from 0.5 to 0.75: {still} did not follow."] * is_said


def test_a_model_that_follows_its_settings_has_no_finding() -> None:
    def follows(factory: Factory) -> ModelProgram:
        std = factory.settings["init_std"]
        assert isinstance(std, float)
        return program_of(std, std)

    factory = settings_of(init_std=0.02)

    assert perturb(factory, follows(factory), follows) == []


def test_a_setting_that_cannot_be_moved_is_a_note() -> None:
    def fails(factory: Factory) -> ModelProgram:
        raise SubjectError("m must be built, got ValueError.")

    (found,) = perturb(settings_of(init_std=0.02), read(settings_of(init_std=0.02)), fails)

    assert (found.severity, found.where) == ("note", "init_std")
    assert found.message == "init_std could not be moved: m must be built, got ValueError."


def test_a_model_without_settings_is_not_moved() -> None:
    factory = replace(settings_of(init_std=0.02), with_settings=None)

    assert perturb(factory, gpt2(nanogpt), read) == []


@pytest.mark.parametrize(
    "left",
    [
        vector("h.0.b", "linear_bias", Uniform(-0.5, 0.5)),
        vector("h.0.ln.weight", "norm_weight", Constant(1.0)),
        matrix("h.0.w", "mlp_down", Constant(0.0), 4, 4),
    ],
    ids=["random vector", "norm", "constant matrix"],
)
def test_vectors_and_constants_that_stay_are_not_named(left: ParameterProgram) -> None:
    def drawn(factory: Factory) -> ModelProgram:
        std = factory.settings["init_std"]
        assert isinstance(std, float)
        own = matrix("w", "mlp_up", Normal(0.0, std), 4, 4)
        return replace(gpt2(nanogpt), parameters=(own, left))

    factory = settings_of(init_std=0.02)

    assert perturb(factory, drawn(factory), drawn) == []


def test_a_matrix_that_the_move_removes_does_not_count_as_one_that_followed() -> None:
    def drawn(factory: Factory) -> ModelProgram:
        std = factory.settings["init_std"]
        assert isinstance(std, float)
        up = matrix("up", "mlp_up", Normal(0.0, std), 4, 4)
        gates = [matrix(f"gate.{i}", "mlp_gate", Normal(0.0, 0.1), 4, 4) for i in range(2)]
        return replace(gpt2(nanogpt), parameters=(up, *gates[: 2 if std == 0.5 else 1]))

    factory = settings_of(init_std=0.5)
    (found,) = perturb(factory, drawn(factory), drawn)

    assert found.message == "init_std was moved from 0.5 to 0.75: mlp_gate did not follow."


def test_norms_and_constants_are_not_asked_to_follow() -> None:
    only = replace(gpt2(nanogpt), parameters=(matrix("w", "mlp_up", Normal(0.0, 0.02), 4, 4),))
    moved = replace(only, parameters=(matrix("w", "mlp_up", Normal(0.0, 0.03), 4, 4),))

    assert perturb(settings_of(init_std=0.02), only, lambda _: moved) == []
