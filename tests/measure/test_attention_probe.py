"""The probe leaves torch as it found it, also where several threads measure at once."""

from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import nn

from gptinit.measure.attention_probe import AttentionProbe
from gptinit.measure.statistics import Attention


def calls_of(module: nn.MultiheadAttention, x: torch.Tensor) -> list[Attention]:
    found: list[Attention] = []
    probe = AttentionProbe(found.append)
    for _ in range(20):
        probe.on()
        module(x, x, x, need_weights=False)
        probe.off()
    return found


def test_threads_record_their_own_calls_and_put_torch_back() -> None:
    attend, soften = F.scaled_dot_product_attention, F.softmax
    modules = [nn.MultiheadAttention(8, heads, batch_first=True) for heads in (1, 2, 4, 8)]
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))

    with ThreadPoolExecutor(len(modules)) as pool:
        found = list(pool.map(calls_of, modules, [x] * len(modules)))

    heads = [{c.query.shape[1] for c in calls if c.query is not None} for calls in found]
    assert [len(calls) for calls in found] == [20] * 4
    assert heads == [{1}, {2}, {4}, {8}]
    assert F.scaled_dot_product_attention is attend
    assert F.softmax is soften
