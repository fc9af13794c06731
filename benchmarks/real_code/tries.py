"""Type a command, read what it says, type what it says to: until it works or says nothing new."""

import itertools
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real_code.subjects import Subject

__all__ = ["ROOT", "Place", "Try", "follow", "offered", "run_gptinit", "typed"]

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = Path(__file__).with_name("adapters.py")

_MOST = 5
"""Tries of one command; a person would have given up."""

_LIMIT = 240
"""Seconds for one command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a command is typed.

    Attributes:
        folder: current folder.
        python: interpreter whose packages are there.
        source: folder of the gptinit that is run.
    """

    folder: Path
    python: str
    source: Path = ROOT / "src"

    def environment(self) -> dict[str, str]:
        """Of a process: one thread, plain text."""
        paths = {"PYTHONPATH": str(self.source)}
        return {**os.environ, **paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One command and what came of it.

    Attributes:
        options: behind the model, those of the shape left out.
        code: exit code; -1 where it ran out of time.
        message: what it printed to standard error.
        document: its JSON, empty if it gave none.
        seconds: of the whole process.
    """

    options: tuple[str, ...]
    code: int
    message: str
    document: Mapping[str, object]
    seconds: float

    @property
    def works(self) -> bool:
        """Whether there is a result; exit code 1 is one with findings."""
        return bool(self.document)


def typed(verb: str, subject: Subject, options: Sequence[str]) -> str:
    """The command as a person types it.

    Args:
        verb: "audit" or "inspect".
        subject: whose model and settings.
        options: behind them.
    """
    return shlex.join(["gptinit", *_words(verb, subject, options)])


def _words(verb: str, subject: Subject, options: Sequence[str]) -> list[str]:
    """The arguments of one command; what a message said to set replaces what was set."""
    told = {key.rpartition(".")[2] for key in _settings(options)}
    shape = [f"{k}={v}" for k, v in subject.settings.items() if k.rpartition(".")[2] not in told]
    sets = [word for setting in shape for word in ("--set", setting)]
    return [verb, subject.target, *sets, *options]


def _settings(options: Sequence[str]) -> Iterator[str]:
    """The keys of every --set among options."""
    for word, value in itertools.pairwise(options):
        if word == "--set":
            yield value.partition("=")[0]


def follow(
    verb: str, subject: Subject, place: Place, *, options: Sequence[str], fixed: Sequence[str] = ()
) -> list[Try]:
    """Every try of a command, the last one the one that works, if any does.

    Args:
        verb: "audit" or "inspect".
        subject: what to look at.
        place: where to type it.
        options: of the first try.
        fixed: options of every try that no person would call part of it, such as the format.
    """
    tries: list[Try] = []
    options = tuple(options)
    while len(tries) < _MOST:
        done = _run(verb, subject, place, options, fixed)
        tries.append(done)
        more = offered(_advice(done), subject, options)
        if not more:
            break
        options = (*options, *more)
    return tries


def _advice(done: Try) -> str:
    """What a person reads after a try: the error, or that the init of the trainer did not run."""
    if not done.works:
        return done.message
    findings: Any = done.document.get("findings", ())
    return " ".join(f["message"] for f in findings if f["rule"] == "init-not-called")


def offered(message: str, subject: Subject, options: Sequence[str]) -> list[str]:
    """The options that a message offers and that have not been typed yet.

    A message that says `--stub tiktoken` is taken by its word. One that leaves a choice (an
    initialiser of several, a value) is answered as one would who knows the trainer, but only if
    the message names what is chosen.

    Args:
        message: of a try that did not work.
        subject: what its user knows.
        options: of that try.
    """
    found: list[list[str]] = []
    for names in re.findall(r"--stub[ =]([\w.,-]*\w)", message):
        found += [["--stub", name] for name in names.split(",")]
    for key, said in re.findall(r"--set[ =]'?([\w.]+)=(\w+)", message):
        known = subject.settings.get(key, subject.settings.get(key.rpartition(".")[2]))
        value = known or (said if said != "VALUE" else None)
        if value is not None:
            found.append(["--set", f"{key}={value}"])
    for site in re.findall(r"--site[ =](\w+=[a-z][\w.]*\w)", message):  # PATH stands for one
        found.append(["--site", site])
    named = re.search(rf"(?:[\w./-]+:)?\b{re.escape(subject.init)}\b", message)
    if "--init" in message and named:
        found.append(["--init", named[0]])
    if "--forward" in message and subject.forward:
        found.append(["--forward", f"{ADAPTERS.name}:{subject.forward}"])
    old = set(itertools.pairwise(options))
    new = [pair for pair in found if tuple(pair) not in old]
    return [word for pair in dict.fromkeys(map(tuple, new)) for word in pair]


def _run(
    verb: str, subject: Subject, place: Place, options: Sequence[str], fixed: Sequence[str]
) -> Try:
    """One try."""
    words = [*_words(verb, subject, options), *fixed, "--format", "json"]
    words = [word.replace(f"{ADAPTERS.name}:", f"{ADAPTERS}:") for word in words]
    began = time.perf_counter()
    code, out, message = run_gptinit(words, place)
    return Try(
        options=tuple(options),
        code=code,
        message=message,
        document=_document(out),
        seconds=time.perf_counter() - began,
    )


def run_gptinit(words: Sequence[str], place: Place) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of gptinit in a process of its own.

    Args:
        words: behind `gptinit`.
        place: where they are typed.
    """
    try:
        done = subprocess.run(
            [place.python, "-m", "gptinit", *words],
            cwd=place.folder, env=place.environment(), capture_output=True, encoding="utf-8",
            errors="replace", timeout=_LIMIT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer in {_LIMIT} s"
    return done.returncode, done.stdout, done.stderr


def _document(out: str) -> Mapping[str, object]:
    """The JSON that a command printed; empty if it is none."""
    try:
        found = json.loads(out)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
