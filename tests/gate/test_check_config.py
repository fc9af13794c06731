"""The configuration of a check: what it means, and one line for everything that is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from gptinit.errors import ConfigError
from gptinit.facts.bounds import DEFAULT_BOUNDS, Bound
from gptinit.gate.check_config import (
    Acceptance,
    CheckConfig,
    ModelSpec,
    ScopedBound,
    apply_acceptances,
    load_check,
    starter_config,
)
from gptinit.results.profile import Finding

MODEL = '[[models]]\nmodel = "gpt2"\n'
BOUND = '[[bounds]]\nstat = "resid_growth"\nwhere = "whole"\nmax = 1000\nwhy = "Drowned."\n'


def load(folder: Path, text: str, name: str = "gptinit.toml") -> CheckConfig:
    (folder / name).write_text(text, encoding="utf-8")
    return load_check(None, folder=folder)


def test_a_full_file_says_everything(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        baseline = "reviewed/baseline.json"
        [run]
        seeds = 12
        seed = 5
        batch_size = 2
        seq_len = 64
        data = "corpus.txt"
        device = "cpu"
        dtype = "bfloat16"
        engine = "dense"
        grad = true
        [[models]]
        model = "gpt2"
        [[models]]
        model = "gpt2-xl"
        name = "big"
        scheme = "gpt2"
        n_layer = 96
        bias = false
        [[bounds]]
        stat = "grad_growth"
        where = "layer 90"
        min = 0.5
        max = 2
        why = "Gradients differ by layer."
        source = "ours"
        models = ["big"]
        [[accept]]
        rule = "out-of-bounds"
        where = "big: layer 3"
        reason = "known"
        """,
    )

    assert config.path == tmp_path / "gptinit.toml"
    assert config.baseline == tmp_path / "reviewed" / "baseline.json"
    assert (config.run.seeds, config.run.seed, config.run.grad) == (12, 5, True)
    assert (config.run.dtype, config.run.engine, config.run.device) == ("bfloat16", "dense", "cpu")
    assert config.run.data == str(tmp_path / "corpus.txt")
    assert config.models == (
        ModelSpec(name="gpt2"),
        ModelSpec(
            name="big",
            model="gpt2-xl",
            scheme="gpt2",
            overrides={"n_layer": 96, "bias": False},
        ),
    )
    bound = Bound(
        stat="grad_growth",
        where="layer 90",
        min=0.5,
        max=2,
        why="Gradients differ by layer.",
        source="ours",
    )
    assert config.bounds == (ScopedBound(bound=bound, models=("big",)),)
    assert config.bounds_for("big") == (bound,)
    assert config.bounds_for("gpt2") == ()
    assert config.accept == (
        Acceptance(rule="out-of-bounds", where="big: layer 3", reason="known"),
    )


def test_a_file_with_only_a_model_takes_six_seeds_and_the_default_bounds(tmp_path: Path) -> None:
    config = load(tmp_path, "[[models]]\n")

    assert config.run.seeds == 6
    assert config.run.data == "zipf"
    assert config.models == (ModelSpec(name="gpt2"),)
    assert config.bounds_for("gpt2") == DEFAULT_BOUNDS
    assert (config.accept, config.baseline) == ((), None)


def test_the_starter_is_valid_and_writes_out_the_default_bounds(tmp_path: Path) -> None:
    config = load(tmp_path, starter_config())

    assert config.bounds_for(config.models[0].name) == DEFAULT_BOUNDS
    assert config.models[0].scheme == "nanogpt"
    assert config.run.seeds == 6


def test_the_starter_is_valid_with_its_examples_uncommented(tmp_path: Path) -> None:
    lines = starter_config().splitlines()
    keys = ("baseline", "seq_len", "data", "grad", "name", "[[accept]]", "rule", "where", "reason")
    settings = [
        line[2:] if line.startswith("# ") and line[2:].startswith(keys) else line for line in lines
    ]

    config = load(tmp_path, "\n".join(settings))

    assert config.models[0].name == "small"
    assert config.run.grad
    assert config.baseline == tmp_path / "gptinit-baseline.json"
    assert config.accept[0].where == "small: *"


def test_default_names_are_made_from_the_settings(tmp_path: Path) -> None:
    config = load(
        tmp_path, MODEL + MODEL + "n_layer = 48\ntied = false\n" + MODEL + 'scheme = "plain"\n'
    )

    assert [m.name for m in config.models] == [
        "gpt2",
        "gpt2 n_layer=48 tied=false",
        "gpt2 scheme=plain",
    ]


def test_the_table_of_a_pyproject_is_read_where_there_is_no_file(tmp_path: Path) -> None:
    config = load(tmp_path, "[[tool.gptinit.models]]\nn_layer = 3\n", "pyproject.toml")

    assert config.path == tmp_path / "pyproject.toml"
    shape = config.models[0].config()
    assert shape is not None
    assert shape.n_layer == 3


def test_gptinit_toml_comes_before_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[[tool.gptinit.models]]\nn_layer = 3\n")

    shape = load(tmp_path, MODEL).models[0].config()
    assert shape is not None
    assert shape.n_layer == 12


def test_a_named_pyproject_is_read_by_its_table(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[[tool.gptinit.models]]\n", encoding="utf-8")

    assert load_check(path, folder=Path("elsewhere")).models[0].name == "gpt2"


def test_paths_are_relative_to_a_file_in_another_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[run]\ndata = "text"\n[[models]]\nscheme = "own.toml"\n', encoding="utf-8")
    (tmp_path / "own.toml").write_text('[own.roles]\ntok_emb = {dist = "normal", std = "1"}\n')

    config = load_check(path, folder=Path("elsewhere"))

    assert config.models[0].scheme == str(tmp_path / "own.toml")
    assert config.models[0].name == "gpt2 scheme=own.toml"
    assert config.run.data == "text"


@pytest.mark.parametrize("project", [None, "[project]\nname = 'x'\n", "tool = 1\n"])
def test_no_configuration_is_an_error_with_the_remedy(tmp_path: Path, project: str | None) -> None:
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")

    with pytest.raises(
        ConfigError,
        match=r"must have a gptinit\.toml or \[tool\.gptinit\] in pyproject\.toml, got none\. "
        r"Run gptinit check --init\.",
    ):
        load_check(None, folder=tmp_path)


def test_a_named_pyproject_without_the_table_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[project]\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"pyproject\.toml must have \[tool\.gptinit\], got none"):
        load_check(path, folder=tmp_path)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml must be an existing file"):
        load_check(tmp_path / "none.toml", folder=tmp_path)


ERRORS = {
    "broken": ("[run\n", r"gptinit\.toml must be valid TOML, got .*line 1"),
    "unknown table": ("[runs]\n", r"key must be one of .*'runs'\. Did you mean run"),
    "run key": (MODEL + "[run]\nsed = 1\n", r"\[run\] key must be .*'sed'\. Did you mean seed"),
    "run value": (
        MODEL + '[run]\nengine = "dens"\n',
        r"toml \[run\] engine must be one of .*'dens'\. Did you mean dense\?",
    ),
    "run type": (MODEL + '[run]\nseeds = "6"\n', r"\[run\] seeds must be a positive integer"),
    "run list": (MODEL + "[[run]]\n", r"\[run\] must be a table, got \[\{\}\]"),
    "few seeds": (MODEL + "[run]\nseeds = 5\n", r"seeds must be at least 6 in a check, got 5\."),
    "no models": ("", r"must have at least one \[\[models\]\], got none\."),
    "models table": ("[models]\n", r"models must be tables under \[\[models\]\], got \{\}\."),
    "models texts": (
        'models = ["gpt2"]\n',
        r"\[\[models\]\] 1 must be a table, got 'gpt2'\.",
    ),
    "model key": (
        "[[models]]\nn_layers = 4\n",
        r"\[\[models\]\] 1 key must be a known name, got 'n_layers'\. Did you mean n_layer",
    ),
    "preset": (
        MODEL + '[[models]]\nmodel = "gtp2"\n',
        r"\[\[models\]\] 2 model must be one of .*'gtp2'\. Did you mean gpt2",
    ),
    "preset type": ("[[models]]\nmodel = 2\n", r"1 model must be a text, got 2\."),
    "shape": (MODEL + "n_embd = 770\nn_head = 12\n", r"1 n_embd must be a multiple of n_head=12"),
    "shape type": (MODEL + "n_layer = 1.5\n", r"1 n_layer must be an integer, a text, true or"),
    "shape bool": (MODEL + "n_layer = true\n", r"1 n_layer must be a positive integer, got True"),
    "scheme": (MODEL + 'scheme = "nanogtp"\n', r"1 scheme must be .*Did you mean nanogpt"),
    "scheme file": (MODEL + 'scheme = "no.toml"\n', r"1 .*no\.toml must be an existing file"),
    "same name": (
        MODEL + MODEL,
        r"\[\[models\]\] 2 must have a unique name, got 'gpt2' again\. Give it another name\.",
    ),
    "empty name": (MODEL + 'name = " "\n', r"1 name must not be blank, got ' '\."),
    "long run": (
        MODEL + 'name = "a"\nblock_size = 8\n[run]\nseq_len = 9\n',
        r"model a: seq_len must be at most block_size=8, got seq_len=9",
    ),
    "baseline type": ("baseline = 1\n" + MODEL, r"gptinit\.toml baseline must be a text, got 1"),
    "bound without why": (
        MODEL + '[[bounds]]\nstat = "loss"\nwhere = "final"\nmax = 1\n',
        r"\[\[bounds\]\] 1 must have a why, got none\. Say what goes wrong outside the bound\.",
    ),
    "bound with empty why": (
        MODEL + BOUND.replace("Drowned.", ""),
        r"\[\[bounds\]\] 1 why must not be blank",
    ),
    "bound without stat": (MODEL + '[[bounds]]\nwhy = "x"\n', r"1 must have a stat, got none"),
    "bound key": (MODEL + BOUND + "maximum = 1\n", r"1 key must be .*Did you mean max"),
    "bound stat": (
        MODEL + BOUND.replace("resid_growth", "resid_grow"),
        r"1 bound stat must be .*'resid_grow'\. Did you mean resid_growth",
    ),
    "bound stat type": (MODEL + BOUND.replace('"resid_growth"', "[]"), r"1 stat must be a text"),
    "bound place": (
        MODEL + BOUND.replace("whole", "embedding"),
        r"1 bound on resid_growth must be at a place that has it \(layer, whole\)",
    ),
    "bound limit": (MODEL + BOUND.replace("1000", '"1000"'), r"1 max must be a number, got '1000'"),
    "huge limit": (MODEL + BOUND.replace("1000", "1" + "0" * 400), r"1 max must be below 1e308"),
    "infinite limit": (MODEL + BOUND.replace("1000", "inf"), r"must have a finite number as max"),
    "bound models": (
        MODEL + BOUND + 'models = ["gpt"]\n',
        r"1 models must be one of gpt2, got 'gpt'\. Did you mean gpt2\?",
    ),
    "bound for nobody": (MODEL + BOUND + "models = []\n", r"1 models must name a model, got none"),
    "bound layer": (
        MODEL + 'name = "a"\n' + BOUND.replace("whole", "layer 12"),
        r"model a: bound on resid_growth must be at a layer from 0 to 11, got where='layer 12'",
    ),
    "bound grad": (
        MODEL + BOUND.replace("resid_growth", "grad_rms").replace("whole", "last layer"),
        r"bound on grad_rms must come with grad = true under \[run\], got grad = false",
    ),
    "accept without reason": (
        MODEL + '[[accept]]\nrule = "x"\n',
        r"\[\[accept\]\] 1 must have a reason, got none\.",
    ),
    "accept without rule": (MODEL + '[[accept]]\nreason = "x"\n', r"1 must have a rule, got none"),
    "accept key": (
        MODEL + '[[accept]]\nrule = "x"\nreasons = "y"\n',
        r"1 key must be one of .*'reasons'\. Did you mean reason\?",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path: Path, case: str) -> None:
    text, message = ERRORS[case]

    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text)

    assert str(caught.value).startswith(str(tmp_path / "gptinit.toml"))
    assert "\n" not in str(caught.value)


def test_errors_in_a_pyproject_name_its_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pyproject\.toml \[tool\.gptinit\] key must be one of"):
        load(tmp_path, "[tool.gptinit]\nmodel = 1\n", "pyproject.toml")


def finding(model: str = "big", where: str = "layer 3") -> Finding:
    return Finding(
        rule="out-of-bounds", severity="error", model=model, where=where, fact="Too large."
    )


@pytest.mark.parametrize(
    ("where", "accepted"),
    [
        ("*", True),
        ("big: *", True),
        ("big: layer 3", True),
        ("big: layer ?", True),
        ("small: *", False),
        ("big", False),
        ("Big: *", False),
    ],
)
def test_an_acceptance_covers_the_places_of_its_pattern(where: str, accepted: bool) -> None:
    accept = Acceptance(rule="out-of-bounds", where=where, reason="known")

    first = apply_acceptances([finding()], [accept])[0]

    assert (first.severity == "note") is accepted
    assert first.message == ("Too large. Accepted: known" if accepted else "Too large.")


def test_an_acceptance_is_for_its_rule_alone() -> None:
    accept = Acceptance(rule="inconclusive", reason="known")

    assert apply_acceptances([finding()], [accept])[0] == finding()


def test_a_name_with_wildcards_in_it_matches_itself() -> None:
    accept = Acceptance(rule="out-of-bounds", where="a[0]: final", reason="known")

    (only,) = apply_acceptances([finding(model="a[0]", where="final")], [accept])

    assert only.severity == "note"


def test_an_acceptance_of_one_layer_does_not_hide_others_of_the_same_finding() -> None:
    accept = Acceptance(rule="out-of-bounds", where="big: layer 3", reason="known")

    still, unused = apply_acceptances([finding(where="layers 3, 7")], [accept])

    assert still.severity == "error"
    assert unused.rule == "unused-acceptance"


@pytest.mark.parametrize(
    ("places", "severity"),
    [(("a", "b"), "note"), (("?",), "note"), (("a",), "error"), (("b", "c"), "error")],
)
def test_a_finding_with_one_cause_is_accepted_place_by_place(
    places: tuple[str, ...], severity: str
) -> None:
    accept = [Acceptance(rule="out-of-bounds", where=f"big: {p}", reason="known") for p in places]

    first, *_ = apply_acceptances([replace(finding(where="a"), also=("b",))], accept)

    assert first.severity == severity


def test_an_acceptance_without_anything_to_accept_is_a_warning() -> None:
    accept = Acceptance(rule="out-of-bound", where="big: *", reason="known")

    (unused,) = apply_acceptances([], [accept])

    assert unused == Finding(
        rule="unused-acceptance",
        severity="warning",
        where="big: *",
        fact=(
            "An acceptance must match a finding, got none of rule 'out-of-bound' at 'big: *'. "
            "Remove it, or correct its rule or where."
        ),
    )


def test_every_acceptance_that_covers_a_finding_is_in_use() -> None:
    accept = [
        Acceptance(rule="out-of-bounds", where="big: *", reason="first"),
        Acceptance(rule="out-of-bounds", reason="second"),
    ]

    (only,) = apply_acceptances([finding()], accept)

    assert only.message == "Too large. Accepted: first"


FOREIGN = """
[[models]]
model = "models/nano.py:GPT"
name = "nano"
scheme = "nanogpt"
set = {n_layer = 3, init_std = 0.05, bias = false}
roles = {"*.c_fc.weight" = "mlp_up"}
sites = {blocks = "transformer.h", attn = "attn"}
stubs = ["triton", "wandb"]
init = "train/init.py:draw"
forward = "models/how.py:run"
"""


def test_a_foreign_model_is_found_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (spec,) = load(tmp_path, FOREIGN).models

    assert spec.config() is None
    assert spec.drawn_by is None
    assert spec.model == f"{tmp_path}/models/nano.py:GPT"
    assert spec.init == f"{tmp_path}/train/init.py:draw"
    assert (spec.name, spec.scheme) == ("nano", "nanogpt")
    assert dict(spec.overrides) == {"n_layer": 3, "init_std": 0.05, "bias": False}
    assert dict(spec.roles) == {"*.c_fc.weight": "mlp_up"}
    assert dict(spec.sites) == {"blocks": "transformer.h", "attn": "attn"}
    assert spec.stubs == ("triton", "wandb")
    assert spec.forward == f"{tmp_path}/models/how.py:run"


@pytest.mark.parametrize(
    ("model", "located"),
    [
        ("model.py:GPT", "{}/model.py:GPT"),
        ("../model.py:GPT", "{}/../model.py:GPT"),
        ("config.json", "{}/config.json"),
        ("folder/of/a/config", "{}/folder/of/a/config"),
        ("/else/model.py:GPT", "/else/model.py:GPT"),
        ("package.module:NAME", "package.module:NAME"),
        ("gpt2", "gpt2"),
    ],
)
def test_paths_of_models_are_relative_and_names_are_not(
    tmp_path: Path, model: str, located: str
) -> None:
    (spec,) = load(tmp_path, f'[[models]]\nmodel = "{model}"\n').models

    assert spec.model == located.format(tmp_path)


def test_a_foreign_model_is_called_as_it_is_written(tmp_path: Path) -> None:
    (spec,) = load(tmp_path, '[[models]]\nmodel = "m.py:GPT"\nset = {n_layer = 2}\n').models

    assert spec.name == "m.py:GPT n_layer=2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("set = 3", r"\[\[models\]\] 1 set must be a table, got 3\."),
        ("set = {a = [1]}", r"set\.a must be an integer, a text, true or false, got \[1\]"),
        ("stubs = 3", r"\[\[models\]\] 1 stubs must be a list of texts, got 3\."),
        ("roles = 3", r"\[\[models\]\] 1 roles must be a table, got 3\."),
        ("roles = {a = 3}", r"roles\.a must be a text, got 3"),
        (
            "sites = {block = 'h'}",
            r"sites key must be one of attn, blocks, mlp, got 'block'\. Did you mean blocks",
        ),
        ("sites = {blocks = ''}", r"sites\.blocks must not be blank, got ''\."),
        ("scheme = 'nanogtp'", r"scheme must be .*'nanogtp'\. Did you mean nanogpt"),
    ],
)
def test_what_is_wrong_with_a_foreign_model_is_one_line(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, f'[[models]]\nmodel = "m.py:GPT"\n{line}\n')

    assert "\n" not in str(caught.value)


def test_settings_of_a_preset_stand_beside_its_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"set must be for your own model, got the preset 'gpt2'\."
    ):
        load(tmp_path, MODEL + "set = {n_layer = 2}\n")


def test_bounds_on_layers_of_a_foreign_model_wait_until_it_is_built(tmp_path: Path) -> None:
    config = load(tmp_path, FOREIGN + BOUND.replace("whole", "layer 12"))

    assert config.bounds_for("nano")[0].where == "layer 12"
