"""What the probes add to the bare forward pass of the same module with the same weights."""

import torch
import torch.nn.functional as F

from benchmarks.timing import alternate
from gptinit.facts.presets import get_config
from gptinit.facts.sampling import QUERY_ROWS, query_rows
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.probes import Probes
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws

__all__ = ["main"]


def main() -> None:
    """Print milliseconds of both at three depths, 768 wide, 256 tokens."""
    print(f"{'layers':>6} {'bare ms':>9} {'probed ms':>10} {'ratio':>6}   target 1.10")
    for n_layer in (6, 12, 48):
        bare, probed = _times(n_layer)
        print(f"{n_layer:6} {bare * 1e3:9.1f} {probed * 1e3:10.1f} {probed / bare:6.2f}")


def _times(n_layer: int) -> tuple[float, float]:
    """Seconds of a forward pass with its loss, without and with probes."""
    subject = builtin_subject(
        get_config("gpt2", n_layer=n_layer), get_scheme("nanogpt"), name="gpt2", source="benchmark"
    )
    module = subject.build()
    install_dense(
        module, subject.program, Draws(seed=0, device=torch.device("cpu"), dtype=torch.float32)
    )
    tokens = torch.randint(50257, (1, 257))
    idx, targets = tokens[:, :-1], tokens[:, 1:]

    def bare() -> None:
        with torch.no_grad():
            F.cross_entropy(module(idx).flatten(0, 1), targets.flatten(), reduction="sum")

    rows = torch.randperm(50257)[:512].sort().values

    def probed() -> None:
        probes = Probes(
            module,
            subject.sites,
            lens=subject.lens(module, rows) if subject.lens else None,
            rows=torch.tensor(query_rows(256, QUERY_ROWS)),
            step=lambda: None,
        )
        with torch.no_grad():
            with probes.attached():
                logits = module(idx)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
            probes.record_logits(logits, idx, loss)
            probes.result(256)

    for warm_up in (bare, probed):
        warm_up()
    seconds = alternate({"bare": bare, "probed": probed}, rounds=15)
    return seconds["bare"], seconds["probed"]


if __name__ == "__main__":
    main()
