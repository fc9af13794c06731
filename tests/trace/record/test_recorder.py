"""What operators do under the trace: views, metadata, looks at values, memory, random state."""

import copy
import io
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gptinit.errors import SubjectError
from gptinit.facts.distributions import Measured, Normal, Unset
from gptinit.trace.graph import Read, mark_looked
from gptinit.trace.laws.laws import Laws
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tensor import TracedTensor, current_handler
from gptinit.trace.record.tracing import recording, trace
from gptinit.trace.replay.replay import Replay


def values(tensor: Tensor) -> Tensor:
    assert isinstance(tensor, TracedTensor)
    return Replay().value(tensor.read())


VIEWS = {
    "t": lambda w: w.t(),
    "view": lambda w: w.view(2, 12),
    "reshape": lambda w: w.t().reshape(4, 6),
    "permute": lambda w: w.view(2, 3, 4).permute(2, 0, 1),
    "unflatten": lambda w: w.unflatten(0, (2, 3)),
    "slice": lambda w: w[1:5, ::2],
    "select": lambda w: w[2],
    "diagonal": lambda w: w.diagonal(),
    "chunk": lambda w: w.chunk(3)[1],
    "split": lambda w: w.split([1, 5])[1],
    "unbind": lambda w: w.unbind(1)[2],
    "expand": lambda w: w[:1].expand(5, 4),
    "squeeze": lambda w: w.unsqueeze(0).squeeze(),
    "movedim": lambda w: w.movedim(0, 1),
    "as_strided": lambda w: w.as_strided((3, 2), (4, 1), 5),
    "narrow": lambda w: w.narrow(1, 1, 2),
    "view_as_complex": lambda w: torch.view_as_real(torch.view_as_complex(w.view(6, 2, 2))),
    "t_": lambda w: w.clone().t_(),
    "unsqueeze_": lambda w: w.clone().unsqueeze_(1),
    "squeeze_": lambda w: w[:1].clone().squeeze_(),
    "transpose_": lambda w: w.clone().transpose_(0, 1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_show_the_entries_that_torch_shows(name: str) -> None:
    real = VIEWS[name](torch.arange(24.0).view(6, 4))  # type: ignore[no-untyped-call] # a table of lambdas

    with recording():
        made = VIEWS[name](torch.arange(24.0).view(6, 4))  # type: ignore[no-untyped-call] # as above

    assert (made.shape, made.dtype) == (real.shape, real.dtype)
    assert torch.equal(values(made), real)


WRITES = {
    "out of another dtype": lambda w: torch.mul(w.double(), 2, out=torch.empty(6, 4)),
    "out of a factory": lambda w: torch.full((6, 4), 2.0, out=w),
    "out of two": lambda w: torch.max(w.clone(), 0, out=(w[0], torch.empty(4, dtype=torch.long)))[
        0
    ],
    "half times float": lambda w: w.half().mul_(w / 3),
    "mixed dtypes": lambda w: w.to(torch.bfloat16) + w.double(),
    "a number times an integer tensor": lambda w: w * torch.arange(4),
    "foreach": lambda w: (torch._foreach_add_([w], [w]), w)[1],
    "broadcast": lambda w: w.copy_(torch.arange(4.0)),
    "a slice of itself": lambda w: (w[1:].copy_(w[:-1].clone()), w)[1],
    "index_put": lambda w: (w.__setitem__(torch.tensor([1, 3]), 7.0), w)[1],
    "mask": lambda w: (w.__setitem__(w > 5, 0.0), w)[1],
    "selected by a mask": lambda w: w[w > 5],
    "apply_": lambda w: w.apply_(lambda x: x + 1),
    "map_": lambda w: w.map_(w.clone(), lambda x, y: x * y),
    "scatter_": lambda w: w.scatter_(0, torch.zeros(1, 4, dtype=torch.long), 9.0),
    "numpy": lambda w: torch.from_numpy(np.asarray(w) * 2),
    "tolist": lambda w: torch.tensor(w.tolist()),
    "saved and loaded": lambda w: saved(w),
    "copy.copy": lambda w: copy.copy(w),
    "set_": lambda w: torch.empty(2).set_(w.t()),
    "infinite": lambda w: torch.full_like(w, float("-inf")).triu(1),
    "polar": lambda w: torch.view_as_real(torch.polar(torch.ones_like(w), w)),
    "cat with a real one": lambda w: torch.cat([w, torch.from_numpy(np.ones((1, 4), "f4"))]),
    "a real one drawn over": lambda w: torch.arange(4).float().zero_(),
    "vmap": lambda w: torch.vmap(lambda row: row * 2)(w),
}


def saved(w: Tensor) -> Tensor:
    buffer = io.BytesIO()
    torch.save(w, buffer)
    buffer.seek(0)
    loaded: Tensor = torch.load(buffer)
    return loaded


@pytest.mark.parametrize("name", WRITES)
def test_operators_give_the_values_that_torch_gives(name: str) -> None:
    real = WRITES[name](torch.arange(24.0).view(6, 4))  # type: ignore[no-untyped-call] # a table of lambdas

    with recording():
        made = WRITES[name](torch.arange(24.0).view(6, 4))  # type: ignore[no-untyped-call] # as above

    assert isinstance(made, TracedTensor)
    assert (made.shape, made.dtype) == (real.shape, real.dtype)
    assert torch.equal(values(made), real)


def test_data_assigned_changes_shape_and_dtype() -> None:
    with recording():
        p = nn.Parameter(torch.zeros(3))
        p.data = torch.ones(2, 2, dtype=torch.float64)

    assert (p.shape, p.dtype) == ((2, 2), torch.float64)
    assert values(p).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_outside_the_trace_operators_run_on_values() -> None:
    with recording():
        w = torch.full((2, 2), 3.0)

    product = w @ torch.eye(2)
    assert not isinstance(product, TracedTensor)
    assert product.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_meta_tensors_stay_meta_until_they_are_emptied() -> None:
    def make() -> nn.Module:
        with torch.device("meta"):
            layer = nn.Linear(4, 4)
        assert layer.weight.is_meta
        return layer.to_empty(device="cpu")

    weight = trace(make).get_parameter("weight")

    assert isinstance(weight, TracedTensor)
    assert Laws().of(weight.read()).distribution == Unset()


def test_a_parameter_is_a_parameter_and_no_meta_tensor() -> None:
    module = trace(lambda: nn.Linear(3, 2))

    assert isinstance(module.get_parameter("weight"), nn.Parameter)
    assert not module.get_parameter("weight").is_meta
    assert sum(p.numel() for p in module.parameters()) == 8


# --- steps


def steps(module: nn.Module, name: str) -> list[tuple[str, bool]]:
    tensor = module.get_parameter(name)
    assert isinstance(tensor, TracedTensor)
    return [(str(w.node.step), w.node.by_default) for w in tensor._store.writes]


def test_steps_name_the_operator_and_the_users_line() -> None:
    def make() -> nn.Module:
        layer = nn.Linear(4, 4)  # built here
        nn.init.normal_(layer.weight, std=0.02)  # drawn here
        nn.init.trunc_normal_(layer.bias, std=0.5)  # cut here
        return layer

    module = trace(make)
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    lines = {
        word: 1 + next(i for i, line in enumerate(source) if line.endswith(f"# {word} here"))
        for word in ("built", "drawn", "cut")
    }

    here = Path(__file__).relative_to(Path.cwd()).as_posix()
    assert steps(module, "weight") == [
        (f"uniform_(-0.5, 0.5) at {here}:{lines['built']}", True),
        (f"normal_(0, 0.02) at {here}:{lines['drawn']}", False),
    ]
    assert steps(module, "bias")[-1] == (
        f"trunc_normal_(0, 0.5, -2, 2) at {here}:{lines['cut']}",
        False,
    )


def test_a_scale_is_a_step_of_its_own() -> None:
    def make() -> nn.Module:
        layer = nn.Linear(4, 4)
        with torch.no_grad():
            layer.weight.mul_(0.25)
        return layer

    (_, _), (step, by_default) = steps(trace(make), "weight")
    assert re.fullmatch(r"mul\(0\.25\) at .*test_recorder\.py:\d+", step)
    assert not by_default


# --- random state


def test_the_random_state_outside_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def make() -> nn.Module:
        torch.manual_seed(1)
        layer = nn.Linear(4, 4)
        torch.bernoulli(torch.full((3,), 0.5))
        torch.randint(0, 5, (3,))
        return layer

    trace(make)
    assert torch.equal(torch.get_rng_state(), before)


def test_tracing_twice_records_the_same_numbers() -> None:
    def make() -> nn.Module:
        return nn.LSTM(4, 4)

    one, two = (values(trace(make).get_parameter("weight_ih_l0")) for _ in range(2))
    assert torch.equal(one, two)


def test_asking_for_values_does_not_change_later_draws() -> None:
    def make(look: bool) -> nn.Module:
        first = nn.Linear(4, 4)
        if look:
            first.weight.std().item()
            first.weight.tolist()
            repr(first.weight)
        return nn.Sequential(first, nn.Linear(4, 4))

    looked, not_looked = trace(lambda: make(True)), trace(lambda: make(False))
    for name in ("0.weight", "1.weight"):
        assert torch.equal(
            values(looked.get_parameter(name)), values(not_looked.get_parameter(name))
        )


def test_a_random_operator_without_a_law_gives_the_same_numbers_again() -> None:
    with recording():
        w = torch.poisson(torch.full((50,), 4.0))
        shuffled = torch.bernoulli(torch.rand(50))
    before = torch.get_rng_state()

    for tensor in (w, shuffled):
        assert torch.equal(values(tensor), values(tensor))
        assert len(values(tensor).unique()) > 1
    assert torch.equal(torch.get_rng_state(), before)


# --- what cannot be answered


def test_values_of_a_large_tensor_are_refused_in_one_line_with_its_place() -> None:
    def make() -> nn.Module:
        w = torch.randn(16384, 16384)
        assert w.numpy().shape
        return nn.Linear(2, 2)

    with pytest.raises(
        SubjectError,
        match=r"^init code must not depend on the values of a large random tensor, "
        r"got a use of them at .*test_recorder\.py:\d+\. "
        r"268435456 drawn entries are too many to be replayed\.$",
    ):
        trace(make)


def test_a_number_behind_an_operator_that_has_no_rule_is_refused_by_name() -> None:
    def make() -> nn.Module:
        w = torch.randn(16384, 16384)
        torch.linalg.qr(w)[0].std().item()
        return nn.Linear(2, 2)

    with pytest.raises(SubjectError, match="linalg_qr on 268435456 drawn entries"):
        trace(make)


def test_what_nothing_can_tell_of_a_large_tensor_is_not_called_unset() -> None:
    with recording():
        w = torch.randn(16384, 16384).sort()[0]
    assert isinstance(w, TracedTensor)

    law = Laws().of(w.read()).distribution
    assert isinstance(law, Measured)
    assert law.count == 0


def test_large_tensors_answer_by_a_sample() -> None:
    texts = []

    def make() -> nn.Module:
        layer = nn.Linear(16384, 16384, bias=False)
        nn.init.normal_(layer.weight, std=0.02)
        texts.append(f"{layer.weight.std():.2f} {layer.weight!r}")
        assert not bool(torch.isnan(layer.weight).any())
        if layer.weight.std() > 0.03:
            layer.weight.data.zero_()
        return layer

    weight = trace(make).get_parameter("weight")

    assert texts[0].startswith("0.02 tensor(..., size=(16384, 16384)")
    assert isinstance(weight, TracedTensor)
    assert Laws().of(weight.read()).distribution == Normal(0.0, 0.02)
    assert weight._store.looked


# --- a forward pass of which only the flow is wanted


def test_a_dummy_recorder_makes_truth_values_and_integers_up() -> None:
    with recording(Recorder(dummy=True)):
        w = torch.randn(4, 3)
        assert bool((w > 0).all())
        assert w.argmax(dim=-1).tolist() == [0, 1, 2, 3]
        assert w.topk(2)[1].tolist() == [[0, 1]] * 4


# --- memory and imports


def in_a_process_of_its_own(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LLAMA_405B = """
import resource, torch
from torch import nn
from gptinit.trace.record.tracing import trace
from gptinit.trace.laws.laws import Laws

C, F, KV = 16384, 53248, 1024

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=False)
            for a, b in ((C, C), (C, KV), (C, KV), (C, C), (C, F), (C, F), (F, C))
        )
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)
        with torch.no_grad():
            self.layers[-1].weight.mul_(0.5)
            self.layers[3].weight.mul_(0.02 / self.layers[3].weight.std())

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
module = trace(lambda: nn.Sequential(
    nn.Embedding(128256, C), *[Block() for _ in range(126)], nn.Linear(C, 128256, bias=False)
))
laws = Laws()
stds = {round(laws.of(p.read()).distribution.std, 4) for p in module.parameters()}
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(sum(p.numel() for p in module.parameters()) // 10**9, sorted(stds), grown < 200 * 1024)
"""


@pytest.mark.slow
def test_405_billion_parameters_take_no_memory() -> None:
    # The default of nn.Linear(16384, n) has std 1 / sqrt(3 * 16384) = 0.0045, of the embedding 1.
    assert in_a_process_of_its_own(LLAMA_405B) == "405 [0.0045, 0.01, 0.02, 1.0] True\n"


GPT = """
import sys, torch
from torch import nn
from gptinit.trace.record.tracing import trace
from gptinit.trace.laws.laws import Laws

class Block(nn.Module):
    def __init__(self, C=768):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.RMSNorm(C)
        self.c_attn, self.c_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.register_buffer("mask", torch.tril(torch.ones(1024, 1024)).view(1, 1, 1024, 1024))
        inverse = 1.0 / 10000 ** (torch.arange(0, 64, 2).float() / 64)
        angles = torch.outer(torch.arange(1024), inverse)
        self.register_buffer("rope", torch.polar(torch.ones_like(angles), angles))
        self.register_buffer("cos", torch.cat([angles, angles], dim=-1).cos())

class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50257, 768), nn.Embedding(1024, 768)
        self.h = nn.ModuleList([Block() for _ in range(2)])
        self.lm_head = nn.Linear(768, 50257, bias=False)
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, 0.0, 0.02 / (2 * 2) ** 0.5)
                p.data = p.data * (0.01 / p.data.std())
                p.data /= p.data.norm(dim=-1, keepdim=True)
                nn.init.orthogonal_(p)
        self.wte.weight.data[0].zero_()
        self.wte.weight.data[[1, 2]] = 0.0
        self.wpe.weight.data.clamp_(-3, 3).copy_(torch.where(torch.rand(768) > 0.5, 1.0, 0.0))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Embedding):
            module.weight.data.normal_(0.0, 0.02)

module = trace(GPT)
laws = Laws()
kinds = [laws.of(t.read()).distribution.kind for t in (*module.parameters(), *module.buffers())]
print([m for m in ("torch._dynamo", "torch._inductor", "sympy") if m in sys.modules])
"""


def test_tracing_a_gpt_does_not_load_torchs_compiler() -> None:
    assert in_a_process_of_its_own(GPT) == "[]\n"


def test_a_thread_that_a_factory_starts_works_under_its_trace() -> None:
    def factory() -> nn.Module:
        layer = nn.Linear(8, 8)
        worker = threading.Thread(target=nn.init.normal_, args=(layer.weight, 0.0, 0.3))
        worker.start()
        worker.join()
        return layer

    weight = trace(factory).weight

    assert isinstance(weight, TracedTensor)
    assert Laws().of(weight.read()).distribution == Normal(0.0, 0.3)


def test_traces_of_two_threads_use_their_own_recorders() -> None:
    mine, other = Recorder(), Recorder(dummy=True)
    inside, done = threading.Event(), threading.Event()

    def record_elsewhere() -> None:
        with recording(other):
            inside.set()
            done.wait()

    thread = threading.Thread(target=record_elsewhere)
    with recording(mine):
        thread.start()
        inside.wait()
        assert current_handler() is mine
        done.set()
        thread.join()
        assert current_handler() is mine

    assert current_handler() not in {mine, other}


@pytest.mark.parametrize("dim", range(-3, 3))
def test_large_tensors_are_stacked_along_any_dimension(dim: int) -> None:
    """Over 2^16 entries: the shape comes from a rule and not from running the operator."""
    size = (300, 400)

    module = trace(lambda: Held(torch.stack([torch.randn(size), torch.zeros(size)], dim=dim)))

    assert module.w.shape == torch.stack([torch.empty(size, device="meta")] * 2, dim=dim).shape


class Held(nn.Module):
    """One parameter."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(values)


def test_what_is_asked_for_on_the_meta_device_has_the_shape_that_was_asked_for() -> None:
    with recording():
        drawn = torch.randn(3, 4)
        made = (
            drawn.new_zeros((2, 5), device="meta"),
            torch.empty_like(drawn, device="meta"),
            drawn.to("meta"),
        )

    assert [(t.is_meta, tuple(t.shape)) for t in made] == [
        (True, (2, 5)), (True, (3, 4)), (True, (3, 4)),
    ]  # fmt: skip


def traced_read(tensor: Tensor) -> Read:
    """A read of a recorded tensor."""
    assert isinstance(tensor, TracedTensor)
    return tensor.read()


def test_a_look_marks_what_is_drawn_and_all_draws_behind_it() -> None:
    with recording():
        drawn, other, plain = torch.randn(3), torch.randn(3), torch.ones(3)
        made = drawn * 2 + plain
    storages = [traced_read(t).storage for t in (drawn, other, plain, made)]

    mark_looked(traced_read(plain))
    assert not any(s.looked for s in storages)
    mark_looked(traced_read(made))
    assert [s.looked for s in storages] == [True, False, False, True]
