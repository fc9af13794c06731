"""Every way of using a weight gives what a dense twin gives, forward and backward, if it is lazy.

Each style runs in a block under the lazy policy with autograd. Then all entries are realised from
what was told, and the style runs again densely with them: outputs, gradients of inputs and the
square sum of the weight's gradient must agree to float32 rounding. Styles that no rule covers are
drawn for real, with the values that a dense policy draws, and a note says so.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.lazy_models import (
    ROUNDING,
    Run,
    all_entries,
    holder,
    lazy_weight,
    owner_of,
    program_of,
    rounding_gap,
    run_lazily,
    some,
)
from support.subjects import cpu_draws
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptinit.errors import MeasureError
from gptinit.facts.distributions import Normal
from gptinit.weights.lazy.gaussian import GaussianMatrix
from gptinit.weights.tensor import WeightTensor

LAW = Normal(0.05, 0.3)
"""A mean that is not 0: it must come through every product."""

BFLOAT16 = 4 * 2.0**-8
"""Relative error where inputs, weights and outputs are rounded to bfloat16, in two products."""


@dataclass(frozen=True, slots=True)
class Style:
    """One way of using a weight.

    Attributes:
        weight: its shape.
        x: shape of the input; fewer rows than a matrix has, so that it can stay lazy.
        call: what is done.
        drawn: whether no rule covers it.
        tells_gradient: whether the square sum of its gradient is known at the end.
        tolerance: largest relative difference.
    """

    weight: tuple[int, ...]
    x: tuple[int, ...]
    call: Callable[[Any, Any], Any]
    drawn: bool = False
    tells_gradient: bool = True
    tolerance: float = ROUNDING


BIAS, COLUMN = some(24, seed=3), some(20, seed=4)
W2, X2 = (24, 20), (5, 20)  # outputs by inputs, rows by inputs
HEADS = (3, 20, 8)  # heads, inputs, outputs


def _linear_module(x: Tensor, w: Tensor) -> Any:
    module = nn.Linear(20, 24, bias=False, device="meta")
    return torch.func.functional_call(module, {"weight": w}, (x,))


def _attention_module(x: Tensor, w: Tensor) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.MultiheadAttention(20, 2, bias=False, batch_first=True)
    return torch.func.functional_call(module, {"in_proj_weight": w}, (x, x, x))[0]


def _autocast(x: Tensor, w: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.linear(x, w).float()


def _experts_in_loop(x: Tensor, w: Tensor) -> Tensor:
    """Token i goes to expert i % 2; the third has none."""
    out = x.new_zeros(len(x), 8)
    for expert in range(3):
        (rows,) = torch.where((torch.arange(len(x)) % 2) == expert)
        out = out.index_add(0, rows, x[rows] @ w[expert])
    return out


def _grouped(x: Tensor, w: Tensor) -> Any:
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)  # the second expert has no token
    return torch._grouped_mm(x, w, offs=ends)


def _columns_in_chunks(x: Tensor, w: Tensor) -> Tensor:
    pairs = zip(x.chunk(2, 1), w.chunk(2, 1), strict=True)
    return torch.stack([F.linear(a, part) for a, part in pairs]).sum(0)


def _in_place_after(x: Tensor, w: Tensor) -> Tensor:
    y = F.linear(x, w)
    y += 1
    return y * 2


STYLES: dict[str, Style] = {
    "linear": Style(W2, X2, F.linear),
    "linear of one vector": Style(W2, (20,), F.linear),
    "linear of a batch": Style(W2, (2, 3, 20), F.linear),
    "linear of a batch of batches": Style(W2, (2, 1, 3, 20), F.linear),
    "linear with bias": Style(W2, X2, lambda x, w: F.linear(x, w, BIAS)),
    "linear with bias of a batch": Style(W2, (2, 3, 20), lambda x, w: F.linear(x, w, BIAS)),
    "linear of a transposed input": Style(W2, (20, 5), lambda x, w: F.linear(x.T, w)),
    "linear of equal rows": Style(W2, (1, 20), lambda x, w: F.linear(x.expand(5, -1), w)),
    "linear of no rows": Style(W2, X2, lambda x, w: F.linear(x[:0], w).sum() + x.sum()),
    "linear of a zero": Style(W2, X2, lambda x, w: F.linear(x * 0, w)),
    "x W^T": Style(W2, X2, lambda x, w: x @ w.T),
    "x W^T by mT": Style(W2, X2, lambda x, w: x @ w.mT),
    "W x": Style(W2, (20, 5), lambda x, w: w @ x),
    "W times a batch": Style(W2, (2, 20, 3), lambda x, w: w @ x),
    "mv": Style(W2, (20,), lambda x, w: torch.mv(w, x)),
    "addmv": Style(W2, (20,), lambda x, w: torch.addmv(BIAS, w, x, beta=0.5, alpha=2)),
    "addmm": Style(W2, X2, lambda x, w: torch.addmm(BIAS, x, w.t(), beta=0.5, alpha=2)),
    "addmm with what is added to": Style(
        W2, (5, 24), lambda x, w: torch.addmm(x, some(5, 20), w.t()) * x, tells_gradient=False
    ),
    "Conv1D": Style(
        (20, 24), (2, 3, 20), lambda x, w: torch.addmm(BIAS, x.view(-1, 20), w).view(2, 3, 24)
    ),
    "bmm": Style(HEADS, (3, 5, 20), torch.bmm),
    "bmm of the transpose": Style((3, 8, 20), (3, 5, 20), lambda x, w: torch.bmm(x, w.mT)),
    "bmm from the left": Style((3, 8, 20), (3, 20, 5), lambda x, w: torch.bmm(w, x)),
    "bmm of shared inputs": Style(HEADS, X2, lambda x, w: torch.bmm(x.expand(3, -1, -1), w)),
    "baddbmm": Style(
        HEADS, (3, 5, 20), lambda x, w: torch.baddbmm(some(3, 1, 8), x, w, beta=2, alpha=0.5)
    ),
    "matmul by heads": Style(HEADS, (3, 5, 20), lambda x, w: x @ w),
    "matmul of shared inputs by heads": Style(
        HEADS, (1, 5, 20), lambda x, w: x @ w, drawn=True
    ),  # torch puts the columns of all heads side by side
    "matmul with a broadcast weight": Style(W2[::-1], (2, 1, 3, 20), lambda x, w: x @ w[None]),
    "matmul of a batch by heads": Style(
        HEADS, (2, 1, 5, 20), lambda x, w: x @ w, drawn=True
    ),  # torch copies the weight once a batch
    "einsum": Style(W2, X2, lambda x, w: torch.einsum("bi,oi->bo", x, w)),
    "einsum of a batch": Style(W2, (2, 3, 20), lambda x, w: torch.einsum("bti,oi->bto", x, w)),
    "einsum of the transpose": Style(W2, (5, 24), lambda x, w: torch.einsum("bo,oi->bi", x, w)),
    "einsum to heads": Style(
        (20, 3, 8), (2, 3, 20), lambda x, w: torch.einsum("btc,chd->bthd", x, w)
    ),
    "einsum from heads": Style(
        (3, 8, 20), (5, 3, 8), lambda x, w: torch.einsum("thd,hdc->tc", x, w), drawn=True
    ),  # torch sums over d, h in this order
    "einsum by heads": Style(
        HEADS, (2, 3, 2, 20), lambda x, w: torch.einsum("bhtc,hcd->bhtd", x, w)
    ),
    "einsum of heads in front": Style(
        HEADS, (2, 3, 20), lambda x, w: torch.einsum("btc,hcd->bthd", x, w), drawn=True
    ),  # columns of all heads side by side are no view of it
    "slice of rows": Style(W2, X2, lambda x, w: x @ w[3:11].t()),
    "slice of columns": Style(W2, (5, 7), lambda x, w: x @ w[:, 4:11].t()),
    "slice of both": Style(W2, (5, 7), lambda x, w: x @ w[2:20, 4:11].t()),
    "every other row": Style(W2, X2, lambda x, w: x @ w[::2].t()),
    "every third column": Style(W2, (5, 6), lambda x, w: x @ w[:, 1:18:3].t()),
    "chunks": Style(W2, X2, lambda x, w: torch.cat([x @ p.t() for p in w.chunk(3)], -1)),
    "chunks of columns": Style(W2, X2, _columns_in_chunks),
    "split in unequal parts": Style(
        W2, X2, lambda x, w: torch.cat([F.linear(x, p) for p in w.split([12, 8, 4])], -1)
    ),
    "tensor_split": Style(
        W2, X2, lambda x, w: torch.cat([F.linear(x, p) for p in w.tensor_split(3)], -1)
    ),
    "unbind": Style(
        W2, X2, lambda x, w: torch.cat([F.linear(x, p) for p in w.view(3, 8, 20).unbind()], -1)
    ),
    "select": Style(HEADS, X2, lambda x, w: x @ w[1] + x @ w.select(0, 2)),
    "narrow": Style(W2, X2, lambda x, w: x @ w.narrow(0, 5, 9).t()),
    "chunks of interleaved rows": Style(
        W2, X2, lambda x, w: torch.cat([x @ w[i::3].t() for i in range(3)], -1)
    ),
    "one row": Style(W2, X2, lambda x, w: x @ w[4:5].t()),
    "one column": Style(W2, (5, 24), lambda x, w: x @ w[:, 3:4]),
    "no rows": Style(W2, X2, lambda x, w: torch.cat((x @ w[:0].t(), x @ w.t()), 1)),
    "whole, then a slice": Style(W2, X2, lambda x, w: F.linear(F.linear(x, w)[:, :20], w[:9])),
    "a slice, then whole": Style(W2, X2, lambda x, w: F.linear(x, w[:20]) @ w.t()[:20]),
    "overlapping slices": Style(W2, X2, lambda x, w: x @ w[:16].t() + x.flip(0) @ w[8:].t()),
    "permute": Style(W2, X2, lambda x, w: x @ w.permute(1, 0)),
    "swapdims and unsqueeze": Style(W2, (2, 3, 20), lambda x, w: x @ w.swapdims(0, 1)[None]),
    "view as heads": Style(W2, X2, lambda x, w: x @ w.view(3, 8, 20).mT),
    "reshape": Style(W2, X2, lambda x, w: x @ w.reshape(3, 8, 20).flatten(0, 1).t()),
    "expand": Style(
        W2, (2, 3, 20), lambda x, w: torch.bmm(x, w.t().unsqueeze(0).expand(2, -1, -1))
    ),
    "contiguous": Style(W2, X2, lambda x, w: x @ w.t().contiguous()),
    "clone": Style(W2, X2, lambda x, w: F.linear(x, w.clone())),
    "detached": Style(W2, X2, lambda x, w: F.linear(x, w.detach()), tells_gradient=False),
    "its data": Style(W2, X2, lambda x, w: F.linear(x, w.data), tells_gradient=False),
    "detached and not": Style(W2, X2, lambda x, w: F.linear(x, w.detach()) * F.linear(x, w)),
    "type_as": Style(W2, X2, lambda x, w: F.linear(x, w.type_as(x))),
    "double": Style(W2, X2, lambda x, w: F.linear(x.double(), w.double()).float()),
    "bfloat16": Style(
        W2, X2, lambda x, w: F.linear(x.bfloat16(), w.bfloat16()).float(), tolerance=BFLOAT16
    ),
    "autocast": Style(W2, X2, _autocast, tolerance=BFLOAT16),
    "times a number": Style(W2, X2, lambda x, w: F.linear(x, w * 0.25)),
    "a number times it": Style(W2, X2, lambda x, w: F.linear(x, 3 * w)),
    "times a scalar tensor": Style(W2, X2, lambda x, w: F.linear(x, w * torch.tensor(0.25))),
    "over a number": Style(W2, X2, lambda x, w: F.linear(x, w / 4)),
    "a multiple of a slice": Style(W2, X2, lambda x, w: x @ (w[:8] * 2).t() / 3),
    "twice": Style(W2, X2, lambda x, w: F.linear(x, w) * F.linear(x.flip(0), w)),
    "twice the same": Style(W2, X2, lambda x, w: F.linear(x, w) * F.linear(x, w)),
    "twice by one transpose": Style(
        W2, X2, lambda x, w: (lambda t: (x @ t).square() + x.square() @ t)(w.t())
    ),
    "there and back": Style(W2, X2, lambda x, w: F.linear(x, w) @ w),
    "back and there": Style(W2, (5, 24), lambda x, w: F.linear(x @ w, w)),
    "three times": Style(W2, X2, lambda x, w: (x @ w.t() @ w).tanh() @ w.t()),
    "twice, one of them for nothing": Style(
        W2, X2, lambda x, w: (F.linear(x, w), F.linear(x * 2, w))[0], tells_gradient=False
    ),
    "one transpose twice, the later for nothing": Style(
        W2, X2, lambda x, w: (lambda t: (x @ t, x.square() @ t)[0])(w.t()), tells_gradient=False
    ),
    "from both sides, one of them for nothing": Style(
        (20, 20), X2, lambda x, w: ((w @ x.t()).t(), x @ w)[0], tells_gradient=False
    ),
    "written over afterwards": Style(W2, X2, _in_place_after),
    "grouped mm": Style(HEADS, X2, _grouped),
    "experts in a loop": Style(HEADS, X2, _experts_in_loop),
    "MultiheadAttention": Style((60, 20), (1, 5, 20), _attention_module),
    "functional_call": Style(W2, X2, _linear_module),
    "vmap over inputs": Style(W2, X2, lambda x, w: torch.vmap(lambda row: w @ row)(x)),
    "vmap over heads": Style(HEADS, (3, 5, 20), lambda x, w: torch.vmap(torch.matmul)(x, w)),
    "checkpoint": Style(
        W2,
        X2,
        lambda x, w: checkpoint(lambda y: F.linear(y, w).tanh(), x, use_reentrant=False),
        tells_gradient=False,  # it cannot be told from a use that no gradient comes to
    ),
    "checkpoint, reentrant": Style(
        W2, X2, lambda x, w: checkpoint(lambda y: F.linear(y, w).tanh(), x, use_reentrant=True)
    ),
    "bilinear": Style((6, 20, 20), X2, lambda x, w: F.bilinear(x, x.flip(0), w), drawn=True),
    "sum": Style(W2, X2, lambda x, w: x * w.sum(), drawn=True),
    "norm": Style(W2, X2, lambda x, w: F.linear(x, w) / w.norm(), drawn=True),
    "cat": Style(W2, X2, lambda x, w: F.linear(x, torch.cat([w, w[:4]])), drawn=True),
    "sum of weights": Style(W2, X2, lambda x, w: F.linear(x, w + w), drawn=True),
    "negative": Style(W2, X2, lambda x, w: F.linear(x, -w), drawn=True),
    "times a vector": Style(W2, X2, lambda x, w: F.linear(x, w * COLUMN), drawn=True),
    "over its length": Style(W2, X2, lambda x, w: F.linear(x, F.normalize(w)), drawn=True),
    "embedding in a block": Style(
        W2, X2, lambda x, w: x * F.embedding(torch.tensor([1, 1, 7, 0, 2]), w), drawn=True
    ),
    "rows by a list": Style(W2, X2, lambda x, w: x @ w[[3, 1, 3]].t(), drawn=True),
    "times an entry": Style(W2, X2, lambda x, w: x * w[3, 4], drawn=True),
    "rows one by one": Style(
        W2, X2, lambda x, w: torch.stack([(x * row).sum(-1) for row in w], -1), drawn=True
    ),
    "a copy written to": Style(W2, X2, lambda x, w: F.linear(x, w.clone().mul_(2)), drawn=True),
    "a copy viewed otherwise": Style(
        W2, X2, lambda x, w: F.linear(x, w.t().contiguous().view(24, 20)), drawn=True
    ),
    "written to what is real": Style(
        W2, (24, 20), lambda x, w: x.clone().add_(w) * x, drawn=True
    ),
    "weight times weight": Style(W2, X2, lambda x, w: x @ (w.t() @ w), drawn=True),
    "convolution": Style(
        (24, 20, 1), (1, 20, 5), lambda x, w: F.conv1d(x, w), drawn=True
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a style gave."""

    output: Tensor
    x_grad: Tensor | None


def outcome(call: Callable[[Any], Any], x: Tensor) -> Outcome:
    """The output of a call and the gradient of its input for fixed gradients of the output."""
    given = x.clone().requires_grad_(True)
    output = call(given)
    output.backward(some(*output.shape, seed=9))
    return Outcome(output.detach(), given.grad)


def run_style(style: Style) -> tuple[Outcome, Tensor, Run, Any]:
    """The outcome under the lazy policy, all entries, the run, the gradient's square sum."""
    x, module = some(*style.x), holder(style.weight, style.call)
    program = program_of(style.weight, LAW)

    def run(module: nn.Module, weights: Any) -> Outcome:
        weight = module.get_parameter("h.0.w")
        weight.requires_grad_(weights.forms_gradient(program))
        return outcome(module.get_submodule("h.0"), x)

    made = run_lazily(module, [program], run)
    weight = module.get_parameter("h.0.w")
    if made.weights.forms_gradient(program):
        assert weight.grad is not None
        return made.result, cpu_draws().new(program), made, weight.grad.square().sum()
    entries = all_entries(weight)
    sums = [s for _, s in made.weights.square_sums()]
    return made.result, entries, made, sums[0] if sums else None


@pytest.mark.parametrize("name", STYLES)
def test_a_lazy_weight_behaves_as_its_dense_twin(name: str) -> None:
    style = STYLES[name]

    lazy, entries, made, sums = run_style(style)
    twin = entries.clone().requires_grad_(True)
    dense = outcome(lambda x: style.call(x, twin), some(*style.x))

    assert rounding_gap(lazy.output, dense.output) <= style.tolerance
    assert lazy.x_grad is not None
    assert dense.x_grad is not None
    assert rounding_gap(lazy.x_grad, dense.x_grad) <= style.tolerance
    materialised = [n for n in made.notes if n.kind == "materialised"]
    assert bool(materialised) == style.drawn
    assert made.restarts == int(style.drawn)
    gradient = torch.zeros_like(twin) if twin.grad is None else twin.grad
    if style.drawn:
        assert rounding_gap(sums, gradient.square().sum()) <= style.tolerance
    elif style.tells_gradient:
        # A square's relative error is twice that of the number.
        assert rounding_gap(sums.gradient, gradient.square().sum()) <= 2 * style.tolerance
        assert rounding_gap(sums.weight, entries.square().sum()) <= 2 * ROUNDING
    else:
        assert sums is None


@pytest.mark.parametrize(
    "name", [n for n, s in STYLES.items() if not s.drawn and n != "checkpoint, reentrant"]
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_lazy_weight_behaves_as_its_dense_twin_without_autograd(name: str, mode: Any) -> None:
    style = STYLES[name]
    weight, x = lazy_weight(*style.weight, law=LAW), some(*style.x)

    with mode():
        lazy = style.call(x, weight)
        entries = all_entries(weight)
        dense = style.call(x, entries)

    assert rounding_gap(lazy, dense) <= style.tolerance
    assert not isinstance(lazy, WeightTensor)


@pytest.mark.parametrize("name", [n for n, s in STYLES.items() if s.drawn])
def test_small_weights_are_looked_at_where_no_gradient_is_wanted(name: str) -> None:
    style = STYLES[name]
    if name in {"a copy written to", "written to what is real"}:  # these draw the weight
        return
    weight, x = lazy_weight(*style.weight, law=LAW, in_block=False), some(*style.x)
    with torch.no_grad():
        lazy = style.call(x, weight)

        assert rounding_gap(lazy, style.call(x, all_entries(weight))) <= ROUNDING


@pytest.mark.parametrize(
    "name", [n for n, s in STYLES.items() if not s.drawn and len(s.weight) == 2]
)
def test_a_weight_stays_lazy_while_it_is_asked_less_than_it_holds(name: str) -> None:
    style = STYLES[name]
    weight = lazy_weight(*style.weight)

    style.call(some(*style.x).requires_grad_(True), weight)

    # Slices of few rows or columns are smaller than what they are asked.
    large = [t.matrix for t in owner_of(weight).tiles if min(t.matrix.shape) > 6]
    assert all(isinstance(matrix, GaussianMatrix) for matrix in large)


LOOKUPS: dict[str, Callable[[Any], Any]] = {
    "embedding": lambda w: F.embedding(torch.tensor([[3, 0], [3, 23]]), w),
    "embedding of a slice": lambda w: F.embedding(torch.tensor([3, 0, 3]), w[4:9, 2:17]),
    "embedding with a padding row": lambda w: F.embedding(torch.tensor([3, 0]), w, padding_idx=0),
    "index": lambda w: w[torch.tensor([[3, 0], [3, 23]])],
    "negative index": lambda w: w[torch.tensor([-1, 5, -24])],
    "mask": lambda w: w[torch.arange(24) % 5 == 0],
    "index_select": lambda w: w.index_select(0, torch.tensor([7, 7, 2])),
    "index_select of columns": lambda w: w.index_select(1, torch.tensor([7, 7, 2])),
    "index of columns": lambda w: w[:, torch.tensor([7, 7, 2])],
    "index of both": lambda w: w[torch.tensor([1, 2]), torch.tensor([7, 0])],
    "gather": lambda w: w.gather(0, torch.tensor([[1] * 20, [4] * 20])),
    "take_along_dim": lambda w: torch.take_along_dim(w, torch.tensor([[1], [4]] * 12), 1),
    "F.embedding_bag": lambda w: F.embedding_bag(torch.tensor([[1, 2], [5, 5]]), w, mode="sum"),
    "one row": lambda w: w[5] + 0,
    "one entry": lambda w: torch.tensor(w[5, 3].item()),
    "slice": lambda w: w[2:5] + 0,
    "no rows": lambda w: w[torch.tensor([], dtype=torch.int64)],
    "nn.Embedding": lambda w: nn.Embedding.from_pretrained(w)(torch.tensor([4, 4])),
    "multiple": lambda w: F.embedding(torch.tensor([3, 0]), w * 2),
    "bytes": lambda w: w.view(torch.int32) + 0,
    "other sign": lambda w: torch._neg_view(w) + 0,
    "every other column": lambda w: F.embedding(torch.tensor([3, 0]), w[:, ::2]),
    "every other row": lambda w: F.embedding(torch.tensor([3, 0]), w[::2]),
    "of the transpose": lambda w: F.embedding(torch.tensor([3, 0]), w.t()),
}


@pytest.mark.parametrize("name", LOOKUPS)
@pytest.mark.parametrize("when", ["first", "after a product", "after two"])
def test_rows_that_are_looked_up_are_those_of_the_matrix(name: str, when: str) -> None:
    weight = lazy_weight(24, 20, law=LAW, in_block=False)
    x, g = some(4, 20), some(3, 24, seed=2)
    before: list[tuple[Callable[[Any], Any], Tensor]] = []
    if when != "first":
        before.append((lambda w: F.linear(x, w), F.linear(x, weight)))
    if when == "after two":
        before.append((lambda w: g @ w, g @ weight))

    found = LOOKUPS[name](weight)
    after = F.linear(x.flip(1), weight)
    entries = all_entries(weight)

    if found.dtype == torch.int32:
        assert rounding_gap(found.view(torch.float32), entries) <= ROUNDING
    else:
        assert rounding_gap(found, LOOKUPS[name](entries)) <= ROUNDING
    assert rounding_gap(after, F.linear(x.flip(1), entries)) <= ROUNDING
    for call, told in before:
        assert rounding_gap(told, call(entries)) <= ROUNDING


@pytest.mark.parametrize("order", ["embedding first", "head first"])
def test_a_tied_head_agrees_with_the_embedding(order: str) -> None:
    weight = lazy_weight(40, 20, law=LAW, in_block=False)
    ids = torch.tensor([3, 0, 3, 39])

    def model(w: Tensor, given: Tensor) -> Tensor:
        if order == "embedding first":
            return F.linear((F.embedding(ids, w) + given).tanh(), w)
        logits = F.linear(given, w)
        return torch.cat((logits, F.embedding(ids, w) * given), 1)

    lazy = outcome(lambda x: model(weight, x), some(4, 20))
    entries = all_entries(weight)
    dense = outcome(lambda x: model(entries, x), some(4, 20))

    assert rounding_gap(lazy.output, dense.output) <= ROUNDING
    assert lazy.x_grad is not None
    assert dense.x_grad is not None
    assert rounding_gap(lazy.x_grad, dense.x_grad) <= ROUNDING


@pytest.mark.parametrize(
    "ids", [torch.tensor([24]), torch.tensor([-1]), torch.tensor([0, 99])], ids=str
)
def test_a_row_that_is_not_there_is_an_error(ids: Tensor) -> None:
    with pytest.raises(IndexError, match="index out of range in self"):
        F.embedding(ids, lazy_weight(24, 20, in_block=False))
    with pytest.raises(IndexError, match="index out of range in self"):
        F.embedding(torch.tensor([9]), lazy_weight(24, 20, in_block=False)[:9])


def test_nothing_is_added_where_beta_is_zero() -> None:
    unset = torch.full((5, 24), torch.nan)
    weight = lazy_weight(24, 20)

    assert torch.isfinite(torch.addmm(unset, some(5, 20), weight.t(), beta=0)).all()


WRITES: dict[str, Callable[[Any], Any]] = {
    "mul_": lambda w: w.mul_(2),
    "to a view": lambda w: w[:3].zero_(),
    "copy_": lambda w: w.copy_(torch.zeros(24, 20)),
    "to a row": lambda w: w.__setitem__(0, 0.0),
    "to its data": lambda w: w.data.mul_(2),
    "of its data": lambda w: setattr(w, "data", torch.zeros(24, 20)),
    "normal_": lambda w: nn.init.normal_(w),
    "as out": lambda w: torch.add(torch.zeros(24, 20), 1, out=w),
}


@pytest.mark.parametrize("name", WRITES)
def test_writing_to_a_lazy_weight_is_refused(name: str) -> None:
    with (
        torch.no_grad(),
        pytest.raises(MeasureError, match="weights must not be written while engine=lazy"),
    ):
        WRITES[name](lazy_weight(24, 20))


READS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda w: w.numpy(),
    "asarray": lambda w: w.__array__(),
    "tolist": lambda w: w.tolist(),
    "storage": lambda w: w.untyped_storage().data_ptr(),
    "bytes of the storage": lambda w: list(w.untyped_storage()),
}


@pytest.mark.parametrize("name", READS)
def test_memory_that_is_not_there_is_never_read(name: str) -> None:
    with pytest.raises(RuntimeError):
        READS[name](lazy_weight(24, 20, in_block=False))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler, about code that it leaves alone
def test_a_compiled_function_gives_what_it_gives_uncompiled() -> None:
    compiled = torch.compile(lambda x, w: F.linear(x, w).tanh())
    weight, x = lazy_weight(24, 20, law=LAW), some(5, 20)

    with torch.no_grad():
        lazy = compiled(x, weight)

    assert rounding_gap(lazy, F.linear(x, all_entries(weight)).tanh()) <= ROUNDING


def test_two_weights_of_one_operator_are_both_drawn() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k = (
                nn.Parameter(torch.empty(8, 20, device="meta"), requires_grad=False)
                for _ in range(2)
            )

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, torch.cat([self.q, self.k]))

    program = [program_of((8, 20), LAW, name=f"h.0.{n}", role=n) for n in "qk"]
    module = nn.ModuleDict({"h": nn.ModuleList([Two()])})

    made = run_lazily(module, program, lambda m, _: m.get_submodule("h.0")(some(5, 20)))

    both = torch.cat([cpu_draws().new(p) for p in program])
    assert rounding_gap(made.result, F.linear(some(5, 20), both)) <= ROUNDING
    assert {n.where for n in made.notes} == {"h.*.q", "h.*.k"}
    assert all("No lazy rule for aten.cat.default;" in n.message for n in made.notes)


def test_a_mode_without_gradients_in_a_backward_pass_is_no_backward_product() -> None:
    weight, x = lazy_weight(24, 20, law=LAW, in_block=False), some(5, 20)

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g + F.linear(g, weight).sum()

    given = x.clone().requires_grad_(True)
    with nullcontext():
        doubled: Any = Doubled.apply
        doubled(given).sum().backward()

    assert given.grad is not None
    expected = 1 + F.linear(torch.ones(5, 20), all_entries(weight)).sum()
    assert rounding_gap(given.grad, expected.expand(5, 20)) <= ROUNDING
