"""The application: its commands, and how an error becomes one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from gptinit.cli.options import OUTPUT
from gptinit.errors import GptInitError, did_you_mean, unknown_name
from gptinit.version import __version__

__all__ = ["main"]

_INTERRUPTED = 130

_COMMANDS = ("inspect", "compare", "audit", "check", "schemes")
"""Modules of this package with a command of their own name."""


class _Command(TyperCommand):
    """A command whose help shows no type beside a switch, and --help among its own options."""

    def get_params(self, ctx: Any) -> Any:
        return [_shown(param, OUTPUT) for param in super().get_params(ctx)]


class _Group(TyperGroup):
    """A group of commands whose help shows no type beside a switch."""

    def get_params(self, ctx: Any) -> Any:
        return [_shown(param, None) for param in super().get_params(ctx)]


def _shown(param: Any, panel: str | None) -> Any:
    """Change how the help shows a parameter: Typer says `<bool>` where no value is taken."""
    if getattr(param, "is_flag", False):
        param.metavar = ""
    if param.name == "help":
        param.rich_help_panel = panel
    return param


def _application(commands: Iterable[str]) -> typer.Typer:
    """Return the application with some of its commands: to load the others takes a while."""
    app = typer.Typer(
        name="gptinit",
        cls=_Group,
        help=(
            "Show how a GPT is initialised, and what that does before the first training step.\n\n"
            "Example: gptinit inspect --n-layer 48"
        ),
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name in commands:
        command = getattr(import_module(f"gptinit.cli.{name}"), name)
        app.command(cls=_Command)(command)
    return app


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"gptinit {__version__}\n")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Show the help and fail if no command is given."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Returns:
        0; 1 if a finding is severe enough; 2 for wrong usage, a wrong file or a failed run;
        130 for Ctrl-C.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    # Set before torch is loaded, so that its threads sleep between operators instead of spinning:
    # several times faster on a machine that others use too, and no slower on a quiet one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Linux clears and maps memory page by page; activations in large pages cost a third less of it.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        code = _run(args)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:  # the last line of defence: a crash is never a 1
        return _failed(error, debug="--debug" in args)
    if code == _INTERRUPTED:  # Typer's own exit code for Ctrl-C, of which it prints nothing
        return _fail("interrupted.", _INTERRUPTED)
    return code if isinstance(code, int) else 0


def _run(args: list[str]) -> object:
    """Run the command that the arguments name.

    Raises:
        ConfigError: if there is no such command.
    """
    first = args[0] if args else ""
    if first and not first.startswith("-") and first not in _COMMANDS:
        raise unknown_name("command", first, _COMMANDS, remedy="See gptinit --help.")
    app = _application([first] if first in _COMMANDS else _COMMANDS)
    return app(args=args, prog_name="gptinit", standalone_mode=False)


def _failed(error: Exception, *, debug: bool) -> int:
    """Say in one line what went wrong; exit code 2."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, GptInitError):
        return _fail(str(error), 2)
    if hasattr(error, "format_message"):
        return _fail(_usage(error), 2)
    hint = "" if debug else " Use --debug for the traceback."
    return _fail(f"the run failed: {type(error).__name__}: {error}.{hint}", 2)


def _usage(error: Any) -> str:
    """Return what one of Typer's errors of usage says, as sentences; their types are private."""
    command = error.ctx.command_path if error.ctx else "gptinit"
    parts = [f"{error.format_message().rstrip('.')}.", f"See {command} --help."]
    if hasattr(error, "possibilities"):
        near = did_you_mean(error.option_name, error.possibilities or ())
        parts = [f"No such option: {error.option_name}.", near, *parts[1:]]
    return " ".join(part for part in parts if part)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"gptinit: {' '.join(message.split())}\n")
    return code
