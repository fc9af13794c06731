"""A matrix of independent normal entries, known only through what has been asked of it.

exact for: products from either side, rows and columns, any number of times, in any order: what lies
inside the span of earlier questions is computed, the rest is drawn and kept.
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
    """What was asked from one side, and the answers.

    Attributes:
        basis: directions asked about, of length n.
        unit_answers: (u, m) answers to the unit vectors.
    """

    basis: Basis
    unit_answers: Tensor
    _answers: Tensor
    _deferred: Callable[[], Tensor] | None = None

    @classmethod
    def empty(cls, size: int, other: int, device: torch.device, *, defers: bool) -> "Side":
        """Nothing asked yet."""
        nothing = torch.empty(0, other, device=device)
        basis = Basis(size, device, defers=defers)
        return cls(basis, nothing, nothing)

    @property
    def answers(self) -> Tensor:
        """(k, m) answers to the rows of the basis."""
        if self._deferred is not None:
            self._answers, self._deferred = self._deferred(), None
        return self._answers

    def defer(self, answers: Callable[[], Tensor]) -> None:
        """Keep how to have the first answers in their place."""
        self._deferred = answers

    def product(self, coordinates: Tensor) -> Tensor:
        """Answers to combinations of what was asked; (t, rank) to (t, m)."""
        units = len(self.unit_answers)
        if not units:
            return coordinates @ self.answers
        return coordinates[:, :units] @ self.unit_answers + coordinates[:, units:] @ self.answers

    def add_answers(self, answers: Tensor) -> None:
        """Keep the answers to directions that the basis has just been given."""
        self._answers = torch.cat((self.answers, answers)) if len(self.answers) else answers


class GaussianMatrix:
    """W = mean + std * G of shape (m, n), G of independent standard normal entries.

    Args:
        shape: outputs m and inputs n.
        mean: of an entry.
        std: of an entry.
        randomness: where its numbers come from.
        device: where it is asked.
        defers: whether it is likely to be asked once only.
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
        """Whether nothing has been asked."""
        return not self.inputs.basis.rank and not self.outputs.basis.rank

    def right(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product x W^T and coordinates of x.

        Shape:
            x: (t, n); results: (t, m), (t, rank).
        """
        return self._ask(self.inputs, self.outputs, x)

    def left(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The product g W and coordinates of g.

        Shape:
            g: (t, m); results: (t, n), (t, rank).
        """
        return self._ask(self.outputs, self.inputs, g)

    def _ask(self, near: Side, far: Side, x: Tensor) -> tuple[Tensor, Tensor]:
        is_first = self._defers and not near.basis.rank and not far.basis.rank
        coordinates, added = near.basis.extend(x)
        if added and is_first:
            answer, again = self._random.times(coordinates, far.basis.size)
            near.defer(again)
            return self._scaled(answer, x), coordinates
        if added and not far.basis.rank:
            near.add_answers(self._random.normals((added, far.basis.size)))
        elif added:
            near.add_answers(self._drawn(near.basis.rows[-added:], far))
        return self._scaled(near.product(coordinates), x), coordinates

    def _scaled(self, answer: Tensor, x: Tensor) -> Tensor:
        """The product of W from that of G, in place."""
        answer = answer.mul_(self._std)
        if self._mean:
            answer += self._mean * x.sum(1, keepdim=True)
        return answer

    def _drawn(self, directions: Tensor, far: Side) -> Tensor:
        """Answers to new orthonormal directions, given all that the other side has told.

        Shape:
            directions: (r, n); result: (r, m).
        """
        drawn = self._random.normals((len(directions), far.basis.size))
        if far.basis.count:
            rows = far.basis.rows  # (k, m); their answers (k, n)
            told = directions @ far.answers.T  # (r, k)
            drawn.addmm_(told - drawn @ rows.T, rows)
        if len(far.unit_answers):
            drawn.index_copy_(1, far.basis.units, directions @ far.unit_answers.T)
        return drawn

    def row(self, indices: Tensor) -> Tensor:
        """Rows of W, from their true distribution while no product has been taken.

        Shape:
            indices: (r,), all different; result: (r, n).
        """
        far, near = self.inputs, self.outputs
        if near.basis.count:
            return self.left(embed(indices, self.shape[0]))[0]
        old = torch.isin(indices, near.basis.units)
        new = indices[~old]
        if len(new):
            near.unit_answers = torch.cat((near.unit_answers, self._new_rows(new, far)))
            near.basis.add_units(new)
        order = near.basis.units.argsort()
        places = order[torch.searchsorted(near.basis.units[order], indices)]
        return near.unit_answers[places] * self._std + self._mean

    def _new_rows(self, indices: Tensor, far: Side) -> Tensor:
        """Standardised rows that no one has seen; (r,) to (r, n)."""
        if far.basis.rank:
            return self._drawn(embed(indices, self.shape[0]), far)
        entries = self._random.entries((len(indices), self.shape[1]))
        return (entries - self._mean) / self._std if self._std else torch.zeros_like(entries)

    def square_sum(self) -> Tensor:
        """Sum of the squares of all entries, given what was told; a question for the end.

        Shape:
            result: ().
        """
        outputs, inputs = self.shape
        total = torch.zeros((), device=self.inputs.answers.device)
        if self._mean:
            ones = total.new_ones(1, inputs)
            sum_ = self._ask(self.inputs, self.outputs, ones)[0].sum()  # of W
            # W = mean + std G: |W|^2 = |std G|^2 + 2 mean sum(W) - m n mean^2
            total = 2 * self._mean * sum_ - outputs * inputs * self._mean**2
        near, far = self.inputs, self.outputs
        told = _all(near.unit_answers, near.answers)  # (k, m)
        overlap = told.index_select(1, far.basis.units).square().sum()
        overlap = overlap + (told @ far.basis.rows.T).square().sum()
        known = told.square().sum() + _all(far.unit_answers, far.answers).square().sum() - overlap
        left = (outputs - far.basis.rank) * (inputs - near.basis.rank)
        rest = self._random.chi_square(left) if left else torch.zeros_like(known)
        return total + self._std**2 * (known + rest)

    def split(
        self, at: int, axis: int, halves: tuple[Randomness, Randomness]
    ) -> "tuple[GaussianMatrix, GaussianMatrix] | None":
        """Two independent matrices that are its parts; None where an earlier question spans both.

        Args:
            at: first index of the second part.
            axis: 0 to cut between rows, 1 to cut between columns.
            halves: where the numbers of the parts come from.
        """
        across = self.outputs if axis == 0 else self.inputs
        if across.basis.count:
            return None
        made = []
        device = self.inputs.answers.device
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
            mine.unit_answers = along.unit_answers[:, start:stop]
            if along.basis.count:
                mine.add_answers(along.answers[:, start:stop])
            cut = part.outputs if axis == 0 else part.inputs
            inside = (across.basis.units >= start) & (across.basis.units < stop)
            cut.basis.units = across.basis.units[inside] - start
            cut.unit_answers = across.unit_answers[inside]
            made.append(part)
        return made[0], made[1]


def _all(units: Tensor, rows: Tensor) -> Tensor:
    """Answers to both kinds of directions."""
    return torch.cat((units, rows)) if len(units) else rows
