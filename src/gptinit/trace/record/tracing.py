"""Running a factory under the trace: every float tensor is recorded and none is allocated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gptinit.facts.distributions import TruncatedNormal
from gptinit.facts.step import Step
from gptinit.trace.nested import only
from gptinit.trace.record.creation import drawn
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tensor import TracedTensor, handled_by

__all__ = ["recording", "trace"]


class _Tracing(TorchDispatchMode):
    """Hands every operator to the recorder while a factory runs."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's is untyped
        self._recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: to keep its compiler away from here, torch would first import it (1 s)."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # there composite operators arrive undecomposed
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if only(TracedTensor, (args, kwargs)):
            return self._recorder.handle(func, args, kwargs)
        return self._recorder.make(func, args, kwargs)


@contextmanager
def recording(recorder: Recorder | None = None) -> Iterator[Recorder]:
    """Record all operators on float tensors inside the block, with a forked random state."""
    recorder = recorder or Recorder()
    with (
        torch.random.fork_rng(devices=[]),
        _known_initialisers(),
        handled_by(recorder),
        _Tracing(recorder),
    ):
        yield recorder


def trace(factory: Callable[[], nn.Module]) -> nn.Module:
    """The module that `factory` builds, its parameters and buffers traced instead of real."""
    with recording():
        torch.manual_seed(0)
        return factory()


@contextmanager
def _known_initialisers() -> Iterator[None]:
    """Record truncated normals as such, by replacing torch's own function for the block.

    It works because torch looks the function up at every call; it is needed because the original
    redraws until all values are inside, and no record of operators could show that law.
    """
    name = "_no_grad_trunc_normal_"
    original: Callable[..., Tensor] | None = getattr(nn.init, name, None)
    if original is None:
        yield
        return

    def record(*args: Any, **kwargs: Any) -> Tensor:
        named = signature(original).bind(*args, **kwargs).arguments
        tensor, mean, a, b = (named[key] for key in ("tensor", "mean", "a", "b"))
        if not isinstance(tensor, TracedTensor) or not a <= mean <= b:
            return original(*args, **kwargs)
        law = TruncatedNormal(float(mean), float(named["std"]), float(a), float(b))
        called = Step("trunc_normal_", (law.loc, law.scale, law.low, law.high))
        shape, generator = tuple(tensor.shape), named.get("generator")
        tensor.write(drawn(law, shape, tensor.dtype, called, generator))
        return tensor

    setattr(nn.init, name, record)
    try:
        yield
    finally:
        setattr(nn.init, name, original)
