"""One row of the table: what gptinit says of a subject, and what plain hooks say."""

import dataclasses
import json
import math
import os
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.real_code.subjects import Subject
from benchmarks.real_code.tries import ROOT, Place, Try, follow, typed
from gptinit.report.audit_words import closest_words
from gptinit.results.audit import ClosestScheme

__all__ = ["SEEDS", "SEQ_LEN", "Row", "compare", "measure_plainly", "row_of", "run_hooks"]

HERE = Path(__file__).parent
SEEDS = 16
SEQ_LEN = 64
_RUN = ("--seeds", str(SEEDS), "--seq-len", str(SEQ_LEN), "--data", "uniform", "--device", "cpu")
_LIMIT = 300


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is written down of one subject; plain data, for JSON.

    Attributes:
        name: of the subject.
        repository: where it comes from.
        version: commit or release.
        folder: where the command is typed.
        direct: whether the review tried it.
        command: as typed at last.
        audit_tries: exit code, options added and message of every try of the audit.
        inspect_tries: the same of inspect.
        audited: whether the audit came to a verdict.
        traced: parameters with a known distribution, and all.
        init: what gptinit ran after the constructor, as it says; "" where it says nothing.
        trainer_init: what the trainer runs.
        roles: matrices with a role other than "other", and all.
        findings: errors, warnings, notes.
        rules: what was found, each with its count.
        closest: closest scheme; "" if none.
        measured: whether inspect gave a profile.
        variances: `resid_var` of each layer: gptinit's mean and standard error, plain hooks'.
        z: their difference over the joint standard error, a layer each; empty if not compared.
        why: what kept it from being compared.
        seconds: of the audit and of inspect, the last try of each.
    """

    name: str
    repository: str
    version: str
    folder: str
    direct: bool
    command: str
    audit_tries: Sequence[Mapping[str, Any]]
    inspect_tries: Sequence[Mapping[str, Any]]
    audited: bool
    traced: tuple[int, int]
    init: str
    trainer_init: str
    roles: tuple[int, int]
    findings: tuple[int, int, int]
    rules: Mapping[str, int]
    closest: str
    measured: bool
    variances: Sequence[tuple[float, float, float, float]]
    z: Sequence[float]
    why: str
    seconds: tuple[float, float]

    @property
    def tries(self) -> int:
        """How often the audit was typed."""
        return len(self.audit_tries)

    @property
    def works(self) -> bool:
        """Whether the audit came to a verdict about the init that the trainer runs."""
        return self.audited and (self.init or "none") == self.trainer_init


def row_of(subject: Subject, place: Place) -> Row:
    """Everything about one subject.

    Args:
        subject: what to look at.
        place: where its commands are typed.
    """
    audit = follow("audit", subject, place, options=subject.options)
    options = audit[-1].options
    inspect = follow("inspect", subject, place, options=options, fixed=_RUN)
    document: Any = audit[-1].document
    profile: Any = inspect[-1].document
    plain = measure_plainly(subject, place)
    variances, why = compare(profile, plain)
    parameters = [p for p in document.get("parameters", ()) if p["kind"] == "parameter"]
    matrices = [p for p in parameters if len(p["shape"]) > 1]
    severities = Counter(f["severity"] for f in document.get("findings", ()))
    return Row(
        name=subject.name,
        repository=subject.repository,
        version=_version(subject, place),
        folder=subject.folder,
        direct=subject.is_direct,
        command=typed("audit", subject, options),
        audit_tries=[_said(t) for t in audit],
        inspect_tries=[_said(t) for t in inspect],
        audited=audit[-1].works,
        traced=(sum(_is_known(p) for p in parameters), len(parameters)),
        init=_init(document),
        trainer_init=subject.init,
        roles=(sum(p["role"] != "other" for p in matrices), len(matrices)),
        findings=(severities["error"], severities["warning"], severities["note"]),
        rules=dict(Counter(f["rule"] for f in document.get("findings", ()))),
        closest=_closest(document),
        measured=inspect[-1].works,
        variances=variances,
        z=[_z(*four) for four in variances],
        why=why,
        seconds=(round(audit[-1].seconds, 1), round(inspect[-1].seconds, 1)),
    )


def _said(done: Try) -> dict[str, Any]:
    """A try as it is written down: no path of this machine, no more than its last line."""
    lines = [line for line in done.message.splitlines() if line.startswith("gptinit: ")]
    message = (lines or done.message.strip().splitlines() or [""])[-1]
    message = "" if done.works else message.replace(str(Path.home()), "~").replace(str(ROOT), ".")
    return {"options": list(done.options), "code": done.code, "message": message}


def _is_known(parameter: Mapping[str, Any]) -> bool:
    """Whether the trace knows how a parameter is drawn."""
    return (parameter.get("distribution") or {}).get("kind") not in {None, "unknown"}


def _init(document: Mapping[str, Any]) -> str:
    """What was run after the constructor, as a document says; "" if it does not say."""
    model = document.get("model", {})
    if "init" not in model:
        return ""
    return str((model["init"] or {}).get("name") or "none")


def _closest(document: Mapping[str, Any]) -> str:
    """The closest scheme in words."""
    found = document.get("closest_scheme")
    if not found:
        return ""
    return closest_words(ClosestScheme(**found))


def _version(subject: Subject, place: Place) -> str:
    """The commit of a checkout, or the release of a package."""
    if subject.is_package:
        code = f"import importlib.metadata as m; print(m.version({subject.repository!r}))"
        done = subprocess.run(
            [place.python, "-c", code], capture_output=True, encoding="utf-8", check=False
        )
        return done.stdout.strip()
    git = ["git", "-C", str(place.folder), "rev-parse"]
    asked = [[*git, "--show-toplevel"], [*git, "--short", "HEAD"]]
    top, head = (
        subprocess.run(words, capture_output=True, encoding="utf-8", check=False).stdout.strip()
        for words in asked
    )
    is_its_own = Path(top).name == Path(subject.folder).parts[0]  # and not of a folder around it
    return head if is_its_own else subject.version


def measure_plainly(subject: Subject, place: Place) -> Mapping[str, Any]:
    """What plain hooks measure: mean and stderr by layer, or "why" not.

    Args:
        subject: with `plain`, or without it but with `why_not`.
        place: its folder and interpreter.
    """
    if subject.plain is None:
        return {"why": subject.why_not}
    task = dataclasses.asdict(subject.plain)
    task["path"] = [
        str(HERE if path == "ADAPTERS" else (place.folder / path).resolve())
        for path in task["path"]
    ]
    task |= {"seeds": SEEDS, "seq_len": SEQ_LEN}
    return run_hooks(task, place)


def run_hooks(task: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """What `hooks.py` answers in a process of its own.

    Args:
        task: what it reads.
        place: folder and interpreter.
    """
    try:
        done = subprocess.run(
            [place.python, str(HERE / "hooks.py")], input=json.dumps(task), cwd=place.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, encoding="utf-8",
            timeout=_LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"why": f"the plain build took over {_LIMIT} s"}
    if done.returncode:
        return {"why": f"plain build: {done.stderr.strip().splitlines()[-1][:200]}"}
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(
    profile: Mapping[str, Any], plain: Mapping[str, Any]
) -> tuple[list[tuple[float, float, float, float]], str]:
    """(ours, its standard error, theirs, its standard error) of every layer, or why there is none.

    Args:
        profile: of gptinit; empty if it gave none.
        plain: what `measure_plainly` returns.
    """
    if "why" in plain:
        return [], str(plain["why"])
    if not profile:
        return [], "not measured"
    ours = [(p["resid_var"], p["stderr"]["resid_var"]) for p in profile["layers"]]
    theirs = list(zip(plain["mean"], plain["stderr"], strict=True))
    if len(ours) != len(theirs):
        return [], f"{len(ours)} layers, really {len(theirs)}"
    return [(*mine, *other) for mine, other in zip(ours, theirs, strict=True)], ""


def _z(value: float, error: float, base: float, base_error: float) -> float:
    """Difference over its standard error; 0 where nothing differs beyond rounding of float32."""
    gap = value - base
    if abs(gap) <= 1e-5 * abs(base):
        return 0.0
    joint = math.hypot(error, base_error)
    return gap / joint if joint else math.inf
