"""Hooks at the sites of a model."""

from collections.abc import Callable
from itertools import count
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gptinit.forward.sites import Site, tensors_in

__all__ = ["hook_site"]


def hook_site(module: nn.Module, site: Site, record: Callable[[Tensor], None]) -> RemovableHandle:
    """A hook that calls `record` with the tensor at `site` whenever the model computes it.

    Calls of a submodule are counted from here on: keep a hook for one forward pass only.
    """
    target = module.get_submodule(site.path)
    calls = count()

    def is_meant() -> bool:
        return site.call in {None, next(calls)}

    if site.side == "input":

        def before(m: nn.Module, args: Any, kwargs: Any) -> None:
            if is_meant():
                record(tensors_in((args, kwargs))[site.leaf])

        return target.register_forward_pre_hook(before, with_kwargs=True)

    def after(m: nn.Module, args: Any, output: Any) -> None:
        if is_meant():
            record(tensors_in(output)[site.leaf])

    return target.register_forward_hook(after)
