"""The products of tokens with matrices, at which the record of a forward pass is cut."""

from dataclasses import dataclass

from gptinit.forward.graph import MATMULS, Graph, Vertex
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Read, reads_in

__all__ = ["Product", "find_products", "read_of"]


@dataclass(frozen=True, slots=True)
class Product:
    """Tokens times one matrix, plus its bias if it is added in the same operator.

    Attributes:
        vertex: the node.
        entry: the tokens that it reads.
        name: name of the matrix.
        bias: name of the bias.
    """

    vertex: int
    entry: Read
    name: str
    bias: str | None


def find_products(graph: Graph) -> dict[str, Product]:
    """Name of each matrix -> its product with tokens.

    Raises:
        NoFormula: if a matrix has several products, or is not read whole.
    """
    products: dict[str, Product] = {}
    for v in graph.vertices:
        if v.name not in MATMULS or not graph.is_token(v.index):
            continue
        named = graph.weight_operands(v.index)
        if not named:
            continue
        product = _product(graph, v)
        if product is None or product.name in products:
            raise NoFormula(named[-1][1], "this matrix is not used whole in exactly one product.")
        products[product.name] = product
    return products


def _product(graph: Graph, v: Vertex) -> Product | None:
    args = list(v.node.args)
    if v.node.kwargs or v.name not in {"mm", "addmm"}:
        return None
    bias = None
    if v.name == "addmm":
        first = args.pop(0)
        bias = graph.weight_read(first) if isinstance(first, Read) else None
        if bias is None:
            return None
    if len(args) != 2 or not all(isinstance(a, Read) for a in args):
        return None
    entry, matrix = args
    name = graph.weight_read(matrix)
    if name is None or matrix.geometry.numel != matrix.storage.numel:
        return None
    return Product(v.index, entry, name, bias)


def read_of(graph: Graph, index: int) -> Read:
    """A read of a node's value: the first that another node has."""
    for v in graph.vertices[index + 1 :]:
        for read in reads_in(v.node):
            written = () if graph.weight_read(read) else graph.writes(read)
            if [i for _, i in written[-1:]] == [index]:
                return read
    raise NoFormula("stream", "no other part of the model reads it.")
