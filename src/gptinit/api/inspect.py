"""What the init of a model does at every layer, before the first step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gptinit.api.job import Forward, Model, make_job
from gptinit.api.run import Progress, measure_job
from gptinit.config import RunConfig
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.facts.schemes import Scheme
from gptinit.results.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from gptinit.load.init_choice import InitChoice

__all__ = ["inspect"]


def inspect(
    model: Model = DEFAULT_PRESET,
    tokens: "ArrayLike | None" = None,
    *,
    scheme: str | Scheme | None = None,
    reinit: str | Scheme | None = None,
    run: RunConfig | None = None,
    roles: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
    init: "InitChoice" = None,
    forward: "Forward | None" = None,
    trust_remote_code: bool = False,
    stubs: Sequence[str] = (),
    timing: bool = False,
    progress: Progress | None = None,
    settings: Mapping[str, object] | None = None,
    **shape: object,
) -> Profile:
    """The profile of a model: what its init does at every layer before the first step.

    Args:
        model: a preset; "path/model.py:NAME", "package.module:NAME" or a Hugging Face config.json;
            a function or class that builds a module; or a module that is built already, which is
            measured with the weights that it has.
        tokens: (B, T + 1) token ids to run on, the last of each row only as a target; in place of
            those that `run` names.
        scheme: slug, alias or TOML file of a preset's init, or a Scheme; nanogpt if None.
        reinit: a scheme that re-initialises your own model.
        run: how to measure; the defaults of RunConfig if None.
        roles: parameter pattern (as of fnmatch) to role; overrides the roles that were recognised.
        sites: module paths of "blocks" and, inside a block, of "attn" and "mlp", where they are not
            found.
        init: what draws your model's weights once its constructor is done: a method or function of
            its file by name, "path.py:FUNCTION", a function, or "none". None runs the only init
            that its class has and nothing calls; a function that builds a model is left as it is.
        forward: how to call a model whose forward wants more than token ids: a function of (model,
            ids) that returns logits, or "path.py:FUNC".
        trust_remote_code: whether Python code that comes with a Hugging Face config may run.
        stubs: modules that your model's code imports and that are not installed; inert stand-ins
            are imported for them, and a note says if the model used one.
        timing: whether to add seconds and peak memory, which differ from run to run.
        progress: called as work goes on.
        settings: those of `shape` whose names are taken by an argument here, such as init=3.
        shape: settings that replace the model's, such as n_layer=48.

    Returns:
        Statistics at every place with standard errors, and findings against the default bounds.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        SubjectError: if the model cannot be built, run, or has no repeated block.
        MeasureError: if the device is not there or the memory is not enough.

    Example:
        >>> profile = inspect("nanogpt-char", n_layer=2, run=RunConfig(seeds=1, seq_len=16))
        >>> len(profile.layers), sorted(profile.whole.values)
        (2, ['resid_growth'])
    """
    job = make_job(
        model,
        shape={**(settings or {}), **shape},
        scheme=scheme,
        reinit=reinit,
        roles=roles,
        sites=sites,
        init=init,
        forward=forward,
        trust=trust_remote_code,
        stubs=stubs,
    )
    return measure_job(job, run or RunConfig(), tokens=tokens, timing=timing, progress=progress)
