"""Tiers and options of the test suite, and the terminal that every test sees."""

import gc
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

# Threads of torch that wait for work would spin, and tiny models have them wait most of the time:
# on a busy machine the suite took ten times as long. Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# One thread a worker: pytest-xdist already runs as many workers as there are cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


TESTS = Path(__file__).parent
collect_ignore = ["support/models"]  # files of users: they import each other by their bare names
TIERS: Mapping[str, str] = MappingProxyType(
    {
        "laws": "distributions over many seeds: tests/laws, and tests marked laws",
        "hf": "models of transformers: tests/hf, and tests marked hf",
        "slow": "tests marked slow: over five seconds, or an environment of their own",
    }
)
"""Marker, and option that runs its tests, to what they are. Without options none of them runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --regen and an option for each tier."""
    group = parser.getgroup("gptinit")
    group.addoption(
        "--regen", action="store_true", help="rewrite goldens, console blocks and rendered pages"
    )
    for tier, what in TIERS.items():
        group.addoption(f"--{tier}", action="store_true", help=f"run too: {what}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of the tiers."""
    for tier, what in TIERS.items():
        config.addinivalue_line("markers", f"{tier}: run with --{tier}; {what}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder; skip those of a tier that was not asked for."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0] if TESTS in item.path.parents else ""
        if folder in TIERS:
            item.add_marker(folder)
        for tier in TIERS:
            if item.get_closest_marker(tier) and not config.getoption(tier):
                item.add_marker(pytest.mark.skip(reason=f"{tier}: run with --{tier}"))


def pytest_collection_finish() -> None:
    """Freeze what was imported: garbage collections over it cost time in every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns and no colour, whatever the terminal or CI that runs the tests."""
    for name, value in (("COLUMNS", "80"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_transformers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that is first to import transformers where --hf was not asked for."""
    known = "transformers" in sys.modules
    yield
    assert known or request.config.getoption("hf") or "transformers" not in sys.modules
