"""Errors that the user's code raises: what they say in one line, and where they come from."""

import linecache
import sysconfig
import traceback
from pathlib import Path

__all__ = ["defined_at", "failed_module", "is_installed", "one_line", "place_of", "remedy_for"]

_LONGEST = 400  # characters of another library's message
_OURS = Path(__file__).resolve().parent
_STDLIB = Path(sysconfig.get_paths()["stdlib"]).resolve()


def one_line(error: BaseException) -> str:
    """The type, message and place of an error, without line breaks.

    Example:
        >>> one_line(KeyError("wte"))
        "KeyError: 'wte'"
    """
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    place = place_of(error)
    text = text or _raising_line(error)  # an assertion without a message says what it asserts
    message = f"{type(error).__name__}: {text.rstrip('.')}" if text else type(error).__name__
    return f"{message} ({place})" if place else message


def is_installed(file: str | Path) -> bool:
    """Whether a file belongs to Python or an installed package and not to the user."""
    parts = Path(file).parts
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or Path(file).is_relative_to(_STDLIB)
        or Path(file).is_relative_to(_OURS)
    )


def failed_module(error: BaseException) -> tuple[str, Path]:
    """Name and file of the user's module whose code at module level failed; "" if none did."""
    failed = [
        (frame.f_globals.get("__name__", ""), Path(frame.f_code.co_filename))
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>" and not is_installed(frame.f_code.co_filename)
    ]
    return failed[-1] if failed else ("", Path())


def remedy_for(error: BaseException) -> str:
    """What the user can do about an error that comes of how gptinit was started; "" if nothing.

    Example:
        >>> remedy_for(FileNotFoundError(2, "No such file", "vocab.json"))
        'Run gptinit in the folder from which vocab.json is found.'
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, KeyError) and frames and frames[-1].f_globals.get("__name__") == "os":
        return f"Set it as its launcher does: {error.args[0]}=VALUE gptinit ..."
    name = error.filename if isinstance(error, FileNotFoundError) else None
    if isinstance(name, str) and not Path(name).is_absolute():
        return f"Run gptinit in the folder from which {name} is found."
    return ""


def defined_at(function: object) -> str:
    """File and line of a function's definition; its name where it has none.

    Example:
        >>> defined_at(len)
        'len'
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return getattr(function, "__name__", type(function).__name__)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def _raising_line(error: BaseException) -> str:
    """The source line that raised an error; "" where there is none."""
    places = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    return linecache.getline(*places[-1]).strip() if places else ""


def place_of(error: BaseException) -> str:
    """File and line of the last frame in the user's code, else in a library; "" for torch's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<")
    ]
    of_user = [at for at in frames if not is_installed(at[0])]
    of_libraries = [
        at
        for at in frames
        if not at[0].is_relative_to(_OURS)
        and ("site-packages" in at[0].parts or not at[0].is_relative_to(_STDLIB))
        and "-packages/torch/" not in at[0].as_posix()  # it only passes the call on
    ]
    file, line = (of_user or of_libraries or [(Path(), 0)])[-1]
    return f"{file.name}:{line}" if line else ""
