"""What a change does to the numbers: the same commands at two revisions, compared byte by byte.

`python -m benchmarks unchanged REVISION` runs every command below with the source of REVISION and
with the source as it stands here, in one folder of models, and prints which outputs are equal, and
which differ in sentences alone: every number, key and name is equal then. A refactoring leaves all
numbers equal; a numerical change shows here which ones it moved.
"""

import argparse
import difflib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from gptinit.facts.schemes import load_schemes

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
SMALL = "nanogpt-char --n-layer 3 --n-embd 96 --n-head 4 --seeds 2 --seq-len 40"
"""A shape that runs in a second, wide enough that lazy weights stay lazy."""

RUNS: Mapping[str, str] = MappingProxyType(
    {
        **{f"scheme {s}": f"inspect {SMALL} --scheme {s} --grad" for s in load_schemes()},
        **{f"engine {e}": f"inspect {SMALL} --engine {e} --grad" for e in ("stream", "lazy")},
        "engine theory": f"inspect {SMALL} --engine theory",
        "bfloat16": f"inspect {SMALL} --dtype bfloat16 --engine dense",
        "text, one seed": "inspect nanogpt-char --vocab-size 256 --n-layer 2 --data text --seeds 1"
        " --engine dense",
        "traced nanoGPT": "inspect models/nano.py:GPT --seeds 2 --grad --engine dense",
        "traced nanoGPT, lazy": "inspect models/nano.py:GPT --seeds 2 --engine lazy",
        "traced Llama": "inspect models/llama.py:Transformer --seeds 2 --grad --engine dense",
        "traced, re-initialised": "inspect models/nano.py:GPT --reinit plain --engine dense",
        "transformers' GPT-2": "inspect configs/gpt2.json --set n_layer=2 --set n_embd=96"
        " --set n_head=4 --seeds 1 --seq-len 40 --engine dense",
        "compare schemes": f"compare schemes nanogpt plain {SMALL.partition(' ')[2]}"
        " --model nanogpt-char --engine dense",
        "compare depths": "compare depths 1,2,4 --model nanogpt-char --seeds 2 --engine dense",
        "compare engines": "compare engines --model nanogpt-char --n-layer 2 --seeds 3",
        "audit preset": "audit gpt2-xl",
        "audit nanoGPT": "audit models/nano.py:GPT",
        "audit nanoGPT, claim": "audit models/nano.py:GPT --scheme plain",
        "audit nanoGPT, both builds": "audit models/nano.py:GPT --build both --perturb --draw",
        "audit with findings": "audit models/forgetful.py:GPT",
        "audit with findings, SARIF": "audit models/forgetful.py:GPT --format sarif",
        "audit transformers' Llama": "audit configs/llama-3.1-405b.json",
        "check": "check --config gptinit.toml",
        "schemes": "schemes",
    }
)
"""Name to command; --format json is added where none is named."""


def outputs(source: Path, folder: Path, names: Iterable[str]) -> dict[str, str]:
    """What every run prints, with its exit code, from the package under `source`."""
    env = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    found = {}
    for name in names:
        words = shlex.split(RUNS[name])
        if "--format" not in words:
            words += ["--format", "json"]
        done = subprocess.run(
            [sys.executable, "-m", "gptinit", *words],
            cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        found[name] = f"exit {done.returncode}\n{done.stdout or done.stderr}"
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def without_sentences(value: object) -> object:
    """A document with every text of several words left out."""
    if isinstance(value, dict):
        return {key: without_sentences(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_sentences(item) for item in value]
    return None if isinstance(value, str) and " " in value else value


def verdict(old: str, new: str) -> str:
    """How two outputs compare: "equal", "sentences differ" or "DIFFERS"."""
    if old == new:
        return "equal"
    (exit_old, _, was), (exit_new, _, made) = old.partition("\n"), new.partition("\n")
    try:
        is_wording = without_sentences(json.loads(was)) == without_sentences(json.loads(made))
    except json.JSONDecodeError:
        return "DIFFERS"
    return "sentences differ" if is_wording and exit_old == exit_new else "DIFFERS"


def main(argv: Sequence[str]) -> int:
    """Compare two revisions; 1 where anything but a sentence differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks unchanged")
    parser.add_argument("revision", help="what to compare the working tree with")
    parser.add_argument("runs", nargs="*", help="only runs whose names hold one of these")
    options = parser.parse_args(argv)
    revision = options.revision
    names = [n for n in RUNS if not options.runs or any(word in n for word in options.runs)]
    with tempfile.TemporaryDirectory() as scratch:
        before, folder = Path(scratch) / "before", Path(scratch) / "folder"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "-q", str(before), revision], check=True)
        try:
            shutil.copytree(ROOT / "tests" / "support" / "models", folder / "models")
            shutil.copytree(ROOT / "examples" / "models", folder / "models", dirs_exist_ok=True)
            shutil.copytree(ROOT / "examples" / "configs", folder / "configs")
            shutil.copy(ROOT / "examples" / "gptinit.toml", folder)
            old, new = (outputs(tree / "src", folder, names) for tree in (before, ROOT))
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    print(f"{'run':28} {'bytes':>8}  against {revision}")
    verdicts = [verdict(old[name], new[name]) for name in names]
    for name, said in zip(names, verdicts, strict=True):
        print(f"{name:28} {len(new[name]):8}  {said}")
        lines = difflib.unified_diff(old[name].split("\n"), new[name].split("\n"), n=0, lineterm="")
        for line in list(lines)[2:14]:
            print(f"    {line[:160]}")
    counts = {said: verdicts.count(said) for said in ("equal", "sentences differ", "DIFFERS")}
    print(f"{len(names)} runs: " + ", ".join(f"{count} {said}" for said, count in counts.items()))
    return int("DIFFERS" in verdicts)
