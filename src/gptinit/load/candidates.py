"""Which methods and functions could draw a model's weights: by their names, and by what they call.

A conventional name (`init_weights`) is enough. Under any other name, what counts is what the code
does: it, or own code that it calls, draws or fills tensors. Whether those are parameters of the
model is found out by running it (`init_choice`).
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FunctionType

from torch import nn

from gptinit.load.initialiser import (
    INIT_NAME,
    MODULE_NAMES,
    Initialiser,
    function_behind,
    function_init,
    method_init,
    names_in,
)
from gptinit.load.script import source_tree
from gptinit.trace.record.provenance import shown_file

__all__ = [
    "draws_by_init",
    "functions_beside",
    "functions_in",
    "is_of_library",
    "methods_of",
    "methods_of_parts",
    "named_in_constructor",
]

_FILLS = re.compile(
    r"(normal|uniform|xavier|glorot|kaiming|orthogonal|zero|one|constant|eye|dirac|sparse|fill)"
    r"\w*_$|^randn?$|^randn_like$"
)
"""Names of what draws or fills a tensor."""

_LIBRARIES = ("torch", "transformers")
"""Their models are initialised by their constructors, whatever methods they have."""


def methods_of(module: nn.Module) -> list[Initialiser]:
    """The methods of a model's class that are named as inits, or draw or fill something."""
    kinds = _own_kinds(module)
    return [
        init for init in _methods(type(module)) if init.is_named or _fills(init.function, kinds)
    ]


def methods_of_parts(module: nn.Module) -> list[Initialiser]:
    """The methods of modules inside a model that draw or fill something.

    Each belongs to the class that defines it, and is called for all modules of that class.
    """
    kinds = _own_kinds(module)
    own = {init.function for init in _methods(type(module))}
    found: dict[FunctionType, Initialiser] = {}
    for init in (i for kind in kinds for i in _methods(kind, is_part=True)):
        if init.function not in own and not init.is_applied and _fills(init.function, kinds):
            found.setdefault(init.function, init)
    return list(found.values())


def functions_in(namespace: Mapping[str, object]) -> list[Initialiser]:
    """The functions of a file that take a module, and are named as inits, or draw or fill."""
    found = []
    for name, value in namespace.items():
        function = function_behind(value)
        if function is not None and function.__module__ == namespace.get("__name__"):
            init = function_init(name, value, is_chosen=False)
            found += [init] if init.takes and (init.is_named or _fills(function, ())) else []
    return found


def named_in_constructor(kind: type) -> set[str]:
    """The names in the code of a model's constructor: what it calls, under some settings or all.

    Of an init among them that did not run it has decided itself that another one draws the weights.
    """
    constructors = [vars(base).get("__init__") for base in kind.__mro__ if base is not nn.Module]
    code = (c.__code__ for c in constructors if isinstance(c, FunctionType))
    return set[str]().union(*map(names_in, code))


def draws_by_init(init: Initialiser) -> bool:
    """Whether an initialiser itself names a function of torch.nn.init, so that it can be no other.

    Example:
        >>> def prepare(model): nn.init.normal_(model.weight)
        >>> def noise(model): return model.weight.masked_fill_(model.mask, 0.0)
        >>> [draws_by_init(function_init(f.__name__, f)) for f in (prepare, noise)]
        [True, False]
    """
    return any(
        hasattr(nn.init, name) for name in names_in(init.function.__code__) if name[-1] == "_"
    )


def functions_beside(file: Path) -> list[str]:
    """The init functions that other files of a file's package define, run, and give a model.

    They are read and not loaded: such a file is often the training script.

    Returns:
        Each as "path.py:NAME".
    """
    top = file.parent
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    is_package = (top / "__init__.py").is_file()
    others = (f for f in sorted(top.rglob("*.py")) if is_package and f != file)
    return [f"{shown_file(str(f))}:{name}" for f in others for name in _run_in(f)]


def _run_in(file: Path) -> Iterator[str]:
    """The init functions of a file that take a model and that the file itself calls."""
    tree = source_tree(file, INIT_NAME.pattern)
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and INIT_NAME.fullmatch(node.name):
            takes = {argument.arg for argument in node.args.args} & MODULE_NAMES
            if takes and node.name in calls:
                yield node.name


def is_of_library(code: type | FunctionType) -> bool:
    """Whether a class or function is one of transformers, whose inits are not ours to find."""
    parts = code.__mro__ if isinstance(code, type) else (code,)
    return any(_is_of(part.__module__, "transformers") for part in parts)


def _methods(kind: type, *, is_part: bool = False) -> Iterator[Initialiser]:
    """The methods of a class, but for those that every module has and those of torch."""
    for name, owner in _defined(kind).items():
        init = method_init(kind, name, owner if is_part else None)
        if init is not None:
            yield init


def _defined(kind: type) -> dict[str, type]:
    """The names that a class and its bases define, torch's aside, and the class that does."""
    own = [base for base in kind.__mro__ if not _is_of(base.__module__, "builtins", "torch")]
    found = {name: base for base in reversed(own) for name in vars(base)}
    return {name: found[name] for name in sorted(found) if not hasattr(nn.Module, name)}


def _own_kinds(module: nn.Module) -> list[type[nn.Module]]:
    """The classes of a model's modules that are the user's, each once."""
    kinds = dict.fromkeys(type(child) for child in module.modules())
    return [kind for kind in kinds if not _is_of(kind.__module__, *_LIBRARIES)]


def _is_of(module: str | None, *libraries: str) -> bool:
    return (module or "").partition(".")[0] in libraries


def _fills(function: FunctionType, kinds: Iterable[type]) -> bool:
    """Whether a function, or own code that it calls, names what draws or fills a tensor."""
    methods: dict[str, list[object]] = {}
    for kind in kinds:
        for name, owner in _defined(kind).items():
            methods.setdefault(name, []).append(vars(owner)[name])
    waiting, seen = [function], {function}
    while waiting:
        here = waiting.pop()
        if _is_of(here.__module__, *_LIBRARIES):
            continue
        names = names_in(here.__code__)
        if any(map(_FILLS.search, names)):
            return True
        called = [c for n in names for c in (here.__globals__.get(n), *methods.get(n, ()))]
        new = {f for c in called if (f := function_behind(c)) is not None} - seen
        seen |= new
        waiting += new
    return False
