"""What the sentences say of profiles at the edges, and that they read well."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.profiles import make_profile, with_value

from gptinit.config import Dtype
from gptinit.report.summary import summarise, summarise_engines
from gptinit.results.profile import Comparison, Place, Profile


def said(profile: Profile, subject: str) -> str:
    """The sentence about a subject; empty if there is none."""
    return next((str(s) for s in summarise(profile) if s.subject == subject), "")


def stream(first: float, last: float) -> Profile:
    profile = with_value(make_profile(n_layer=1), "embedding", "resid_var", first)
    return with_value(profile, "layer 0", "resid_var", last)


def test_a_full_profile_has_a_sentence_a_subject() -> None:
    profile = make_profile(grad=True)
    half = replace(profile, run=replace(profile.run, dtype="float16"))

    subjects = [sentence.subject for sentence in summarise(half)]
    assert " ".join(subjects) == ("Stream Branches Tokens Attention Logits Gradients Precision")


def test_every_sentence_ends_with_its_full_stop_and_has_no_gap() -> None:
    for sentence in map(str, summarise(make_profile(grad=True))):
        assert sentence.endswith(".")
        assert "  " not in sentence
        assert not re.search(r"\s[.,;:]", sentence)


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (
            0.001,
            0.005,
            "Stream: variance grows 5.00 times, from 0.00100 at the embedding to 0.00500 after the "
            "last layer; the embedding is 20.0 % of what the head reads.",
        ),
        (
            0.001,
            0.0015,
            "Stream: variance grows 1.50 times, from 0.00100 at the embedding to 0.00150 after the "
            "last layer.",
        ),
        (
            1.0,
            1.01,
            "Stream: variance stays constant, from 1.00 at the embedding to 1.01 after the last "
            "layer.",
        ),
        (0.0, 0.5, "Stream: starts at variance 0 and ends at 0.500."),
        (0.0, 0.0, "Stream: starts at variance 0 and ends at 0."),
    ],
    ids=["grows", "grows a little", "stays", "from nothing", "nothing"],
)
def test_the_stream_is_told_from_its_ends(first: float, last: float, sentence: str) -> None:
    assert said(stream(first, last), "Stream") == sentence


def test_a_stream_that_shrinks_is_so_many_times_smaller() -> None:
    sentence = said(stream(1.0, 0.25), "Stream")

    assert "0.250 times" not in sentence
    assert "4.00" in sentence


def test_a_stream_that_shrinks_is_said_to_shrink() -> None:
    assert "variance shrinks" in said(stream(1.0, 0.25), "Stream")
    assert "what the head reads" not in said(stream(1.0, 0.25), "Stream")


@pytest.mark.parametrize("where", ["embedding", "layer 3"])
def test_a_stream_that_is_not_finite_is_not_spoken_of(where: str) -> None:
    assert said(with_value(make_profile(), where, "resid_var", None), "Stream") == ""


def branches(*pairs: tuple[float, float]) -> Profile:
    """Layers whose branches add these variances: attention, MLP."""
    places = tuple(Place(values={"attn_var": a, "mlp_var": m}) for a, m in pairs)
    return make_profile(n_layer=len(pairs), layers=places)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([(1.0, 3.0)], "Branches: MLPs add 75 % of the variance, attention the rest."),
        (
            [(0.0, 1.0), (0.0, 0.0), (0.0, 3.0), (0.0, 0.0)],
            "Branches: MLPs add 100 % of the variance, attention the rest; the first 2 layers add "
            "25 %.",
        ),
        ([(0.0, 0.0)] * 3, "Branches: add nothing to the stream."),
    ],
    ids=["one layer", "only MLPs", "nothing"],
)
def test_branches_are_told_by_kind_and_by_half(
    pairs: list[tuple[float, float]], sentence: str
) -> None:
    assert said(branches(*pairs), "Branches") == sentence


@pytest.mark.parametrize("n_layer", [2, 3])
def test_one_layer_is_no_plural(n_layer: int) -> None:
    assert "first 1 layers" not in said(make_profile(n_layer=n_layer), "Branches")


def test_branches_that_are_not_finite_are_not_said_to_add_nothing() -> None:
    profile = make_profile(n_layer=1)
    for stat in ("attn_var", "mlp_var"):
        profile = with_value(profile, "layer 0", stat, None)

    assert "add nothing" not in said(profile, "Branches")


@pytest.mark.parametrize(
    ("last", "alike"), [(0.9, False), (0.91, True), (-0.3, False)], ids=["edge", "alike", "apart"]
)
def test_tokens_are_alike_beyond_a_cosine_of_09(last: float, alike: bool) -> None:
    sentence = said(with_value(make_profile(), "layer 3", "token_cosine", last), "Tokens")

    assert sentence.startswith(f"Tokens: mean cosine of two positions goes from 0.10 to {last:.2f}")
    assert ("nearly alike" in sentence) == alike


def test_one_position_has_neither_tokens_nor_attention_to_speak_of() -> None:
    profile = make_profile(n_layer=1)
    for where, stat in (
        ("embedding", "token_cosine"),
        ("layer 0", "token_cosine"),
        ("layer 0", "attn_entropy"),
    ):
        profile = with_value(profile, where, stat, None)

    assert [s.subject for s in summarise(profile)] == ["Stream", "Branches", "Logits"]


@pytest.mark.parametrize(
    ("entropy", "manner"), [(0.95, "near uniform"), (0.9, "uneven"), (0.6, "peaked")]
)
def test_attention_is_judged_by_its_least_entropy(entropy: float, manner: str) -> None:
    profile = with_value(make_profile(), "layer 2", "attn_entropy", entropy)

    sentence = said(profile, "Attention")
    assert sentence == (
        f"Attention: {manner}; scores have std 0.200, entropy is {entropy:.3f} to 0.980 of its "
        "maximum."
    )


@pytest.mark.parametrize(
    ("loss", "excess", "told"),
    [
        (6.92, 0.0122, "6.92 nats = ln(1000) + 0.01"),
        (6.80, -0.1078, "6.80 nats = ln(1000) - 0.11"),
        (10.5, 3.5922, "10.50 nats = ln(1000) + 3.59"),
        (6.9078, 0.0, "6.91 nats = ln(1000) + 0.00"),
    ],
)
def test_the_first_loss_is_told_with_the_sign_of_its_excess(
    loss: float, excess: float, told: str
) -> None:
    profile = with_value(make_profile(), "final", "loss", loss)
    profile = with_value(profile, "final", "loss_excess", excess)

    assert said(profile, "Logits") == f"Logits: std 0.160; the first loss is {told}."


def test_an_excess_that_rounds_to_nothing_has_no_minus() -> None:
    profile = with_value(make_profile(), "final", "loss_excess", -0.0012)

    assert "- 0.00" not in said(profile, "Logits")


@pytest.mark.parametrize("stat", ["logit_std", "loss"])
def test_logits_that_are_not_finite_are_not_spoken_of(stat: str) -> None:
    profile = with_value(make_profile(), "final", stat, None)

    assert said(with_value(profile, "final", "loss_excess", None), "Logits") == ""


@pytest.mark.parametrize(
    ("growth", "sentence"),
    [
        (49.0, "Gradients: 49.0 times as large at the embedding as after the last layer."),
        (1.0, "Gradients: 1.00 times as large at the embedding as after the last layer."),
        (
            0.25,
            "Gradients: smaller at the embedding than after the last layer by a factor of 4.00.",
        ),
    ],
)
def test_gradients_are_told_from_their_ends(growth: float, sentence: str) -> None:
    profile = with_value(make_profile(grad=True), "embedding", "grad_growth", growth)

    assert said(profile, "Gradients") == sentence


def test_gradients_that_vanish_break_nothing() -> None:
    profile = with_value(make_profile(grad=True), "embedding", "grad_growth", None)

    assert said(profile, "Gradients") == ""


def test_a_gradient_of_zero_breaks_nothing() -> None:
    profile = with_value(make_profile(grad=True), "embedding", "grad_growth", 0.0)

    assert "Gradients" in said(profile, "Gradients")


def predicted(profile: Profile, *variances: float, loss: float | None = None) -> Profile:
    """The profile beside these predictions of its layers, and of the loss."""
    places = zip(profile.layers, variances, strict=True)
    layers = tuple(replace(place, predicted={"resid_var": v}) for place, v in places)
    final = replace(profile.final, predicted={} if loss is None else {"loss": loss})
    return replace(profile, layers=layers, final=final)


@pytest.mark.parametrize(
    ("variances", "loss", "sentence"),
    [
        # Measured are 0.002, 0.003 and 0.004.
        (
            (0.002, 0.003, 0.004),
            None,
            "Theory: the variance is within 0.0 % of the prediction at every layer, +0.0 % at the "
            "last.",
        ),
        (
            (0.0025, 0.003, 0.0032),
            6.95,
            "Theory: the variance is within 25.0 % of the prediction at every layer, +25.0 % at "
            "the last; the predicted loss is 6.95.",
        ),
        (
            (0.004, 0.003, 0.005),
            None,
            "Theory: the variance is within 50.0 % of the prediction at every layer, -20.0 % at "
            "the last.",
        ),
        (  # what is predicted as 0 cannot be a share
            (0.0, 0.003, 0.005),
            None,
            "Theory: the variance is within 20.0 % of the prediction at every layer, -20.0 % at "
            "the last.",
        ),
        ((0.0, 0.0, 0.0), 6.95, ""),
    ],
)
def test_theory_is_told_by_its_worst_layer_and_its_last(
    variances: tuple[float, ...], loss: float | None, sentence: str
) -> None:
    profile = predicted(make_profile(n_layer=3), *variances, loss=loss)

    assert said(profile, "Theory") == sentence
    not_finite = with_value(profile, "layer 0", "resid_var", math.inf)
    assert "inf" not in said(not_finite, "Theory")


PEAKS: Mapping[Dtype, str] = {
    # 65504 over the largest max_abs, 0.2 + 0.05 * 3 = 0.35
    "float16": "Precision: the largest activation is 187000 times below float16's maximum.",
    "bfloat16": "",
    "float32": "",
}


@pytest.mark.parametrize("dtype", PEAKS)
def test_headroom_matters_in_float16_alone(dtype: Dtype) -> None:
    profile = make_profile()

    assert (
        said(replace(profile, run=replace(profile.run, dtype=dtype)), "Precision") == PEAKS[dtype]
    )


def test_a_stream_of_zeros_has_no_headroom_to_speak_of() -> None:
    profile = with_value(make_profile(n_layer=1), "embedding", "max_abs", 0.0)
    profile = with_value(profile, "layer 0", "max_abs", 0.0)

    assert said(replace(profile, run=replace(profile.run, dtype="float16")), "Precision") == ""


@pytest.mark.parametrize(
    ("seeds", "apart", "verdict"),
    [
        (2, 0.0001, "too few seeds for a strong conclusion."),
        (3, 0.0001, "they agree."),
        (2, 1e9, "they do not agree."),
        (3, 1e9, "they do not agree."),
    ],
)
def test_few_seeds_weaken_an_agreement_and_never_hide_a_disagreement(
    seeds: int, apart: float, verdict: str
) -> None:
    dense = make_profile(n_layer=1, seeds=seeds)
    lazy = replace(
        with_value(dense, "final", "loss", 6.92 + apart, 0.01),
        run=replace(dense.run, engine="lazy"),
    )
    comparison = Comparison(axis="engines", labels=("dense", "lazy"), profiles=(dense, lazy))

    assert summarise_engines(comparison)[0].text.endswith(verdict)
