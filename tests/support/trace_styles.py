"""Ways in which code initialises a tensor, each with the law that it must be traced to."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Fixed,
    Measured,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)

ROWS, COLUMNS = 64, 48
SIZE = (ROWS, COLUMNS)


class Holder(nn.Module):
    """A module with one parameter, `w`."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = w if isinstance(w, nn.Parameter) else nn.Parameter(w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One way of initialising.

    Attributes:
        make: makes the tensor; random numbers come from the global generator.
        law: the exact distribution, its type where its numbers depend on what was drawn, or None
            where a measurement is all that can be had.
        looks: whether the code asks for drawn values, so that its result depends on the draw.
    """

    make: Callable[[], Tensor]
    law: Distribution | type[Distribution] | None
    looks: bool = False


def new(*size: int) -> nn.Parameter:
    """A parameter that nothing wrote."""
    return nn.Parameter(torch.empty(*(size or SIZE)))


def written(write: Callable[[Tensor], object], *size: int) -> Callable[[], Tensor]:
    """A style that changes a parameter under no_grad."""

    def make() -> Tensor:
        w = new(*size)
        with torch.no_grad():
            write(w)
        return w

    return make


def drawn_then(change: Callable[[Tensor], object], std: float = 1.0) -> Callable[[], Tensor]:
    """A style that draws N(0, std^2), then changes it under no_grad."""

    def make() -> Tensor:
        w = new()
        with torch.no_grad():
            w.normal_(0.0, std)
            change(w)
        return w

    return make


def data_assigned() -> Tensor:
    w = new()
    w.data = torch.randn(SIZE) * 0.02
    return w


def data_normal() -> Tensor:
    w = new()
    w.data.normal_(mean=0.0, std=0.02)
    return w


def data_slice_assigned() -> Tensor:
    w = new()
    w.data[:] = 0.02 * torch.randn(SIZE)
    return w


def fused_qkv() -> Tensor:
    w = new(3 * ROWS, COLUMNS)
    q, k, v = w.chunk(3)
    for part, std in ((q, 0.01), (k, 0.02), (v, 0.03)):
        nn.init.normal_(part, 0.0, std)
    return w


def fused_views() -> Tensor:
    """Heads interleaved: (head, 3, head_dim, C) in one matrix."""
    w = new(3 * ROWS, COLUMNS)
    with torch.no_grad():
        view = w.view(4, 3, ROWS // 4, COLUMNS)
        view[:, 0].normal_(0.0, 0.01)
        view[:, 1].normal_(0.0, 0.02)
        view[:, 2].zero_()
    return w


def padding_row() -> Tensor:
    weight: Tensor = nn.Embedding(ROWS, COLUMNS, padding_idx=0).weight
    return weight


def rejected() -> Tensor:
    """A rejection loop of the user's own."""
    w = torch.randn(SIZE)
    while bool((w.abs() > 2).any()):
        w = torch.where(w.abs() > 2, torch.randn(SIZE), w)
    return nn.Parameter(w)


def inverse_cdf() -> Tensor:
    """Truncation at two sigma by the inverse error function."""
    low, high = math.erf(-2 / math.sqrt(2)), math.erf(2 / math.sqrt(2))
    w = new()
    with torch.no_grad():
        w.uniform_(low, high)
        w.erfinv_()
        w.mul_(0.02 * math.sqrt(2)).add_(0.0)
        w.clamp_(min=-0.04, max=0.04)
    return w


def copied() -> Tensor:
    first, second = nn.Linear(COLUMNS, ROWS), nn.Linear(COLUMNS, ROWS)
    nn.init.normal_(first.weight, 0.0, 0.02)
    with torch.no_grad():
        second.weight.copy_(first.weight)
    return second.weight


def deep_copied() -> Tensor:
    first = nn.Linear(COLUMNS, ROWS)
    nn.init.normal_(first.weight, 0.0, 0.02)
    return deepcopy(first).weight


def loaded() -> Tensor:
    first, second = nn.Linear(COLUMNS, ROWS), nn.Linear(COLUMNS, ROWS)
    nn.init.normal_(first.weight, 0.0, 0.02)
    second.load_state_dict(first.state_dict())
    return second.weight


def from_meta() -> Tensor:
    with torch.device("meta"):
        layer = nn.Linear(COLUMNS, ROWS)
    layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight, 0.0, 0.02)
    return layer.weight


def never_after_meta() -> Tensor:
    with torch.device("meta"):
        layer = nn.Linear(COLUMNS, ROWS)
    return layer.to_empty(device="cpu").weight


def lsuv() -> Tensor:
    """Rescaled until the spread of an output is one."""
    w = torch.randn(SIZE) * 0.5
    x = torch.linspace(-1, 1, 8 * COLUMNS).view(8, COLUMNS)
    for _ in range(5):
        spread = (x @ w.t()).std().item()
        if abs(spread - 1) < 1e-3:
            break
        w = w / spread
    return nn.Parameter(w)


def out_variant() -> Tensor:
    w = torch.empty(SIZE)
    torch.randn(SIZE, out=w)
    torch.mul(w, 0.02, out=w)
    return nn.Parameter(w)


def foreach() -> Tensor:
    w = new()
    with torch.no_grad():
        w.normal_()
        torch._foreach_mul_([w], 0.02)
    return w


def half_default() -> Tensor:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        layer = nn.Linear(COLUMNS, ROWS)
        nn.init.normal_(layer.weight, 0.0, 0.02)
    finally:
        torch.set_default_dtype(before)
    return layer.weight


def indexed_rows() -> Tensor:
    w = torch.randn(SIZE)
    w[[0, 2, 4]] = 0.0
    return nn.Parameter(w)


def masked_rows() -> Tensor:
    w = torch.randn(SIZE)
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[::4] = True
    return nn.Parameter(w.masked_fill(mask, 0.0))


def printed() -> Tensor:
    """Looks at values for a log line, and changes nothing by it."""
    w = torch.randn(SIZE) * 0.02
    text = f"{w} {w.std():.3f} {w.mean().item():.2e} {w.abs().max()!r}"
    assert "tensor" in text
    assert len(w.tolist()) == ROWS
    assert w.numpy().shape == SIZE
    assert not bool(torch.isnan(w).any())
    return nn.Parameter(w)


def from_numpy() -> Tensor:
    table = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(SIZE) / 1000
    return nn.Parameter(torch.from_numpy(table))


def standardised() -> Tensor:
    w = torch.randn(SIZE)
    return nn.Parameter((w - w.mean()) / w.std())


def conditional() -> Tensor:
    """Takes the branch that the drawn values call for."""
    w = torch.randn(SIZE)
    if w.std() > 0.5:
        w = w * 0.02
    return nn.Parameter(w)


def checkerboard() -> Tensor:
    w = torch.zeros(SIZE)
    w[::2].normal_(0.0, 0.02)
    w[:, ::2] = 0.0
    return nn.Parameter(w)


def weight_normed() -> Tensor:
    layer = nn.Linear(COLUMNS, ROWS)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    normed = nn.utils.parametrizations.weight_norm(layer)
    weight: Tensor = normed.parametrizations.weight.original1
    return weight


def seeded_twice() -> Tensor:
    """A generator of the user's own."""
    generator = torch.Generator().manual_seed(int(torch.randint(1 << 30, ())))
    return nn.init.normal_(new(), 0.0, 0.02, generator=generator)


def own_function_of_numbers() -> Tensor:
    """Draws after numpy chose the scale."""
    scale = float(np.sqrt(2.0 / COLUMNS))
    return nn.Parameter(torch.normal(0.0, scale, SIZE))


def sliced_out() -> Tensor:
    big = torch.randn(2 * ROWS, 2 * COLUMNS)
    return nn.Parameter(big[:ROWS, :COLUMNS].contiguous() * 0.02)


def rows_in_a_loop() -> Tensor:
    w = new()
    with torch.no_grad():
        for row in w:
            row.normal_(0.0, 0.02)
    return w


def grown() -> Tensor:
    """A bigger table with the old rows in front."""
    old, w = torch.randn(ROWS // 2, COLUMNS) * 0.02, torch.zeros(SIZE)
    w[: ROWS // 2] = old
    w[ROWS // 2 :] = old.mean(dim=0)
    return nn.Parameter(w)


def full(value: float) -> Tensor:
    return torch.full(SIZE, value)


def between_one_and_two() -> Tensor:
    """A draw that is not symmetric: changing its sign or swapping operands makes another law."""
    return torch.rand(SIZE) + 1.0


def normal(mean: float, std: float) -> Tensor:
    return torch.randn(SIZE) * std + mean


def two_blocks() -> Tensor:
    return torch.cat([torch.randn(ROWS // 2, COLUMNS), torch.zeros(ROWS // 2, COLUMNS)])


def first_rows(inside: Tensor, outside: Tensor) -> Tensor:
    """`inside` in the first 16 rows, `outside` in the others."""
    return torch.where(torch.arange(ROWS).view(ROWS, 1).expand(SIZE) < 16, inside, outside)


HE = math.sqrt(2.0 / COLUMNS)
XAVIER = math.sqrt(2.0 / (ROWS + COLUMNS))
N02 = Normal(0.0, 0.02)
HALVES = ((ROWS // 2, Normal(0.0, 1.0)), (ROWS // 2, Constant(0.0)))

STYLES: Mapping[str, Style] = MappingProxyType(
    {
        # --- one draw
        "normal_ in place": Style(make=written(lambda w: w.normal_(0.0, 0.02)), law=N02),
        "init.normal_": Style(make=lambda: nn.init.normal_(new(), std=0.02), law=N02),
        "Parameter(randn * c)": Style(make=lambda: nn.Parameter(torch.randn(SIZE) * 0.02), law=N02),
        "Parameter(c * randn / d)": Style(
            make=lambda: nn.Parameter(2 * torch.randn(SIZE) / 100), law=N02
        ),
        ".data =": Style(make=data_assigned, law=N02),
        ".data.normal_": Style(make=data_normal, law=N02),
        ".data[:] =": Style(make=data_slice_assigned, law=N02),
        "torch.normal(mean, std, size)": Style(make=own_function_of_numbers, law=Normal(0.0, HE)),
        "torch.normal(mean, tensor)": Style(
            make=lambda: torch.normal(0.0, torch.full(SIZE, 0.02)), law=N02
        ),
        "normal_ of a view": Style(make=written(lambda w: w.t().normal_(0.0, 0.02)), law=N02),
        "rows in a loop": Style(make=rows_in_a_loop, law=N02),
        "generator=": Style(make=seeded_twice, law=N02),
        "out=": Style(make=out_variant, law=N02),
        "randn_like": Style(make=lambda: torch.randn_like(torch.empty(SIZE)) * 0.02, law=N02),
        "new_empty": Style(make=lambda: torch.ones(2).new_empty(SIZE).normal_(0, 0.02), law=N02),
        "rand * 2 - 1": Style(make=lambda: torch.rand(SIZE) * 2 - 1, law=Uniform(-1.0, 1.0)),
        "1 - 2 * rand": Style(make=lambda: 1 - 2 * torch.rand(SIZE), law=Uniform(-1.0, 1.0)),
        "uniform_().sub_().mul_()": Style(
            make=lambda: torch.empty(SIZE).uniform_().sub_(0.5).mul_(2), law=Uniform(-1.0, 1.0)
        ),
        "uniform_(a, b)": Style(
            make=written(lambda w: w.uniform_(-0.3, 0.1)), law=Uniform(-0.3, 0.1)
        ),
        "addcmul": Style(
            make=lambda: torch.addcmul(
                torch.full(SIZE, 0.5), torch.randn(SIZE), torch.full(SIZE, 0.2)
            ),
            law=Normal(0.5, 0.2),
        ),
        # --- U(1, 2), of which sign and order of operands can be told; and sums of draws
        "addcmul, value, second random": Style(
            # 0.5 - 3 * 0.2 u = 0.5 - 0.6 u, as is the next
            make=lambda: torch.addcmul(full(0.5), between_one_and_two(), full(0.2), value=-3),
            law=Uniform(-0.7, -0.1),
        ),
        "addcmul, value, third random": Style(
            make=lambda: torch.addcmul(full(0.5), full(0.2), between_one_and_two(), value=-3),
            law=Uniform(-0.7, -0.1),
        ),
        "addcmul, value, first random": Style(
            make=lambda: between_one_and_two().addcmul_(full(0.5), full(0.2), value=-3),
            law=Uniform(0.7, 1.7),  # u - 3 * 0.1
        ),
        "4 - u": Style(make=lambda: 4 - between_one_and_two(), law=Uniform(2.0, 3.0)),
        "u - 4": Style(make=lambda: between_one_and_two() - 4, law=Uniform(-3.0, -2.0)),
        "tensor - u": Style(make=lambda: full(4) - between_one_and_two(), law=Uniform(2.0, 3.0)),
        "u - tensor": Style(make=lambda: between_one_and_two() - full(4), law=Uniform(-3.0, -2.0)),
        "rsub(u, 5, alpha=2)": Style(
            make=lambda: torch.rsub(between_one_and_two(), 5, alpha=2), law=Uniform(1.0, 3.0)
        ),
        "rsub(u, tensor, alpha=2)": Style(
            make=lambda: torch.rsub(between_one_and_two(), full(5), alpha=2), law=Uniform(1.0, 3.0)
        ),
        "sub(u, 5, alpha=2)": Style(
            make=lambda: torch.sub(between_one_and_two(), 5, alpha=2), law=Uniform(-9.0, -8.0)
        ),
        "sub(tensor, u, alpha=2)": Style(
            make=lambda: torch.sub(full(5), between_one_and_two(), alpha=2), law=Uniform(1.0, 3.0)
        ),
        "add(u, 5, alpha=-2)": Style(
            make=lambda: torch.add(between_one_and_two(), 5, alpha=-2), law=Uniform(-9.0, -8.0)
        ),
        "add(tensor, u, alpha=-2)": Style(
            make=lambda: torch.add(full(5), between_one_and_two(), alpha=-2), law=Uniform(1.0, 3.0)
        ),
        "-u": Style(make=lambda: -between_one_and_two(), law=Uniform(-2.0, -1.0)),
        "-4 * u": Style(make=lambda: -4 * between_one_and_two(), law=Uniform(-8.0, -4.0)),
        "tensor * u": Style(make=lambda: full(-4) * between_one_and_two(), law=Uniform(-8.0, -4.0)),
        "u / -4": Style(make=lambda: between_one_and_two() / -4, law=Uniform(-0.5, -0.25)),
        "u / tensor": Style(
            make=lambda: between_one_and_two() / full(-4), law=Uniform(-0.5, -0.25)
        ),
        "4 / u": Style(make=lambda: 4 / between_one_and_two(), law=None),
        "tensor / u": Style(make=lambda: full(4) / between_one_and_two(), law=None),
        # 5 - 2 * 1 = 3; 4^2 + (2 * 1.5)^2 = 5^2
        "rsub of draws, alpha": Style(
            make=lambda: torch.rsub(normal(1, 1.5), normal(5, 4), alpha=2), law=Normal(3.0, 5.0)
        ),
        "sub of draws, alpha": Style(
            make=lambda: torch.sub(normal(5, 4), normal(1, 1.5), alpha=2), law=Normal(3.0, 5.0)
        ),
        # 3/4 * 1 + 1/4 * 5 = 2; (3/4 * 4)^2 + (1/4 * 16)^2 = 5^2
        "lerp by a quarter": Style(
            make=lambda: normal(1, 4).lerp_(normal(5, 16), 0.25), law=Normal(2.0, 5.0)
        ),
        # A weight for every entry: its sums with others are no more than measured.
        "lerp by a draw": Style(
            make=lambda: normal(1, 4).lerp_(normal(5, 16), torch.rand(SIZE)), law=None
        ),
        # --- one draw twice: its multiples add up exactly, shifted ones are another tensor
        "2 w + w": Style(make=lambda: (lambda w: 2 * w + w)(torch.randn(SIZE)), law=Normal(0, 3)),
        "w - 3 w": Style(make=lambda: (lambda w: w - 3 * w)(torch.randn(SIZE)), law=Normal(0, 2)),
        "2 x + x, x shifted": Style(
            make=lambda: (lambda x: 2 * x + x)(normal(1, 1)), law=Normal(3.0, 3.0)
        ),
        "x + (x + 1)": Style(make=lambda: (lambda x: x + (x + 1))(torch.randn(SIZE)), law=None),
        "x - (x - 1)": Style(make=lambda: (lambda x: x - (x - 1))(torch.randn(SIZE)), law=None),
        "(x + 1) + (x + 2)": Style(
            make=lambda: (lambda x: (x + 1) + (x + 2))(torch.randn(SIZE)), law=None
        ),
        "(2 x + 1) + (x + 1)": Style(
            make=lambda: (lambda x: (2 * x + 1) + (x + 1))(torch.randn(SIZE)), law=None
        ),
        # --- truncated
        "trunc_normal_ at 2": Style(
            make=lambda: nn.init.trunc_normal_(new(), std=1.0),
            law=TruncatedNormal(0.0, 1.0, -2.0, 2.0),
        ),
        "trunc_normal_ captured, at 3 sigma": Style(
            make=lambda: trunc_normal_(new(), std=0.02, a=-0.06, b=0.06),
            law=TruncatedNormal(0.0, 0.02, -0.06, 0.06),
        ),
        "trunc_normal_ far cut": Style(
            make=lambda: trunc_normal_(new(), std=0.02),
            law=TruncatedNormal(0.0, 0.02, -2.0, 2.0),
        ),
        "trunc_normal_ one side": Style(
            make=lambda: trunc_normal_(new(), mean=0.1, std=1.0, a=0.0, b=3.0),
            law=TruncatedNormal(0.1, 1.0, 0.0, 3.0),
        ),
        "trunc_normal_ then scaled": Style(
            make=lambda: nn.Parameter(trunc_normal_(torch.empty(SIZE)).mul_(0.02 / 0.88)),
            law=TruncatedNormal(0.0, 0.02 / 0.88, -0.04 / 0.88, 0.04 / 0.88),
        ),
        "erfinv of a uniform": Style(make=inverse_cdf, law=TruncatedNormal(0.0, 0.02, -0.04, 0.04)),
        "a rejection loop": Style(make=rejected, law=None, looks=True),
        "clamp of a normal": Style(make=lambda: torch.randn(SIZE).clamp(-1, 1), law=None),
        # --- torch.nn.init's families
        "kaiming_normal_": Style(
            make=lambda: nn.init.kaiming_normal_(new(), nonlinearity="relu"), law=Normal(0.0, HE)
        ),
        "kaiming_normal_ fan_out": Style(
            make=lambda: nn.init.kaiming_normal_(new(), mode="fan_out", nonlinearity="linear"),
            law=Normal(0.0, 1 / math.sqrt(ROWS)),
        ),
        "kaiming_uniform_ sqrt 5": Style(
            make=lambda: nn.init.kaiming_uniform_(new(), a=math.sqrt(5)),
            law=Uniform(-1 / math.sqrt(COLUMNS), 1 / math.sqrt(COLUMNS)),
        ),
        "xavier_normal_": Style(
            make=lambda: nn.init.xavier_normal_(new(), gain=2.0), law=Normal(0.0, 2 * XAVIER)
        ),
        "xavier_uniform_": Style(
            make=lambda: nn.init.xavier_uniform_(new()),
            law=Uniform(-math.sqrt(3) * XAVIER, math.sqrt(3) * XAVIER),
        ),
        "orthogonal_ tall": Style(
            make=lambda: nn.init.orthogonal_(new(), gain=2.0), law=Orthogonal(2.0, ROWS)
        ),
        "orthogonal_ wide": Style(
            make=lambda: nn.init.orthogonal_(new(COLUMNS, ROWS)), law=Orthogonal(1.0, ROWS)
        ),
        "orthogonal_ square": Style(
            make=lambda: nn.init.orthogonal_(new(ROWS, ROWS), gain=math.sqrt(2)),
            law=Orthogonal(math.sqrt(2), ROWS),
        ),
        "orthogonal_ 4-D": Style(
            make=lambda: nn.init.orthogonal_(new(ROWS, 4, 3, 3)), law=Orthogonal(1.0, ROWS)
        ),
        "sparse_": Style(
            make=lambda: nn.init.sparse_(new(), sparsity=0.25, std=0.02),
            law=Mixture(((ROWS * COLUMNS * 3 // 4, N02), (ROWS * COLUMNS // 4, Constant(0.0)))),
        ),
        "eye_": Style(
            make=lambda: nn.init.eye_(new(ROWS, ROWS)),
            law=Fixed,
        ),
        "constant_": Style(make=lambda: nn.init.constant_(new(), 0.3), law=Constant(0.3)),
        # --- changed afterwards
        "w *= c": Style(make=drawn_then(lambda w: w.__imul__(0.02)), law=N02),
        "w.mul_(c / sqrt(2 L))": Style(
            make=drawn_then(lambda w: w.mul_(1 / math.sqrt(24)), 0.02),
            law=Normal(0.0, 0.02 / math.sqrt(24)),
        ),
        "w.div_(c)": Style(make=drawn_then(lambda w: w.div_(50)), law=N02),
        "-w": Style(make=lambda: -torch.randn(SIZE) * 0.02, law=N02),
        "fill_ after normal_": Style(make=drawn_then(lambda w: w.fill_(0.5)), law=Constant(0.5)),
        "w += other": Style(
            make=drawn_then(lambda w: w.add_(torch.randn(SIZE), alpha=4.0), 3.0),
            law=Normal(0.0, 5.0),
        ),
        "w + w": Style(make=lambda: (lambda w: w + w)(torch.randn(SIZE)), law=Normal(0.0, 2.0)),
        "lerp": Style(
            make=lambda: torch.randn(SIZE).lerp_(torch.randn(SIZE), 0.5),
            law=Normal(0.0, math.sqrt(0.5)),
        ),
        "foreach": Style(make=foreach, law=N02),
        "one scale a column": Style(
            make=lambda: torch.randn(SIZE) * torch.tensor([0.01, 0.03]).repeat(COLUMNS // 2),
            law=Mixture,
        ),
        "one scale a row": Style(
            make=lambda: torch.randn(SIZE) * torch.tensor([[0.01]] * 32 + [[0.03]] * 32),
            law=Piecewise(((32, Normal(0.0, 0.01)), (32, Normal(0.0, 0.03)))),
        ),
        "w.sub_(w.mean())": Style(
            make=drawn_then(lambda w: w.sub_(w.mean())),
            law=Scaled(Normal(0.0, 1.0), math.sqrt(1 - 1 / (ROWS * COLUMNS))),
        ),
        "w - w.mean(dim)": Style(
            make=lambda: (lambda w: w - w.mean(dim=1, keepdim=True))(torch.randn(SIZE)),
            law=Scaled(Normal(0.0, 1.0), math.sqrt(1 - 1 / COLUMNS)),
        ),
        "w / w.norm()": Style(
            make=lambda: (lambda w: w / w.norm())(torch.randn(SIZE)),
            law=Scaled(Normal(0.0, 1.0), 1 / math.sqrt(ROWS * COLUMNS)),
        ),
        "w / w.norm(dim=1, keepdim=True)": Style(
            make=lambda: (lambda w: w / w.norm(dim=1, keepdim=True))(torch.randn(SIZE)),
            law=Scaled(Normal(0.0, 1.0), 1 / math.sqrt(COLUMNS)),
        ),
        "F.normalize": Style(
            make=lambda: nn.functional.normalize(torch.randn(SIZE) * 0.3, dim=-1),
            law=Scaled(Normal(0.0, 0.3), 1 / (0.3 * math.sqrt(COLUMNS))),
        ),
        "w.mul_(0.02 / w.std())": Style(
            make=drawn_then(lambda w: w.mul_(0.02 / w.std())),
            law=Scaled(Normal(0.0, 1.0), 0.02),
        ),
        "standardised": Style(make=standardised, law=Scaled),
        "w.mul_(0.02 / w.std().item())": Style(
            make=drawn_then(lambda w: w.mul_(0.02 / w.std().item())), law=Normal, looks=True
        ),
        "an LSUV loop": Style(make=lsuv, law=Normal, looks=True),
        "if w.std() > x": Style(make=conditional, law=N02, looks=True),
        "printed": Style(make=printed, law=N02, looks=True),
        # --- parts
        "fused qkv": Style(
            make=fused_qkv,
            law=Piecewise(
                ((ROWS, Normal(0, 0.01)), (ROWS, Normal(0, 0.02)), (ROWS, Normal(0, 0.03)))
            ),
        ),
        "interleaved heads": Style(make=fused_views, law=Piecewise),
        "padding row": Style(
            make=padding_row,
            law=Piecewise(((1, Constant(0.0)), (ROWS - 1, Normal(0.0, 1.0)))),
        ),
        "padding row overwritten": Style(
            make=lambda: nn.init.normal_(padding_row(), 0.0, 0.02), law=N02
        ),
        "zeroed last rows": Style(
            make=drawn_then(lambda w: w[ROWS // 2 :].zero_()), law=Piecewise(HALVES)
        ),
        "zeroed rows in the middle": Style(
            make=drawn_then(lambda w: w[8:24].zero_()),
            law=Piecewise(
                ((8, Normal(0.0, 1.0)), (16, Constant(0.0)), (ROWS - 24, Normal(0.0, 1.0)))
            ),
        ),
        "zeroed columns": Style(
            make=drawn_then(lambda w: w[:, : COLUMNS // 2].zero_()),
            law=Mixture(
                ((ROWS * COLUMNS // 2, Normal(0.0, 1.0)), (ROWS * COLUMNS // 2, Constant(0.0)))
            ),
        ),
        "every other row, every other column": Style(
            make=checkerboard,
            law=Mixture(((ROWS * COLUMNS * 3 // 4, Constant(0.0)), (ROWS * COLUMNS // 4, N02))),
        ),
        "an index list": Style(make=indexed_rows, law=Piecewise),
        "masked_fill": Style(
            make=masked_rows,
            law=Piecewise(((1, Constant(0.0)), (3, Normal(0.0, 1.0))) * (ROWS // 4)),
        ),
        "where of two draws": Style(
            make=lambda: first_rows(normal(0, 0.1), normal(0, 0.3)),
            law=Piecewise(((16, Normal(0.0, 0.1)), (48, Normal(0.0, 0.3)))),
        ),
        "where of a draw, else a number": Style(
            make=lambda: first_rows(torch.randn(SIZE), torch.tensor(0.5)),
            law=Piecewise(((16, Normal(0.0, 1.0)), (48, Constant(0.5)))),
        ),
        "where of a number, else a draw": Style(
            make=lambda: first_rows(torch.tensor(0.5), torch.randn(SIZE)),
            law=Piecewise(((16, Constant(0.5)), (48, Normal(0.0, 1.0)))),
        ),
        # A broadcast draw has each of its entries several times: not that many independent ones.
        "where of a row": Style(
            make=lambda: first_rows(torch.randn(1, COLUMNS), full(0.5)), law=None
        ),
        "where of a number, else a row": Style(
            make=lambda: first_rows(full(0.5), torch.randn(COLUMNS)), law=None
        ),
        "where of a column": Style(
            make=lambda: first_rows(torch.randn(ROWS, 1), full(0.5)), law=None
        ),
        "where of a draw, else a column": Style(
            make=lambda: first_rows(torch.randn(SIZE), torch.randn(ROWS, 1)), law=None
        ),
        "where of a single draw": Style(
            make=lambda: first_rows(torch.randn(()), torch.randn(SIZE)), law=None
        ),
        # Row blocks of two distributions are not independent entries of one.
        "where of row blocks": Style(make=lambda: first_rows(two_blocks(), full(0.5)), law=None),
        "where of a draw, else row blocks": Style(
            make=lambda: first_rows(torch.randn(SIZE), two_blocks()), law=None
        ),
        "half of the rows scaled": Style(
            make=drawn_then(lambda w: w[: ROWS // 2].mul_(0.1)),
            law=Piecewise(((ROWS // 2, Normal(0.0, 0.1)), (ROWS // 2, Normal(0.0, 1.0)))),
        ),
        "the same draw twice": Style(
            make=lambda: (lambda w: torch.cat([w, w]))(torch.randn(32, COLUMNS)),
            law=Piecewise,
        ),
        "cat of draws": Style(
            make=lambda: torch.cat([torch.randn(32, COLUMNS), torch.zeros(32, COLUMNS)]),
            law=Piecewise(HALVES),
        ),
        "stack of draws": Style(
            make=lambda: torch.stack([torch.randn(COLUMNS) * 0.02 for _ in range(8)]), law=N02
        ),
        "cat of columns": Style(
            make=lambda: torch.cat([torch.randn(ROWS, 8), torch.zeros(ROWS, 8)], dim=1),
            law=Mixture(((ROWS * 8, Normal(0.0, 1.0)), (ROWS * 8, Constant(0.0)))),
        ),
        "sliced out of a larger draw": Style(make=sliced_out, law=N02),
        "grown with the mean": Style(
            make=grown,
            law=Piecewise,  # the last rows are all equal
        ),
        "tril of a draw": Style(
            make=lambda: torch.randn(ROWS, ROWS).tril(),
            law=Mixture(
                (
                    (ROWS * (ROWS - 1) // 2, Constant(0.0)),
                    (ROWS * (ROWS + 1) // 2, Normal(0.0, 1.0)),
                )
            ),
        ),
        "repeated rows": Style(
            make=lambda: (torch.randn(1, COLUMNS) * 0.02).repeat(ROWS, 1), law=Measured
        ),
        "expanded rows": Style(
            make=lambda: (torch.randn(1, COLUMNS) * 0.02).expand(SIZE).clone(), law=Measured
        ),
        "permuted rows": Style(
            make=lambda: (torch.randn(SIZE) * 0.02)[torch.randperm(ROWS)], law=N02
        ),
        "flipped": Style(make=lambda: (torch.randn(SIZE) * 0.02).flip(0), law=N02),
        # --- copies
        "copy_": Style(make=copied, law=N02),
        "deepcopy": Style(make=deep_copied, law=N02),
        "load_state_dict": Style(make=loaded, law=N02),
        # --- casts
        "half()": Style(make=lambda: (torch.randn(SIZE) * 0.02).half(), law=N02),
        "to(bfloat16)": Style(make=lambda: (torch.randn(SIZE) * 0.02).to(torch.bfloat16), law=N02),
        "double()": Style(make=lambda: (torch.randn(SIZE) * 0.02).double(), law=N02),
        "float of a double draw": Style(
            make=lambda: torch.randn(SIZE, dtype=torch.float64).mul_(0.02).float(), law=N02
        ),
        "set_default_dtype(bfloat16)": Style(make=half_default, law=N02),
        # --- memory
        "to_empty after meta": Style(make=from_meta, law=N02),
        "to_empty, never written": Style(make=never_after_meta, law=Unset()),
        "empty, never written": Style(make=new, law=Unset()),
        "partly written": Style(
            make=written(lambda w: w[: ROWS // 2].normal_()),
            law=Piecewise(((ROWS // 2, Normal(0.0, 1.0)), (ROWS // 2, Unset()))),
        ),
        # --- other draws
        "exponential_": Style(make=written(lambda w: w.exponential_(2.0)), law=None),
        "log_normal_": Style(make=written(lambda w: w.log_normal_(0.0, 0.5)), law=None),
        "bernoulli_": Style(make=written(lambda w: w.bernoulli_(0.3)), law=None),
        "bernoulli of numbers": Style(
            make=lambda: torch.bernoulli(torch.full(SIZE, 0.3)), law=None
        ),
        "dropout of a draw": Style(
            make=lambda: nn.functional.dropout(torch.randn(SIZE), 0.25), law=None
        ),
        "matmul of draws": Style(
            make=lambda: torch.randn(ROWS, 32) @ torch.randn(32, COLUMNS) * 0.1, law=None
        ),
        "einsum of draws": Style(
            make=lambda: torch.einsum("ik,jk->ij", torch.randn(ROWS, 32), torch.randn(COLUMNS, 32)),
            law=None,
        ),
        "exp of a draw": Style(make=lambda: torch.exp(torch.rand(SIZE)), law=None),
        "inverse softplus of a log uniform": Style(
            make=lambda: (lambda dt: dt + torch.log(-torch.expm1(-dt)))(
                torch.exp(torch.rand(SIZE) * math.log(100) + math.log(1e-3)).clamp(min=1e-4)
            ),
            law=None,
        ),
        "sign of a draw": Style(make=lambda: torch.randn(SIZE).sign(), law=None),
        "svd of a draw": Style(make=lambda: torch.linalg.svd(torch.randn(SIZE))[1], law=None),
        "weight_norm's direction": Style(make=weight_normed, law=N02),
        # --- no draw
        "from_numpy": Style(make=from_numpy, law=None),
        "torch.tensor": Style(make=lambda: torch.tensor([[0.5, 0.5]]), law=Constant(0.5)),
        "linspace": Style(make=lambda: torch.linspace(0, 1, 32), law=None),
        "log(arange)": Style(
            make=lambda: torch.log(torch.arange(1, 17, dtype=torch.float32)).repeat(ROWS, 1),
            law=None,
        ),
    }
)
