"""Operators by name: which of them copy, which reduce, and over which dimensions."""

from typing import Any

__all__ = ["COPIES", "REDUCTIONS", "Args", "Kwargs", "base_name", "named", "reduced_dims"]

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

COPIES = frozenset({"_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh", "positive"})
"""Operators whose result holds the values of their first argument, cast at most."""

REDUCTIONS = frozenset(
    {
        "all", "amax", "amin", "any", "linalg_vector_norm", "max", "mean", "median", "min",
        "nansum", "norm", "std", "std_mean", "sum", "var", "var_mean",
    }
)  # fmt: skip


def base_name(op: Any) -> str:
    """Name of an operator without its overload: "mul" of aten.mul.Tensor."""
    return str(op.overloadpacket.__name__)


def named(op: Any, args: Args, kwargs: Kwargs) -> Kwargs:
    """All arguments of a call by the names that the operator gives them."""
    return dict(zip((a.name for a in op._schema.arguments), args, strict=False)) | kwargs


def reduced_dims(op: Any, args: Args, kwargs: Kwargs, ndim: int) -> set[int]:
    """The dimensions that a reduction removes."""
    dims = named(op, args, kwargs).get("dim")
    if dims is None or dims == []:
        return set(range(ndim))
    return {d % ndim for d in ([dims] if isinstance(dims, int) else dims)} if ndim else set()
