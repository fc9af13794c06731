"""Whole processes: `gptinit inspect --n-layer 48` against what a person would write."""

from benchmarks.timing import alternate, process, python

__all__ = ["main"]

_OURS = "gptinit inspect --n-layer 48 --seeds 1"
_TARGETS = {"transformers with hooks": 1 / 3, "nanoGPT-shaped code with hooks": 1 / 2}


def main() -> None:
    """Print seconds and ratios, 256 tokens, one seed, CPU."""
    ours = ["-m", "gptinit", "inspect", "--n-layer", "48", "--seeds", "1", "--data", "uniform"]
    jobs = {
        _OURS: process(python(*ours, "--device", "cpu")),
        "transformers with hooks": process(python("-m", "benchmarks.baselines.transformers_hooks")),
        "nanoGPT-shaped code with hooks": process(
            python("-m", "benchmarks.baselines.nanogpt_hooks")
        ),
        "import torch": process(python("-c", "import torch")),
        "gptinit --help": process(python("-m", "gptinit", "--help")),
    }
    seconds = alternate(jobs, rounds=5)
    print(f"{'whole process, median of 5':34} {'seconds':>8} {'ours / it':>10} {'target':>8}")
    for name, value in seconds.items():
        target = f"{_TARGETS[name]:.2f}" if name in _TARGETS else ""
        print(f"{name:34} {value:8.2f} {seconds[_OURS] / value:10.2f} {target:>8}")


if __name__ == "__main__":
    main()
