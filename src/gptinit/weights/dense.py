"""Every weight drawn once and kept.

exact for: everything a program can hold. Needs memory for all parameters.
"""

from torch import Tensor, nn

from gptinit.results.program import Program
from gptinit.weights.draws import Draws
from gptinit.weights.policy import Installed, Resident, put_parameter, tied_names

__all__ = ["install_dense"]


def install_dense(module: nn.Module, program: Program, draws: Draws) -> Installed:
    """Draw every parameter of a module; a second seed reuses the memory of the first."""
    names = tied_names(module)
    for parameter in program:
        current = module.get_parameter(parameter.name)
        is_reusable = type(current.data) is Tensor and current.dtype == draws.dtype
        if current.is_meta or not is_reusable or current.device != draws.device:
            put_parameter(module, names[parameter.name], draws.new(parameter))
        else:
            draws.into(parameter, current.data)
    return Resident()
