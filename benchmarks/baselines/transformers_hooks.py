"""The variance of the stream of a 48-layer GPT-2 by transformers and forward hooks."""

import torch
import transformers


def main() -> None:
    """Build, run 256 uniform tokens, print the variance after every block."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=48, vocab_size=50257)
    model = transformers.GPT2LMHeadModel(config).eval()
    variances = []
    for block in model.transformer.h:
        block.register_forward_hook(
            lambda m, args, out: variances.append(
                (out[0] if isinstance(out, tuple) else out).var(correction=0).item()
            )
        )
    tokens = torch.randint(config.vocab_size, (1, 257))
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])
    print(variances, float(loss))


if __name__ == "__main__":
    main()
