"""Four inits of one small GPT, ranked: what a depth factor does to stream, loss and gradient.

Run: python examples/compare_schemes.py
"""

import gptinit

SCHEMES = ("plain", "nanogpt", "inv-sqrt-width", "pytorch-default")


def main() -> None:
    """Print one row per scheme, best first, and the bounds that each violates."""
    run = gptinit.RunConfig(seeds=2, seq_len=64, grad=True)
    comparison = gptinit.compare("schemes", SCHEMES, model="nanogpt-char", n_layer=16, run=run)

    profiles = dict(zip(comparison.labels, comparison.profiles, strict=True))
    order = comparison.ranking.order if comparison.ranking else comparison.labels
    print("nanogpt-char with 16 layers, best first\n")
    print("scheme            growth of stream  first loss - ln(V)  growth of gradient")
    for label in order:
        profile = profiles[label]
        growth = profile.whole.values["resid_growth"]
        excess = profile.final.values["loss_excess"]
        gradient = profile.embedding.values["grad_growth"]
        print(f"{label:16} {growth:17.2f} {excess:19.3f} {gradient:19.2f}")

    print()
    for label in order:
        for finding in profiles[label].findings:
            print(f"{label}: {finding.where}: {finding.message}")


if __name__ == "__main__":
    main()
