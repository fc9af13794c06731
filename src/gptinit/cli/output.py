"""Where results, notes and progress go: results to stdout or a file, all else to stderr."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from rich.console import Console, RenderableType

from gptinit.cli.options import OutputOptions
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.vocabulary import SEVERITIES, Severity
from gptinit.results.profile import Cost, Finding, Note

__all__ = [
    "check_output",
    "deliver",
    "exit_code",
    "progress_on_stderr",
    "say",
    "show_notes",
    "width",
    "write_whole",
]

FAIL_ON: Mapping[str, tuple[Severity, ...]] = {
    "never": (),
    "warning": SEVERITIES[:2],
    "error": SEVERITIES[:1],
}
"""Value of --fail-on to the severities that make the exit code 1."""

_PATIENCE = 1.0
"""Seconds of work before progress shows."""

Renderers = Mapping[str, Callable[[], str | RenderableType]]
"""Format to what makes the result: a text, or for "table" a Rich renderable."""


def check_output(options: OutputOptions, formats: Iterable[str], *, fail_on: str = "never") -> None:
    """Refuse what could not be delivered, before any work.

    Raises:
        ConfigError: if the format or severity is unknown, or the file cannot be written.
    """
    formats = tuple(formats)
    if options.format not in formats:
        raise unknown_name("--format", options.format, formats)
    if fail_on not in FAIL_ON:
        raise unknown_name("--fail-on", fail_on, FAIL_ON)
    if options.output is None:
        return
    path = Path(options.output)
    if path.is_dir():
        raise ConfigError(f"--output must be a file, got the folder {options.output!r}.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--output must be in a folder that can be written, got {str(path)!r}.")


def deliver(options: OutputOptions, renderers: Renderers) -> None:
    """Write the result in the format asked for, to stdout or as a whole to the file."""
    made = renderers[options.format]()
    if options.output is not None:
        write_whole(Path(options.output), made if isinstance(made, str) else _plain(made))
        return
    try:
        if isinstance(made, str):
            sys.stdout.write(made)
        else:
            _console(sys.stdout).print(made)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone: stop quietly, also when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def width() -> int:
    """Columns of the terminal that results go to."""
    return _console(sys.stdout).width


def exit_code(findings: Iterable[Finding], fail_on: str) -> int:
    """1 where a finding is at least as severe as `fail_on`, else 0."""
    return int(any(f.severity in FAIL_ON[fail_on] for f in findings))


def say(message: str, options: OutputOptions) -> None:
    """One line for a person on stderr."""
    if not options.quiet:
        sys.stderr.write(f"gptinit: {message}\n")


def show_notes(notes: Iterable[Note], cost: Cost | None, options: OutputOptions) -> None:
    """How the numbers came to be, for a person, on stderr."""
    if options.quiet or options.format != "table":
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    for note in notes:
        console.print(f"{note.kind} {note.where}: {note.message}", style="dim")
    if cost:
        peak = f", peak memory {cost.peak_bytes / 1e9:.2f} GB" if cost.peak_bytes else ""
        console.print(f"took {cost.seconds:.1f} s{peak}", style="dim")


@contextmanager
def progress_on_stderr(options: OutputOptions) -> Iterator[Callable[[str, int, int], None]]:
    """A callback that shows a bar once work takes over a second, on a terminal only."""
    console = Console(stderr=True)
    if options.quiet or not console.is_terminal:
        yield lambda label, done, total: None
        return
    # Loaded here: only a terminal shows a bar.
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total} layers"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    started = time.monotonic()

    def show(label: str, done: int, total: int) -> None:
        if label not in tasks:
            tasks[label] = bar.add_task(label, total=total)
        bar.update(tasks[label], completed=done)
        if time.monotonic() - started > _PATIENCE and not bar.live.is_started:
            bar.start()
        if done == total and len(tasks) > 1:
            bar.update(tasks[label], visible=False)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def _console(stream: object) -> Console:
    """A console for results: no colour where NO_COLOR says so, plain when it is no terminal."""
    return Console(file=stream, highlight=False)  # type: ignore[arg-type] # a text stream


def _plain(made: RenderableType) -> str:
    """A renderable as plain text."""
    text = StringIO()
    console = Console(
        file=text, width=width(), highlight=False, force_terminal=False, color_system=None
    )
    console.print(made)
    return text.getvalue()


def write_whole(path: Path, text: str) -> None:
    """Write a file all at once: whoever reads it never sees half of it.

    A link is followed; a pipe or a device is written to as it is.

    Raises:
        ConfigError: if it cannot be written.
    """
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path, text)
    except OSError as error:
        raise ConfigError(
            f"{path} must be a file that can be written, got {error.strerror}."
        ) from error


def _replace(path: Path, text: str) -> None:
    """Write beside the file and put it in its place; leave nothing behind if that is broken off."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
