# ruff: noqa: D102 # small methods are documented by their class
"""Other people's models as subjects: their profiles are what the models themselves compute."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import (
    FF,
    FOREIGN,
    WITHOUT_GRADIENTS,
    Block,
    C,
    Decoder,
    L,
    T,
    TorchDecoder,
    TorchDecoderWithWeights,
    V,
    built,
    factory,
    hearing,
    logits_of,
)
from support.profiles import assert_equal_to_rounding
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import gptinit
from gptinit.api.prediction import measure_with_prediction, theory_of
from gptinit.config import Engine, GPTConfig, RunConfig
from gptinit.errors import ConfigError, MeasureError, SubjectError
from gptinit.facts.schemes import get_scheme
from gptinit.load.argument import live_factory
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import live_subject, traced_subject
from gptinit.recognise.architecture import Forwarding
from gptinit.results.profile import Note, Place, Profile
from gptinit.theory import TheoryModel
from gptinit.tokens import open_tokens
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws

RUN = RunConfig(seeds=1, seq_len=T, batch_size=2, device="cpu", engine="dense")


def subject_of(build: Callable[[], nn.Module], **more: Any) -> Subject:
    """A model of which nothing is known."""
    return traced_subject(factory(build), **more)


def entropy(scores: Tensor) -> float:
    """Mean of H(row) / ln(allowed keys) over rows with two allowed keys or more.

    Shape:
        scores: (B, nh, T, T) with -inf where not allowed.
    """
    weights = scores.softmax(-1)
    h = -torch.where(weights > 0, weights * weights.log(), 0.0).sum(-1)
    keys = torch.isfinite(scores).sum(-1)
    return float((h / keys.log())[keys > 1].mean())


@pytest.mark.parametrize("name", FOREIGN)
def test_every_statistic_is_what_the_model_itself_had_in_its_hands(name: str) -> None:
    subject = subject_of(FOREIGN[name])
    with hearing() as record:
        profile = measure(subject, RUN)
    noted = {k: [t for kind, t in record if kind == k] for k, _ in record}

    assert len(profile.layers) == L

    # One pass in float32 over the same numbers, in another order: k = 100 units of 6e-8.
    def near(expected: float) -> Any:
        return pytest.approx(expected, rel=1e-5)

    embedding = noted["embedding"][0]
    assert profile.embedding.values["resid_var"] == near(
        float(embedding.double().var(correction=0))
    )
    for i, place in enumerate(profile.layers):
        for stat, kind in (("attn_var", "attn"), ("mlp_var", "mlp"), ("resid_var", "resid")):
            expected = float(noted[kind][i].double().var(correction=0))
            assert (stat, place.values[stat]) == (stat, near(expected))
        sums = [float(x.double().var(correction=0)) for x in noted.get("sum", ())]
        assert place.values.get("presum_var") == (near(sums[i]) if sums else None)
        assert place.values["attn_entropy"] == near(entropy(noted["scores"][i]))
        assert place.values["max_abs"] == near(float(noted["resid"][i].abs().max()))
    # V < 512: the lens of the last layer reads the whole vocabulary, and is the model's own end.
    assert profile.layers[-1].values["logit_std"] == pytest.approx(
        profile.final.values["logit_std"], rel=1e-4
    )


def test_final_logits_are_the_model_s_own() -> None:
    subject = subject_of(FOREIGN["soft cap"])
    outputs: list[Tensor] = []

    def call(module: nn.Module, ids: Tensor) -> Tensor:
        outputs.append(subject.call(module, ids))
        return outputs[-1]

    profile = measure(replace(subject, call=call), RUN)

    (logits,) = outputs
    assert float(logits.abs().max()) < 2
    assert profile.final.values["logit_std"] == pytest.approx(
        float(logits.double().std(-1, correction=0).mean()), rel=1e-5
    )


CONFIG = GPTConfig(n_layer=L, n_head=4, n_embd=32, block_size=48, vocab_size=101)


class Twin(nn.Module):
    """Our GPT by another hand; `names` may give its parameters our names."""

    def __init__(self, ours: bool) -> None:
        super().__init__()
        c, self.ours = CONFIG.n_embd, ours
        parts = {
            "wte": nn.Embedding(CONFIG.vocab_size, c),
            "wpe": nn.Embedding(CONFIG.block_size, c),
            "h": nn.ModuleList(TwinBlock(c, ours) for _ in range(L)),
            "ln_f": nn.LayerNorm(c),
        }
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(c, CONFIG.vocab_size, bias=False)
        self.lm_head.weight = parts["wte"].weight  # type: ignore[assignment] # an embedding's
        for name, p in self.named_parameters():
            if p.ndim > 1:
                into = name.endswith(("c_proj.weight", "out.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * L) if into else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, idx: Any) -> Any:
        x = self.transformer["wte"](idx) + self.transformer["wpe"](torch.arange(idx.shape[1]))
        for block in self.transformer["h"]:  # type: ignore[attr-defined] # a ModuleList
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


class TwinAttention(nn.Module):
    """A fused qkv under our name, or under another."""

    def __init__(self, c: int, ours: bool) -> None:
        super().__init__()
        self.names = ("c_attn", "c_proj") if ours else ("packed", "out")
        for name, width in zip(self.names, (3 * c, c), strict=True):
            self.add_module(name, nn.Linear(c, width))

    def forward(self, x: Any) -> Any:
        into, out = (self.get_submodule(name) for name in self.names)
        B, n, c = x.shape
        q, k, v = into(x).view(B, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out(y.transpose(1, 2).reshape(B, n, c))


class TwinMLP(nn.Module):
    """Two matrices."""

    def __init__(self, c: int, ours: bool) -> None:
        super().__init__()
        self.names = ("c_fc", "c_proj") if ours else ("grow", "out")
        self.add_module(self.names[0], nn.Linear(c, 4 * c))
        self.add_module(self.names[1], nn.Linear(4 * c, c))

    def forward(self, x: Any) -> Any:
        up, down = (self.get_submodule(name) for name in self.names)
        return down(F.gelu(up(x), approximate="tanh"))


class TwinBlock(nn.Module):
    """Pre-norm."""

    def __init__(self, c: int, ours: bool) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(c), TwinAttention(c, ours)
        self.ln_2, self.mlp = nn.LayerNorm(c), TwinMLP(c, ours)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


def places(profile: Profile) -> list[Place]:
    """All places but the names."""
    return [profile.embedding, *profile.layers, profile.final, profile.whole]


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "backward"])
def test_the_same_names_give_the_built_in_gpt_s_profile_bit_for_bit(grad: bool) -> None:
    run = RunConfig(seeds=2, seq_len=16, device="cpu", grad=grad)
    ours = builtin_subject(CONFIG, get_scheme("nanogpt"), name="ours", source="tests")

    foreign = measure(subject_of(lambda: Twin(ours=True)), run)

    assert places(foreign) == places(measure(ours, run))
    assert foreign.model.n_params == ours.facts.n_params


def test_theory_reads_other_names_as_the_built_in_gpt() -> None:
    ours = builtin_subject(CONFIG, get_scheme("nanogpt"), name="ours", source="tests")

    assert theory_of(subject_of(lambda: Twin(ours=False))) == theory_of(ours)


def test_more_tokens_than_were_looked_at_are_not_predicted() -> None:
    subject = subject_of(FOREIGN["pre-norm"])
    assert isinstance(subject.recognised, Forwarding)
    short = replace(subject.recognised, tokens=T - 1)

    profile = measure_with_prediction(replace(subject, recognised=short), RUN)

    assert all(not place.predicted for _, place in profile.places())
    assert f"with more than {T - 1} tokens" in profile.notes[-1].message


def test_tokens_whose_embedding_is_zero_are_not_predicted() -> None:
    class Padded(Decoder):
        def __init__(self) -> None:
            super().__init__()
            with torch.no_grad():
                self.wte.weight[2] = 0

    subject = subject_of(Padded)
    ids = torch.full((1, 9), 3)

    known, other = (
        measure_with_prediction(subject, RUN, tokens=t)
        for t in (ids, ids.index_fill(1, ids[0, :1], 2))
    )

    assert known.final.predicted
    assert not other.final.predicted
    assert "embedding of zeros" in other.notes[-1].message


def test_a_live_module_is_predicted_until_it_is_trained() -> None:
    drawn, trained = built("pre-norm"), built("pre-norm")
    matrix: Any = trained.get_submodule("h.0.mlp.c_fc")
    with torch.no_grad():  # what gradients do: a matrix of rank one is added
        matrix.weight += torch.ones(FF, 1) * torch.randn(1, C) * 0.3

    before, after = (theory_of(live_subject(m, live_factory(m))) for m in (drawn, trained))

    assert isinstance(before, TheoryModel)
    assert before.layers[0].q.std == pytest.approx(
        0.3, rel=0.1
    )  # of 256 entries: 2 standard errors
    assert isinstance(after, Note)
    assert after.where == "h.0.mlp.c_fc.weight"


def test_other_names_give_the_built_in_gpt_s_profile_within_standard_errors() -> None:
    seeds = 24
    run = RunConfig(seeds=seeds, seq_len=16, device="cpu", engine="dense")
    ours = builtin_subject(CONFIG, get_scheme("nanogpt"), name="ours", source="tests")

    theirs = measure(subject_of(lambda: Twin(ours=False)), run)

    _agree(places(theirs), places(measure(ours, run)))


def _agree(first: list[Place], second: list[Place]) -> None:
    """Means differ by no more than k = 5 standard errors of their difference.

    Five, because a standard error from 24 seeds is itself uncertain by 15 %, and there are some
    fifty statistics here: Student's t with 23 degrees exceeds 5 with probability 5e-5.
    """
    for a, b in zip(first, second, strict=True):
        assert a.values.keys() == b.values.keys()
        for stat, error in a.stderr.items():
            if stat == "nonfinite":
                continue
            difference = a.values[stat] - b.values[stat]
            if stat in {"resid_var", "attn_var", "mlp_var", "resid_growth", "logit_std"}:
                difference = math.log(a.values[stat] / b.values[stat]) * b.values[stat]
            assert abs(difference) <= 5 * math.hypot(error, b.stderr[stat]), stat


@pytest.mark.parametrize("name", ["pre-norm", "llama", "experts in one tensor"])
def test_own_draws_and_traced_draws_agree_within_standard_errors(name: str) -> None:
    subject = subject_of(FOREIGN[name])
    runs = (
        RunConfig(seeds=24, seq_len=T, device="cpu", engine="dense", weights=weights)
        for weights in ("own", "traced")
    )

    own, traced = (measure(subject, run) for run in runs)

    _agree(places(own), places(traced))
    assert own.run.weights == "own"


def test_own_draws_are_those_of_the_model_s_code() -> None:
    subject = subject_of(FOREIGN["pre-norm"])
    run = RunConfig(seeds=1, seed=3, seq_len=T, device="cpu", weights="own")

    with hearing() as record:
        measure(subject, run)
        ids = torch.as_tensor(_ids(run))
    with hearing() as again, torch.no_grad():
        built("pre-norm", seed=3)(ids[:, :-1])

    assert len(record) == len(again)
    for (_, a), (_, b) in zip(record, again, strict=True):
        assert torch.equal(a, b)


def _ids(run: RunConfig) -> Any:
    """The tokens of a run."""
    source = open_tokens(run.data, vocab_size=V, batch_size=run.batch_size, seq_len=run.seq_len)
    return source.draw(run.seed)


class Recipes(Decoder):
    """Weights that no distribution alone can draw."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(V, C, padding_idx=3)
        a, b, c = self.h.children()
        nn.init.orthogonal_(a.attn.c_proj.weight, gain=0.7)
        with torch.no_grad():
            b.mlp.c_fc.weight.copy_(a.mlp.c_fc.weight)
            c.mlp.c_fc.weight.div_(c.mlp.c_fc.weight.std())
            c.attn.c_attn.weight[:C] *= 0.5
            b.attn.c_proj.weight.copy_(torch.eye(C) + 0.1 * torch.randn(C, C))


@pytest.mark.parametrize("name", [*FOREIGN, "recipes"])
def test_stream_and_dense_agree_to_rounding(name: str) -> None:
    subject = subject_of(FOREIGN.get(name, Recipes))
    for grad in (False,) if name in WITHOUT_GRADIENTS else (False, True):
        run = RunConfig(seeds=2, seq_len=8, device="cpu", grad=grad)
        profiles = [measure(subject, replace(run, engine=engine)) for engine in ("stream", "dense")]

        assert [p.run.engine for p in profiles] == ["stream", "dense"]
        assert_equal_to_rounding(*profiles)


def test_torch_s_attention_is_heard_whichever_way_it_takes() -> None:
    run = RunConfig(seeds=2, seq_len=8, device="cpu", engine="dense")

    fused, by_hand = (
        measure(subject_of(model), run) for model in (TorchDecoder, TorchDecoderWithWeights)
    )

    for (_, one), (_, other) in zip(fused.places(), by_hand.places(), strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-5)
    assert "attn_entropy" in by_hand.layers[0].values


@pytest.mark.parametrize("engine", ["dense", "stream", "lazy"])
def test_gradients_of_a_forward_that_leaves_no_graph_are_refused(engine: Engine) -> None:
    run = RunConfig(seeds=1, seq_len=8, device="cpu", engine=engine, grad=True)

    with pytest.raises(MeasureError, match="must keep what a backward pass needs, got logits"):
        measure(subject_of(FOREIGN["inference mode"]), run)


def test_recipes_are_drawn_as_the_code_says_for_every_seed() -> None:
    subject = subject_of(Recipes)
    module: Any = subject.build()
    drawn = []
    for seed in (0, 1):
        draws = Draws(
            seed=seed, device=torch.device("cpu"), dtype=torch.float32, recipes=subject.recipes
        )
        install_dense(module, subject.program, draws)
        a, b, c = module.h.children()
        out = a.attn.c_proj.weight
        # Float32 products of 16 terms: a few units of 6e-8.
        assert torch.allclose(out @ out.T, 0.49 * torch.eye(C), atol=1e-5)
        assert torch.equal(b.mlp.c_fc.weight, a.mlp.c_fc.weight)
        assert float(c.mlp.c_fc.weight.std()) == pytest.approx(1.0, rel=1e-5)
        assert not module.wte.weight[3].any()
        assert bool(module.wte.weight[4].any())
        drawn.append(out.clone())
    assert not torch.equal(*drawn)


def test_buffers_are_real_and_parameters_have_no_memory() -> None:
    class Rotary(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("freq", 10.0 ** -torch.arange(C).float())
            self.table = torch.arange(3) * 0.5
            self.pair = (torch.ones(2) * 2.0, "word")

    module: Any = subject_of(Rotary).build()

    assert all(p.is_meta for p in module.parameters())
    assert torch.equal(module.freq, 10.0 ** -torch.arange(C).float())
    assert type(module.table) is Tensor
    assert torch.equal(module.table, torch.arange(3) * 0.5)
    assert torch.equal(module.pair[0], torch.tensor([2.0, 2.0]))


def test_ties_stay_ties_in_the_module_without_memory() -> None:
    module: Any = subject_of(FOREIGN["tied"]).build()

    assert module.lm_head.weight is module.wte.weight


def test_the_limit_of_positions_is_the_table_s() -> None:
    assert subject_of(FOREIGN["pre-norm"]).block_size == T
    assert subject_of(FOREIGN["positions as parameter"]).block_size == T
    assert subject_of(FOREIGN["llama"]).block_size > 1000


@pytest.mark.parametrize("limit", [T // 2, 2 * T])
def test_the_limit_of_positions_in_the_settings_comes_before_the_table_s(limit: int) -> None:
    made = traced_subject(factory(FOREIGN["pre-norm"], block_size=limit))

    assert made.block_size == limit


class TestLive:
    """A module that is built already."""

    @pytest.mark.parametrize("name", ["pre-norm", "llama", "tied", "eager"])
    @pytest.mark.parametrize("grad", [False, True], ids=["forward", "backward"])
    def test_its_own_weights_are_measured_and_it_stays_as_it_was(
        self, name: str, grad: bool
    ) -> None:
        module = built(name).train()
        held = {
            n: (id(p), p.detach().clone(), p.requires_grad) for n, p in module.named_parameters()
        }
        rng = torch.get_rng_state()
        run = RunConfig(seeds=1, seq_len=T, device="cpu", weights="own", grad=grad)

        with hearing() as record:
            profile = measure(live_subject(module, live_factory(module)), run)
        with hearing() as again, torch.no_grad():
            logits_of(module(torch.as_tensor(_ids(run))[:, :-1]))

        first = next(t for k, t in again if k == "attn")
        assert any(torch.equal(t, first) for k, t in record if k == "attn")
        assert profile.layers[0].values["attn_var"] == pytest.approx(float(first.var(correction=0)))
        assert module.training
        assert torch.equal(torch.get_rng_state(), rng)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
        for n, parameter in module.named_parameters():
            assert (id(parameter), parameter.requires_grad) == (held[n][0], held[n][2])
            assert torch.equal(parameter, held[n][1])
            assert parameter.grad is None

    def test_a_run_in_half_precision_leaves_it_in_its_own(self) -> None:
        module = built("pre-norm")
        run = RunConfig(seeds=1, seq_len=T, device="cpu", weights="own", dtype="bfloat16")

        measure(live_subject(module, live_factory(module)), run)

        assert {p.dtype for p in module.parameters()} == {torch.float32}

    def test_it_cannot_be_drawn_from_a_trace(self) -> None:
        subject = live_subject(built("pre-norm"), live_factory(built("pre-norm")))

        with pytest.raises(SubjectError, match="live module must be measured with weights='own'"):
            subject.build()

    def test_a_module_that_cannot_be_copied_is_named(self) -> None:
        module = built("pre-norm")
        module.held = (i for i in range(3))  # type: ignore[assignment] # no module on purpose

        with pytest.raises(
            SubjectError, match=r"^Decoder must be a module that can be copied, got TypeError: .*"
        ):
            measure(
                live_subject(module, live_factory(module)),
                RunConfig(seeds=1, seq_len=8, device="cpu", weights="own"),
            )


class NoSites(Decoder):
    """Nothing but one function: no module hears the stream."""

    def forward(self, ids: Any) -> Any:
        raise OSError("no such\nfile.")


class Bare(nn.Module):
    """A decoder of parameters alone: the stream passes through no module."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Parameter(torch.randn(V, C))
        self.layers = nn.ModuleList(nn.Linear(C, C, bias=False) for _ in range(3))

    def forward(self, ids: Any) -> Any:
        x = self.wte[ids]
        for layer in self.layers:
            matrix = layer.get_parameter("weight")
            x = x + F.gelu(x @ matrix) @ matrix
        return x @ self.wte.T


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            NoSites,
            r"^foreign must run forward to be measured\. Roles are read from names: NoSites must "
            r"run forward on token ids, got OSError: no such file "
            r"\(test_traced_subject\.py:\d+\)\. If it wants more, .*\.$",
        ),
        (
            Bare,
            r"^the stream at layers\.0 must pass in or out of a module to be measured, got none "
            r"there\. Name the blocks: --site blocks=PATH\.$",
        ),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(build: Any, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        subject_of(build)


class Mixer(nn.Module):
    """Two matrices with something in between."""

    def __init__(self, width: int = C) -> None:
        super().__init__()
        self.first = nn.Linear(C, 3 * width, bias=False)
        self.conv = nn.Conv1d(width, width, 3, padding=2, groups=width)
        self.c_proj = nn.Linear(width, C, bias=False)

    def forward(self, x: Any) -> Any:
        return self.c_proj(self.mixed(*self.first(x).chunk(3, -1)))

    def mixed(self, q: Any, k: Any, v: Any) -> Any:
        return (q + k) * v


class Retention(Mixer):
    """Products of queries and keys that decay with distance, without a softmax."""

    def mixed(self, q: Any, k: Any, v: Any) -> Any:
        T = q.shape[1]
        distance = torch.arange(T)[:, None] - torch.arange(T)
        decay = torch.where(distance >= 0, 0.9 ** distance.float(), 0.0)
        return (q @ k.transpose(1, 2) * decay) @ v


class Recurrence(Mixer):
    """A gated state, one position after the other."""

    def mixed(self, q: Any, k: Any, v: Any) -> Any:
        state, states = torch.zeros_like(v[:, 0]), []
        for t in range(v.shape[1]):
            state = torch.sigmoid(k[:, t]) * state + v[:, t]
            states.append(torch.sigmoid(q[:, t]) * state)
        return torch.stack(states, 1)


class Convolution(Mixer):
    """A causal convolution behind an activation."""

    def mixed(self, q: Any, k: Any, v: Any) -> Any:
        seen = self.conv(v.transpose(1, 2))[..., : v.shape[1]].transpose(1, 2)
        return F.silu(q) * seen * k


@pytest.mark.parametrize("kind", [Retention, Recurrence, Convolution])
def test_what_mixes_positions_in_place_of_attention_has_its_branch_measured(
    kind: type[Mixer],
) -> None:
    class Model(Decoder):
        block = staticmethod(lambda: Block(attn=kind))

    subject = subject_of(Model)
    with hearing() as record:
        profile = measure(subject, RUN)

    noted = {k: [t for kind, t in record if kind == k] for k in ("attn", "mlp", "resid")}
    assert len(profile.layers) == L
    for i, place in enumerate(profile.layers):
        for stat, what in (("attn_var", "attn"), ("mlp_var", "mlp"), ("resid_var", "resid")):
            expected = float(noted[what][i].double().var(correction=0))
            # One pass in float32 over the same numbers: k = 100 units of 6e-8.
            assert place.values[stat] == pytest.approx(expected, rel=1e-5)
        assert "attn_entropy" not in place.values


def test_what_leaves_positions_apart_is_no_mixer() -> None:
    class Model(Decoder):
        block = staticmethod(lambda: Block(attn=Mixer))

    assert [s.attn for s in subject_of(Model).sites] == [None] * L


class OneSequence(Decoder):
    """One sequence without a batch axis."""

    def forward(self, ids: Any) -> Any:
        (length,) = ids.shape
        x = self.wte(ids) + self.wpe(torch.arange(length))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class OneSequenceBlock(Block):
    """The axes of one sequence."""

    def forward(self, x: Any) -> Any:
        assert x.ndim == 2
        return super().forward(x[None])[0]


OneSequence.block = OneSequenceBlock


def test_one_sequence_without_a_batch_axis_is_measured_as_a_batch_of_one() -> None:
    run = replace(RUN, batch_size=1, grad=True)

    odd, plain = (measure(subject_of(model), run) for model in (OneSequence, Decoder))

    for place, expected in zip(places(odd), places(plain), strict=True):
        # The same numbers in other kernels: 100 units of 6e-8.
        assert place.values == pytest.approx(dict(expected.values), rel=1e-5)
    with pytest.raises(ConfigError, match=r"^batch_size must be 1 for OneSequence, "):
        measure(subject_of(OneSequence), RUN)


def test_sites_that_the_user_names_are_used() -> None:
    subject = subject_of(
        FOREIGN["pre-norm"], sites={"blocks": "h", "attn": "attn.c_proj", "mlp": "mlp"}
    )

    profile = measure_with_prediction(subject, RUN)

    found = measure_with_prediction(subject_of(FOREIGN["pre-norm"]), RUN)
    assert [s.path for s in subject.sites] == [f"h.{i}" for i in range(L)]
    assert subject.sites[0].attn is not None
    assert subject.sites[0].attn.path == "h.0.attn.c_proj"
    # Theory does not know what is recorded there.
    assert places(profile) == [replace(place, predicted={}) for place in places(found)]


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ({"blocks": "layers"}, r"^sites must name modules of Decoder, got .*'?layers'?.*\.$"),
        ({"blocks": "h", "mlp": "ffn"}, r"^sites must name modules of Decoder, got .*'?ffn'?.*\.$"),
        ({"blocks": "wte"}, r"^wte must be a list of blocks, got a module without children\.$"),
    ],
)
def test_a_site_that_does_not_exist_is_named(sites: dict[str, str], message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        subject_of(FOREIGN["pre-norm"], sites=sites)


def test_buffers_that_were_made_of_weights_are_made_of_those_of_the_run() -> None:
    """Power iterations keep vectors of the drawn matrix: with another's its norm is anything."""

    class Normed(Decoder):
        def blocks(self, made: list[nn.Module]) -> nn.Module:
            for block in made:
                spectral_norm(block.get_submodule("mlp.c_fc"))
            return nn.ModuleList(made)

    subject = subject_of(Normed)
    runs = [RunConfig(seeds=24, seq_len=8, device="cpu", weights=w) for w in ("own", "traced")]

    own, drawn = (measure(subject, run).layers[-1] for run in runs)

    error = math.hypot(own.stderr["mlp_var"], drawn.stderr["mlp_var"])
    assert abs(own.values["mlp_var"] - drawn.values["mlp_var"]) < 5 * error


@pytest.mark.parametrize("is_live", [False, True], ids=["built", "live"])
def test_a_compiled_module_is_measured_as_what_it_was_compiled_from(is_live: bool) -> None:
    def compiled() -> Any:
        return torch.compile(built("pre-norm"), backend="eager")

    run = RunConfig(seeds=1, seq_len=8, device="cpu")
    profile = gptinit.inspect(compiled() if is_live else compiled, run=run)

    assert len(profile.layers) == L
    assert profile.layers[0].values["attn_var"] > 0
