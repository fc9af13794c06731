"""What a check passes on from its configuration to the models that it measures and audits."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.profiles import make_profile, with_value

import gptinit
from gptinit.api.check import _unbounded_nonfinite
from gptinit.config import RunConfig
from gptinit.errors import SubjectError
from gptinit.facts.bounds import Bound
from gptinit.gate.check_config import CheckConfig, ModelSpec, ScopedBound
from gptinit.gate.judge import CheckReport

NANO = f"{Path(__file__).parents[1]}/support/models/nano.py:GPT"
SMALL = {"n_layer": 2, "n_embd": 16}
GROWTH = Bound(stat="resid_growth", where="whole", max=1.5, why="It drowns.")


def checked(*bounds: Bound, model: str = NANO, **spec: Any) -> CheckReport:
    """The check of one small model."""
    spec = {"name": "mine", "overrides": SMALL, **spec}
    return gptinit.check(
        CheckConfig(
            path=Path("nowhere.toml"),
            run=RunConfig(seq_len=8, seeds=6, batch_size=1, device="cpu"),
            models=(ModelSpec(model=model, **spec),),
            bounds=tuple(ScopedBound(bound=bound) for bound in bounds or (GROWTH,)),
        )
    )


def test_a_model_s_own_blocks_and_branches_are_the_ones_that_are_measured() -> None:
    bounds = [Bound(stat=s, where="layer 0", max=1.0, why="-") for s in ("attn_var", "mlp_var")]
    crossed = {"blocks": "transformer.h", "attn": "mlp", "mlp": "attn"}

    plain, named = (
        {result.stat: result.value for result in checked(*bounds, sites=sites).results}
        for sites in ({}, crossed)
    )

    assert plain["attn_var"] != plain["mlp_var"]
    assert named == {"attn_var": plain["mlp_var"], "mlp_var": plain["attn_var"]}


def test_the_user_s_way_to_call_a_model_is_used(tmp_path: Path) -> None:
    how = tmp_path / "how.py"
    how.write_text("def run(model, ids): return 2 * model(ids, ids)[0]\n")
    bound = Bound(stat="logit_std", where="final", max=9.0, why="-")

    (plain,), (doubled,) = (
        checked(bound, forward=forward).results for forward in (None, f"{how}:run")
    )

    assert plain.value is not None
    assert doubled.value == pytest.approx(2 * plain.value, rel=1e-6)


@pytest.mark.parametrize("blocks", ["transformer.layers", "layers"])
def test_blocks_that_a_model_does_not_have_stop_a_check(blocks: str) -> None:
    with pytest.raises(SubjectError, match="sites must name modules of GPT"):
        checked(sites={"blocks": blocks})


def test_a_model_is_built_with_the_settings_of_its_entry_and_named_as_there() -> None:
    for std, verdict in ((0.02, "ok"), (0.5, "violated")):
        report = checked(overrides={**SMALL, "init_std": std})
        assert [(r.model, r.verdict) for r in report.results] == [("mine", verdict)]


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        # Drawn as nanoGPT draws it, without any claim, with that one, and with a wrong role.
        ({}, []),
        ({"scheme": "nanogpt"}, []),
        (
            {"scheme": "nanogpt", "roles": {"*.c_fc.weight": "mlp_down"}},
            ["mine: transformer.h.*.mlp.c_fc.weight"],
        ),
    ],
    ids=["no claim", "claim", "claim and role"],
)
def test_a_model_is_audited_against_its_claim_with_the_roles_of_its_entry(
    claim: dict[str, Any], found: list[str]
) -> None:
    report = checked(**claim)

    assert [finding.location for finding in report.findings] == found


@pytest.mark.parametrize(
    ("stats", "told"), [((), True), (("loss",), True), (("loss", "nonfinite"), False)]
)
def test_values_that_are_not_finite_are_an_error_where_no_bound_watches_them(
    stats: tuple[str, ...], told: bool
) -> None:
    bounds = [SimpleNamespace(stat=stat) for stat in stats]
    config: Any = SimpleNamespace(bounds_for=lambda name: bounds)
    broken = with_value(make_profile(), "layer 1", "nonfinite", 3.0)

    found = list(_unbounded_nonfinite(config, {"mine": broken}))

    assert [(f.model, f.severity) for f in found] == [("mine", "error")] * told
