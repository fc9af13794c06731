"""The name of the processor."""

import platform
from pathlib import Path

import pytest

from gptinit.results.machine import processor_name

CPUINFO = "processor : 0\nmodel name\t: Maker's CPU @ 2: fast \nmodel name : other\n"


@pytest.mark.parametrize(
    ("text", "known", "name"),
    [
        (CPUINFO, "arm", "Maker's CPU @ 2: fast"),
        ("processor : 0\n", "arm", "arm"),
        (None, "arm", "arm"),
        (None, "", "riscv"),
    ],
)
def test_the_processor_is_named_as_well_as_it_is_known(
    text: str | None, known: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, **_: object) -> str:
        assert str(path) == "/proc/cpuinfo"
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(platform, "processor", lambda: known)
    monkeypatch.setattr(platform, "machine", lambda: "riscv")

    assert processor_name() == name
