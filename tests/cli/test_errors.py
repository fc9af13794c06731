"""Whatever is wrong: exit code 2, one line on stderr, nothing on stdout, no file touched."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from gptinit.cli import main

TINY = "nanogpt-char --n-layer 2 --n-embd 64 --seq-len 16 --seeds 1"

SCHEME = """
[{slug}.roles]
tok_emb = {{dist = "normal", std = "{std}"}}
pos_emb = {{dist = "normal", std = "0.02"}}
"""

RUN = "[run]\nseq_len = 16\n"
MODEL = '[[models]]\nmodel = "nanogpt-char"\nname = "small"\nn_layer = 2\n'


def bound(**fields: object) -> str:
    """A configuration with one bound."""
    told = {"stat": "resid_growth", "where": "whole", "max": 50, "why": "It drowns.", **fields}
    lines = [f"{k} = {v!r}" for k, v in told.items() if v is not None]
    return RUN + MODEL + "[[bounds]]\n" + "\n".join(lines) + "\n"


FILES: dict[str, str | bytes] = {
    "empty.txt": b"",
    "short.txt": b"too short",
    "capitals.txt": b"THE HARBOUR CLOCK AND THE SEA",
    "odd.bin": b"\x01" * 101,
    "beyond.bin": np.full(64, 65, dtype="<u2").tobytes(),
    "folder/inside.txt": b"inside",
    "broken.toml": "[mine.roles\n",
    "unknown.toml": "[mine]\ncolour = 1\n[mine.roles]\n",
    "two.toml": SCHEME.format(slug="a", std="1") + SCHEME.format(slug="b", std="1"),
    "none.toml": "",
    "plain.toml": SCHEME.format(slug="plain", std="1"),
    "partial.toml": SCHEME.format(slug="partial", std="1"),
    "evil.toml": SCHEME.format(slug="evil", std="__import__('os').system('touch pwned')"),
    "power.toml": SCHEME.format(slug="power", std="9 ** 9 ** 9 ** 9"),
    "zero.toml": SCHEME.format(slug="zero", std="1 / (n_layer - n_layer)"),
    "negative.toml": SCHEME.format(slug="negative", std="-0.02"),
    "role.toml": '[mine.roles]\nc_proj = {dist = "normal", std = "1"}\n',
    "dist.toml": '[mine.roles]\ntok_emb = {dist = "gauss", std = "1"}\n',
    "latin.toml": "title = 'é'".encode("latin-1"),
    "c-broken.toml": "[run\n",
    "c-key.toml": RUN + MODEL + "[limits]\n",
    "c-run-key.toml": RUN + "seed_count = 6\n" + MODEL,
    "c-models.toml": RUN,
    "c-seeds.toml": "[run]\nseeds = 5\n" + MODEL,
    "c-preset.toml": '[[models]]\nmodel = "gtp2"\n',
    "c-scheme.toml": '[[models]]\nscheme = "gtp2"\n',
    "c-stat.toml": bound(stat="resid_vra"),
    "c-place.toml": bound(stat="loss", where="every layer"),
    "c-where.toml": bound(stat="loss", where="finale"),
    "c-grad.toml": bound(stat="grad_growth", where="embedding"),
    "c-layer.toml": bound(stat="resid_var", where="layer 2"),
    "c-why.toml": bound(why=None),
    "c-range.toml": bound(min=60),
    "c-text.toml": bound(max="fifty"),
    "c-twice.toml": RUN + MODEL + MODEL,
    "c-long.toml": RUN.replace("16", "257") + MODEL,
    "c-one.toml": bound(stat="token_cosine", where="last layer").replace("= 16", "= 1"),
    "c-base.toml": 'baseline = "not-there.json"\n' + bound(),
    "c-json.toml": 'baseline = "broken.toml"\n' + bound(),
    "c-folder.toml": 'baseline = "folder"\n' + bound(),
}

# Command, and the one line it says after "gptinit: ". TINY stands for a model that runs at once.
CASES: tuple[tuple[str, str], ...] = (
    # names
    (
        "inspect gtp2",
        r"model must be one of gpt2, .*, got 'gtp2'\. Did you mean gpt2.*\? A model .*",
    ),
    ("inspect --scheme gtp2", r"scheme must be one of .*, got 'gtp2'\. Did you mean gpt2\? .*"),
    ("inspect --engine dens", r"engine must be one of .*, got 'dens'\. Did you mean dense\?"),
    ("inspect --device gpu", r"device must be one of auto, cpu, cuda, mps, got 'gpu'\..*"),
    ("inspect --dtype fp8", r"dtype must be one of bfloat16, float16, float32, got 'fp8'\."),
    ("inspect --activation swish", r"activation must be one of .*relu, got 'swish'\."),
    ("inspect --format yaml", r"--format must be one of csv, .*, got 'yaml'\."),
    ("schemes --format junit", r"--format must be one of csv, .*, got 'junit'\..*"),
    ("check --format html", r"--format must be one of csv, github, .*, got 'html'\."),
    ("inspect --fail-on errors", r"--fail-on must be .*, got 'errors'\. Did you mean error\?"),
    (
        "inspect --n-layers 3",
        r"No such option: --n-layers\. Did you mean --n-layer or .*\? See gptinit inspect --help\.",
    ),
    ("insepct", r"command must be one of audit, .*, got 'insepct'\. Did you mean inspect\? See .*"),
    ("compare heads 1,2", r"AXIS must be one of depths, .*, got 'heads'\. .*compare --help\."),
    ("compare dephts 1,2", r"AXIS must be one of .*, got 'dephts'\. Did you mean depths or .*"),
    (
        "compare model.py:GPT",
        r"AXIS must be .*, got 'model\.py:GPT'\..* gptinit compare schemes --model model\.py:GPT\.",
    ),
    ("compare gpt2-xl", r"AXIS must be .*, got 'gpt2-xl'\..* compare schemes --model gpt2-xl\."),
    ("compare plain gpt2", r"AXIS must be .*, got 'plain'\..* gptinit compare schemes plain\."),
    ("inspect --data zopf", r"data must be one of .*, got 'zopf'\. Did you mean zipf\? .*"),
    ("schemes plian", r"scheme must be one of .*, got 'plian'\. Did you mean plain\?.*"),
    ("schemes --model gpt9", r"model must be one of .*, got 'gpt9'\..*"),
    ("compare schemes plain plian", r"scheme must be one of .*, got 'plian'\..*"),
    # numbers
    ("inspect --n-layer three", r"Invalid value for '--n-layer': .* valid integer.*"),
    ("inspect --seeds 2.5", r"Invalid value for '--seeds': .* valid integer.*"),
    ("inspect --n-embd 770", r"n_embd must be a multiple of 64 .*770\. Nearest multiple: 768\."),
    ("inspect --n-embd 770 --n-head 12", r"n_embd must be a multiple of n_head=12, .*: 768\."),
    ("inspect --n-head 0", r"n_head must be a positive integer, got 0\."),
    ("inspect --n-layer -1", r"n_layer must be a positive integer, got -1\."),
    ("inspect --vocab-size 0", r"vocab_size must be a positive integer, got 0\."),
    ("inspect --head-dim -1", r"head_dim must be a non-negative integer, got -1\."),
    ("inspect TINY --seq-len 257", r"seq_len must be at most block_size=256, got seq_len=257\. .*"),
    ("inspect TINY --batch-size 0", r"batch_size must be a positive integer, got 0\."),
    ("inspect TINY --seeds 0", r"seeds must be a positive integer, got 0\."),
    ("inspect TINY --seed -1", r"seed must be a non-negative integer, got -1\."),
    ("schemes plain --n-embd 770", r"n_embd must be a multiple of 64 .*"),
    # arguments
    ("inspect gpt2 gpt2-xl", r"Got unexpected extra argument\(s\) \(gpt2-xl\)\. See .*"),
    ("inspect --format", r"Option '--format' requires an argument\. See .*"),
    ("compare depths", r"depths must be integers, got none\. Example: .* 6,12,24\."),
    ("compare depths 6,x", r"depths must be integers, got '6,x'\. .*"),
    ("compare widths 64,,128", r"widths must be integers, got '64,,128'\. .*"),
    ("compare depths ''", r"depths must be integers, got ''\. .*"),
    ("compare depths 6,6", r"depths to compare must differ, got 6 twice\."),
    ("compare schemes gpt2 nanogpt", r"schemes to compare must differ, got nanogpt twice\."),
    ("compare depths 6 --n-layer 3", r"n_layer cannot be set when depths are compared\."),
    ("compare widths 64 --set n_embd=64", r"n_embd cannot be set when widths are compared\."),
    ("compare depths 6 12,x", r"depths must be integers, got '6 12,x'\. .*"),
    ("compare schemes --scheme plain", r"--scheme cannot be used with schemes: name schemes .*"),
    ("compare models gpt2 --scheme plain", r"--scheme cannot be used with models: each has .*"),
    ("compare models --model gpt2", r"--model cannot be used with models: .* models gpt2\."),
    ("compare engines --engine lazy", r"engine cannot be set when engines .*, got 'lazy'\."),
    ("compare widths 64,770", r"n_embd must be a multiple of 64 .* got n_embd=770\..*"),
    ("compare depths 3,0", r"n_layer must be a positive integer, got 0\."),
    ("inspect --set n_layer", r"--set must be KEY=VALUE, got 'n_layer'\. Example: n_layer=48\."),
    ("inspect --set n_layer=", r"--set must be KEY=VALUE, got 'n_layer='\. .*"),
    ("inspect --set n_lyer=3", r"--set key must be one of .*, got 'n_lyer'\. Did you mean n_l.*"),
    ("inspect --set n_layer=3 --set n_layer=4", r"n_layer is set twice: give it once\."),
    ("inspect --set n_layer=3 --n-layer 4", r"n_layer is set twice: give it once\."),
    ("inspect --set bias=maybe", r"bias must be true or false, got 'maybe'\."),
    ("inspect --set n_layer=two", r"n_layer must be a positive integer, got 'two'\."),
    # data
    (
        "inspect TINY --data empty.txt",
        r"data must hold tokens, got the empty file 'empty\.txt'\..*",
    ),
    ("inspect TINY --data short.txt", r"data must hold at least 17 tokens .*, got 9 in .*"),
    ("inspect TINY --data gone.txt", r"data must be .* an existing file, got 'gone\.txt'\..*"),
    ("inspect TINY --data folder", r"data must be a file, got 'folder', a folder\. .*"),
    ("inspect TINY --data odd.bin", r"data must hold two bytes a token .*, got 101 bytes in .*"),
    (
        "inspect TINY --data beyond.bin",
        r".* below vocab_size=65, got token 65 in 'beyond\.bin'\..*",
    ),
    ("inspect TINY --data capitals.txt", r".* below vocab_size=65, .* Use --vocab-size 256 or .*"),
    ("inspect TINY --data text", r".* below vocab_size=65, .* in 'text'\. Use --vocab-size 256 .*"),
    ("inspect TINY --data ''", r"data must be one of zipf, uniform, text or a file, got ''\."),
    # scheme files
    ("inspect --scheme gone.toml", r"gone\.toml must be an existing file, got none of that name\."),
    ("inspect --scheme broken.toml", r"broken\.toml must be valid TOML, got .*line 1.*"),
    ("inspect --scheme latin.toml", r"latin\.toml must be a readable UTF-8 file, got .*"),
    ("inspect --scheme unknown.toml", r"unknown\.toml \[mine\] key must be one of .*'colour'\..*"),
    ("inspect --scheme two.toml", r"two\.toml must hold exactly one scheme, got 2: a, b\."),
    ("inspect --scheme none.toml", r"none\.toml must hold exactly one scheme, got 0: none\."),
    ("inspect --scheme plain.toml", r"plain\.toml must give its scheme an unused name, .*"),
    ("inspect TINY --scheme partial.toml", r"scheme partial must have a rule for the role .*"),
    ("inspect --scheme evil.toml", r"evil\.toml \[evil\] tok_emb: formula must use only .*"),
    ("inspect --scheme power.toml", r"scheme power, role tok_emb: formula must have a finite .*"),
    ("inspect --scheme zero.toml", r"scheme zero, role tok_emb: formula must have a finite .*"),
    ("inspect --scheme negative.toml", r"scheme negative, role tok_emb: std must .*"),
    ("inspect --scheme role.toml", r"role\.toml \[mine\] roles key must be .*, got 'c_proj'\..*"),
    ("schemes dist.toml", r"dist\.toml \[mine\] tok_emb dist must be one of .*, got 'gauss'\."),
    ("inspect --scheme folder", r"scheme must be one of .*, got 'folder'\..*"),
    # configurations
    ("check", r".* must have a gptinit\.toml or \[tool\.gptinit\] .* Run gptinit check --init\."),
    ("check --config gone.toml", r"gone\.toml must be an existing file, got none of that name\."),
    ("check --config folder", r"folder must be a readable UTF-8 file, got .*"),
    ("check --config c-broken.toml", r"c-broken\.toml must be valid TOML, got .*line 1.*"),
    ("check --config c-key.toml", r"c-key\.toml key must be one of .*, got 'limits'\..*"),
    ("check --config c-run-key.toml", r".*\[run\] key must be one of .*, got 'seed_count'\..*"),
    ("check --config c-models.toml", r"c-models\.toml must have at least one \[\[models\]\], .*"),
    ("check --config c-seeds.toml", r".*\[run\] seeds must be at least 6 in a check, got 5\..*"),
    ("check --config c-preset.toml", r".*\[\[models\]\] 1 model must be .*, got 'gtp2'\..*"),
    ("check --config c-scheme.toml", r".*\[\[models\]\] 1 scheme must be .*, got 'gtp2'\..*"),
    (
        "check --config c-stat.toml",
        r".*\[\[bounds\]\] 1 bound stat must .* Did you mean resid_var.*",
    ),
    (
        "check --config c-place.toml",
        r".*bound on loss must be at a place that has it \(final\), .*",
    ),
    (
        "check --config c-where.toml",
        r".*bound where must be .*, got 'finale'\. Did you mean final.*",
    ),
    ("check --config c-grad.toml", r".* must come with grad = true under \[run\], got .*"),
    (
        "check --config c-layer.toml",
        r".* small: .* must be at a layer from 0 to 1, got .*'layer 2'.*",
    ),
    ("check --config c-why.toml", r".*\[\[bounds\]\] 1 must have a why, got none\..*"),
    ("check --config c-range.toml", r".*must have min <= max, got min=60, max=50\."),
    ("check --config c-text.toml", r".*\[\[bounds\]\] 1 max must .*, got 'fifty'\."),
    ("check --config c-twice.toml", r".*\[\[models\]\] 2 must have a unique name, .*"),
    ("check --config c-long.toml", r".* model small: seq_len must be at most block_size=256, .*"),
    ("check --config c-one.toml", r"bound on token_cosine .* must be on a measured statistic, .*"),
    ("check --config c-base.toml", r"baseline '.*' cannot be read\. .*--update-baseline\."),
    ("check --config c-json.toml", r"baseline must be JSON, got .*"),
    ("check --config c-stat.toml --update-baseline", r".*bound stat must .*"),
    ("check --update-baseline --config c-grad.toml", r".*grad = true.*"),
    ("check --config c-why.toml --format json", r".*must have a why.*"),
    # files to write
    (
        "inspect TINY --plot a.gif",
        r"plot must be a file ending in \.png, \.svg or \.pdf, got 'a.gif'\.",
    ),
    (
        "inspect TINY --plot gone/a.png",
        r"plot must be in a folder that exists, got 'gone/a\.png'\.",
    ),
    ("inspect TINY -o gone/result", r"--output must be in a folder that .*, got 'gone/result'\."),
    ("inspect TINY -o folder", r"--output must be a file, got the folder 'folder'\."),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with everything that can be wrong in it."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file of a folder with its content; hidden ones too."""
    paths = sorted(folder.rglob("*"))
    return {str(p): p.read_bytes() if p.is_file() else None for p in paths}


def refused(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a command is refused in one line."""
    code = main(shlex.split(command.replace("TINY", TINY)))

    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert re.fullmatch(f"gptinit: {message}\n", err), err


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    command: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(folder)

    refused(command, message, capsys)

    assert listing(folder) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [(c, m) for c, m in CASES if not {"-o", "--init", "--update-baseline"} & set(c.split())],
    ids=lambda value: value,
)
def test_a_file_that_was_there_stays_as_it_was(
    command: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "result").write_text("of last week", encoding="utf-8")
    before = listing(folder)
    name, _, rest = command.partition(" ")
    if name == "compare":
        axis, _, rest = rest.partition(" ")
        name = f"{name} {axis}"

    refused(f"{name} -o result {rest}", message, capsys)

    assert listing(folder) == before


def test_messages_are_sentences() -> None:
    assert [m for _, m in CASES if not m.endswith((r"\.", r"\?", ".*"))] == []


def test_a_device_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    refused("inspect TINY --device cuda", "device must be available here, got 'cuda'.*", capsys)


@pytest.mark.parametrize(
    ("engine", "free", "remedy"),
    [
        # 119,168 parameters take 0.48 MB at once; one matrix and what is outside take 0.10 MB
        ("dense", 450_000, r"--engine stream needs \S+ GB\."),
        ("dense --grad", 450_000, r"--engine stream needs \S+ GB\."),
        ("dense", 100_000, r"(?!.*--engine stream).*fewer tokens .*"),
        ("stream --grad", 100_000, r"(?!.*--engine stream).*fewer tokens .*"),
    ],
)
def test_a_model_too_large_for_memory_says_what_would_fit(
    engine: str,
    free: int,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: free)
    monkeypatch.setattr("gptinit.weights.draws.Draws.new", pytest.fail)

    refused(
        f"inspect TINY --device cpu --engine {engine}",
        rf"nanogpt-char, .* must fit in memory: engine={engine.split()[0]} needs .* on cpu, "
        rf"got {free / 1e9:.3g} GB free\. {remedy}",
        capsys,
    )


def test_a_missing_baseline_is_found_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "gptinit.api.check.measure_job", lambda *args, **kwargs: pytest.fail("it ran")
    )

    refused("check --config c-base.toml", "baseline '.*' cannot be read.*", capsys)


def test_init_overwrites_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gptinit.toml").write_text("# mine\n", encoding="utf-8")
    before = listing(folder)

    refused("check --init", r"gptinit\.toml already exists: --init does not .*", capsys)

    assert listing(folder) == before


def test_a_baseline_needs_a_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gptinit.toml").write_text(bound(), encoding="utf-8")

    refused("check --update-baseline", r".*toml names no baseline\. Add .*", capsys)


def test_a_baseline_that_is_a_folder_leaves_nothing_half_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(folder)

    refused(
        "check --config c-folder.toml --update-baseline",
        r"\S*folder cannot be written: Is a directory\.",
        capsys,
    )

    assert listing(folder) == before


def test_an_output_below_a_file_is_refused_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect = "gptinit.api.inspect.inspect"
    monkeypatch.setattr(inspect, lambda *args, **kwargs: pytest.fail("it ran"))

    refused("inspect TINY -o short.txt/result", "--output must be .*", capsys)


@pytest.mark.parametrize(
    "command",
    [
        "inspect --vocab-size 100000000000000000000",
        "inspect --n-embd 6400000000000000000000",
        "inspect --batch-size 1000000000000000",
    ],
)
def test_a_size_beyond_any_machine_is_a_setting_or_memory_and_no_crash(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(command + " --n-layer 1 --device cpu", r"(?!the run failed).* must .*", capsys)


@pytest.mark.parametrize("option", ["--init", "--update-baseline"])
def test_an_output_without_a_report_is_refused(
    option: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"--output cannot be used with {option}, which writes no report."
    refused(f"check {option} -o result", re.escape(message), capsys)


def test_a_plot_and_a_report_in_one_file_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "--plot and --output name the same file, 'o.svg'."
    refused("inspect TINY --plot o.svg -o o.svg", re.escape(message), capsys)
    assert not (folder / "o.svg").exists()


@pytest.mark.parametrize("option", ["head-dim", "d-ff"])
def test_zero_is_no_size(option: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = f"{option.replace('-', '_')} must be a positive integer, got 0."
    refused(f"inspect --{option} 0", re.escape(message), capsys)


BROKEN = """
import torch
from torch import nn

class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(11, 8)

class Raises(Stem):
    def forward(self, ids):
        raise ZeroDivisionError("nothing\\nto divide by.")

class NoLogits(Stem):
    def forward(self, ids):
        return self.wte(ids).mean()

class NoBlocks(Stem):
    def forward(self, ids):
        return self.wte(ids)

class Fails(Stem):
    def __init__(self):
        raise ValueError("the width must be even")

NUMBER = 3
"""

NANO = str(Path(__file__).parents[1] / "support" / "models" / "nano.py") + ":GPT"
FOREIGN: tuple[tuple[str, str], ...] = (
    (
        "inspect broken.py:Raises",
        r".*Raises must run forward on token ids, got ZeroDivisionError: nothing to divide by "
        r"\(broken\.py:\d+\)\. .*",
    ),
    (
        "inspect broken.py:NoLogits",
        r".*forward of NoLogits must return logits of shape .*, got float32 of shape .*",
    ),
    ("inspect broken.py:NoBlocks", r".* must have repeated blocks.*, got .*\."),
    ("audit broken.py:NoBlocks", r".* must have repeated blocks, got a model without any\."),
    ("inspect broken.py:Fails", r".*the width must be even.*"),
    ("inspect broken.py:NUMBER", r".*NUMBER.*"),
    ("inspect broken.py:Gone", r".*Gone.*"),
    ("inspect gone.py:GPT", r".*gone\.py.*"),
    ("inspect NANO --site blocks=layers", r"sites must name modules of GPT, got .*layers.*\."),
    ("inspect NANO --site attn=attn", r"--site attn and --site mlp need --site blocks=PATH .*\."),
    (
        "inspect NANO --site block=h",
        r"--site must be one of .*, got 'block'\. Did you mean blocks\?",
    ),
    ("inspect NANO --site blocks", r"--site must be WHAT=PATH, got 'blocks'\."),
    ("inspect NANO --role wte.weight", r"--role must be GLOB=ROLE, got 'wte\.weight'\."),
    (
        "inspect NANO --role *=tok_em",
        r"--role must be a known name, got 'tok_em'\. Did you mean tok_emb or pos_emb\?",
    ),
    ("inspect NANO --scheme plain", r"scheme applies to a preset only\. Use --reinit .*"),
    ("inspect gpt2 --scheme gpt2 --reinit plain", r"scheme and reinit cannot be used together: .*"),
    ("inspect NANO --reinit plian", r"scheme must be one of .*'plian'\. Did you mean plain\? .*"),
    ("inspect NANO --set n_layers=2", r".*n_layers.*"),
    ("inspect NANO --set n_layer=two", r".*n_layer.*'two'.*"),
    ("inspect NANO --set n_layer", r"--set must be KEY=VALUE, got 'n_layer'\..*"),
    ("inspect NANO --weights theirs", r"weights must be one of .*, got 'theirs'\."),
    (
        "inspect NANO --weights own --engine stream",
        r"engine must be dense with the weights that .*",
    ),
    ("inspect NANO --stub not/a/name", r"stub must be the name of a module, got 'not/a/name'\."),
    (
        "audit NANO --stub torch.cuda",
        r"stub must be a module other than torch, got 'torch\.cuda'\.",
    ),
    (
        "inspect gpt2 --stub triton",
        r"stub applies to a model in a Python file .*triton for 'gpt2'\.",
    ),
    ("compare models gpt2 --stub triton", r"stub applies to .* only, got triton for 'gpt2'\."),
    ("inspect gpt2 --site blocks=h", r"sites, roles and forward apply to your own model .*"),
    ("inspect gpt2 --forward how.py:run", r"sites, roles and forward apply to your own .*"),
    ("audit NANO --forward run", r"forward must be path\.py:FUNC or .*, got 'run'\."),
    ("compare models NANO --forward no.py:run", r"forward must be a file that exists, .*"),
    ("inspect NANO --seq-len 65", r"seq_len must be at most block_size=64, got seq_len=65\..*"),
    ("compare models", r"no models to compare: name at least one\."),
    ("compare models gpt2 gpt2", r"models to compare must differ, got gpt2 twice\."),
    ("compare models gtp2 NANO", r"model must be one of .*, got 'gtp2'\. Did you mean gpt2.*"),
)


@pytest.mark.parametrize(("command", "message"), FOREIGN, ids=[c for c, _ in FOREIGN])
def test_what_is_wrong_with_a_foreign_model_is_said_in_one_line(
    command: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.py").write_text(BROKEN, encoding="utf-8")

    assert main([NANO if word == "NANO" else word for word in command.split()]) == 2

    said = capsys.readouterr()
    (line,) = [text for text in said.err.splitlines() if text.startswith("gptinit: ")]
    assert re.fullmatch(message, line.removeprefix("gptinit: ")), line
    assert said.out == ""
    assert "Traceback" not in said.err
