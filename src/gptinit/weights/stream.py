"""Weights of blocks drawn when an operator touches them and dropped after it.

exact for: everything a program can hold, bitwise equal to `dense` on one device, torch version and
dtype. Embeddings, final norm and head stay resident. In the backward pass autograd has kept the
wrapper, not the weight, so the weight is drawn again.
not covered: writing to a weight in the forward pass (refused).
"""

from torch import nn

from gptinit.results.program import Program
from gptinit.weights.draws import Draws
from gptinit.weights.policy import Installed, Resident, put_parameter, tied_names
from gptinit.weights.redrawn import redrawn

__all__ = ["install_stream"]


def install_stream(module: nn.Module, program: Program, draws: Draws) -> Installed:
    """Stream the parameters inside blocks; draw the few outside once, as `dense` does."""
    names = tied_names(module)
    for parameter in program:
        if parameter.layer is None:
            put_parameter(module, names[parameter.name], draws.new(parameter))
            continue
        put_parameter(module, names[parameter.name], redrawn(parameter, draws))
    return Resident()
