# Untyped and undocumented on purpose: most trainers are.
# mypy: ignore-errors
"""A trainer that draws the weights of a model of another file, as litgpt's does."""

import math
from functools import partial

from left_to_trainer import MLP, Attention, Bare
from torch import nn


def initialize_weights(fabric, model: Bare, n_layer: int, n_embd: int) -> None:
    def draw(module, std):
        nn.init.normal_(module.weight, std=std)

    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.Linear):
            module.reset_parameters = partial(draw, module, std=math.sqrt(2 / 5 / n_embd))
    for module in model.modules():
        if isinstance(module, Attention | MLP):
            last = module.o if isinstance(module, Attention) else module.down
            last.reset_parameters = partial(draw, last, std=1 / math.sqrt(n_embd) / n_layer)
    if not isinstance(fabric.strategy, list):
        for module in model.modules():
            if callable(getattr(module, "reset_parameters", None)):
                module.reset_parameters()


def half(module):
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.5)


def scaled(model, std):
    nn.init.normal_(model.head.weight, std=std)
