"""Tokens: laws of the random ones, layout of files, and what each mistake is told."""

import hashlib
import os
import re
import tracemalloc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from gptinit.errors import ConfigError
from gptinit.tokens import ZIPF_EXPONENT, TokenSource, given_tokens, open_tokens

RANDOM = ["zipf", "uniform"]


def _open(data: str | Path, *, vocab: int = 65536, batch: int = 1, length: int = 9) -> TokenSource:
    """A source of `batch` sequences of `length` tokens: one more than the positions run."""
    return open_tokens(str(data), vocab_size=vocab, batch_size=batch, seq_len=length - 1)


def _bin(path: Path, count: int) -> Path:
    """A nanoGPT file of the tokens 0, 1, 2 ..., so that a token tells its offset."""
    path.write_bytes(np.arange(count, dtype="<u2").tobytes())
    return path


# Ranks are read off by sorting the counts. That is safe where neighbours lie far apart: of 200,000
# draws, rank 5 is 9 standard errors above rank 6 at V = 50257, and rank 9 is 6 above 10 at V = 10.
@pytest.mark.parametrize(("vocab", "ranks"), [(10, 10), (50257, 5)])
def test_zipf_frequencies_follow_the_power_of_the_rank(vocab: int, ranks: int) -> None:
    count = 200_000
    law = np.arange(1, vocab + 1) ** -1.1
    p = (law / law.sum())[:ranks]

    ids = _open("zipf", vocab=vocab, length=count).draw(0)

    frequencies = np.sort(np.bincount(ids[0], minlength=vocab))[::-1][:ranks] / count
    # binomial standard error sqrt(p (1 - p) / n); k = 4: 15 ranks exceed it by chance 1 in 1000
    assert ZIPF_EXPONENT == 1.1
    assert np.all(np.abs(frequencies - p) < 4 * np.sqrt(p * (1 - p) / count))


def test_uniform_tokens_are_equally_frequent() -> None:
    vocab, count = 7, 70_000
    p = 1 / vocab

    ids = _open("uniform", vocab=vocab, length=count).draw(0)

    frequencies = np.bincount(ids[0]) / count
    # binomial standard error, k = 4: 7 tokens exceed it by chance 1 in 2000
    assert frequencies.shape == (vocab,)
    assert np.all(np.abs(frequencies - p) < 4 * np.sqrt(p * (1 - p) / count))


def test_which_token_is_frequent_in_zipf_depends_on_the_seed() -> None:
    source = _open("zipf", vocab=50257, length=1000)

    most_frequent = {int(np.bincount(source.draw(seed)[0]).argmax()) for seed in range(4)}

    assert len(most_frequent) == 4  # by chance two of four agree 1 time in 8000


@pytest.mark.parametrize("data", RANDOM)
@pytest.mark.parametrize("vocab", [1, 2, 300])
def test_random_tokens_have_the_promised_shape_and_range(data: str, vocab: int) -> None:
    ids = _open(data, vocab=vocab, batch=3, length=2000).draw(5)

    assert ids.shape == (3, 2000)
    assert ids.dtype == np.int64
    assert set(np.unique(ids)) <= set(range(vocab))
    assert vocab == 1 or not np.array_equal(ids[0], ids[1])


@pytest.mark.parametrize("data", RANDOM)
def test_a_seed_decides_random_tokens(data: str) -> None:
    first, again = (_open(data, vocab=1000, length=100) for _ in range(2))

    assert np.array_equal(first.draw(3), again.draw(3))
    assert not np.array_equal(first.draw(3), first.draw(4))
    assert not first.fixed


# Made by hand from the documented recipe: PCG64 seeded by sha256("gptinit/tokens/KIND/7") as a
# big-endian integer; uniform: the integer parts of 10 u; zipf: ten u rank the tokens,
# smallest first, and twelve more are looked up in the cumulative law. Saved baselines need them.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("uniform", [0, 3, 6, 8, 7, 2, 1, 9, 5, 1, 7, 8]),
        ("zipf", [0, 8, 9, 0, 1, 0, 5, 8, 6, 8, 0, 1]),
    ],
)
def test_tokens_of_a_seed_stay_what_they_were(data: str, expected: list[int]) -> None:
    assert _open(data, vocab=10, length=12).draw(7)[0].tolist() == expected


def test_zipf_and_uniform_share_no_stream() -> None:
    # with a shared stream the k-th uniform token would decide the place of token k among the ranks
    vocab = 1000
    zipf = _open("zipf", vocab=vocab, length=5000).draw(0)[0]
    uniform = _open("uniform", vocab=10**6, length=vocab).draw(0)[0]

    most_frequent = int(np.bincount(zipf).argmax())

    assert most_frequent != int(uniform.argmin())


@pytest.mark.parametrize("data", RANDOM)
def test_random_fingerprint_hashes_the_ids_of_all_seeds_in_order(data: str) -> None:
    source = _open(data, vocab=1000, batch=2, length=50)
    four, five = source.draw(4), source.draw(5)
    ids = np.concatenate([four, five])

    assert (
        source.fingerprint([four, five]) == hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
    )
    assert len({source.fingerprint(d) for d in ([four, five], [five, four], [four], [])}) == 4


def test_bytes_of_any_file_are_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "corpus.dat"
    path.write_bytes(b"\x00\xff A\n")

    source = _open(path, vocab=256, length=5)

    assert source.draw(0).tolist() == [[0, 255, 32, 65, 10]]
    assert source.draw(0).dtype == np.int64
    assert source.data == "corpus.dat"


def test_bin_tokens_are_little_endian_uint16(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    path.write_bytes(b"\x01\x02\xff\xff\x50\xc3")

    ids = _open(path, length=3).draw(0)

    assert ids.tolist() == [[0x0201, 0xFFFF, 50000]]
    assert ids.dtype == np.int64


@pytest.mark.parametrize(
    ("count", "batch", "starts"),
    [
        (10, 1, [0]),  # just one sequence of ten
        (100, 1, [0]),
        (100, 2, [0, 90]),  # the last ends with the file: 100 - 10
        (100, 4, [0, 30, 60, 90]),
        (17, 3, [0, 3, 7]),  # room for 7 = 17 - 10; 3.5 is rounded down
        (12, 3, [0, 1, 2]),  # as full as can be: every start differs
    ],
)
def test_sequences_of_a_file_start_evenly_spaced(
    tmp_path: Path, count: int, batch: int, starts: list[int]
) -> None:
    ids = _open(_bin(tmp_path / "train.bin", count), batch=batch, length=10).draw(0)

    assert ids.tolist() == [list(range(start, start + 10)) for start in starts]


def test_a_file_stays_whatever_the_seed(tmp_path: Path) -> None:
    source = _open(_bin(tmp_path / "train.bin", 100), batch=2)

    assert source.fixed
    assert np.array_equal(source.draw(0), source.draw(1))
    drawn = [source.draw(seed) for seed in (0, 1)]
    assert source.fingerprint(drawn[:1]) == source.fingerprint(drawn)


@pytest.mark.parametrize("data", ["zipf", "text"])
def test_what_a_caller_does_to_a_draw_stays_with_the_caller(data: str) -> None:
    source = _open(data, vocab=256)
    before = source.draw(0).tolist()

    source.draw(0)[:] = 0

    assert source.draw(0).tolist() == before


@pytest.mark.parametrize("name", ["corpus.txt", "train.bin"])
def test_file_fingerprint_is_the_sha256_of_its_bytes(tmp_path: Path, name: str) -> None:
    content = np.random.default_rng(0).bytes(2_500_000)  # over two chunks of a mebibyte
    (tmp_path / name).write_bytes(content)

    source = _open(tmp_path / name)

    assert source.fingerprint([source.draw(0)] * 2) == hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_for_all_seeds(tmp_path: Path) -> None:
    path = _bin(tmp_path / "train.bin", 9)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = _open(path)

    path.unlink()

    assert source.draw(1).tolist() == [list(range(9))]
    assert source.fingerprint([source.draw(0)] * 3) == digest


def test_a_large_file_never_sits_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    with path.open("wb") as file:
        file.truncate(32 << 20)  # sparse: 32 MiB of zeros

    tracemalloc.start()
    try:
        _open(path, batch=4, length=257)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20  # two chunks of 1 MiB, while one replaces the other, and small things


def test_the_packaged_text_is_plain_english_prose() -> None:
    content = (files("gptinit.facts") / "text.txt").read_bytes()
    lines = content.decode("ascii").split("\n")
    long = [line for line in lines if len(line) > 20]

    assert 16_000 <= len(content) <= 16_800
    assert b"\r" not in content
    assert b"\t" not in content
    assert content.endswith(b".\n")
    assert max(map(len, lines)) <= 80
    assert len(set(long)) == len(long)


def test_text_is_the_packaged_file_as_bytes() -> None:
    content = (files("gptinit.facts") / "text.txt").read_bytes()

    source = _open("text", vocab=256, batch=2, length=100)

    assert [bytes(row) for row in source.draw(0).tolist()] == [content[:100], content[-100:]]
    assert source.fingerprint([source.draw(0)]) == hashlib.sha256(content).hexdigest()
    assert source.data == "text"
    assert source.fixed


def test_a_file_called_like_a_kind_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("zipf").write_bytes(b"abcdefghi")

    assert not _open("zipf").fixed
    assert bytes(_open("./zipf").draw(0)[0].tolist()) == b"abcdefghi"


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (
            "zpif",
            None,
            "data must be one of text, uniform, zipf, got 'zpif'. Did you mean zipf? "
            "No file has this name.",
        ),
        (
            "qq",
            None,
            "data must be one of text, uniform, zipf, got 'qq'. No file has this name.",
        ),
        (
            "text.txt",
            None,
            "data must be zipf, uniform, text or an existing file, got 'text.txt'. Check its path.",
        ),
        (
            "nowhere/zipf",
            None,
            "data must be zipf, uniform, text or an existing file, got 'nowhere/zipf'. "
            "Check its path.",
        ),
        (
            "corpus",
            Path.mkdir,
            "data must be a file, got 'corpus', a folder. Name a file in it.",
        ),
        (
            "pipe",
            os.mkfifo,
            "data must be a file, got 'pipe', a device or pipe. Save it first.",
        ),
        (
            "a.txt",
            _write(b""),
            "data must hold tokens, got the empty file 'a.txt'. Use another file.",
        ),
        (
            "a.bin",
            _write(b""),
            "data must hold tokens, got the empty file 'a.bin'. Use another file.",
        ),
        (
            "a.bin",
            _write(b"\0" * 21),
            "data must hold two bytes a token in a .bin file, got 21 bytes in 'a.bin'. "
            "Write it again as uint16, or rename it to have its bytes as tokens.",
        ),
        # two sequences of 8 positions need 8 + 2 tokens: the second starts one later
        (
            "a.txt",
            _write(b"\0" * 9),
            "data must hold at least 10 tokens for batch_size=2 and seq_len=8, got 9 in 'a.txt'. "
            "Use --seq-len 7 or a longer file.",
        ),
        (
            "a.bin",
            _write(b"\0" * 18),
            "data must hold at least 10 tokens for batch_size=2 and seq_len=8, got 9 in 'a.bin'. "
            "Use --seq-len 7 or a longer file.",
        ),
        (
            "a.txt",
            _write(b"\0\0"),
            "data must hold at least 10 tokens for batch_size=2 and seq_len=8, got 2 in 'a.txt'. "
            "Use a longer file.",
        ),
        (
            "a.txt",
            _write(b"0123456789"),
            "data must hold tokens below vocab_size=50, got token 57 in 'a.txt'. "
            "Use --vocab-size 256 or other data.",
        ),
        (
            "a.bin",
            _write(b"\0" * 18 + b"\x32\0"),
            "data must hold tokens below vocab_size=50, got token 50 in 'a.bin'. "
            "Use --vocab-size 51 or other data.",
        ),
    ],
)
def test_data_that_cannot_be_used_says_what_would(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    make: Callable[[Path], object] | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if make is not None:
        make(Path(name))

    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_tokens(name, vocab_size=50, batch_size=2, seq_len=8)


def test_a_suggested_sequence_length_is_the_longest_that_works(tmp_path: Path) -> None:
    path = _bin(tmp_path / "a.bin", 9)

    with pytest.raises(ConfigError, match="--seq-len 7 or"):
        open_tokens(str(path), vocab_size=50, batch_size=2, seq_len=8)
    source = open_tokens(str(path), vocab_size=50, batch_size=2, seq_len=7)

    assert source.draw(0).tolist() == [list(range(8)), list(range(1, 9))]


def test_only_tokens_that_are_used_must_be_in_the_vocabulary(tmp_path: Path) -> None:
    source = _open(_bin(tmp_path / "a.bin", 100), vocab=9, batch=1)

    assert source.draw(0).max() == 8


def test_text_needs_a_vocabulary_of_bytes() -> None:
    with pytest.raises(
        ConfigError, match=r"below vocab_size=65, got token 1\d\d in 'text'. Use --vocab-size 256"
    ):
        _open("text", vocab=65, length=100)


@pytest.mark.parametrize("method", ["open", "exists"])
def test_a_file_that_may_not_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    path = _bin(tmp_path / "a.bin", 100)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, refuse)

    with pytest.raises(
        ConfigError,
        match=r"readable file, got '.*a.bin': Permission denied. Check its path and permissions.$",
    ):
        _open(path)


@pytest.mark.parametrize("data", ["zipf", "text"])
@pytest.mark.parametrize("name", ["vocab_size", "batch_size", "seq_len"])
def test_sizes_must_be_positive(data: str, name: str) -> None:
    sizes = {"vocab_size": 256, "batch_size": 1, "seq_len": 8, name: 0}

    with pytest.raises(ConfigError, match=f"^{name} must be a positive integer, got 0.$"):
        open_tokens(data, **sizes)


def test_given_tokens_are_the_same_for_every_seed() -> None:
    ids = np.array([[3, 1, 2, 0], [0, 0, 1, 1]])

    source = given_tokens(ids, vocab_size=4, block_size=3)

    assert (source.shape, source.fixed, source.data) == ((2, 3), True, "given")
    for seed in (0, 7):
        assert np.array_equal(source.draw(seed), ids)
    assert (
        source.fingerprint([source.draw(0)])
        == hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
    )


def test_given_tokens_stay_with_the_source_whatever_the_caller_does() -> None:
    ids = np.array([[1, 2, 3]])
    source = given_tokens(ids, vocab_size=4, block_size=3)

    source.draw(0)[:] = 0
    ids[:] = 0

    assert source.draw(0).tolist() == [[1, 2, 3]]


def test_one_row_is_a_batch_of_one() -> None:
    assert given_tokens([3, 1, 2], vocab_size=4, block_size=8).shape == (1, 2)
    assert given_tokens(np.array([1, 2], dtype=np.uint8), vocab_size=4, block_size=1).shape == (
        1,
        1,
    )


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1.0, 2.0]], r"^tokens must be integers of shape \(B, T \+ 1\) .*, got float64 of shape"),
        ([1], r"^tokens must be integers of shape .*, got int64 of shape \(1, 1\)\.$"),
        ([[[1, 2]]], r"^tokens must be integers of shape .*, got int64 of shape \(1, 1, 2\)\.$"),
        ([[]], r"^tokens must be integers of shape .*, got float64 of shape \(1, 0\)\.$"),
        ([1, 4], r"^tokens must be at least 0 and below vocab_size=4, got 1 to 4\.$"),
        ([-1, 2], r"^tokens must be at least 0 and below vocab_size=4, got -1 to 2\.$"),
        ([0] * 10, r"^tokens must have at most block_size=8 positions, got 9\.$"),
        (["a", "b"], r"^tokens must be integers of shape .*, got <U1 of shape"),
        (np.zeros((0, 5), dtype=np.int64), r"^tokens must be integers of shape .*, got int64 of"),
        ([[1, 2], [1]], r"^tokens must have rows of one length, got several\.$"),
    ],
    ids=str,
)
def test_given_tokens_that_cannot_be_used_are_named(ids: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        given_tokens(ids, vocab_size=4, block_size=8)  # type: ignore[arg-type] # on purpose
