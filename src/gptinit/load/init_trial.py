"""An init, run under the trace to see: which parameters it writes, and what else it calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from gptinit.config import InitCall
from gptinit.load.factory import Built, Factory, built
from gptinit.load.initialiser import Calls, Initialiser, calls_of
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["Trial", "drawing", "left_by_torch", "matrices", "outer", "tried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An init that ran under the trace.

    Attributes:
        init: the init.
        made: the model after it.
        written: names of the parameters that it wrote.
        calls: which of the other inits it called.
    """

    init: Initialiser
    made: Built
    written: frozenset[str]
    calls: Calls

    def call(self, factory: Factory, chosen_by: str = "found") -> InitCall:
        """The call as reports show it."""
        return self.init.facts(self.made.module, factory.settings, chosen_by)


def outer(trials: Sequence[Trial]) -> list[Trial]:
    """Those that wrote parameters and that no other one of these called."""
    writing = [t for t in trials if t.written]
    return [
        t for t in writing if not any(t.init.function in o.calls.all for o in writing if o is not t)
    ]


def tried(
    factory: Factory, init: Initialiser, others: Sequence[Initialiser], *, watch: bool = True
) -> Trial:
    """Run an init; a function that does nothing to the whole model is applied to its modules.

    Raises:
        ConfigError: if nothing says what it needs.
        SubjectError: if the model cannot be built, or the init fails.
    """
    trial = _trial(factory, init, others, watch=watch)
    is_function = init.takes is not None and not init.is_applied
    if trial.written or not is_function:
        return trial
    applied = _trial(factory, replace(init, is_applied=True), others, watch=watch)
    return applied if applied.written else trial


def _trial(
    factory: Factory, init: Initialiser, others: Sequence[Initialiser], *, watch: bool
) -> Trial:
    found: dict[str, Any] = {}

    def build() -> nn.Module:
        module = factory.build()
        before = _contents(module)
        with calls_of([o for o in others if o is not init]) as found["calls"]:
            drawing(factory, init)(module)
        after = _contents(module)
        found["written"] = frozenset(n for n in after if after[n] != before.get(n))
        return module

    made = built(factory, build, watch=watch)
    return Trial(init=init, made=made, **found)


def drawing(factory: Factory, init: Initialiser) -> Callable[[nn.Module], None]:
    """A function that draws the weights of a model by an init."""

    def draw(module: nn.Module) -> None:
        with (init.within or factory.within)():
            init.run(module, factory.settings)

    return draw


def _contents(module: nn.Module) -> dict[str, object]:
    """What every parameter holds, so that a change shows."""
    return {
        name: p.read() if isinstance(p, TracedTensor) else (id(p), p._version)
        for name, p in module.named_parameters()
    }


def matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model that are no vectors, by name."""
    return {name: p for name, p in module.named_parameters() if p.ndim > 1}


def left_by_torch(module: nn.Module) -> set[str]:
    """The matrices that are as a constructor of torch left them, or that nothing wrote."""
    reads = {n: p.read() for n, p in matrices(module).items() if isinstance(p, TracedTensor)}
    writes = {name: read.storage.visible(read.version) for name, read in reads.items()}
    return {name for name, shown in writes.items() if all(w.node.by_default for w in shown)}
