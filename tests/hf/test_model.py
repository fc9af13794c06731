"""The built-in GPT against transformers' GPT-2 with the same weights."""

from types import ModuleType

import pytest
import torch
from support.streams import FLOAT32_ROUNDING, streams, tokens
from support.subjects import TINY, dense_module, tiny_subject
from torch import Tensor

from benchmarks import agreement
from gptinit.config import GPTConfig
from gptinit.model import GPT


@pytest.mark.parametrize("scheme", ["nanogpt", "pytorch-default"])
def test_streams_and_logits_equal_transformers_with_the_same_weights(
    scheme: str, transformers: ModuleType
) -> None:
    module = dense_module(tiny_subject(scheme))
    assert isinstance(module, GPT)
    config = transformers.GPT2Config(
        n_layer=TINY["n_layer"],
        n_head=TINY["n_head"],
        n_embd=TINY["n_embd"],
        n_positions=TINY["block_size"],
        vocab_size=TINY["vocab_size"],
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.load_state_dict(transformers_state(module, theirs.state_dict()))

    mine = streams(module, module.transformer.h, tokens())
    # Not hidden_states: its last entry is taken after the final norm.
    other = streams(theirs, theirs.transformer.h, tokens())

    for a, b in zip(mine, other, strict=True):
        assert float((a - b).abs().max()) < FLOAT32_ROUNDING * float(b.abs().max())
    with torch.no_grad():
        logits, expected = module(tokens()), theirs(tokens()).logits
    assert float((logits - expected).abs().max()) < FLOAT32_ROUNDING * float(expected.abs().max())


def transformers_state(module: GPT, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under transformers' names; its Conv1D stores matrices of blocks transposed."""
    state = {}
    for name, tensor in like.items():
        ours = module.state_dict()[name]
        state[name] = ours.T if ours.shape != tensor.shape or is_conv1d(name) else ours
    return state


def is_conv1d(name: str) -> bool:
    return name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))


@pytest.mark.usefixtures("transformers")
def test_the_benchmark_of_streams_finds_those_of_transformers_equal() -> None:
    config = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=32, vocab_size=67)

    gaps = agreement.transformers_gaps(config, 16, attention="eager")

    # 2 layers and the logits; float32 sums of up to 128 terms in another order: 2^-24 * 128.
    assert len(gaps) == 3
    assert max(gaps) < 8e-6
