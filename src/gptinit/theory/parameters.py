"""The parameters of a traced model by what they are for, each with its moments or refused."""

from collections.abc import Sequence

from gptinit.facts.distributions import Copy, Distribution, Fixed, Mixture, Piecewise, Unset
from gptinit.results.program import ParameterProgram, Program
from gptinit.theory.model import Moments, centred

__all__ = ["NoFormula", "Parameters"]


class NoFormula(Exception):
    """Something that no formula covers: where, and what."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where


class Parameters:
    """The parameters of one program; those whose moments were read count as used."""

    def __init__(self, program: Program) -> None:
        self.all = [p for p in program if p.kind == "parameter"]
        self._by_layer: dict[int | None, list[ParameterProgram]] = {}
        for p in self.all:
            self._by_layer.setdefault(p.layer, []).append(p)
        self._biases = {p.name.rpartition(".")[0]: p for p in self.all if p.role == "linear_bias"}
        self._used: set[str] = set()

    def inside(self, layer: int | None) -> list[ParameterProgram]:
        """The parameters of a block; None for those outside all blocks."""
        return self._by_layer.get(layer, [])

    def bias_of(self, matrix: ParameterProgram) -> ParameterProgram | None:
        """The bias of a matrix, if it has one."""
        return self._biases.get(matrix.name.rpartition(".")[0])

    def with_bias(self, role: str, matrix: ParameterProgram) -> dict[str, Moments]:
        """Moments of a matrix and of its bias, by the fields of LayerMoments."""
        return {role: self.moments(matrix), f"{role}_bias": self.bias(matrix)}

    def bias(self, matrix: ParameterProgram) -> Moments:
        """Moments of the bias of a matrix; 0 without one."""
        bias = self.bias_of(matrix)
        return self.moments(bias) if bias else Moments()

    def split(self, parameter: ParameterProgram, rows: Sequence[int]) -> list[Moments]:
        """Moments of the row blocks of a fused parameter."""
        law = parameter.distribution
        if isinstance(law, Piecewise):
            if [count for count, _ in law.pieces] != list(rows):
                raise NoFormula(parameter.name, "its pieces are not the parts that are fused.")
            return [self._law(parameter, piece) for _, piece in law.pieces]
        return [self.moments(parameter)] * len(rows)

    def moments(self, parameter: ParameterProgram) -> Moments:
        """Moments of a parameter."""
        return self._law(parameter, parameter.distribution)

    def table(self, parameter: ParameterProgram) -> tuple[Moments, frozenset[int]]:
        """Moments of the rows of an embedding that are drawn, and the rows that are 0."""
        law = parameter.distribution
        if not isinstance(law, Piecewise):
            return self.moments(parameter), frozenset()
        drawn = {piece for _, piece in law.pieces if piece.std > 0 or piece.mean != 0}
        if len(drawn) != 1:
            raise NoFormula(parameter.name, "its rows are drawn from several distributions.")
        silent: list[int] = []
        row = 0
        for count, piece in law.pieces:
            silent += range(row, row + count) if piece not in drawn else ()
            row += count
        return self._law(parameter, next(iter(drawn))), frozenset(silent)

    def _law(self, parameter: ParameterProgram, law: Distribution) -> Moments:
        """Moments of a law that theory can do with."""
        self._used.add(parameter.name)
        if parameter.is_entangled:
            raise NoFormula(parameter.name, "another parameter has some of its values.")
        is_table = parameter.role.endswith("_emb")  # a row of padding does not matter
        if isinstance(law, Copy | Unset | Fixed) or (
            isinstance(law, Mixture | Piecewise) and not is_table and law.std > 0
        ):
            raise NoFormula(parameter.name, f"its values ({law}) are not drawn independently.")
        moments, why = centred(parameter.role, law, parameter.fan_in or 1)
        if why:
            raise NoFormula(parameter.name, why)
        return moments

    def role(self, role: str, layer: int) -> ParameterProgram:
        """The only parameter of a role in a block."""
        return self.one(role, self.inside(layer), f"block {layer}")

    def one(
        self, role: str, parameters: Sequence[ParameterProgram], where: str
    ) -> ParameterProgram:
        """The only parameter of a role among some."""
        found = [p for p in parameters if p.role == role]
        if len(found) != 1:
            raise NoFormula(where, f"{role} must be one parameter, got {len(found)}.")
        return found[0]

    def fans(self, parameter: ParameterProgram) -> tuple[int, int]:
        """(fan_in, fan_out) of a matrix."""
        if parameter.fan_in is None or parameter.fan_out is None:
            raise NoFormula(parameter.name, "its inputs and outputs are not known.")
        return parameter.fan_in, parameter.fan_out

    def require_fans(self, parameter: ParameterProgram, fans: tuple[int, int]) -> None:
        """Refuse a matrix of other fans."""
        if self.fans(parameter) != fans:
            raise NoFormula(
                parameter.name, f"it maps {parameter.fan_in} to {parameter.fan_out}, not "
                f"{fans[0]} to {fans[1]}."
            )  # fmt: skip

    def require_all_used(self) -> None:
        """Refuse parameters that play no part in what was read."""
        for p in self.all:
            if p.name not in self._used:
                raise NoFormula(p.name, f"a second {p.role} has no formula.")
