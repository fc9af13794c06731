"""A matrix of independent normal entries, known only through queries.

exact for: products from either side, rows and columns, any number of times, in any order: what lies
inside the span of earlier queries is computed, the rest is drawn and kept.
approximate for: entries that are not normal, in products, by the central limit (`distance`).

References:
    Lu 2021, "Householder Dice: A Matrix-Free Algorithm for Simulating Dynamics on Gaussian and
    Random Orthogonal Ensembles", arXiv 2101.07464 (deferred decisions, two-sided).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gptinit.weights.lazy.basis import Basis
from gptinit.weights.lazy.matrix import Randomness, embed

__all__ = ["GaussianMatrix"]


@dataclass(slots=True)
class Side:
    """Queries from one side, and their responses.

    Attributes:
        basis: the directions queried, of length n.
        unit_responses: (u, m) responses to the unit vectors.
    """

    basis: Basis
    unit_responses: Tensor
    _responses: Tensor
    _deferred: Callable[[], Tensor] | None = None

    @classmethod
    def empty(cls, size: int, other: int, device: torch.device, *, defers: bool) -> "Side":
        nothing = torch.empty(0, other, device=device)
        basis = Basis(size, device, defers=defers)
        return cls(basis, nothing, nothing)

    @property
    def responses(self) -> Tensor:
        """(k, m) responses to the rows of the basis."""
        if self._deferred is not None:
            self._responses, self._deferred = self._deferred(), None
        return self._responses

    def defer(self, responses: Callable[[], Tensor]) -> None:
        """Keep how to compute the first responses, in their place."""
        self._deferred = responses

    def product(self, coordinates: Tensor) -> Tensor:
        """Responses to combinations of the directions queried; (t, rank) to (t, m)."""
        units = len(self.unit_responses)
        if not units:
            return coordinates @ self.responses
        return (
            coordinates[:, :units] @ self.unit_responses + coordinates[:, units:] @ self.responses
        )

    def add_responses(self, responses: Tensor) -> None:
        """Keep the responses to directions that were just added to the basis."""
        old = self.responses
        self._responses = torch.cat((old, responses)) if len(old) else responses


class GaussianMatrix:
    """W = mean + std * G of shape (m, n), G of independent standard normal entries.

    Args:
        shape: outputs m and inputs n.
        mean: of an entry.
        std: of an entry.
        randomness: where its numbers come from.
        device: of the queries.
        defers: whether a second query is unlikely.
    """

    def __init__(  # noqa: PLR0913 - a law, its numbers and where they are
        self,
        shape: tuple[int, int],
        *,
        mean: float,
        std: float,
        randomness: Randomness,
        device: torch.device,
        defers: bool = False,
    ) -> None:
        self.shape, self._mean, self._std, self._random = shape, mean, std, randomness
        self._defers = defers
        outputs, inputs = shape
        self.inputs = Side.empty(inputs, outputs, device, defers=defers)  # directions x and G x
        self.outputs = Side.empty(outputs, inputs, device, defers=defers)  # directions g and g G

    @property
    def is_untouched(self) -> bool:
        """Whether no query has been made."""
        return not self.inputs.basis.rank and not self.outputs.basis.rank

    def right(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product x W^T and coordinates of x.

        Shape:
            x: (t, n); results: (t, m), (t, rank).
        """
        return self._query(self.inputs, self.outputs, x)

    def left(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The product g W and coordinates of g.

        Shape:
            g: (t, m); results: (t, n), (t, rank).
        """
        return self._query(self.outputs, self.inputs, g)

    def _query(self, near: Side, far: Side, x: Tensor) -> tuple[Tensor, Tensor]:
        is_first = self._defers and not near.basis.rank and not far.basis.rank
        coordinates, added = near.basis.extend(x)
        if added and is_first:
            response, again = self._random.times(coordinates, far.basis.size)
            near.defer(again)
            return self._scaled(response, x), coordinates
        if added and not far.basis.rank:
            near.add_responses(self._random.normals((added, far.basis.size)))
        elif added:
            near.add_responses(self._drawn(near.basis.rows[-added:], far))
        return self._scaled(near.product(coordinates), x), coordinates

    def _scaled(self, response: Tensor, x: Tensor) -> Tensor:
        """The product of W from that of G, in place."""
        response = response.mul_(self._std)
        if self._mean:
            response += self._mean * x.sum(1, keepdim=True)
        return response

    def _drawn(self, directions: Tensor, far: Side) -> Tensor:
        """Responses to new orthonormal directions, given what the other side revealed.

        Shape:
            directions: (r, n); result: (r, m).
        """
        drawn = self._random.normals((len(directions), far.basis.size))
        if far.basis.count:
            rows = far.basis.rows  # (k, m); their responses (k, n)
            revealed = directions @ far.responses.T  # (r, k)
            drawn.addmm_(revealed - drawn @ rows.T, rows)
        if len(far.unit_responses):
            drawn.index_copy_(1, far.basis.units, directions @ far.unit_responses.T)
        return drawn

    def row(self, indices: Tensor) -> Tensor:
        """Rows of W; from the true distribution of its entries until a product has been taken.

        Shape:
            indices: (r,), all different; result: (r, n).
        """
        far, near = self.inputs, self.outputs
        if near.basis.count:
            return self.left(embed(indices, self.shape[0]))[0]
        old = torch.isin(indices, near.basis.units)
        new = indices[~old]
        if len(new):
            near.unit_responses = torch.cat((near.unit_responses, self._new_rows(new, far)))
            near.basis.add_units(new)
        order = near.basis.units.argsort()
        places = order[torch.searchsorted(near.basis.units[order], indices)]
        return near.unit_responses[places] * self._std + self._mean

    def _new_rows(self, indices: Tensor, far: Side) -> Tensor:
        """Standardised rows that no query has revealed; (r,) to (r, n)."""
        if far.basis.rank:
            return self._drawn(embed(indices, self.shape[0]), far)
        entries = self._random.entries((len(indices), self.shape[1]))
        return (entries - self._mean) / self._std if self._std else torch.zeros_like(entries)

    def square_sum(self) -> Tensor:
        """Sum of the squares of all entries, given what queries revealed; the last query.

        Shape:
            result: ().
        """
        outputs, inputs = self.shape
        total = torch.zeros((), device=self.inputs.responses.device)
        if self._mean:
            ones = total.new_ones(1, inputs)
            sum_ = self._query(self.inputs, self.outputs, ones)[0].sum()  # of W
            # W = mean + std G: |W|^2 = |std G|^2 + 2 mean sum(W) - m n mean^2
            total = 2 * self._mean * sum_ - outputs * inputs * self._mean**2
        near, far = self.inputs, self.outputs
        revealed = _all(near.unit_responses, near.responses)  # (k, m)
        overlap = revealed.index_select(1, far.basis.units).square().sum()
        overlap = overlap + (revealed @ far.basis.rows.T).square().sum()
        beyond = _all(far.unit_responses, far.responses).square().sum()
        known = revealed.square().sum() + beyond - overlap
        left = (outputs - far.basis.rank) * (inputs - near.basis.rank)
        rest = self._random.chi_square(left) if left else torch.zeros_like(known)
        return total + self._std**2 * (known + rest)

    def split(
        self, at: int, axis: int, halves: tuple[Randomness, Randomness]
    ) -> "tuple[GaussianMatrix, GaussianMatrix] | None":
        """Two independent matrices that are its parts; None where an earlier query spans both.

        Args:
            at: first index of the second part.
            axis: 0 to cut between rows, 1 to cut between columns.
            halves: where the numbers of the parts come from.
        """
        across = self.outputs if axis == 0 else self.inputs
        if across.basis.count:
            return None
        made = []
        device = self.inputs.responses.device
        for (start, stop), randomness in zip(
            ((0, at), (at, self.shape[axis])), halves, strict=True
        ):
            size = stop - start
            shape = (size, self.shape[1]) if axis == 0 else (self.shape[0], size)
            part = GaussianMatrix(
                shape,
                mean=self._mean,
                std=self._std,
                randomness=randomness,
                device=device,
                defers=self._defers,
            )
            along = self.inputs if axis == 0 else self.outputs
            mine = part.inputs if axis == 0 else part.outputs
            mine.basis = along.basis.copy()
            mine.unit_responses = along.unit_responses[:, start:stop]
            if along.basis.count:
                mine.add_responses(along.responses[:, start:stop])
            cut = part.outputs if axis == 0 else part.inputs
            inside = (across.basis.units >= start) & (across.basis.units < stop)
            cut.basis.units = across.basis.units[inside] - start
            cut.unit_responses = across.unit_responses[inside]
            made.append(part)
        return made[0], made[1]


def _all(units: Tensor, rows: Tensor) -> Tensor:
    return torch.cat((units, rows)) if len(units) else rows
