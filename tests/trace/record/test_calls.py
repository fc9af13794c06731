"""Watching calls leaves the profiler of the program as it was."""

import cProfile
import pstats
import sys
from types import FrameType, SimpleNamespace

import pytest

from gptinit.trace.record.calls import profiled


def inside() -> None: ...


def after() -> None: ...


def names_seen_around_a_block() -> list[str]:
    """The functions that a watch of a block reports."""
    seen: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        seen.append(frame.f_code.co_name)

    with profiled(note):
        inside()
    after()
    return seen


def test_calls_are_seen_inside_the_block_alone() -> None:
    seen = names_seen_around_a_block()

    assert "inside" in seen
    assert "after" not in seen


def test_a_profile_of_the_program_goes_on_after_the_block() -> None:
    profile = cProfile.Profile()

    profile.enable()
    names_seen_around_a_block()
    profile.disable()

    calls = {name: count for (*_, name), (count, *_) in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined] # untyped
    assert calls["after"] == 1


def test_a_function_that_profiles_the_program_is_put_back() -> None:
    def other(*_: object) -> None: ...

    before = sys.getprofile()
    sys.setprofile(other)
    try:
        names_seen_around_a_block()
        kept = sys.getprofile()
    finally:
        sys.setprofile(before)

    assert kept is other


def test_a_profiler_that_is_no_function_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []  # what cProfile.Profile is before Python 3.12
    profiler = SimpleNamespace(enable=lambda: started.append(True))
    monkeypatch.setattr(sys, "getprofile", lambda: profiler)

    names_seen_around_a_block()

    monkeypatch.undo()
    assert started == [True]
    assert sys.getprofile() is None
