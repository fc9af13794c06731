# ruff: noqa: D102 # small methods are documented by their class
"""The blocks of other people's decoders, and where their streams and branches can be heard."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import (
    FOREIGN,
    MLP,
    Attention,
    Block,
    C,
    Decoder,
    Flat,
    L,
    PostNormBlock,
    built,
    hearing,
    reading,
    some_ids,
)
from support.graphs import Layer, graph_of
from torch import Tensor, nn

from gptinit.errors import SubjectError
from gptinit.forward.blocks import Decoder as Found
from gptinit.forward.blocks import _block_around, _placement, block_of, find_decoder, stream_width
from gptinit.forward.graph import MATMULS
from gptinit.forward.observe import ModuleCall, observe
from gptinit.forward.residual import Addition
from gptinit.forward.sites import Site
from gptinit.measure.hooks import hook_site
from gptinit.trace.record.tracing import trace


def decoder_of(name: str) -> Found:
    """The decoder of a model of FOREIGN."""
    found = reading(name).decoder
    assert found is not None
    return found


@pytest.mark.parametrize("name", FOREIGN)
def test_blocks_are_found_in_the_order_in_which_they_run(name: str) -> None:
    path = "layers" if name == "llama" else "h"
    repeated = name.startswith("shared")

    assert decoder_of(name).blocks == tuple(f"{path}.{0 if repeated else i}" for i in range(L))


@pytest.mark.parametrize("name", FOREIGN)
def test_placement_says_where_norms_stand(name: str) -> None:
    assert decoder_of(name).placement == ("post" if "post-norm" in name else "pre")


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_heard_at_the_sites_is_what_the_model_had_in_its_hands(name: str) -> None:
    module, heard = built(name), [dict[str, Tensor]() for _ in range(L)]
    for found, sites in zip(heard, decoder_of(name).sites, strict=True):
        for what in ("before", "after", "attn", "mlp"):
            site = getattr(sites, what)
            hook_site(module, site, lambda x, f=found, w=what, s=site: f.update({w: x * s.factor}))  # type: ignore[misc] # lambda

    with torch.no_grad(), hearing() as record:
        ids = some_ids()
        module(ids, ids) if name == "last position" else module(ids)

    noted = {k: [t for kind, t in record if kind == k] for k in ("attn", "mlp", "resid")}
    for i in range(L):
        assert torch.equal(heard[i]["attn"], noted["attn"][i])
        assert torch.equal(heard[i]["mlp"], noted["mlp"][i])
        assert torch.equal(heard[i]["after"], noted["resid"][i])
    if name != "in place":  # there the embedding is gone by now
        assert torch.equal(heard[0]["before"], record[0][1])


EXPECTED_SITES = {
    "pre-norm": ("h.1.attn", "h.1.mlp", Site(path="h.1")),
    "sandwich": ("h.1.post_1", "h.1.post_2", Site(path="h.1")),
    "layer scale": ("h.1.ls_1", "h.1.ls_2", Site(path="h.1")),
    "post-norm": ("h.1.attn", "h.1.mlp", Site(path="h.1")),
    "by forward": ("h.1.attn.c_proj", "h.1.mlp.c_proj", Site(path="h.2.ln_1", side="input")),
}


@pytest.mark.parametrize("name", ["pre-norm", "sandwich", "layer scale", "post-norm"])
def test_branches_are_heard_after_their_own_norm_and_scale(name: str) -> None:
    attn, mlp, after = EXPECTED_SITES[name]
    sites = decoder_of(name).sites[1]

    assert (sites.attn, sites.mlp) == (Site(path=attn), Site(path=mlp))
    assert sites.after == after


def test_a_multiplier_is_kept_as_a_factor() -> None:
    sites = decoder_of("multiplier").sites[0]

    assert sites.attn == Site(path="h.0.attn", factor=0.25)
    assert sites.mlp == Site(path="h.0.mlp", factor=0.5)


class Divided(Block):
    """Branches are divided by a number before they are added."""

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x)) / 4
        return x + self.mlp(self.ln_2(x)) / 2.0


class DividedBranches(Decoder):
    """Blocks of them."""

    block = Divided


def test_a_divisor_is_kept_as_the_factor_that_it_is() -> None:
    seen = observe(trace(DividedBranches))

    sites = find_decoder(seen, C)

    assert sites is not None
    assert sites.sites[0].attn == Site(path="h.0.attn", factor=0.25)
    assert sites.sites[0].mlp == Site(path="h.0.mlp", factor=0.5)


def test_a_block_that_runs_thrice_is_heard_call_by_call() -> None:
    sites = decoder_of("shared").sites

    assert [s.after for s in sites] == [Site(path="h.0", call=i) for i in range(L)]
    assert [s.attn for s in sites] == [Site(path="h.0.attn", call=i) for i in range(L)]


def test_a_block_that_mixes_the_embedding_in_is_heard_where_the_stream_enters_it() -> None:
    for sites in decoder_of("mixed inside").sites:
        assert sites.before == Site(path=sites.path, side="input")
        assert sites.after == Site(path=sites.path)


def flat(order: str) -> Found:
    """The decoder of a flat list, "a" for attention and "m" for an MLP."""

    class Model(Flat):
        pass

    Model.order = order
    return find_decoder(observe(trace(Model)), C)


def test_attention_and_mlp_in_one_flat_list_are_half_as_many_layers() -> None:
    found = flat("amamam")

    assert found.layers == (("h.0", "h.1"), ("h.2", "h.3"), ("h.4", "h.5"))
    assert [s.attn for s in found.sites] == [Site(path=f"h.{i}.inner") for i in (0, 2, 4)]
    assert [s.mlp for s in found.sites] == [Site(path=f"h.{i}.inner") for i in (1, 3, 5)]
    assert [s.after for s in found.sites] == [Site(path=f"h.{i}") for i in (1, 3, 5)]


@pytest.mark.parametrize("order", ["aamm", "ama", "mama", "amma"])
def test_a_flat_list_in_another_order_has_a_layer_for_every_block(order: str) -> None:
    assert flat(order).layers == tuple((f"h.{i}",) for i in range(len(order)))


class Stage(nn.Module):
    """Two blocks."""

    def __init__(self, part: type[nn.Module] = Block) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part() for _ in range(2))

    def forward(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


class AttentionOnly(Block):
    """Its MLP is not used."""

    def forward(self, x: Any) -> Any:
        return x + self.attn(self.ln_1(x))


def test_blocks_inside_stages_are_the_layers() -> None:
    class Model(Decoder):
        block = Stage

    found = find_decoder(observe(trace(Model)), C)

    assert found.blocks == tuple(f"h.{i}.parts.{j}" for i in range(L) for j in range(2))
    assert [s.attn for s in found.sites] == [Site(path=f"{block}.attn") for block in found.blocks]


def test_parts_of_one_branch_each_are_no_blocks() -> None:
    class Model(Decoder):
        block = staticmethod(lambda: Stage(AttentionOnly))

    found = find_decoder(observe(trace(Model)), C)

    assert found.blocks == tuple(f"h.{i}" for i in range(L))


class Closed(Decoder):
    """Post-norm blocks that nobody calls, and a norm before the head."""

    block = PostNormBlock

    def stream(self, ids: Any) -> Any:
        x = self.embed(ids)
        for block in self.h:
            x = block.forward(x)
        return x


def test_the_norm_that_closes_a_block_that_nobody_calls_is_its_own() -> None:
    sites = find_decoder(observe(trace(Closed)), C).sites

    assert [s.after for s in sites] == [Site(path=f"h.{i}.ln_2") for i in range(L)]
    assert [s.presum for s in sites] == [Site(path=f"h.{i}.ln_2", side="input") for i in range(L)]


def test_a_norm_in_a_branch_that_is_not_understood_closes_no_block() -> None:
    class Ends(Block):
        """Ends in an addition of something without a matrix."""

        def forward(self, x: Any) -> Any:
            x = super().forward(x)
            return x + self.ln_2(x).tanh()

    class Model(Decoder):
        block = Ends

    found = find_decoder(observe(trace(Model)), C)

    assert found.placement == "pre"
    assert [(s.after, s.presum) for s in found.sites] == [
        (Site(path=f"h.{i}"), None) for i in range(L)
    ]


def test_norms_on_the_stream_that_are_written_by_hand_close_a_block() -> None:
    class ByHand(nn.Module):
        def forward(self, x: Any) -> Any:
            x = x - x.mean(-1, keepdim=True)
            return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    class Model(Decoder):
        block = staticmethod(lambda: PostNormBlock(norm=ByHand))

    found = find_decoder(observe(trace(Model)), C)

    assert found.placement == "post"
    assert [s.presum for s in found.sites] == [
        Site(path=f"h.{i}.ln_2", side="input") for i in range(L)
    ]


def test_a_multiple_of_the_stream_between_blocks_makes_no_post_norm() -> None:
    class Damped(Block):
        def forward(self, x: Any) -> Any:
            x = 0.9 * (x + self.attn(self.ln_1(x)))
            return 0.9 * (x + self.mlp(self.ln_2(x)))

    class Model(Decoder):
        block = Damped

    found = find_decoder(observe(trace(Model)), C)

    assert found.placement == "pre"
    assert [s.presum for s in found.sites] == [None] * L


class GivesStates(nn.Module):
    """Blocks that nobody calls, in a module that returns the streams between them."""

    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ModuleList(nn.ModuleList([Attention(), MLP()]) for _ in range(L))
        self.ends = nn.ModuleList(nn.Identity() for _ in range(L))

    def forward(self, x: Any) -> Any:
        states = []
        for (attn, mlp), end in zip(cast(Any, self.h), self.ends, strict=True):
            x = x + attn(x)
            x = end(x + mlp(x))
            states.append(x)
        return x, states


def test_a_module_around_the_blocks_that_returns_their_streams_is_too_late_to_be_heard() -> None:
    class Model(Decoder):
        def blocks(self, made: list[nn.Module]) -> nn.Module:
            return GivesStates()

        def stream(self, ids: Any) -> Any:
            return self.h(self.embed(ids))[0]

    sites = find_decoder(observe(trace(Model)), C).sites

    ends = [Site(path=f"h.ends.{i}") for i in range(L)]
    assert [s.after for s in sites] == ends
    assert [s.before for s in sites[1:]] == ends[:-1]


def test_blocks_that_are_not_called_are_heard_at_their_neighbours() -> None:
    for sites in decoder_of("by forward").sites:
        for site in (sites.before, sites.after):
            assert site is not None
            assert site.path not in decoder_of("by forward").blocks


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("transformer.h.3.attn.c_proj.weight", "transformer.h.3"),
        ("transformer.h.3.mlp.experts.1.weight", "transformer.h.3"),
        ("model.layers.12.weight", "model.layers.12"),
        ("block_7.attn.weight", "block_7"),
        ("lm_head.weight", None),
        ("0.weight", None),
        ("wte2.weight", None),
    ],
)
def test_the_block_of_a_parameter_is_told_by_the_first_number(name: str, block: str | None) -> None:
    assert block_of(name) == block


def test_the_stream_is_the_width_at_which_most_products_are_added() -> None:
    class Wide(Decoder):
        """Adds at another width inside, once."""

        def __init__(self) -> None:
            super().__init__()
            self.wide, self.more = nn.Linear(C, 24), nn.Linear(24, 24)
            self.back = nn.Linear(24, C)

        def forward(self, ids: Any) -> Any:
            x = self.stream(ids)
            y = self.wide(x)
            y = y + self.more(y)
            return self.lm_head(self.ln_f(x + self.back(y)))

    assert stream_width(observe(trace(Wide))) == C


def test_the_stream_is_not_followed_past_a_matrix_that_it_goes_through() -> None:
    class Projected(Decoder):
        """The first block adds to another stream, of which a matrix makes the one of the others."""

        def __init__(self) -> None:
            super().__init__()
            self.between = nn.Linear(C, C)

        def stream(self, ids: Any) -> Any:
            x = self.between(self.h[0](self.embed(ids)))
            for block in self.h[1:]:
                x = block(x)
            return x

    seen = observe(trace(Projected))
    chain = find_decoder(seen, C).chain

    assert len(chain) == 2 * (L - 1)
    assert seen.graph.vertices[chain[0].stream].name in MATMULS


class NoStream(nn.Module):
    """Layers that add nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(11, C)
        self.layers = nn.Sequential(*(nn.Linear(C, C) for _ in range(3)), nn.Linear(C, 11))

    def forward(self, ids: Any) -> Any:
        return self.layers(self.wte(ids))


class NoBlocks(nn.Module):
    """A stream, but nothing that is repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.only, self.head = nn.Embedding(11, C), Block(), nn.Linear(C, 11)

    def forward(self, ids: Any) -> Any:
        return self.head(self.only(self.wte(ids)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (NoStream, r"^model must have repeated blocks that add to a residual stream, got none\.$"),
        (
            NoBlocks,
            r"^model must have a list of repeated blocks that add to its residual stream, got "
            r"none\.$",
        ),
    ],
)
def test_a_model_without_repeated_blocks_is_named_in_one_line(build: Any, message: str) -> None:
    seen = observe(trace(build))

    with pytest.raises(SubjectError, match=message):
        find_decoder(seen, stream_width(seen))


def test_a_block_whose_stream_is_scaled_at_its_end_is_heard_there() -> None:
    class Ends(Block):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * 0.5

    class Halved(Decoder):
        block = Ends

    seen = observe(trace(Halved))
    sites = find_decoder(seen, C).sites

    assert [s.after for s in sites] == [Site(path=f"h.{i}") for i in range(L)]
    assert [s.presum for s in sites] == [None] * L


def test_blocks_ten_and_one_are_not_confused() -> None:
    class Deep(Decoder):
        def blocks(self, made: list[nn.Module]) -> nn.Module:
            return nn.ModuleList(Block() for _ in range(12))

    sites = find_decoder(observe(trace(Deep)), C).sites

    assert [s.attn for s in sites] == [Site(path=f"h.{i}.attn") for i in range(12)]
    assert sites[1] == replace(sites[1], path="h.1")


@pytest.mark.parametrize(
    ("vertex", "inputs", "outputs", "is_inside"),
    [
        ("cos", ["sin"], ["exp"], True),
        ("exp", ["sin"], ["exp"], True),
        ("sin", ["sin"], ["exp"], False),  # it was there before
        ("embedding", ["sin"], ["exp"], False),
        ("exp", ["sin"], ["cos"], False),  # it came later
        ("cos", ["sin", "tanh"], ["exp"], True),  # tanh is of something else
        ("cos", ["tanh"], ["exp"], False),
        ("cos", ["embedding", "cos"], ["exp"], False),
        ("cos", ["sin"], ["tanh", "exp"], True),
    ],
)
def test_a_node_is_computed_in_a_call_after_an_input_and_before_an_output(
    vertex: str, inputs: list[str], outputs: list[str], is_inside: bool
) -> None:
    graph = graph_of(lambda: Layer(lambda x, *_: x.sin().cos().exp() + x.tanh()))
    index = {v.name: v.index for v in graph.vertices}
    takes, gives = (tuple(enumerate(index[n] for n in names)) for names in (inputs, outputs))

    call = ModuleCall(path="h.0", inputs=takes, outputs=gives)
    found = _block_around(graph, [call], index[vertex])

    assert found == ("h.0" if is_inside else None)


def stream(x: Any, *_: Any) -> Any:
    """A stream that is added to three times, with a norm between the last two."""
    x = x + x.sin()
    x = x + x.cos()
    return F.layer_norm(x, (6,)) + x.exp()


def test_most_norms_on_the_stream_make_a_model_post_norm() -> None:
    graph = graph_of(lambda: Layer(stream))
    first, second, third = (v.index for v in graph.vertices if v.name == "add")
    norm = next(v.index for v in graph.vertices if v.name == "native_layer_norm")
    plain = Addition(vertex=second, stream=first, start=first, branch=0)
    normed = Addition(vertex=third, stream=norm, start=norm, branch=0)

    placements = [
        _placement(graph, chain)
        for chain in ([plain], [plain, normed], [plain, plain], [plain, normed, plain])
    ]

    assert placements == ["pre", "post", "pre", "pre"]
