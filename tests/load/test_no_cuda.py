"""Code that names cuda, on a machine without it."""

from pathlib import Path

import pytest
import torch

from gptinit.load.python_file import code_factory
from gptinit.read.reading import read_model

TEXT = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(4, 4, device={device})
        self.scale = nn.Parameter(torch.ones(4, device={device}){more})
    def forward(self, x):
        return x + self.up(x) * self.scale
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(11, 4)
        self.h = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(4, 11)
    def forward(self, ids):
        x = self.wte(ids)
        for block in self.h:
            x = block(x)
        return self.head(x)
def make():
    return Model(){after}
"""
CPU = {"device": "None", "more": "", "after": ""}


@pytest.mark.skipif(torch.cuda.is_available(), reason="cuda is there and stays cuda")
@pytest.mark.parametrize(
    "named",
    [
        {"device": '"cuda"'},
        {"device": 'torch.device("cuda", 0)'},
        {"more": ".cuda()"},
        {"after": ".to('cuda:1')"},
        {"after": ".cuda()"},
    ],
)
def test_what_code_puts_on_cuda_is_on_the_cpu_and_drawn_the_same(
    tmp_path: Path, named: dict[str, str]
) -> None:
    file = tmp_path / "model.py"
    readings = []
    for text in (TEXT.format(**CPU), TEXT.format(**{**CPU, **named})):
        file.write_text(text, encoding="utf-8")
        readings.append(read_model(code_factory(file, "make", {})))

    on_cpu, on_cuda = readings
    assert on_cuda.program == on_cpu.program
    assert [note.message for note in on_cuda.notes] == [
        "There is no GPU here: what the code puts on cuda was put on the CPU."
    ]
    assert code_factory(file, "make", {}).build()(torch.arange(3)[None]).shape == (1, 3, 11)


def test_code_that_only_mentions_cuda_is_not_spoken_of(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    text = TEXT.format(**CPU) + "def train():\n    return make().to('cuda')\n"
    file.write_text(text, encoding="utf-8")

    assert read_model(code_factory(file, "make", {})).notes == ()
