"""The layers of a freshly drawn GPT-2, from the Profile that gptinit.inspect() returns.

Run: python examples/inspect_gpt2.py
"""

import gptinit


def main() -> None:
    """Print one row per layer, and what it means."""
    profile = gptinit.inspect("gpt2", run=gptinit.RunConfig(seeds=2, seq_len=128))

    print(f"{profile.model.name}, {profile.model.n_params / 1e6:.0f} M parameters")
    print("variance of the stream, and what each layer's two branches add to it:\n")
    print("layer    stream  attention        MLP  cosine of two tokens")
    start = profile.embedding.values["resid_var"]
    print(f"  emb {start:9.5f}")
    for i, layer in enumerate(profile.layers):
        stream, attn, mlp = (layer.values[s] for s in ("resid_var", "attn_var", "mlp_var"))
        print(f"{i:5} {stream:9.5f}  {attn:9.6f}  {mlp:9.6f}  {layer.values['token_cosine']:.2f}")

    growth = profile.whole.values["resid_growth"]
    error = profile.whole.stderr["resid_growth"]
    print(f"\nThe variance grows {growth:.0f} ± {error:.0f} times: the embedding is only")
    print(f"{100 / growth:.1f} % of what the head reads. The rest comes from random branches.")
    for finding in profile.findings:
        print(f"{finding.severity}: {finding.where}: {finding.message}")


if __name__ == "__main__":
    main()
