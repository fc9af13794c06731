"""Why GPT-2 divides the std of its residual projections by sqrt(2 n_layer).

The counting argument: a residual projection drawn with std s adds a variance of s^2 b, where b is
what the layers before it make of a normalised stream. Independent variances add up, and there are
two projections a layer, so after n layers the stream has

    with s = 0.02             embedding + n a           grows with depth
    with s = 0.02/sqrt(2 n)   embedding + n a / (2 n)   does not

where a is what the two projections of one layer add at std 0.02. Here a is measured on one shallow
model, and the argument then predicts the deep ones. It leaves out attention: tokens become alike
with depth, averages over similar tokens cancel less, and attention then adds more.

Run: python examples/depth_growth.py
"""

import gptinit

DEPTHS = (4, 8, 16, 32)


def final_variances(scheme: str) -> list[float]:
    """Variance of the stream after the last layer, for every depth."""
    run = gptinit.RunConfig(seeds=2, seq_len=64)
    found = gptinit.compare("depths", DEPTHS, model="nanogpt-char", scheme=scheme, run=run)
    return [profile.layers[-1].values["resid_var"] for profile in found.profiles]


def main() -> None:
    """Print measured and counted variances side by side."""
    plain, scaled = final_variances("plain"), final_variances("nanogpt")
    embedding = 2 * 0.02**2  # a token's vector plus a position's, each of std 0.02
    one_layer = (plain[0] - embedding) / DEPTHS[0]

    print("variance after the last layer, measured and counted\n")
    print("            std 0.02            std 0.02/sqrt(2 n_layer)")
    print("n_layer  measured  counted          measured  counted")
    for n, without, with_factor in zip(DEPTHS, plain, scaled, strict=True):
        counted = embedding + n * one_layer
        counted_scaled = embedding + n * one_layer / (2 * n)
        print(f"{n:7} {without:9.4f} {counted:8.4f} {with_factor:17.5f} {counted_scaled:8.5f}")
    print(f"\n{DEPTHS[-1] // DEPTHS[0]} times as deep: without the factor the variance is", end=" ")
    print(f"{plain[-1] / plain[0]:.1f} times as large, with it {scaled[-1] / scaled[0]:.2f} times.")


if __name__ == "__main__":
    main()
