"""What operators do with weights that are never drawn.

exact for: products (mm, addmm, mv, bmm, baddbmm, grouped mm) from either side, lookups of rows,
copies, casts and multiples. An operator without a rule is given the few rows that it touches, or
else its parameter is drawn for real.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gptinit.trace.nested import map_only, only
from gptinit.weights.lazy.basis import StaleQueryError
from gptinit.weights.lazy.parameter import LazyParameter
from gptinit.weights.lazy.tiles import Rectangle, Use
from gptinit.weights.tensor import WeightTensor

__all__ = ["operate"]

aten = torch.ops.aten

_FEW = 1 << 22
"""Entries up to which an operator without a rule may look at whole rows."""


def operate(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operator that is no view, some of whose arguments are lazy weights."""
    for weight in only(WeightTensor, (args, kwargs)):
        if not isinstance(weight.owner, LazyParameter):  # drawn for real
            return weight.owner.operate(func, args, kwargs)
    if func._schema.is_mutable:  # of a copy, or of something else that weights are added to
        weight = only(WeightTensor, (args, kwargs))[0]
        owner = _owner(weight)
        owner.give_up(owner, str(func))
    rule = RULES.get(func)
    if rule is not None:
        result = rule(*args, **kwargs)
        if result is not None:
            return result
    decomposed = func.decompose(*args, **kwargs)  # an operator made of others
    if decomposed is not NotImplemented:
        return decomposed
    args, kwargs = map_only(WeightTensor, lambda w: _values(w, func), (args, kwargs))
    return _ON_VALUES.get(func, func)(*args, **kwargs)


def _owner(weight: WeightTensor) -> LazyParameter:
    """The owner of a weight, ready for a query."""
    owner = weight.owner
    assert isinstance(owner, LazyParameter)  # weights drawn for real have rules of their own
    if owner.is_forgotten:
        owner.requery(owner)
    return owner


def _is_backward() -> bool:
    """Whether the query is autograd's, not that of a forward pass recomputed for it."""
    return not torch.is_grad_enabled() and torch._C._current_autograd_node() is not None


def _products(
    x: list[Tensor], weight: WeightTensor, *, turned: bool, alpha: float = 1.0
) -> list[Tensor] | None:
    """x_i V_i (or x_i V_i^T) for the matrices of a weight; None where it is not made of such.

    Args:
        x: the other operands.
        weight: the lazy one.
        turned: whether its matrices are transposed.
        alpha: what the caller multiplies the result by, and autograd its gradient.

    Shape:
        x: one (t, a) a matrix; weight: (a, b) or (N, a, b), or their transposes where `turned`;
        result: one (t, b) a matrix.
    """
    owner = _owner(weight)
    areas = owner.areas(weight)
    if areas is None:
        return None
    sides = [area.turned != turned for area in areas]  # whether x meets the inputs
    wide = [one.float() for one in x]
    noted = _noted(weight, sides) if _is_backward() else None
    try:
        if noted is not None:
            made = _back(wide, weight, areas, sides, noted)
        else:
            made = _forward(wide, weight, areas, sides, alpha)
    except StaleQueryError:
        owner.requery(owner)
    return [one.to(x[0].dtype) for one in made]


def _forward(
    x: list[Tensor], weight: WeightTensor, areas: list[Rectangle], sides: list[bool], alpha: float
) -> list[Tensor]:
    """Products of a forward pass; what a backward pass will need is noted."""
    owner = _owner(weight)
    keep = _wants_gradient(owner) and not weight.is_detached
    uses: list[list[Use]] = []
    made = []
    for one, area, side in zip(x, areas, sides, strict=True):
        if side:
            owner.note_distance(one)
        response, used = owner.tiles.product(one, area, from_inputs=side, keep=keep)
        uses.append(used)
        made.append(response if weight.factor == 1 else response * weight.factor)
    if keep and owner.keeps_uses:
        name = weight.parameter
        owner.open_uses[name] = owner.open_uses.get(name, 0) + 1
        weight.uses.append(_Noted(sides, alpha, uses))
    return made


def _back(
    g: list[Tensor],
    weight: WeightTensor,
    areas: list[Rectangle],
    sides: list[bool],
    noted: "_Noted",
) -> list[Tensor]:
    """Products of a backward pass; from them follows the norm of the weight's gradient."""
    owner, name = _owner(weight), weight.parameter
    owner.open_uses[name] -= 1
    return [
        owner.tiles.back(one * weight.factor, area, used, name, from_inputs=side, alpha=noted.alpha)
        for one, area, side, used in zip(g, areas, sides, noted.uses, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Noted:
    """A product of a forward pass.

    Attributes:
        sides: of each matrix, whether the query came from its inputs.
        alpha: what the caller multiplied the result by.
        uses: of each matrix.
    """

    sides: list[bool]
    alpha: float
    uses: list[list[Use]]


def _noted(weight: WeightTensor, sides: list[bool]) -> _Noted | None:
    """Take the forward product that a backward query from these sides belongs to.

    The last one of the same wrapper, as autograd goes backwards.
    """
    there = [not side for side in sides]
    found: WeightTensor | None = weight
    while found is not None:
        for i, noted in reversed(list(enumerate(found.uses))):
            if noted.sides == there:
                made: _Noted = found.uses.pop(i)
                return made
        found = found.parent
    return None


def _mm(a: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor | None:
    if isinstance(a, WeightTensor) == isinstance(b, WeightTensor):
        return None
    if isinstance(b, WeightTensor):
        made = _products([a], b, turned=False, alpha=alpha)
        return None if made is None else made[0]
    assert isinstance(a, WeightTensor)
    made = _products([b.T], a, turned=True, alpha=alpha)
    return None if made is None else made[0].T


def _bmm(a: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor | None:
    if isinstance(a, WeightTensor) == isinstance(b, WeightTensor):
        return None
    if isinstance(b, WeightTensor):
        made = _products(list(a.unbind()), b, turned=False, alpha=alpha)
        return None if made is None else torch.stack(made)
    assert isinstance(a, WeightTensor)
    made = _products(list(b.mT.unbind()), a, turned=True, alpha=alpha)
    return None if made is None else torch.stack(made).mT


def _added(
    product: Callable[[Tensor, Tensor, float], Tensor | None],
) -> Callable[..., Tensor | None]:
    """The operator beta * added + alpha * product."""

    def rule(
        added: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor | None:
        if isinstance(added, WeightTensor):
            return None
        made = product(a, b, alpha)  # in memory of its own
        if made is None:
            return None
        made = made if alpha == 1 else made.mul_(alpha)
        return made.add_(added, alpha=beta) if beta else made  # not even NaN is added 0 times

    return rule


def _mv(a: Tensor, x: Tensor, alpha: float = 1.0) -> Tensor | None:
    if isinstance(x, WeightTensor):
        return None
    made = _mm(a, x.unsqueeze(1), alpha)
    return None if made is None else made.squeeze(1)


def _grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor | None:
    """Groups of rows, each times a matrix of its own: experts. Groups end at `offs`."""
    is_usual = isinstance(b, WeightTensor) and a.dim() == 2 and b.dim() == 3
    if not is_usual or isinstance(a, WeightTensor) or offs is None or bias is not None:
        return None
    assert isinstance(b, WeightTensor)
    ends = offs.tolist()
    groups = [a[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    made = _products(groups, b, turned=False)
    if made is None:
        return None
    out = torch.cat(made)
    # Rows after the last group belong to none: they are not defined, and zero here.
    out = torch.cat((out, out.new_zeros(len(a) - len(out), out.shape[1])))
    return out if out_dtype is None else out.to(out_dtype)


def _embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor | None:
    """Rows by their numbers."""
    if not isinstance(indices, WeightTensor) and bool((indices < 0).any()):
        raise IndexError("index out of range in self")  # as torch says it
    return _rows(weight, indices)


def _index_select(weight: Tensor, dim: int, indices: Tensor) -> Tensor | None:
    return _rows(weight, indices) if dim == 0 else None


def _index(weight: Tensor, indices: list[Tensor | None]) -> Tensor | None:
    first, *others = indices
    if first is None or any(i is not None for i in others):
        return None
    if first.dtype == torch.bool:
        first = first.nonzero().squeeze(1) if first.dim() == 1 else None
    return None if first is None else _rows(weight, first)


def _rows(weight: Tensor, indices: Tensor) -> Tensor | None:
    """Rows of a lazy matrix; None where it is something else, or a gradient is to be formed.

    Shape:
        weight: (a, b); indices: any, int; result: (*indices, b).
    """
    if not isinstance(weight, WeightTensor) or isinstance(indices, WeightTensor):
        return None
    owner = _owner(weight)
    if weight.dim() != 2 or _wants_gradient(owner):
        return None
    areas = owner.areas(weight)
    if areas is None or areas[0].turned or areas[0].rows.step != 1:
        return None
    area = areas[0]
    indices = torch.where(indices < 0, indices + weight.shape[0], indices)
    wanted, places = indices.unique(return_inverse=True)
    if len(wanted) and not 0 <= int(wanted[0]) <= int(wanted[-1]) < weight.shape[0]:
        raise IndexError("index out of range in self")
    rows = _queried_rows(owner, wanted + area.rows.start)
    rows = rows[:, area.columns.start : area.columns.stop]
    rows = rows[:, :: area.columns.step] * weight.factor
    return rows.to(weight.dtype)[places]


def _queried_rows(owner: LazyParameter, indices: Tensor) -> Tensor:
    """Whole rows of a parameter's matrices; (r,) to (r, columns)."""
    try:
        return owner.tiles.row(indices)
    except StaleQueryError:
        owner.requery(owner)


def _wants_gradient(owner: LazyParameter) -> bool:
    """Whether a gradient is wanted: only products can give it, not lookups of rows."""
    return torch.is_grad_enabled() and bool(owner.blocks)


def _values(weight: WeightTensor, func: Any) -> Tensor:
    """The values of a weight for an operator that has no rule."""
    owner = _owner(weight)
    place, length = weight.place, max(owner.parameter.numel // owner.parameter.shape[0], 1)
    reach = sum((n - 1) * s for n, s in zip(place.shape, place.stride(), strict=True))
    first, last = (int(place.storage_offset()) + r for r in (0, reach))
    first, last = first // length, last // length
    few = (last - first + 1) * length <= _FEW and not _wants_gradient(owner)
    owner.whole_rows()
    if not few or not owner.has_rows:
        owner.give_up(owner, str(func))
    rows = _queried_rows(owner, torch.arange(first, last + 1, device=owner.draws.device))
    offset = place.storage_offset() - first * length
    values = rows.contiguous().as_strided(place.shape, place.stride(), offset)
    return (values * weight.factor).to(weight.dtype)


def _copied(weight: Tensor, *, memory_format: Any = None) -> Tensor | None:
    """A copy: the same weight."""
    return weight.like(is_copy=True) if isinstance(weight, WeightTensor) else None


def _cast(
    weight: Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **_: Any,
) -> Tensor | None:
    """A copy in another float type; entries keep float32's precision."""
    if not isinstance(weight, WeightTensor) or (device not in {None, weight.device}):
        return None
    if dtype is not None and not dtype.is_floating_point:
        return None
    return weight.like(dtype=dtype, is_copy=True)


def _reshaped(weight: Tensor, size: list[int]) -> Tensor | None:
    if not isinstance(weight, WeightTensor):
        return None
    try:
        return weight.like(weight.place.view(size), is_copy=True)
    except RuntimeError:  # not without a copy
        return None


def _multiplied(a: Any, b: Any) -> Tensor | None:
    """A multiple of a weight."""
    weight, number = (a, b) if isinstance(a, WeightTensor) else (b, a)
    if isinstance(number, WeightTensor):
        return None
    if isinstance(number, Tensor):
        if number.numel() != 1 or number.dim() > weight.dim():
            return None
        number = float(number)
    assert isinstance(weight, WeightTensor)
    return weight.like(factor=float(number), is_copy=True)


def _divided(a: Any, b: Any) -> Tensor | None:
    """A weight divided by a number."""
    if not isinstance(a, WeightTensor) or isinstance(b, WeightTensor):
        return None
    if isinstance(b, Tensor) and (b.numel() != 1 or b.dim() > a.dim()):
        return None
    return a.like(factor=1 / float(b), is_copy=True) if float(b) else None


_ON_VALUES: Mapping[Any, Any] = MappingProxyType(
    dict.fromkeys((aten.view.default, aten._unsafe_view.default), aten.reshape.default)
)
"""What an operator is on values: a view may be of a copy that was left out."""

RULES: Mapping[Any, Callable[..., Tensor | None]] = MappingProxyType(
    {
        aten.mm.default: _mm,
        aten.addmm.default: _added(_mm),
        aten.mv.default: _mv,
        aten.addmv.default: _added(_mv),
        aten.bmm.default: _bmm,
        aten.baddbmm.default: _added(_bmm),
        **({aten._grouped_mm.default: _grouped_mm} if hasattr(aten, "_grouped_mm") else {}),
        aten.embedding.default: _embedding,
        aten.index_select.default: _index_select,
        aten.index.Tensor: _index,
        aten.clone.default: _copied,
        aten._to_copy.default: _cast,
        aten._unsafe_view.default: _reshaped,
        aten.mul.Tensor: _multiplied,
        aten.mul.Scalar: _multiplied,
        aten.div.Tensor: _divided,
        aten.div.Scalar: _divided,
    }
)
"""Operator to its rule; a rule returns None where it does not cover the arguments."""
