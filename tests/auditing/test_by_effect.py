# ruff: noqa: D102 # small methods are documented by their class
"""Findings about norms, ties and gates do not depend on what these are called."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import Attention, Block, C, Decoder, factory
from torch import nn

from gptinit.auditing.audit import audit_factory
from gptinit.results.audit import Audit


def small(module: nn.Module) -> None:
    """Draw a matrix from N(0, 0.05), which no scheme does, and set biases to 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class Norm(nn.Module):
    """RMSNorm with a weight of any name, minus which value the output is multiplied by."""

    def __init__(self, name: str, value: float, *, plus: float = 0.0) -> None:
        super().__init__()
        self.name, self.plus = name, plus
        self.register_parameter(name, nn.Parameter(torch.full((C,), value)))

    def forward(self, x: Any) -> Any:
        unit = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return unit * (self.plus + self.get_parameter(self.name))


class Functional(Block):
    """Norms without a module: the block has their weights."""

    first = 1.0

    def __init__(self) -> None:
        super().__init__()
        del self.ln_1, self.ln_2
        self.before = nn.Parameter(torch.full((C,), type(self).first))
        self.between = nn.Parameter(torch.ones(C))

    def forward(self, x: Any) -> Any:
        x = x + self.attn(F.rms_norm(x, (C,), self.before, 1e-6))
        return x + self.mlp(F.rms_norm(x, (C,), self.between, 1e-6))


class FunctionalTwice(Functional):
    """The first is twice as large."""

    first = 2.0


def decoder(make: Any = Block, *, final: Any = None, std: float = 0.05, tied: bool = False) -> Any:
    """A decoder with these blocks and this final norm; its head the embedding if `tied`."""

    class Model(Decoder):
        block = staticmethod(make)

        def draw(self, module: nn.Module) -> None:
            small(module)
            if module is self.wte:
                nn.init.normal_(self.wte.weight, std=std)

        def __init__(self) -> None:
            super().__init__()
            if final:
                self.ln_f = final()
            if tied:
                del self.lm_head

        def forward(self, ids: Any) -> Any:
            x = self.ln_f(self.stream(ids))
            return F.linear(x, self.wte.weight) if tied else self.lm_head(x)

    return Model


def found(build: Any, **told: Any) -> list[tuple[str, str, str]]:
    """(rule, severity, where) of what an audit finds above a note."""
    audit: Audit = audit_factory(factory(build, **told))
    told_of = [f for f in audit.findings if f.severity != "note"]
    return [(f.rule, f.severity, place) for f in told_of for place in f.places]


def normed(norm: Any) -> Any:
    """A block with two norms of one kind."""
    return lambda: Block(norm=norm)


@pytest.mark.parametrize("name", ["weight", "scale", "gamma", "g"])
def test_defect_6_a_norm_that_starts_at_another_gain_is_an_error(name: str) -> None:
    for value, plus in ((2.0, 0.0), (0.0, 0.0), (1.0, 1.0)):
        wrong = found(decoder(normed(lambda v=value, p=plus: Norm(name, v, plus=p))))

        places = [f"h.*.ln_{i}.{name}" for i in (1, 2)]
        assert wrong == [("norm-weight-wrong", "error", place) for place in places]
    assert found(decoder(normed(lambda: Norm(name, 1.0)))) == []
    assert found(decoder(normed(lambda: Norm(name, 0.0, plus=1.0)))) == []


def test_defect_6_a_final_norm_at_zero_is_an_error() -> None:
    final = [("logits-constant", "error", "ln_f.scale")]  # the effect, of which the gain is why

    assert found(decoder(final=lambda: Norm("scale", 0.0))) == final
    assert found(decoder(final=lambda: Norm("scale", 1.0))) == []


def test_defect_6_a_norm_without_a_module_is_a_norm() -> None:
    assert found(decoder(Functional)) == []
    assert found(decoder(FunctionalTwice)) == [("norm-weight-wrong", "error", "h.*.before")]


class Closing(Block):
    """A norm on what the MLP adds starts at zero, so that the branch does."""

    def __init__(self) -> None:
        super().__init__()
        self.post = Norm("scale", 0.0)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.post(self.mlp(self.ln_2(x)))


def test_a_branch_that_starts_at_zero_by_its_closing_norm_is_a_warning() -> None:
    assert found(decoder(Closing)) == [("norm-weight-wrong", "warning", "h.*.post.scale")]


def test_defect_11_a_functional_tie_has_a_head() -> None:
    # 2 sqrt(16) = 8 for the std of the logits. It has one cause, which logit-scale leaves to this.
    conflict = [("tied-role-std-conflict", "error", "wte.weight")]

    assert found(decoder(std=2.0, tied=True)) == conflict
    assert found(decoder(tied=True)) == []


def test_a_functional_tie_that_the_settings_deny_is_found() -> None:
    assert found(decoder(tied=True), tied=False) == [("tie-unexpected", "error", "wte.weight")]
    assert found(decoder(tied=True), tied=True) == []


@pytest.mark.parametrize("word", ["tie_word_embeddings", "weight_tying"])
def test_defect_4_the_settings_that_a_built_module_carries_say_whether_it_is_tied(
    word: str,
) -> None:
    class Config:
        """Settings that the function which builds the module does not show."""

    setattr(Config, word, True)
    tied, untied = decoder(tied=True), decoder()
    tied.config = untied.config = Config()

    assert found(untied) == [("tie-broken", "error", "lm_head.weight")]
    assert found(tied) == []


class GatedValues(Attention):
    """nanochat: values are multiplied by a gate that is drawn above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.ve_gate = nn.Linear(4, C, bias=False)

    def forward(self, x: Any) -> Any:
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.c_attn(x).split(C, -1))
        gate = 3 * torch.sigmoid(self.ve_gate(x[..., :4])).unflatten(-1, (2, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v + gate * v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


def test_defect_15_a_gate_that_is_drawn_above_zero_on_purpose_is_no_error() -> None:
    class Model(decoder(lambda: Block(attn=GatedValues))):  # type: ignore[misc] # a class by name
        def __init__(self) -> None:
            super().__init__()
            for block in self.h:
                nn.init.uniform_(block.attn.ve_gate.weight, 0.0, 0.02)

    assert found(Model) == []
