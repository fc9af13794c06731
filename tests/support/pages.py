"""The pages of the repository, and how a test rewrites one."""

from collections.abc import Callable
from pathlib import Path

__all__ = ["PAGES", "README", "ROOT", "name_of", "rewrite"]

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def name_of(page: Path) -> str:
    """The path of a page from the root."""
    return page.relative_to(ROOT).as_posix()


def rewrite(page: Path, change: Callable[[str], str]) -> None:
    """Replace the text of a page, one worker at a time: blocks of one page are several tests."""
    import fcntl  # not on Windows, where nobody need rewrite a page

    page.touch()
    with page.open("r+", encoding="utf-8", newline="\n") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = change(file.read())
        file.seek(0)
        file.truncate()
        file.write(text)
