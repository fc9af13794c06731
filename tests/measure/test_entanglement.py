"""Parameters that share draws without being copies are drawn together, or nothing is said."""

from support.entangled_models import (
    Model,
    assert_drawn_together,
    centred,
    subject_of,
    transposed,
)

import gptinit
from gptinit.api.prediction import theory_of
from gptinit.config import RunConfig
from gptinit.measure.measure import measure
from gptinit.results.profile import Note


def test_entangled_weights_are_drawn_together() -> None:
    """By one engine; all of them are in tests/laws."""
    assert_drawn_together(transposed, "dense")


def test_theory_says_nothing_of_entangled_weights() -> None:
    assert isinstance(theory_of(subject_of(transposed)), Note)


def test_a_weight_made_of_itself_by_a_mean_can_be_read() -> None:
    profile = measure(subject_of(centred), RunConfig(seeds=2, seq_len=8, device="cpu"))

    assert profile.layers[0].values["mlp_var"] > 0


def test_engines_that_cannot_measure_are_left_out_of_a_comparison_of_all() -> None:
    run = RunConfig(seeds=2, seq_len=8, device="cpu")

    found = gptinit.compare("engines", model=lambda: Model(transposed), run=run)

    assert found.labels == ("dense", "stream", "lazy")
    assert [n.where for n in found.profiles[0].notes if "Left out" in n.message] == ["theory"]
