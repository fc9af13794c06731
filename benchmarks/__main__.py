"""`python -m benchmarks NAME`: one of the tables."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from benchmarks import (
    agreement,
    cost,
    engines,
    gpu,
    probes,
    shapes,
    speed,
    sweep,
    theory,
    unchanged,
)
from benchmarks.real_code import main as real_code

__all__ = ["BENCHMARKS", "main"]


def _alone(benchmark: Callable[[], None]) -> Callable[[Sequence[str]], int]:
    """A benchmark that takes no options, as one that is given them."""

    def run(options: Sequence[str]) -> int:
        if options:
            print(f"this benchmark takes no options, got {' '.join(options)}.", file=sys.stderr)
            return 2
        benchmark()
        return 0

    return run


BENCHMARKS: Mapping[str, Callable[[Sequence[str]], int]] = MappingProxyType(
    {
        "speed": _alone(speed.main),
        "probes": _alone(probes.main),
        "cost": _alone(cost.main),
        "agreement": _alone(agreement.main),
        "engines": _alone(engines.main),
        "theory": _alone(theory.main),
        "shapes": _alone(shapes.main),
        "gpu": gpu.main,
        "transformers": sweep.main,
        "unchanged": unchanged.main,
        "real-code": real_code.main,
    }
)
"""Every benchmark by its name."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark named first with the options behind it; exit code."""
    name, *options = argv or [""]
    if name not in BENCHMARKS:
        print(f"python -m benchmarks NAME: one of {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    return BENCHMARKS[name](options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
