"""The application: its commands, and how an error becomes one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from gptinit.errors import GptInitError
from gptinit.version import __version__

__all__ = ["main"]

_INTERRUPTED = 130

_COMMANDS = ("inspect", "compare", "audit", "check", "schemes")
"""Modules of this package with a command of their own name."""


def _application(commands: Iterable[str]) -> typer.Typer:
    """The application with some of its commands: to load those that nobody runs takes a while."""
    app = typer.Typer(
        name="gptinit",
        help=(
            "How a GPT is initialised, and what that does before the first training step.\n\n"
            "Example: gptinit inspect --n-layer 48"
        ),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in commands:
        command = getattr(import_module(f"gptinit.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command()(command)
    return app


def _version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        sys.stdout.write(f"gptinit {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Returns:
        0; 1 where a finding is severe enough; 2 for wrong usage, a wrong file or a failed run;
        130 for Ctrl-C.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    # Before torch is loaded: its threads then sleep between operators instead of spinning. On a
    # machine that others use too a run is several times faster for it, on a quiet one the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Linux clears and maps memory page by page; activations in large pages cost a third less of it.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    app = _application(args[:1] if args and args[0] in _COMMANDS else _COMMANDS)
    try:
        code = app(args=args, prog_name="gptinit", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:  # the last line of defence: a crash is never a 1
        return _failed(error, debug="--debug" in args)
    if code == _INTERRUPTED:  # Typer makes it of Ctrl-C, and says nothing
        return _fail("interrupted.", _INTERRUPTED)
    return code if isinstance(code, int) else 0


def _failed(error: Exception, *, debug: bool) -> int:
    """Say in one line what went wrong; exit code 2."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, GptInitError):
        return _fail(str(error), 2)
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2  # Typer has shown the help
    usage = getattr(error, "format_message", None)  # Typer's errors of usage have it
    if usage is not None:
        return _fail(usage(), 2)
    hint = "" if debug else " Use --debug for the traceback."
    return _fail(f"the run failed: {type(error).__name__}: {error}.{hint}", 2)


def _fail(message: str, code: int) -> int:
    """One line on stderr."""
    sys.stderr.write(f"gptinit: {' '.join(message.split())}\n")
    return code
