"""A scheme from a TOML file, next to built-in ones: its formulas may depend on the layer.

Run: python examples/own_scheme.py
On the command line: gptinit inspect --scheme examples/own_scheme.toml
"""

from pathlib import Path

import gptinit

OWN = Path(__file__).with_name("own_scheme.toml")
DEPTH = 16


def main() -> None:
    """Print what the scheme draws, and where in the depth each scheme's variance comes from."""
    scheme = gptinit.get_scheme(str(OWN))
    shape = gptinit.GPTConfig(n_layer=DEPTH, n_head=6, n_embd=384)
    print(f"{scheme.slug}: {scheme.title}")
    for layer in (0, 3, DEPTH - 1):
        drawn = scheme.distribution("attn_out", shape, layer=layer, fan_in=384, fan_out=384)
        print(f"  attn_out of layer {layer:2} is drawn with std {drawn.std:.4f}")

    run = gptinit.RunConfig(seeds=2, seq_len=64)
    schemes = (str(OWN), "nanogpt", "plain")
    comparison = gptinit.compare("schemes", schemes, model="nanogpt-char", n_layer=DEPTH, run=run)
    print(f"\nvariance of the stream over that of the embedding, {DEPTH} layers")
    print("scheme     after layer 0     3     7    15   from the first half")
    for label, profile in zip(comparison.labels, comparison.profiles, strict=True):
        growth = [layer.values["resid_growth"] for layer in profile.layers]
        shown = " ".join(f"{growth[i]:5.1f}" for i in (0, 3, 7, 15))
        share = (growth[DEPTH // 2 - 1] - 1) / (growth[-1] - 1)
        print(f"{label:9} {shown:>29} {share:18.0%}")
    print("\nWith a factor of the layer number the first layers have the largest share.")


if __name__ == "__main__":
    main()
