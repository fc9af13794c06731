"""The README and the pages show what the program prints: blocks are run, --regen rewrites them.

A console block may show a part: `lines=1-9,20-24` behind the word console names lines of the
output, and `...` stands for the others. `slow` marks a command that takes longer.
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.pages import PAGES, README, ROOT, name_of, rewrite

from gptinit.cli import main

BLOCK = re.compile(r"```console((?: \S+)*)\n\$ (gptinit [^\n]*)\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")
LEFT_OUT = "..."

SMALL_CHECK = """
[run]
seq_len = 16
[[models]]
model = "nanogpt-char"
n_layer = 2
[[bounds]]
stat = "resid_growth"
where = "whole"
max = 1000
why = "A test."
"""

FIRST_LINES: Mapping[str, Callable[..., bool]] = {
    "README.md 0": lambda growth, stderr: growth > stderr > 0,
    "docs/python.md 0": lambda value, stderr, predicted: (
        abs(value - predicted) < 0.1 * value and stderr < 0.1 * value
    ),
}
"""What the numbers of the first line that a block of Python prints have to be."""


def blocks() -> Iterator[object]:
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            words, command, _ = match.groups()
            marks = [pytest.mark.slow] if "slow" in words.split() else []
            yield pytest.param(page, match.group(0), marks=marks, id=f"{name_of(page)}: {command}")


def stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def output_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(shlex.split(command)[1:])
    return stripped(capsys.readouterr().out)


def shortened(text: str, words: str) -> str:
    """The lines that `lines=` among the words asks for, or all of them."""
    asked = re.search(r"lines=(\S+)", words)
    if asked is None:
        return text
    lines, shown, last = text.splitlines(), [], 0
    for part in asked.group(1).split(","):
        first, end = map(int, part.split("-"))
        shown += [LEFT_OUT] * (first > last + 1) + lines[first - 1 : end]
        last = end
    shown += [LEFT_OUT] * (last < len(lines))
    return "\n".join(shown) + "\n"


@pytest.fixture(autouse=True)
def at_home_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    # The engine that auto takes depends on the memory there is.
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: 10**11)


@pytest.mark.parametrize(("page", "block"), list(blocks()))
def test_console_blocks_show_what_the_command_prints(
    page: Path, block: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    found = BLOCK.fullmatch(block)
    assert found is not None
    words, command, shown = found.groups()
    printed = shortened(output_of(command, capsys), words)
    if request.config.getoption("--regen"):
        fresh = f"```console{words}\n$ {command}\n{printed}```"
        rewrite(page, lambda text: text.replace(block, fresh))
        return

    # Weights and tokens are the same everywhere; float32 sums in another order differ by some
    # 1e-6, which can turn the last printed digit by one. Bars are drawn from the same numbers.
    assert NUMBER.sub("#", without_bars(printed)) == NUMBER.sub("#", without_bars(shown))
    for mine, theirs in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert abs(float(mine) - float(theirs)) <= 1.5 * last_digit(theirs), (mine, theirs)


def last_digit(number: str) -> float:
    """One unit of the last digit that a number shows; integers of over 3 digits show 3."""
    mantissa, _, exponent = number.partition("e")
    whole, point, decimals = mantissa.lstrip("-").partition(".")
    unit = 10.0 ** -len(decimals) if point else 10.0 ** max(0, len(whole) - 3)
    return float(unit * 10.0 ** int(exponent or 0))


def without_bars(text: str) -> str:
    return re.sub(r" *[▏▎▍▌▋▊▉█]+ *", " ", re.sub(r" +", " ", text))


def test_every_console_block_of_a_page_is_compared() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("```console") == len(BLOCK.findall(text)), page.name


def test_the_blocks_whose_numbers_are_checked_are_there() -> None:
    assert set(FIRST_LINES) <= set(python_blocks())


def test_the_first_two_commands_are_the_set_up() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", README.read_text(encoding="utf-8"))

    assert commands == [
        "pip install -c constraints.txt . && gptinit inspect --n-layer 48",
        "pip install -c constraints.txt -e '.[dev]' && pytest",
    ]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 220


def python_blocks() -> dict[str, str]:
    """Every block of Python by its page and number."""
    return {
        f"{name_of(page)} {i}": block
        for page in PAGES
        for i, block in enumerate(
            re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        )
    }


@pytest.mark.parametrize("name", python_blocks())
def test_python_blocks_run(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # a block may add to it
    small = tmp_path / "gptinit.toml"
    small.write_text(SMALL_CHECK, encoding="utf-8")
    # A depth and a configuration that take a second.
    block = (
        python_blocks()[name]
        .replace("n_layer=48", "n_layer=2")
        .replace("examples/gptinit.toml", str(small))
    )

    exec(block, {})

    printed = capsys.readouterr().out
    assert printed or "print(" not in block
    if name in FIRST_LINES:
        assert FIRST_LINES[name](*map(float, printed.splitlines()[0].split()))
