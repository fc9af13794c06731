"""Dense and stream give a module the same weights; stream holds next to none of them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.subjects import TINY, cpu_draws, dense_module, tiny_subject
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from gptinit.errors import MeasureError
from gptinit.facts.schemes import load_schemes
from gptinit.measure.subject import Subject
from gptinit.results.program import ParameterProgram
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws
from gptinit.weights.lazy.policy import LazyPolicy
from gptinit.weights.policy import WeightsPolicy, put_parameter, tied_names
from gptinit.weights.stream import install_stream
from gptinit.weights.tensor import WeightTensor


def streamed_module(subject: Subject, *, seed: int = 0) -> nn.Module:
    module = subject.build()
    install_stream(module, subject.program, cpu_draws(seed))
    return module


@pytest.mark.parametrize("slug", load_schemes())
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_both_policies_draw_bitwise_equal_weights(slug: str, tied: bool) -> None:
    subject = tiny_subject(slug, tied=tied)
    dense, stream = dense_module(subject), streamed_module(subject)

    for parameter in subject.program:
        drawn = stream.get_parameter(parameter.name) + 0
        assert not isinstance(drawn, WeightTensor)
        assert torch.equal(dense.get_parameter(parameter.name), drawn), parameter.name


def test_both_policies_give_bitwise_equal_logits_and_gradients() -> None:
    subject = tiny_subject("pytorch-default")
    idx = torch.randint(TINY["vocab_size"], (2, 16), generator=torch.Generator().manual_seed(0))
    logits, gradients = [], []

    for module in (dense_module(subject), streamed_module(subject)):
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        out = module(idx)
        out.square().sum().backward()
        logits.append(out.detach())
        gradients.append({n: p.grad for n, p in module.named_parameters()})

    assert torch.equal(*logits)
    for name, gradient in gradients[0].items():
        assert gradient is not None
        assert torch.equal(gradient, as_tensor(gradients[1][name])), name


def as_tensor(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


class Counter:
    """Counts the entries of drawn tensors that are still in memory, at every draw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: list[tuple[StorageWeakRef, int]] = []
        self.peak = 0
        self.draws = 0
        original = Draws.new

        def counted(draws: Draws, parameter: ParameterProgram) -> Tensor:
            tensor = original(draws, parameter)
            self.draws += 1
            self.alive.append((StorageWeakRef(tensor.untyped_storage()), tensor.numel()))
            self.alive = [(ref, n) for ref, n in self.alive if not ref.expired()]
            self.peak = max(self.peak, sum(n for _, n in self.alive))
            return tensor

        monkeypatch.setattr(Draws, "new", counted)


def test_stream_never_holds_more_than_one_block_and_what_is_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = tiny_subject("nanogpt", n_layer=12)
    outside = sum(p.numel for p in subject.program if p.layer is None)
    block = sum(p.numel for p in subject.program if p.layer == 0)
    counter = Counter(monkeypatch)
    module = streamed_module(subject)
    for p in module.parameters():
        p.requires_grad_(True)
        p.register_post_accumulate_grad_hook(drop_gradient)
    assert counter.peak <= outside

    out = module(torch.arange(32)[None])
    forward_draws, forward_peak = counter.draws, counter.peak
    out.square().sum().backward()

    assert forward_peak <= outside + block
    assert counter.peak <= outside + block
    # The backward pass needs every matrix again for the gradient of its input, and every norm.
    assert counter.draws >= forward_draws + 6 * 12


def drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def test_dense_draws_a_second_seed_into_the_same_memory() -> None:
    subject = tiny_subject()
    module = dense_module(subject, seed=0)
    addresses = {n: p.data_ptr() for n, p in module.named_parameters()}

    install_dense(module, subject.program, cpu_draws(1))

    assert {n: p.data_ptr() for n, p in module.named_parameters()} == addresses
    fresh = dense_module(subject, seed=1)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, fresh.get_parameter(name))


def test_ties_survive_both_policies() -> None:
    for module in (dense_module(tiny_subject()), streamed_module(tiny_subject())):
        names = tied_names(module)["transformer.wte.weight"]
        assert names == ("transformer.wte.weight", "lm_head.weight")


USES: dict[str, Any] = {
    "linear": F.linear,
    "matmul of the transpose": lambda x, w: x @ w.T,
    "transpose": lambda x, w: x @ w.transpose(0, 1),
    "view": lambda x, w: x @ w.view(4, 2, 6).reshape(8, 6).t(),
    "slice": lambda x, w: x @ w[2:5].t(),
    "chunk": lambda x, w: torch.cat([x @ part.t() for part in w.chunk(2)], -1),
    "unbind": lambda x, w: torch.stack([(x * row).sum(-1) for row in w.unbind()]),
    "einsum": lambda x, w: torch.einsum("bi,oi->bo", x, w),
    "arithmetic": lambda x, w: x @ (w * 2 + w).t(),
    "layer norm": lambda x, w: F.layer_norm(x, (6,), w[0], w[1]),
    "index": lambda x, w: x @ w[torch.tensor([0, 3, 3])].t(),
    "embedding": lambda x, w: F.embedding(torch.tensor([1, 1, 7]), w) * x[:1],
    "expand": lambda x, w: torch.bmm(x[None].expand(3, -1, -1), w.t().expand(3, 6, 8)),
    "copy": lambda x, w: x @ w.clone().t(),
}


@pytest.mark.parametrize("name", USES)
def test_a_streamed_weight_behaves_as_its_dense_twin(name: str) -> None:
    subject = tiny_subject("nanogpt")
    parameter = ParameterProgram(
        name="w", shape=(8, 6), role="mlp_up", layer=0, distribution=subject.program[3].distribution
    )
    holder = nn.Linear(6, 8, bias=False, device="meta")
    program = (ParameterProgram(**{**asdict(parameter), "name": "weight"}),)
    install_stream(holder, program, cpu_draws(0))
    dense = cpu_draws(0).new(program[0]).requires_grad_(True)
    streamed = holder.weight.requires_grad_(True)
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    xs = [inputs.clone().requires_grad_(True) for _ in range(2)]

    outs = [USES[name](xs[0], dense), USES[name](xs[1], streamed)]
    for out in outs:
        out.square().sum().backward()

    assert torch.equal(*outs)
    assert torch.equal(as_tensor(xs[0].grad), as_tensor(xs[1].grad))
    assert torch.equal(as_tensor(dense.grad), as_tensor(streamed.grad))


def asdict(parameter: ParameterProgram) -> dict[str, Any]:
    return {name: getattr(parameter, name) for name in parameter.__slots__}


def test_writing_to_a_streamed_weight_is_refused() -> None:
    module = streamed_module(tiny_subject())
    weight = module.get_parameter("transformer.h.0.mlp.c_fc.weight")

    with (
        torch.no_grad(),
        pytest.raises(MeasureError, match="weights must not be written while engine=stream"),
    ):
        weight.mul_(2)


@pytest.mark.parametrize("install", [install_stream, LazyPolicy(())], ids=["stream", "lazy"])
def test_dense_takes_over_a_module_from_another_policy(install: WeightsPolicy) -> None:
    subject = tiny_subject()
    module = subject.build()
    install(module, subject.program, cpu_draws(0))

    install_dense(module, subject.program, cpu_draws(0))

    fresh = dense_module(subject, seed=0)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, fresh.get_parameter(name))


def test_dense_draws_anew_in_another_type() -> None:
    subject = tiny_subject()
    module = dense_module(subject)

    install_dense(module, subject.program, cpu_draws(0, torch.bfloat16))

    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}


def test_a_parameter_is_put_under_all_its_names_without_a_gradient() -> None:
    module = nn.ModuleDict({"wte": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})

    put_parameter(module, ("wte.weight", "head.weight"), torch.full((3, 2), 5.0))

    assert module.get_parameter("wte.weight") is module.get_parameter("head.weight")
    assert module.get_parameter("wte.weight")[2, 1] == 5
    assert not module.get_parameter("head.weight").requires_grad
