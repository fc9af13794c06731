"""Statistics of a pre-norm GPT at initialisation, from shape and init alone: no model, no torch.

Followed through the layers is the Gram matrix K of one sequence, K_ij = E[x_i . x_j] / C, and back
again that of the gradients: means over weights that are all independent and centred.

Exact for (in the limit of many channels, heads and hidden units): equal tokens and learned
positions at the embedding; norms with any gain and bias; an MLP, gated or not, at any correlation;
attention to first order in the covariance of its scores, for any Gram; logits and their loss, with
a tied head too; biases, grouped queries, free head widths, parallel blocks, branch multipliers.

Approximate for: attention beyond first order (exact for keys with one mutual correlation and normal
scores, `mixing`); finite width, of which only the overlaps of random vectors enter; rotary
positions (rows at a distance have a common factor); weights that are not normal, by the central
limit; a block of a deep model whose stream grew by under 1 % is not looked at again.

Not covered, and then absent, with a note: extremes (`max_abs`, `attn_score_max`), counts of
non-finite values, rounding in low precision, post-norm and sandwich norms, experts, norms of
queries and keys, ALiBi, weights around a mean.

References:
    Giorlandino & Goldt 2025, arXiv 2505.24333: attention at initialisation as a random energy
        model.
    Cowsik et al. 2024, arXiv 2403.02579: angles between tokens, gradients, two exponents.
    Kedia et al. 2024, arXiv 2403.09635: moments through every part of a transformer.
    Cho & Saul 2009, "Kernel Methods for Deep Learning": kernels of activations.
"""

from gptinit.results.exponents import angle_exponent, gradient_exponent
from gptinit.theory.from_program import ForwardFacts, model_of_program
from gptinit.theory.model import LayerMoments, Moments, TheoryModel
from gptinit.theory.predict import Prediction, predict
from gptinit.theory.profile import predicted_profile

__all__ = [
    "ForwardFacts",
    "LayerMoments",
    "Moments",
    "Prediction",
    "TheoryModel",
    "angle_exponent",
    "gradient_exponent",
    "model_of_program",
    "predict",
    "predicted_profile",
]
