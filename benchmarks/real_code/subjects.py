"""The subjects of the table, as `subjects.toml` lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gptinit.tomlfile import load_toml

__all__ = ["SUBJECTS", "Plain", "Subject", "load_subjects"]

SUBJECTS = Path(__file__).with_name("subjects.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """How to build and run a model without gptinit, as its trainer does.

    Attributes:
        build: statements that leave `model`; they run once a seed.
        blocks: expression of `model` for the modules whose output is the stream after a layer.
        call: expression of `model` and `ids`, uniform token ids of shape (1, seq_len).
        stubs: modules that are missing and that neither init nor the forward pass computes with.
        vocab: ids are below it.
        path: folders for `sys.path`, relative to the folder of the subject.
    """

    build: str
    blocks: str
    call: str = "model(ids)"
    stubs: tuple[str, ...] = ()
    vocab: int = 256
    path: tuple[str, ...] = (".",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model of one code base.

    Attributes:
        name: for the table, unique.
        repository: OWNER/NAME, or PyPI's name of a package.
        version: commit of the checkout; "" for a package, which is asked for its version.
        folder: where the command is typed, under the folder of checkouts.
        target: MODEL as typed.
        settings: of the model, so that it is small: what --set gives.
        init: what the trainer runs after the constructor, as --init names it; "none" if nothing.
        forward: function of `adapters.py` that calls the model; "" where ids alone do.
        is_direct: whether it is one of the 30 that the review tried.
        plain: how to measure it without gptinit; None where it cannot run on a CPU.
        why_not: the reason for that.
        options: options that a user of this code base would type at once.
        needs_packages: whether what it computes with must be installed.
    """

    name: str
    repository: str
    target: str
    version: str = ""
    folder: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    init: str = "none"
    forward: str = ""
    is_direct: bool = False
    plain: Plain | None = None
    why_not: str = ""
    options: tuple[str, ...] = ()
    needs_packages: bool = False

    @property
    def is_package(self) -> bool:
        """Whether it comes from a package index and not from a checkout."""
        return not self.version


def load_subjects(path: Path = SUBJECTS) -> Sequence[Subject]:
    """Every subject, in the order of the file.

    Args:
        path: a TOML file with a table [[subject]] each, keys as the attributes of `Subject`.
    """
    tables = load_toml(path)["subject"]
    assert isinstance(tables, list)
    return [_subject(table) for table in tables]


def _subject(table: Mapping[str, object]) -> Subject:
    """One table as a subject; a key that does not exist is a TypeError."""
    fields = dict(table)
    plain = fields.pop("plain", None)
    settings = fields.pop("set", {})
    assert isinstance(settings, dict)
    return Subject(
        plain=_plain(plain) if isinstance(plain, dict) else None,
        settings={key: _written(value) for key, value in settings.items()},
        options=tuple(fields.pop("options", ())),  # type: ignore[arg-type] # a list of words
        **fields,  # type: ignore[arg-type] # a wrong type fails the test of the file
    )


def _plain(table: Mapping[str, object]) -> Plain:
    """How to measure without gptinit, with lists as tuples."""
    return Plain(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})  # type: ignore[arg-type] # as above


def _written(value: object) -> str:
    """A value as --set takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
