"""The tokens that a run puts through a model: drawn at random, or read from a file.

B is the batch size, T the positions of a sequence, V the vocabulary size.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from gptinit.config import DATA_KINDS, RunConfig
from gptinit.errors import ConfigError, unknown_name

__all__ = [
    "ZIPF_EXPONENT",
    "FixedTokens",
    "RunTokens",
    "TokenSource",
    "given_tokens",
    "open_tokens",
    "tokens_of_run",
]

ZIPF_EXPONENT = 1.1
"""The token of rank r is drawn with probability proportional to r ** -1.1.

Our choice; texts show exponents near 1: Piantadosi 2014, "Zipf's word frequency law in natural
language: a critical review and future directions".
"""

Ids = npt.NDArray[np.int64]
Stored = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class TokenSource(Protocol):
    """Where the tokens of a run come from; `open_tokens` makes one and has checked it by then."""

    @property
    def data(self) -> str:
        """Name for reports: "zipf", "uniform", "text", or a file's name without its folder."""

    @property
    def fixed(self) -> bool:
        """Whether every seed gives the same tokens."""

    def draw(self, seed: int) -> Ids:
        """The tokens of one repetition: inputs are `[:, :-1]`, targets `[:, 1:]`.

        Shape:
            result: (B, T + 1), int64, at least 0 and below V; a new array at each call.
        """

    def fingerprint(self, drawn: Iterable[Ids]) -> str:
        """SHA-256 in hex of the file's bytes or, for random inputs, of what was drawn.

        Random tokens are hashed seed after seed, row after row, as little-endian int64.

        Args:
            drawn: the tokens of every seed, as `draw` returned them.
        """


class RunTokens:
    """The tokens of all seeds of a run, drawn when they are first read and then kept.

    A run that is refused for its size has drawn nothing.
    """

    def __init__(self, source: TokenSource, seeds: Sequence[int]) -> None:
        self._source, self._seeds = source, seeds

    @cached_property
    def ids(self) -> Ids:
        """Token ids, the last of each row only as a target; (seeds, B, T + 1)."""
        return np.stack([self._source.draw(seed) for seed in self._seeds])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file that they were read from, or of the ids where they are random."""
        return self._source.fingerprint(self.ids)


def open_tokens(data: str, *, vocab_size: int, batch_size: int, seq_len: int) -> TokenSource:
    """The source of a run's tokens, with all that can be wrong with it found now.

    "zipf" and "uniform" are drawn anew by each seed. "text" is an English text, read as bytes.
    Anything else is a file: a `.bin` holds little-endian uint16 tokens, as nanoGPT writes them, and
    any other file is read as bytes, tokens 0 to 255. A file called like a kind is reached as
    "./zipf". The sequences of a file start evenly spaced: the first at its first token, the last so
    that it ends with its last token.

    Args:
        data: one of `config.DATA_KINDS`, or the path of a file.
        vocab_size: V, tokens the model knows.
        batch_size: B, sequences.
        seq_len: T, positions a sequence is run on; one more token is read as the last target.

    Raises:
        ConfigError: if a size is not positive, or the file is missing, unreadable, empty, too
            short, of odd length where tokens have two bytes, or has tokens beyond the vocabulary.

    Example:
        >>> source = open_tokens("zipf", vocab_size=50257, batch_size=2, seq_len=8)
        >>> source.draw(0).shape, source.fixed
        ((2, 9), False)
        >>> text = open_tokens("text", vocab_size=256, batch_size=1, seq_len=16)
        >>> bytes(text.draw(0)[0].tolist())
        b'THE HARBOUR CLOCK'

    References:
        karpathy/nanoGPT data/openwebtext/prepare.py @04cc18e9: uint16 tokens written to `.bin`.
    """
    sizes = {"vocab_size": vocab_size, "batch_size": batch_size, "seq_len": seq_len}
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} must be a positive integer, got {size!r}.")
    if data in _DRAWS:
        return _RandomTokens(data=data, vocab_size=vocab_size, shape=(batch_size, seq_len + 1))
    if data == "text":
        with as_file(files("gptinit.facts") / "text.txt") as path:
            return _read_file(path, data, vocab_size, batch_size, seq_len)
    return _open_file(data, vocab_size, batch_size, seq_len)


def tokens_of_run(
    run: RunConfig, given: npt.ArrayLike | None, *, vocab_size: int, block_size: int
) -> tuple[RunTokens, RunConfig]:
    """The tokens of a run, and the run with its length resolved and with what `given` replaces.

    Args:
        run: names the tokens, and how many.
        given: (B, T + 1) ids in place of those.
        vocab_size: tokens there are.
        block_size: positions there are.

    Raises:
        ConfigError: if sequence, data and model do not go together.
    """
    seeds = range(run.seed, run.seed + run.seeds)
    if given is not None:
        source = given_tokens(given, vocab_size=vocab_size, block_size=block_size)
        batch_size, seq_len = source.shape
        run = replace(run, batch_size=batch_size, seq_len=seq_len, data="given")
        return RunTokens(source, seeds), run
    seq_len = run.resolve_seq_len(block_size)
    named = open_tokens(run.data, vocab_size=vocab_size, batch_size=run.batch_size, seq_len=seq_len)
    return RunTokens(named, seeds), replace(run, seq_len=seq_len)


def _draw_zipf(rng: np.random.Generator, vocab_size: int, count: int) -> Ids:
    """`count` tokens by Zipf's law; which token has which rank is drawn first."""
    token_of_rank = rng.random(vocab_size).argsort(kind="stable")
    ranks = np.searchsorted(_zipf_cumulative(vocab_size), rng.random(count), side="right")
    return token_of_rank[ranks].astype(np.int64)


@lru_cache(maxsize=2)
def _zipf_cumulative(vocab_size: int) -> npt.NDArray[np.float64]:
    """Probability of the first ranks, one more at each place. Shape: (vocab_size,)."""
    cumulative = np.cumsum(np.arange(1, vocab_size + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
    share: npt.NDArray[np.float64] = cumulative / cumulative[-1]
    return share


def _draw_uniform(rng: np.random.Generator, vocab_size: int, count: int) -> Ids:
    return (rng.random(count) * vocab_size).astype(np.int64)


_DRAWS: Mapping[str, Callable[[np.random.Generator, int, int], Ids]] = MappingProxyType(
    {"zipf": _draw_zipf, "uniform": _draw_uniform}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RandomTokens:
    data: str
    vocab_size: int
    shape: tuple[int, int]  # (B, T + 1)
    fixed: bool = False

    def draw(self, seed: int) -> Ids:
        generator = _generator(self.data, seed)
        drawn = _DRAWS[self.data](generator, self.vocab_size, math.prod(self.shape))
        return drawn.reshape(self.shape)

    def fingerprint(self, drawn: Iterable[Ids]) -> str:
        return _sha256(drawn)


def _sha256(drawn: Iterable[Ids]) -> str:
    digest = hashlib.sha256()
    for ids in drawn:
        digest.update(ids.astype("<i8").tobytes())
    return digest.hexdigest()


def _generator(data: str, seed: int) -> np.random.Generator:
    """The generator of one kind and seed; its name keeps it apart from the weights' streams.

    Only its `random` is used: other methods may change their algorithm with numpy's version.
    """
    key = hashlib.sha256(f"gptinit/tokens/{data}/{seed}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key, "big")))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # an array has no one-bool equality
class FixedTokens:
    """Ids of a file or of the caller's own, the same for every seed."""

    data: str
    ids: Ids
    sha256: str
    fixed: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T): sequences and input positions."""
        return self.ids.shape[0], self.ids.shape[1] - 1

    def draw(self, seed: int) -> Ids:
        """A copy of the ids."""
        return self.ids.copy()

    def fingerprint(self, drawn: Iterable[Ids]) -> str:
        """SHA-256 of the file, or of the caller's ids as little-endian int64."""
        return self.sha256


def _open_file(data: str, vocab_size: int, batch_size: int, seq_len: int) -> FixedTokens:
    """The tokens of a user's file; every way of not being one is named."""
    path = Path(data)
    try:
        if path.is_dir():
            raise ConfigError(f"data must be a file, got {data!r}, a folder. Name a file in it.")
        if path.exists() and not path.is_file():
            raise ConfigError(
                f"data must be a file, got {data!r}, a device or pipe. Save it first."
            )
        return _read_file(path, path.name, vocab_size, batch_size, seq_len)
    except FileNotFoundError as error:
        raise _missing(data) from error
    except OSError as error:
        raise ConfigError(
            f"data must be a readable file, got {data!r}: {error.strerror or error}. "
            "Check its path and permissions."
        ) from error


def given_tokens(tokens: npt.ArrayLike, *, vocab_size: int, block_size: int) -> FixedTokens:
    """A source of the caller's own ids.

    Args:
        tokens: (B, T + 1) or (T + 1,) integers; the last of each row is only a target.
        vocab_size: tokens there are.
        block_size: positions there are.

    Raises:
        ConfigError: if they are no ids of this vocabulary, or too many or too few.

    Example:
        >>> given_tokens([3, 1, 2], vocab_size=4, block_size=8).shape
        (1, 2)
    """
    try:
        ids = np.atleast_2d(np.asarray(tokens))
    except ValueError as error:
        raise ConfigError("tokens must have rows of one length, got several.") from error
    is_batch = ids.ndim == 2 and ids.shape[0] > 0 and ids.shape[1] > 1
    if not is_batch or not np.issubdtype(ids.dtype, np.integer):
        raise ConfigError(
            f"tokens must be integers of shape (B, T + 1) with T at least 1, got {ids.dtype} of "
            f"shape {ids.shape}."
        )
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ConfigError(
            f"tokens must be at least 0 and below vocab_size={vocab_size}, got {ids.min()} to "
            f"{ids.max()}."
        )
    if ids.shape[1] - 1 > block_size:
        raise ConfigError(
            f"tokens must have at most block_size={block_size} positions, got {ids.shape[1] - 1}."
        )
    ids = ids.astype(np.int64)
    return FixedTokens(data="given", ids=ids, sha256=_sha256([ids]))


def _missing(data: str) -> ConfigError:
    """The error for a name that is no kind and no file; a bare word is taken for a kind."""
    if Path(data).name == data and not Path(data).suffix:
        return unknown_name("data", data, DATA_KINDS, remedy="No file has this name.")
    kinds = ", ".join(DATA_KINDS)
    return ConfigError(f"data must be {kinds} or an existing file, got {data!r}. Check its path.")


def _read_file(
    path: Path, name: str, vocab_size: int, batch_size: int, seq_len: int
) -> FixedTokens:
    """The sequences of a file and its hash; the rest of it never stays in memory."""
    with path.open("rb") as file:
        tokens = _map_tokens(file, name, two_bytes=path.suffix == ".bin")
        _require_length(len(tokens), name, batch_size, seq_len)
        ids = _cut(tokens, batch_size, seq_len + 1)
        _require_vocabulary(ids, name, vocab_size, one_byte=tokens.itemsize == 1)
        return FixedTokens(data=name, ids=ids, sha256=_hash(file))  # the long part last


def _map_tokens(file: BinaryIO, name: str, *, two_bytes: bool) -> Stored:
    """All tokens of a file, mapped rather than read. Shape: (tokens,)."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:  # cannot be mapped
        raise ConfigError(f"data must hold tokens, got the empty file {name!r}. Use another file.")
    if not two_bytes:
        return np.memmap(file, dtype=np.uint8, mode="r")
    if size % 2:
        raise ConfigError(
            f"data must hold two bytes a token in a .bin file, got {size} bytes in {name!r}. "
            "Write it again as uint16, or rename it to have its bytes as tokens."
        )
    return np.memmap(file, dtype="<u2", mode="r")


def _require_length(count: int, name: str, batch_size: int, seq_len: int) -> None:
    """Raise unless every sequence fits and starts at a token of its own."""
    needed = seq_len + batch_size
    if count >= needed:
        return
    fits = count - batch_size
    shorter = f"--seq-len {fits} or " if fits > 0 else ""
    raise ConfigError(
        f"data must hold at least {needed} tokens for batch_size={batch_size} and "
        f"seq_len={seq_len}, got {count} in {name!r}. Use {shorter}a longer file."
    )


def _require_vocabulary(ids: Ids, name: str, vocab_size: int, *, one_byte: bool) -> None:
    """Raise if a token that will be used is not in the vocabulary."""
    largest = int(ids.max())
    if largest >= vocab_size:
        needed = 256 if one_byte else largest + 1
        raise ConfigError(
            f"data must hold tokens below vocab_size={vocab_size}, got token {largest} in "
            f"{name!r}. Use --vocab-size {needed} or other data."
        )


def _cut(tokens: Stored, batch_size: int, length: int) -> Ids:
    """Evenly spaced sequences. Shape: (batch_size, length)."""
    last = len(tokens) - length
    starts = [i * last // max(1, batch_size - 1) for i in range(batch_size)]
    return np.stack([tokens[start : start + length] for start in starts]).astype(np.int64)


def _hash(file: BinaryIO) -> str:
    """SHA-256 of a whole file, a mebibyte at a time (hashlib.file_digest needs Python 3.11)."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
