# ruff: noqa: D102 # small methods are documented by their class
"""A model is audited in the ways asked for: as it is built, on meta, moved, drawn, or live."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.foreign_models import C, Decoder, Flat, L, built, factory
from torch import nn

from gptinit.auditing.audit import audit_factory, audit_module
from gptinit.errors import ConfigError
from gptinit.facts.schemes import get_scheme
from gptinit.load.argument import find_factory
from gptinit.load.factory import Factory
from gptinit.results.audit import Audit


class NanoStyle(Decoder):
    """0.02, and 0.02/sqrt(2 L) for what writes to the stream; a method that draws all."""

    std, emb_std, scale, with_norms = 0.02, 0.02, 1 / math.sqrt(2 * L), True

    def make_head(self) -> None:
        super().make_head()
        self.lm_head.weight = self.wte.weight

    def draw(self, module: nn.Module) -> None:
        """Nothing one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.init_weights()

    def init_weights(self) -> None:
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, std=self.std * self.scale)
            elif p.ndim > 1:
                nn.init.normal_(p, std=self.emb_std if name.startswith("w") else self.std)
            elif self.with_norms or "ln_" not in name:
                nn.init.constant_(p, float(name.endswith("weight")))


class ForgetsNorms(NanoStyle):
    """Norms are only set by their constructor."""

    with_norms = False


class Unscaled(NanoStyle):
    """The residual scaling is missing."""

    scale = 1.0


class Otherwise(NanoStyle):
    """The method that draws all does not do what the constructor does."""

    def __init__(self) -> None:
        super().__init__()
        for block in self.h.children():
            nn.init.normal_(block.mlp.c_fc.weight, std=0.01)


def found(audit: Audit, severity: str = "error") -> list[tuple[str, str]]:
    """(rule, where) of the findings of a severity."""
    return [(f.rule, f.where) for f in audit.findings if f.severity == severity]


def test_a_right_model_has_no_finding_and_its_scheme_is_named() -> None:
    audit = audit_factory(factory(NanoStyle))

    assert audit.findings == ()
    assert audit.closest is not None
    assert (audit.closest.name, audit.closest.exact) == ("nanogpt", True)
    assert (audit.build, audit.claim, audit.notes) == ("own", None, ())


def test_a_claim_is_held_against_it() -> None:
    audit = audit_factory(factory(Unscaled), claim=get_scheme("nanogpt"))

    assert audit.claim == "nanogpt"
    assert {rule for rule, _ in found(audit)} == {"residual-scaling-missing"}


def test_on_meta_what_only_the_constructor_sets_is_uninitialised() -> None:
    own, meta, both = (
        audit_factory(factory(ForgetsNorms), build=b) for b in ("own", "meta", "both")
    )

    assert found(own) == []
    assert {rule for rule, _ in found(meta)} == {"uninitialised"}
    assert {rule for rule, _ in found(both)} == {"uninitialised"}
    assert all(
        f.message.startswith("Built on meta: ") for f in both.findings if f.severity == "error"
    )
    assert (meta.build, both.build) == ("meta", "both")
    assert [n.message for n in meta.notes] == ["Built on meta, to_empty, init_weights()."]


def test_two_builds_with_two_laws_are_a_mismatch() -> None:
    audit = audit_factory(factory(Otherwise), build="both")

    rules = [f for f in audit.findings if f.rule == "build-mismatch" and f.severity == "error"]
    assert rules
    assert all("c_fc.weight" in f.where for f in rules)
    assert "N(0, 0.01)" in rules[0].message
    assert "N(0, 0.02)" in rules[0].message


def test_of_a_right_model_both_builds_differ_by_the_tie_alone() -> None:
    (finding,) = audit_factory(factory(NanoStyle), build="both").findings

    assert (finding.rule, finding.severity) == ("build-mismatch", "warning")
    assert finding.where == "lm_head.weight"
    assert "to_empty takes ties apart" in finding.message


def test_a_model_that_cannot_be_built_on_meta_is_told() -> None:
    class Once(NanoStyle):
        """Its weights can be drawn by its constructor alone."""

        is_made = False

        def init_weights(self) -> None:
            if self.is_made:
                raise ValueError("drawn\ntwice.")
            super().init_weights()
            self.is_made = True

    (found,) = audit_factory(factory(Once), build="both").findings

    assert (found.rule, found.severity, found.where) == ("build-mismatch", "error", "foreign")
    expected = (
        "It cannot be built on meta: init_weights() of Once must run without an error, got "
        "ValueError: drawn twice (test_audit.py:"
    )
    assert re.fullmatch(re.escape(expected) + r"\d+\)\.", found.message)


def with_settings(**settings: float) -> Factory:
    """A model with settings, of which only `init_std` is obeyed, and by matrices alone."""

    def build() -> nn.Module:
        class Set(NanoStyle):
            std = settings["init_std"]

        return Set()

    def moved(changes: Mapping[str, object]) -> Factory:
        return with_settings(**{**settings, **changes})  # type: ignore[arg-type] # floats

    return replace(factory(build), settings=settings, with_settings=moved)


def test_moved_settings_show_who_does_not_follow() -> None:
    audit = audit_factory(with_settings(init_std=0.02, embed_init_std=0.02), perturbed=True)

    ignored = {f.where: f.severity for f in audit.findings if f.rule == "setting-ignored"}
    assert ignored == {"embed_init_std": "error", "init_std": "warning"}
    assert not [note for note in audit.notes if note.where == "perturb"]
    assert audit_factory(with_settings(init_std=0.02, embed_init_std=0.02)).findings == ()


class SameShards(NanoStyle):
    """Both halves of a matrix get the same values, in a way that looks right by its law."""

    def init_weights(self) -> None:
        super().init_weights()
        for block in self.h.children():
            weight: Any = block.mlp.c_fc.weight
            half = torch.randn(weight.shape[0] // 2, C, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                weight.copy_(torch.cat([half, half]) * 0.02)


def test_values_are_looked_at_only_when_asked() -> None:
    drawn = audit_factory(factory(SameShards), drawn=True)

    assert {"duplicate-shards"} <= {rule for rule, _ in found(drawn)}
    assert audit_factory(factory(NanoStyle), drawn=True).findings == ()


def test_drawing_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()

    audit_factory(factory(NanoStyle), drawn=True)

    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_way_to_build_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"build must be one of .*, got 'metal'\. Did you mean meta"
    ):
        audit_factory(factory(NanoStyle), build="metal")  # type: ignore[arg-type] # what is refused


class CannotRun(NanoStyle):
    """Its forward wants what nobody has."""

    def forward(self, ids: Any) -> Any:
        raise NotImplementedError("needs a cluster")


class FlatNano(NanoStyle, Flat):
    """A flat list of eight entries, which a brief pass does not run all of: four layers."""

    order = "amamamam"
    scale = 1 / math.sqrt(8)


class FlatUnscaledMLP(FlatNano):
    """The same, without the scaling in MLPs."""

    def init_weights(self) -> None:
        super().init_weights()
        for i in range(1, 8, 2):
            nn.init.normal_(self.get_parameter(f"h.{i}.inner.c_proj.weight"), std=self.std)


def test_the_depth_of_a_flat_list_is_half_its_length() -> None:
    right = audit_factory(factory(FlatNano), claim=get_scheme("nanogpt"))
    wrong = audit_factory(factory(FlatUnscaledMLP))

    assert right.model.n_layer == 4
    assert right.findings == ()
    assert [p.program.layer for p in right.parameters if p.program.role == "mlp_down"] == [
        0,
        1,
        2,
        3,
    ]
    assert {f.rule for f in wrong.findings if f.severity == "error"} == {
        "residual-scaling-missing",
        "residual-branches-unequal",
    }


def test_a_model_whose_forward_cannot_run_is_audited_by_its_names_with_a_note() -> None:
    audit = audit_factory(factory(CannotRun))

    (note,) = audit.notes
    assert note.message.startswith("Roles are read from names: CannotRun must run forward")
    assert found(audit) == []
    assert {p.program.role for p in audit.parameters} >= {"qkv", "attn_out", "mlp_up", "mlp_down"}


def test_a_live_module_is_judged_by_its_values_and_stays_as_it_is() -> None:
    module = built("pre-norm").train()
    held = {n: p.detach().clone() for n, p in module.named_parameters()}

    audit = audit_module(module, factory(Decoder))

    assert {p.program.distribution.kind for p in audit.parameters} == {"measured", "constant"}
    assert module.training
    for n, p in module.named_parameters():
        assert torch.equal(p, held[n])


def test_shards_of_a_live_module_are_seen_when_asked() -> None:
    torch.manual_seed(0)
    module = SameShards()

    asked = audit_module(module, factory(SameShards), drawn=True)

    assert "duplicate-shards" in {rule for rule, _ in found(asked)}


def test_the_user_s_roles_are_heard() -> None:
    audit = audit_factory(factory(NanoStyle), roles={"*.c_fc.weight": "other"})

    roles = {p.program.name: p.program.role for p in audit.parameters}
    assert roles["h.0.mlp.c_fc.weight"] == "other"


# --- the init that a trainer runs -----------------------------------------------------------------

TRAINERS = Path(__file__).resolve().parents[1] / "support" / "models" / "left_to_trainer.py"


def audit_of(name: str, init: str | None = None) -> Audit:
    return audit_factory(find_factory(f"{TRAINERS}:{name}", init=init))


@pytest.mark.parametrize(
    ("name", "init"),
    [
        ("Chat", None),
        ("Titan", None),
        ("Lingua", None),
        ("Tiny", None),
        ("Bare", f"{TRAINERS.parent}/lit_train.py:initialize_weights"),
    ],
)
def test_every_std_is_that_of_the_model_which_the_trainer_makes(
    name: str, init: str | None
) -> None:
    factory = find_factory(f"{TRAINERS}:{name}", init=init)
    assert factory.init is not None
    torch.manual_seed(0)
    by_hand = factory.init.constructed()
    with torch.no_grad():
        CALLS[name](by_hand)

    audit = audit_factory(factory)

    values = {n: p.detach().double() for n, p in by_hand.named_parameters()}
    for audited in audit.parameters:
        law, drawn = audited.program.distribution, values[audited.program.name]
        # Five standard errors of the std of a normal sample; less-tailed laws have smaller ones.
        error = 5 * law.std / math.sqrt(2 * drawn.numel())
        assert abs(float(drawn.std(correction=0)) - law.std) <= error, audited.program.name
        if law.std == 0:
            assert bool((drawn == law.mean).all()), audited.program.name


CALLS: dict[str, Callable[[Any], object]] = {
    "Chat": lambda m: m.init_weights(),
    "Titan": lambda m: m.init_weights(buffer_device=None),
    "Lingua": lambda m: m.init_weights(),
    "Tiny": lambda m: m.apply(lambda child: m._init_weights(child, n_layer=2)),
    "Bare": lambda m: _neox(m),
}
"""What the trainer of each model calls; of the last one, what it draws."""


def _neox(model: Any) -> None:
    width, depth = model.config.n_embd, model.config.n_layer
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            is_last = name.endswith((".o", ".down"))
            std = 1 / math.sqrt(width) / depth if is_last else math.sqrt(2 / 5 / width)
            nn.init.normal_(module.weight, std=std)


def test_what_the_constructor_alone_draws_stands_beside_what_the_init_draws() -> None:
    audit = audit_of("Chat")

    (head,) = (a.program for a in audit.parameters if a.program.role == "lm_head")
    assert (str(head.constructed), str(head.distribution)) == (
        "U(-0.1768, 0.1768)",
        "N(0, 0.001)",
    )
    norms = [a.program for a in audit.parameters if a.program.role == "norm_weight"]
    assert all(norm.constructed is None for norm in norms)


@pytest.mark.parametrize(
    ("name", "init"),
    [
        ("forgets", None),
        ("Chat", "none"),
        ("Needs", None),
        ("Needs", "none"),
        ("Deferred", None),
    ],
)
def test_an_init_that_nobody_calls_is_never_clean(name: str, init: str | None) -> None:
    (finding,) = audit_of(name, init).findings

    assert (finding.rule, finding.severity, finding.where) == ("init-not-called", "warning", "*")


def test_an_init_in_whose_place_the_constructor_draws_everything_is_a_note() -> None:
    (finding,) = audit_of("Declined", None).findings

    assert (finding.rule, finding.severity) == ("init-not-called", "note")


@pytest.mark.parametrize(
    ("name", "init"),
    [("remembers", None), ("harmless", None), ("Called", None), ("Called", "none")],
)
def test_an_init_that_was_called_or_would_change_nothing_is_no_finding(
    name: str, init: str | None
) -> None:
    assert "init-not-called" not in {f.rule for f in audit_of(name, init).findings}


def test_both_ways_to_build_use_the_same_init() -> None:
    audit = audit_factory(find_factory(f"{TRAINERS}:Lingua"), build="both")

    assert [note.message for note in audit.notes if note.where == "build"] == [
        "Built on meta, to_empty, init_weights()."
    ]
    assert "build-mismatch" not in {finding.rule for finding in audit.findings}
