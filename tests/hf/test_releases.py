"""The audit on releases of transformers that had a bug, and on one that has it no more.

Each release has an environment of its own, made once by pip in the folder that GPTINIT_TEST_ENVS
names and kept there; where pip reaches no registry the tests skip. Run: pytest --slow
"""

import json
import math
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest

import gptinit

pytestmark = pytest.mark.slow

FOLDER = Path(os.environ.get("GPTINIT_TEST_ENVS", Path.home() / ".cache" / "gptinit-tests"))
SOURCE = Path(gptinit.__file__).parents[1]
BESIDES = ("torch", "numpy", "typer", "rich")
"""What an environment holds besides transformers, in the versions of this one."""

UNREACHABLE = (
    "No matching distribution",
    "Could not find a version",
    "Connection",
    "ReadTimeout",
    "Temporary failure",
)
"""What pip says when it has no way to a registry, or only to one without that release."""

DEPTH, WIDTH = 6, 64
GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
    "n_layer": 12, "n_embd": 256, "n_head": 4,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": DEPTH,
    "hidden_size": WIDTH, "intermediate_size": 176, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 64,
}  # fmt: skip
GEMMA = {**LLAMA, "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "head_dim": 16}
OPENAI_GPT = {
    "model_type": "openai-gpt", "architectures": ["OpenAIGPTLMHeadModel"],
    "n_layer": DEPTH, "n_embd": WIDTH, "n_head": 4, "n_positions": 64, "vocab_size": 512,
}  # fmt: skip
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "num_layers": DEPTH,
    "num_decoder_layers": DEPTH, "d_model": WIDTH, "d_ff": 176, "d_kv": 16, "num_heads": 4,
    "vocab_size": 512, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
UNIT_LOGITS = """
[claim]
title = "A head that gives unit logits"
year = 2024
source = ["a test"]
notes = "None."
[claim.roles]
lm_head = { dist = "normal", std = "1 / sqrt(n_embd)" }
"""


def run(*command: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command that may fail."""
    words = [str(word) for word in command]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )


@cache
def made(release: str) -> Path | str:
    """The interpreter of an environment with a release of transformers, or why there is none."""
    home = FOLDER / f"tf-{release}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = f"import {', '.join(BESIDES)}, transformers as t; assert t.__version__ == '{release}'"
    if python.exists() and run(python, "-c", ready).returncode == 0:
        return python
    if home.exists():
        return f"{home} has no working transformers {release}; remove it to have it made anew"
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = run(sys.executable, "-m", "venv", home)
    if done.returncode == 0:
        done = installing(python, home, release)
    if done.returncode == 0:
        done = run(python, "-c", ready)
    if done.returncode == 0:
        return python
    shutil.rmtree(home, ignore_errors=True)
    if not any(word in done.stdout + done.stderr for word in UNREACHABLE):
        raise RuntimeError(done.stderr)
    return f"pip cannot install transformers {release}: {done.stderr.strip().splitlines()[-1]}"


def installing(python: Path, home: Path, release: str) -> "subprocess.CompletedProcess[str]":
    """Have pip install a release and what goes with it."""
    pins = [f"{name}=={installed(name).partition('+')[0]}" for name in BESIDES]
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    return run(
        python, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "30",
        "-c", constraints, f"transformers=={release}", *BESIDES,
    )  # fmt: skip


def audit(
    release: str, folder: Path, config: dict[str, Any], *options: str
) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `gptinit audit` under a release of transformers."""
    python = made(release)
    if isinstance(python, str):
        pytest.skip(python)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = ("-m", "gptinit", "audit", "config.json", *options, "--format", "json")
    done = run(python, *words, cwd=folder)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, json.loads(done.stdout)


def rules(document: dict[str, Any]) -> dict[str, set[str]]:
    """Every rule with the places that it names; notes are left out."""
    found: dict[str, set[str]] = {}
    for finding in document["findings"]:
        if finding["severity"] != "note":
            found.setdefault(finding["rule"], set()).update(
                [finding["where"], *finding.get("also", [])]
            )
    return found


def test_gpt2_of_5_14_1_misses_its_residual_scaling(tmp_path: Path) -> None:
    code, document = audit("5.14.1", tmp_path, GPT2, "--scheme", "nanogpt")

    projections = {f"transformer.h.*.{branch}.c_proj.weight" for branch in ("attn", "mlp")}
    assert code == 1
    assert rules(document) == {
        "residual-scaling-missing": projections,
        "init-branch-never-taken": projections,
    }
    assert {f["severity"] for f in document["findings"]} == {"error"}
    ratios = [p["ratio"] for p in document["parameters"] if p["name"].endswith("c_proj.weight")]
    assert ratios == pytest.approx([math.sqrt(2 * 12)] * 24, rel=1e-6)


def test_gpt2_of_5_14_1_is_accused_without_a_claim(tmp_path: Path) -> None:
    code, document = audit("5.14.1", tmp_path, GPT2)

    assert code == 1
    assert list(rules(document)) == ["init-branch-never-taken", "residual-scaling-missing"]
    branch, *missing = document["findings"]
    assert "`if name == 'c_proj.weight'` at modeling_gpt2.py" in branch["message"]
    assert all("ratio 4.899 = sqrt(2 n_layer)" in f["message"] for f in missing)
    assert document["closest_scheme"] == {
        "name": "nanogpt", "exact": False, "differs": ["attn_out", "mlp_down"], "is_close": True,
    }  # fmt: skip


@pytest.mark.parametrize("release", ["4.57.6", "5.15.0"])
def test_gpt2_of_a_good_release_is_clean_and_exactly_nanogpt(release: str, tmp_path: Path) -> None:
    code, document = audit(release, tmp_path, GPT2)

    assert (code, document["findings"]) == (0, [])
    assert document["closest_scheme"] == {
        "name": "nanogpt", "exact": True, "differs": [], "is_close": True,
    }  # fmt: skip


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_4_57_6_draws_nothing_on_meta(config: dict[str, Any], tmp_path: Path) -> None:
    code, document = audit("4.57.6", tmp_path, config, "--build", "meta")

    found = rules(document)
    assert code == 1
    assert found["init-never-called"] == {"*"}
    buffer = "transformer.h.*.attn.masked_bias" if config is GPT2 else "model.rotary_emb.inv_freq"
    assert found["uninitialised"] == {buffer}  # set by the constructor, lost by to_empty


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_5_15_0_draws_the_same_on_meta(config: dict[str, Any], tmp_path: Path) -> None:
    code, document = audit("5.15.0", tmp_path, config, "--build", "both")

    assert (code, document["findings"]) == (0, [])


def test_an_untied_head_of_t5_in_4_57_6_makes_wide_logits(tmp_path: Path) -> None:
    (tmp_path / "claim.toml").write_text(UNIT_LOGITS, encoding="utf-8")
    untied = {**T5, "tie_word_embeddings": False}
    code, document = audit("4.57.6", tmp_path, untied, "--scheme", "claim.toml")

    assert code == 1
    place = {"lm_head.weight"}
    assert rules(document) == {"role-std-mismatch": place, "logit-scale": place}
    (ratio,) = (p["ratio"] for p in document["parameters"] if p["name"] == "lm_head.weight")
    assert ratio == pytest.approx(math.sqrt(WIDTH), rel=1e-6)


def test_a_tied_head_of_t5_is_scaled_in_the_forward_and_clean(tmp_path: Path) -> None:
    code, document = audit("4.57.6", tmp_path, {**T5, "tie_word_embeddings": True})

    assert (code, document["findings"]) == (0, [])


def test_openai_gpt_follows_initializer_range_in_4_57_6_and_ignores_it_in_5_15_0(
    tmp_path: Path,
) -> None:
    followed, ignored = (
        rules(audit(release, tmp_path, OPENAI_GPT, "--perturb")[1])
        for release in ("4.57.6", "5.15.0")
    )

    assert followed == {}
    assert ignored == {"setting-ignored": {"initializer_range"}}


def test_zero_centred_norms_of_gemma_double_in_4_56_2(tmp_path: Path) -> None:
    code, document = audit("4.56.2", tmp_path, GEMMA)

    names = ("input_layernorm", "post_attention_layernorm")
    places = {f"model.layers.*.{name}.weight" for name in names} | {"model.norm.weight"}
    assert code == 1
    assert rules(document) == {"norm-weight-wrong": places}
    assert all("2 times as large" in f["message"] for f in document["findings"])


def test_zero_centred_norms_of_gemma_are_right_in_4_57_6(tmp_path: Path) -> None:
    code, document = audit("4.57.6", tmp_path, GEMMA)

    assert (code, rules(document)) == (0, {})
