"""`python -m benchmarks real-code DIR`: run every subject and write down what came out."""

import argparse
import datetime
import importlib.metadata
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.agreement import Difference, rejected
from benchmarks.real_code.rows import SEEDS, SEQ_LEN, Row, row_of
from benchmarks.real_code.subjects import SUBJECTS, Subject, load_subjects
from benchmarks.real_code.tries import ROOT, Place

__all__ = ["line", "main"]


def main(argv: Sequence[str]) -> int:
    """Run the subjects; a line each as they come, and counts at the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks real-code")
    parser.add_argument("folder", type=Path, help="folder of checkouts, each under its name")
    parser.add_argument("names", nargs="*", help="only subjects whose names hold one of these")
    parser.add_argument("--packages", default="", help="Python that has the packages of the table")
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="of another gptinit")
    parser.add_argument("--subjects", type=Path, default=SUBJECTS, help="another list of subjects")
    parser.add_argument("--jobs", type=int, default=2, help="how many subjects at a time")
    parser.add_argument("--out", type=Path, help="write all that was found to this JSON file")
    options = parser.parse_args(argv)
    wanted = [
        subject
        for subject in load_subjects(options.subjects)
        if not options.names or any(word in subject.name for word in options.names)
    ]
    rows: list[Row] = []
    for row in _run(wanted, options):
        rows.append(row)
        print(line(row), flush=True)
        if options.out:  # after every row, so that a run that is stopped leaves what it has
            text = json.dumps(_document(rows, options.source), indent=1) + "\n"
            options.out.write_text(text, encoding="utf-8")
    print(_counts(rows))
    return 0


def _run(wanted: Sequence[Subject], options: argparse.Namespace) -> Iterator[Row]:
    """Every subject's row in the order of the list; what cannot be tried here is named."""
    folder, packages = options.folder.resolve(), options.packages

    def row(subject: Subject) -> Row | None:
        place = Place(
            folder=folder / subject.folder,
            python=packages if subject.is_package or subject.needs_packages else sys.executable,
            source=options.source.resolve(),
        )
        if not place.python or not place.folder.is_dir():
            return None
        return row_of(subject, place)

    with ThreadPoolExecutor(options.jobs) as pool:
        for subject, found in zip(wanted, pool.map(row, wanted), strict=True):
            if found is None:
                print(f"{subject.name}: not here", flush=True)
                continue
            yield found


def line(row: Row) -> str:
    """One row for a terminal."""
    tries = f"{_tries(row.audit_tries)}/{_tries(row.inspect_tries)}"
    worst = f"z {max(row.z, key=abs):+.1f}" if row.z else row.why
    errors, warnings, notes = row.findings
    return (
        f"{row.name:28} tries {tries}  init {row.init or '?'} ({row.trainer_init})  "
        f"traced {row.traced[0]}/{row.traced[1]}  roles {row.roles[0]}/{row.roles[1]}  "
        f"{errors}E {warnings}W {notes}N  {row.closest or '-'}  {worst}  "
        f"{row.seconds[0]:.0f}+{row.seconds[1]:.0f} s"
    )


def _tries(tries: Sequence[object]) -> str:
    """How many tries it took, or "no"."""
    last = tries[-1]
    assert isinstance(last, dict)
    return str(len(tries)) if not last["message"] else "no"


def _counts(rows: Sequence[Row]) -> str:
    """How many of the direct tries work, at once and with what the messages say to type."""
    direct = [row for row in rows if row.direct]
    at_once = sum(row.works and row.tries == 1 for row in direct)
    advised = sum(row.works for row in direct)
    return (
        f"{len(rows)} models; of {len(direct)} direct tries {at_once} come to a verdict about the "
        f"init of the trainer at once, {advised} with what the messages say to type"
    )


def _document(rows: Sequence[Row], source: Path) -> dict[str, object]:
    """What is written down, with the day and what it was run with."""
    commit = subprocess.run(
        ["git", "-C", str(source), "rev-parse", "--short", "HEAD"],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "gptinit": commit.stdout.strip(),
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "seeds": SEEDS,
        "seq_len": SEQ_LEN,
        "beyond": sorted(_beyond(rows)),
        "rows": [asdict(row) for row in rows],
    }


def _beyond(rows: Sequence[Row]) -> set[str]:
    """The rows where a layer differs from plain hooks by more than noise, by Holm's procedure.

    All layers of all rows are one family: at most one run in a hundred names any by chance.
    """
    found = [
        Difference(where=row.name, stat="resid_var", z=z, dof=_dof(error, base_error), relative=0.0)
        for row in rows
        for (_, error, _, base_error), z in zip(row.variances, row.z, strict=True)
    ]
    return {difference.where for difference in rejected(found)}


def _dof(error: float, base_error: float) -> int:
    """Degrees of freedom after Welch and Satterthwaite, of two means of as many seeds."""
    joint = error**2 + base_error**2
    if joint == 0:
        return SEEDS - 1
    return math.floor((SEEDS - 1) * joint**2 / (error**4 + base_error**4) + 1e-9)
