"""`python -m benchmarks real-code DIR`: run every subject and write down what came out."""

import argparse
import datetime
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

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
    parser.add_argument("--subjects", type=Path, default=SUBJECTS, help="another list of subjects")
    parser.add_argument("--jobs", type=int, default=2, help="how many subjects at a time")
    parser.add_argument("--out", type=Path, help="write all that was found to this JSON file")
    options = parser.parse_args(argv)
    wanted = [
        subject
        for subject in load_subjects(options.subjects)
        if not options.names or any(word in subject.name for word in options.names)
    ]
    rows = list(_run(wanted, options.folder.resolve(), options.packages, options.jobs))
    if options.out:
        options.out.write_text(json.dumps(_document(rows), indent=1) + "\n", encoding="utf-8")
    return 0


def _run(wanted: Sequence[Subject], folder: Path, packages: str, jobs: int) -> Iterator[Row]:
    """Every subject's row in the order of the list; what cannot be tried here is named."""

    def row(subject: Subject) -> Row | None:
        place = Place(
            folder=folder / subject.folder,
            python=packages if subject.is_package or subject.needs_packages else sys.executable,
        )
        if not place.python or not place.folder.is_dir():
            return None
        return row_of(subject, place)

    with ThreadPoolExecutor(jobs) as pool:
        for subject, found in zip(wanted, pool.map(row, wanted), strict=True):
            if found is None:
                print(f"{subject.name}: not here", flush=True)
                continue
            print(line(found), flush=True)
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


def _document(rows: Sequence[Row]) -> dict[str, object]:
    """What is written down, with the day and what it was run with."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "gptinit": commit.stdout.strip(),
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "seeds": SEEDS,
        "seq_len": SEQ_LEN,
        "rows": [asdict(row) for row in rows],
    }
