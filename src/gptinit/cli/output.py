"""Where output goes: results to stdout or a file, notes and progress to stderr."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from rich.console import Console, RenderableType

from gptinit.cli.options import FAIL_ON, OutputOptions
from gptinit.errors import ConfigError
from gptinit.results.profile import Cost, Finding, Note

__all__ = [
    "deliver",
    "exit_code",
    "progress_on_stderr",
    "say",
    "show_notes",
    "width",
    "write_whole",
]

_PATIENCE = 1.0
"""Seconds of work before progress shows."""

Renderers = Mapping[str, Callable[[], str | RenderableType]]
"""What makes the result in each format: text, or a Rich renderable for "table"."""


def deliver(format: str, options: OutputOptions, renderers: Renderers) -> None:
    """Write the result in the requested format, to stdout or as a whole to the file."""
    made = renderers[format]()
    if options.output is not None:
        write_whole(Path(options.output), made if isinstance(made, str) else _plain(made))
        return
    try:
        sys.stdout.write(made if isinstance(made, str) else _text(made, _console(sys.stdout)))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone: stop quietly, also when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def width() -> int:
    """Return the columns of the terminal that results go to."""
    return _console(sys.stdout).width


def exit_code(findings: Iterable[Finding], fail_on: str) -> int:
    """Return 1 if a finding is at least as severe as `fail_on`, else 0."""
    return int(any(f.severity in FAIL_ON[fail_on] for f in findings))


def say(message: str, options: OutputOptions) -> None:
    """Write one line on stderr."""
    if not options.quiet:
        sys.stderr.write(f"gptinit: {message}\n")


def show_notes(
    format: str, options: OutputOptions, notes: Iterable[Note], cost: Cost | None
) -> None:
    """Show on stderr how the numbers of a table were made; other formats hold the notes."""
    if options.quiet or format != "table":
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    for note in notes:
        console.print(f"{note.kind} {note.where}: {note.message}", style="dim")
    if cost:
        peak = f", peak memory {cost.peak_bytes / 1e9:.2f} GB" if cost.peak_bytes else ""
        console.print(f"took {cost.seconds:.1f} s{peak}", style="dim")


@contextmanager
def progress_on_stderr(options: OutputOptions) -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback that shows a bar once work takes over a second, on a terminal only."""
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
    """Return a console for results: no colour with NO_COLOR or without a terminal."""
    return Console(file=stream, highlight=False)  # type: ignore[arg-type] # a text stream


def _plain(made: RenderableType) -> str:
    console = Console(
        file=StringIO(), width=width(), highlight=False, force_terminal=False, color_system=None
    )
    return _text(made, console)


def _text(made: RenderableType, console: Console) -> str:
    """What a console would show, without the blanks with which Rich fills its lines."""
    with console.capture() as shown:
        console.print(made)
    return "".join(f"{line.rstrip()}\n" for line in shown.get().splitlines())


def write_whole(path: Path, text: str) -> None:
    """Write a file all at once, so that no reader ever sees half of it.

    A link is followed; a pipe or a device is written to directly.

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
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def _replace(path: Path, text: str) -> None:
    """Write a temporary file and move it into place; leave nothing behind if interrupted."""
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
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
