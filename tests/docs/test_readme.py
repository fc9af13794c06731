"""The README says what the program does: every console block is run, every reference compared."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptinit.cli import main
from gptinit.facts.vocabulary import STATISTICS

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```console( slow)?\n\$ (gptinit [^\n]*)\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")
COMMANDS = (
    "",
    "inspect",
    "compare",
    "audit",
    "check",
    "schemes",
)


def blocks() -> Iterator[object]:
    for match in BLOCK.finditer(README.read_text(encoding="utf-8")):
        is_slow = match.group(1) or "--n-layer 48" in match.group(2)
        marks = [pytest.mark.slow] if is_slow else []
        yield pytest.param(match.group(2), match.group(3), marks=marks, id=match.group(2))


def stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def output_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(shlex.split(command)[1:])
    return stripped(capsys.readouterr().out)


def replace_in_readme(old: str, new: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(old) == 1
    README.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(autouse=True)
def at_home_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(README.parent)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    # The engine that auto takes depends on the memory there is.
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: 10**11)


@pytest.mark.parametrize(("command", "shown"), list(blocks()))
def test_console_blocks_show_what_the_command_prints(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    printed = output_of(command, capsys)
    if request.config.getoption("--regen"):
        replace_in_readme(f"$ {command}\n{shown}```", f"$ {command}\n{printed}```")
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


def between(begin: str, end: str) -> str:
    text = README.read_text(encoding="utf-8")
    return text.split(f"<!-- {begin} -->\n")[1].split(f"<!-- {end} -->")[0]


def compare_or_regenerate(
    begin: str, end: str, expected: str, request: pytest.FixtureRequest
) -> None:
    shown = between(begin, end)
    if request.config.getoption("--regen"):
        replace_in_readme(
            f"<!-- {begin} -->\n{shown}<!-- {end} -->",
            f"<!-- {begin} -->\n{expected}<!-- {end} -->",
        )
        return
    assert shown == expected


def test_command_reference_is_the_real_help(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    expected = ""
    for command in COMMANDS:
        name = f"gptinit {command}".strip()
        expected += f"```text\n$ {name} --help\n{output_of(f'{name} --help', capsys)}```\n\n"

    compare_or_regenerate("cli:begin", "cli:end", expected, request)


def test_statistics_table_is_the_vocabulary(request: pytest.FixtureRequest) -> None:
    rows = ["| key | at | definition | unit |", "|---|---|---|---|"]
    for name, statistic in STATISTICS.items():
        places = ", ".join(statistic.places)
        grad = " (with `--grad`)" if statistic.needs_grad else ""
        rows.append(f"| `{name}` | {places} | {statistic.definition}{grad} | {statistic.unit} |")

    compare_or_regenerate("statistics:begin", "statistics:end", "\n".join(rows) + "\n", request)


def test_the_first_two_commands_are_the_set_up() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", README.read_text(encoding="utf-8"))

    assert commands == [
        "pip install -c constraints.txt . && gptinit inspect --n-layer 48",
        "pip install -c constraints.txt -e '.[dev]' && pytest",
    ]


@pytest.mark.parametrize("index", range(2))
def test_python_blocks_run(index: int, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2

    exec(blocks[index].replace("n_layer=48", "n_layer=2"), {})  # a depth that takes a second

    numbers = capsys.readouterr().out.splitlines()[0].split()
    assert all(float(number) > 0 for number in numbers)
    if index:
        value, stderr, predicted = map(float, numbers)
        assert abs(value - predicted) < 0.1 * value
        assert stderr < 0.1 * value
