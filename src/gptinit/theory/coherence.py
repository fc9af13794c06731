"""The part of a gradient that lies along the stream, and what branches make of it.

A tied head that copies its input (its own token's probability is not small) sends back gradients
with a component along the stream x = sum of all that branches added. A branch meets its own output
in it, so what it sends back is no longer independent of the gradient: to first order in the
branch's square gain the two are correlated. Followed are

    c: the coefficients of the gradient on the stream's vectors, g_i = sum_j c_ij x_j + the rest;
    X: g_i . x_j / C.

Letters in shapes: T positions. float32.
"""

from dataclasses import dataclass

import numpy as np

from gptinit.theory.arrays import Gram, Ids
from gptinit.theory.averages import average_back
from gptinit.theory.blocks import Normed, mlp_slope
from gptinit.theory.head import Logits, Softmax
from gptinit.theory.model import LayerMoments, TheoryModel

__all__ = ["Coherence", "coherence_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coherence:
    """How a gradient lies to the stream at one place: c and X, (T, T) each."""

    coefficients: Gram
    products: Gram

    def before(self, K: Gram, added: Gram, sent: Gram) -> "tuple[Coherence, Gram]":
        """The same before a branch, and what its coherence adds to the gradient's Gram.

        Args:
            K: Gram of the stream before the branch.
            added: Gram of what it adds.
            sent: coefficients of what it sends back, on the stream before it.

        Shape:
            K, added, sent, second result: (T, T).
        """
        sent = sent.copy()
        along = np.einsum("ij,ji->i", sent, K) / np.maximum(K.diagonal(), np.float32(1e-37))
        sent[np.diag_indices_from(sent)] -= along  # a norm sends nothing back along its input
        products = self.products - self.coefficients @ added
        cross: Gram = products @ sent.T
        met: Gram = sent @ K
        energy: Gram = cross + cross.T + met @ sent.T
        coherence = Coherence(coefficients=self.coefficients + sent, products=products + met)
        return coherence, energy

    def through_attention(self, x: Normed, layer: LayerMoments, model: TheoryModel) -> Gram:
        """What attention makes of the coefficients: uniform weights there and back. (T, T)."""
        gain = model.n_embd * layer.attn_out.variance * model.attn_multiplier**2
        gain *= model.n_head * model.head_dim * layer.v.variance
        return x.back(average_back(self.coefficients) * np.float32(gain))

    def through_mlp(self, x: Normed, layer: LayerMoments, model: TheoryModel) -> Gram:
        """What the MLP makes of the coefficients. (T, T)."""
        return x.back(mlp_slope(x, layer, model) * self.coefficients)


def coherence_of(
    K: Gram, logits: Logits, softmax: Softmax, tokens: Ids, model: TheoryModel
) -> Coherence:
    """The coherence of the loss's gradient with the last stream, of Gram K, under a tied head.

    Shape:
        K: (T, T); tokens: (T + 1,).
    """
    ids, targets = tokens[:-1], tokens[1:]
    kept = model.logit_multiplier * model.embedding_multiplier * model.tok_emb.variance
    kept *= model.final_norm_weight.mean
    met = kept * (softmax.own[:, None] * (ids[:, None] == ids) - (targets[:, None] == ids))
    scale, square = logits.scale, np.maximum(K.diagonal().astype(np.float64), 1e-37)
    along = met.diagonal() / square
    products = scale[:, None] * (met - along[:, None] * K)
    return Coherence(
        coefficients=np.diag(-scale * along).astype(np.float32),
        products=products.astype(np.float32),
    )
