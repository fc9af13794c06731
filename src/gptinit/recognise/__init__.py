"""Which of theory's formulas hold for a recorded forward pass, proven by numbers and not by names.

It buys the theory column for models that theory has never seen: 38 of 189 causal language models
of transformers are predicted, none of them wrongly (docs/transformers.md), at a cost that does not
depend on the width of the model. What does not agree with a formula is refused with a reason.

products.py   cuts the pass at its products of tokens with parameters
pieces.py     computes each piece between two cuts on random inputs, and holds it against the
              formulas: norm, attention (attention.py), MLP, sums
evaluate.py   knows pieces that compute the same, so that equal layers are read once
blocks.py, embedding.py, coverage.py: the pieces of a whole model, and that none is left out
longer.py     checks that more tokens are treated as the eight recorded ones are
architecture.py composes all of it to a `Forwarding`, from which theory makes its model

    stream -> [norm] -> q, k, v -> [attention] -> attn_out -> [sum] -> stream   [ ] is a piece
"""
