# ruff: noqa: D102 # small methods are documented by their class
"""A factory in; what every parameter is drawn from, what it is for and where to listen out."""

import math
import re
from typing import Any

import pytest
import torch
from support.foreign_models import (
    FOREIGN,
    Block,
    C,
    Decoder,
    GatedMLP,
    L,
    ListOfExperts,
    T,
    V,
    built,
    factory,
    reading,
)  # fmt: skip
from torch import Tensor, nn

from gptinit.audit_rules.grouping import pattern_of
from gptinit.errors import SubjectError
from gptinit.facts.distributions import Constant, Copy, Normal, Piecewise, Uniform
from gptinit.read.reading import Reading, read_live, read_model
from gptinit.results.program import ParameterProgram


def program_of(found: Reading) -> dict[str, ParameterProgram]:
    """Parameters by their names."""
    return {p.name: p for p in found.program.parameters}


@pytest.mark.parametrize("name", FOREIGN)
def test_every_parameter_is_there_once_in_order_with_its_shape(name: str) -> None:
    own = {n: tuple(p.shape) for n, p in built(name).named_parameters()}

    read = [(p.name, p.shape) for p in reading(name).program.parameters]

    assert read == list(own.items())
    assert reading(name).notes == ()


def test_laws_are_read_and_not_estimated() -> None:
    found = program_of(reading("pre-norm"))

    assert found["h.1.attn.c_attn.weight"].distribution == Normal(0.0, 0.3)
    assert str(found["h.1.ln_1.weight"].distribution) == "1"
    assert found["wpe.weight"].provenance[-1].op == "normal_"


def test_a_redraw_is_in_the_history_with_who_did_it() -> None:
    history = program_of(reading("pre-norm"))["h.0.mlp.c_fc.weight"].history

    first, last = history
    # torch's own default: uniform within 1 / sqrt(fan_in), which it computes in another order
    assert isinstance(first.distribution, Uniform)
    assert first.distribution.high == pytest.approx(1 / math.sqrt(C))
    assert first.by_default
    assert (last.distribution, last.by_default) == (Normal(0.0, 0.3), False)


def test_aliases_of_a_tied_weight_are_told() -> None:
    (tied,) = (p for p in reading("tied").program.parameters if p.role == "tok_emb")

    assert (tied.name, tied.aliases) == ("wte.weight", ("lm_head.weight",))
    assert reading("tied by use").program.parameters[0].aliases == ()


def test_the_user_s_map_comes_before_everything() -> None:
    found = read_model(
        factory(FOREIGN["layer scale"]), roles={"*.gamma": "norm_weight", "h.1.*": "other"}
    )

    roles = {n: p.role for n, p in program_of(found).items()}
    assert roles["h.0.ls_1.gamma"] == "norm_weight"
    assert roles["h.1.attn.c_attn.weight"] == "other"
    assert roles["h.0.attn.c_attn.weight"] == "qkv"


def test_norms_are_told_by_their_effect() -> None:
    found = program_of(reading("sandwich"))

    # A LayerNorm of weight 0.25 with eps 1e-5 on rows of variance 1.
    assert found["h.0.post_1.weight"].gain == pytest.approx(0.25, rel=1e-5)
    assert found["h.0.ln_1.weight"].gain == pytest.approx(1.0, rel=1e-5)
    assert found["h.0.ln_1.bias"].gain is None


def test_the_row_that_stands_for_padding_is_told() -> None:
    class Padded(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(V, C, padding_idx=4)

    found = read_model(factory(Padded))

    assert dict(found.program.padding) == {"wte.weight": 4}
    law, zero = Normal(0.0, 1.0), Constant(0.0)
    expected = Piecewise(((4, law), (1, zero), (V - 5, law)))
    assert found.program.parameters[0].distribution == expected


def test_layers_that_are_copies_of_one_are_told_so() -> None:
    class Cloned(Decoder):
        def __init__(self) -> None:
            super().__init__()
            for block in self.h.children():
                block.load_state_dict(self.h[0].state_dict())

    found = program_of(read_model(factory(Cloned)))

    copied = found["h.2.attn.c_attn.weight"].distribution
    assert copied == Copy("h.0.attn.c_attn.weight", Normal(0.0, 0.3))
    assert found["h.0.attn.c_attn.weight"].distribution == Normal(0.0, 0.3)


def test_float_buffers_are_read_and_integer_ones_are_not() -> None:
    class Buffers(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.full((3,), 2.0))
            self.register_buffer("places", torch.arange(T))

    (buffer,) = read_model(factory(Buffers)).program.buffers

    assert (buffer.name, buffer.kind, buffer.role, str(buffer.distribution)) == (
        "scale", "buffer", "other", "2",
    )  # fmt: skip


class CannotRun(Decoder):
    """Its forward wants what nobody has."""

    def forward(self, ids: Any) -> Any:
        raise NotImplementedError("needs a cluster")


def test_a_forward_that_cannot_run_falls_back_on_names_with_a_note() -> None:
    found = read_model(factory(CannotRun))
    (note,) = found.notes

    assert (note.kind, note.where) == ("approximate", "roles")
    assert re.fullmatch(
        r"Roles are read from names: CannotRun must run forward on token ids, got "
        r"NotImplementedError: needs a cluster \(test_reading\.py:\d+\)\. "
        r"If it wants more, say how to call it: --forward path\.py:FUNC\.",
        note.message,
    )
    assert (found.seen, found.decoder, found.tail) == (None, None, None)
    roles = {n: p.role for n, p in program_of(found).items()}
    assert roles["h.1.attn.c_attn.weight"] == "qkv"
    assert roles["h.1.attn.c_proj.weight"] == "attn_out"
    assert roles["wte.weight"] == "tok_emb"
    assert found.program.facts.n_layer == L
    assert found.program.parameters[0].writes_stream is None


def test_nothing_repeated_and_nothing_that_runs_is_no_model() -> None:
    with pytest.raises(
        SubjectError, match=r"^foreign must have repeated blocks, got a model without"
    ):
        read_model(factory(lambda: nn.Sequential(nn.Linear(2, 2))))


def test_a_brief_reading_tells_the_same_of_a_deep_model() -> None:
    class Deep(Decoder):
        def blocks(self, made: list[nn.Module]) -> nn.Module:
            return nn.ModuleList(type(self).block() for _ in range(9))

    whole, brief = (read_model(factory(Deep), brief=is_brief) for is_brief in (False, True))

    assert brief.program == whole.program


def test_matrices_that_only_a_number_in_a_sequence_tells_apart_keep_their_roles() -> None:
    # The two matrices of pytorch/examples' minGPT-ddp: blocks.*.mlp.0 and blocks.*.mlp.2.
    class Numbered(Block):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(C, 2 * C), nn.GELU(), nn.Linear(2 * C, C))

    class Deep(Decoder):
        def blocks(self, made: list[nn.Module]) -> nn.Module:
            return nn.ModuleList(Numbered() for _ in range(9))

    program = read_model(factory(Deep), brief=True).program

    for end, role in (("mlp.0.weight", "mlp_up"), ("mlp.2.weight", "mlp_down")):
        assert {p.role for p in program.parameters if p.name.endswith(end)} == {role}


def test_experts_that_no_token_is_sent_to_have_the_uses_of_the_others() -> None:
    class FewExperts(ListOfExperts):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(GatedMLP() for _ in range(3))

        def forward(self, x: Any) -> Any:
            return self.experts[1](x)

    class Model(Decoder):
        block = staticmethod(lambda: Block(mlp=FewExperts))

    found = program_of(read_model(factory(Model)))

    for i in range(3):
        down = found[f"h.1.mlp.experts.{i}.down_proj.weight"]
        assert (down.role, down.writes_stream) == ("mlp_down", True)


def test_blocks_inside_stages_are_numbered_through_in_a_brief_reading_too() -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(*(Block() for _ in range(7)))

        def forward(self, x: Any) -> Any:
            return self.parts(x)

    class Model(Decoder):
        block = Stage

    program = read_model(factory(Model), brief=True).program

    assert program.facts.n_layer == 7 * L
    places = {(p.block, p.layer) for p in program.parameters if p.block}
    assert places == {(f"h.{i}.parts.{j}", 7 * i + j) for i in range(L) for j in range(7)}
    assert {pattern_of(p) for p in program.parameters if p.role == "mlp_down"} == {
        "h.*.parts.*.mlp.c_proj.weight"
    }


class TestLive:
    """A module that is built already is measured, and stays as it is."""

    def test_moments_have_standard_errors_that_cover_the_truth(self) -> None:
        module = built("pre-norm")

        found = program_of(read_live(module, factory(Decoder)))

        law = found["wte.weight"].distribution
        assert law.kind == "measured"
        # 848 normal entries: k = 4 standard errors about the std that they were drawn with.
        assert abs(law.std - 0.3) < 4 * 0.3 / math.sqrt(2 * V * C)
        assert found["wte.weight"].role == "tok_emb"
        assert found["h.1.mlp.c_proj.weight"].writes_stream
        assert str(found["h.1.ln_1.weight"].distribution) == "1"

    @pytest.mark.parametrize("mode", [True, False])
    def test_nothing_of_it_is_changed(self, mode: bool) -> None:
        module = built("tied").train(mode)
        module.get_submodule("h.1").register_forward_hook(lambda *_: None)
        before = {n: (id(p), p.detach().clone()) for n, p in module.named_parameters()}
        grads = [p.requires_grad for p in module.parameters()]
        hooks = _hooks(module)
        rng = torch.get_rng_state()

        read_live(module, factory(Decoder))

        assert module.training is mode
        assert torch.equal(torch.get_rng_state(), rng)
        assert _hooks(module) == hooks
        assert [p.requires_grad for p in module.parameters()] == grads
        for name, parameter in module.named_parameters():
            assert id(parameter) == before[name][0]
            assert torch.equal(parameter, before[name][1])
        assert type(module.get_parameter("wte.weight")) is nn.Parameter

    def test_equal_values_are_copies(self) -> None:
        module = built("pre-norm")
        with torch.no_grad():
            module.get_parameter("h.2.mlp.c_fc.weight").copy_(
                module.get_parameter("h.0.mlp.c_fc.weight")
            )

        found = program_of(read_live(module, factory(Decoder)))

        law = found["h.2.mlp.c_fc.weight"].distribution
        assert isinstance(law, Copy)
        assert law.of == "h.0.mlp.c_fc.weight"
        assert found["h.1.mlp.c_fc.weight"].distribution.kind == "measured"

    def test_a_mode_that_differs_inside_stays(self) -> None:
        module = built("pre-norm").train()
        module.get_submodule("h.0").eval()

        read_live(module, factory(Decoder))

        assert module.training
        assert module.get_submodule("h.1").training
        assert not module.get_submodule("h.0").training


def _hooks(module: nn.Module) -> list[int]:
    """How many hooks each module has."""
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]


def test_building_runs_under_a_forked_rng() -> None:
    before = torch.get_rng_state()

    read_model(factory(Decoder))

    assert torch.equal(torch.get_rng_state(), before)


def test_fans_are_those_of_the_product_whatever_the_layout() -> None:
    class Turned(nn.Module):
        """An MLP whose matrices are stored (in, out)."""

        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Parameter(torch.randn(C, 24)), nn.Parameter(torch.randn(24, C))

        def forward(self, x: Any) -> Tensor:
            out: Tensor = (x @ self.up).relu() @ self.down
            return out

    class Model(Decoder):
        @staticmethod
        def block() -> Any:
            return Block(mlp=Turned)

    found = program_of(read_model(factory(Model)))

    up, down = found["h.0.mlp.up"], found["h.0.mlp.down"]
    assert (up.role, up.fan_in, up.fan_out) == ("mlp_up", C, 24)
    assert (down.role, down.fan_in, down.fan_out) == ("mlp_down", 24, C)
