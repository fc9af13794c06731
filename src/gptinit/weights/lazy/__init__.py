"""Weights that are never drawn: each matrix is known only through the products taken with it.

A `WeightTensor` (weights/tensor.py) stands in for a parameter. When an operator meets it, `rules`
looks up what to do; `LazyParameter` finds the rectangle of the parameter that is meant, `Tiles` the
matrices it lies in, and each matrix responds to the query from what earlier queries have revealed:

    operator -> rules -> LazyParameter -> Tiles -> Tile -> GaussianMatrix | HaarMatrix | DrawnMatrix
                                                            |
                                  Basis (directions queried so far) <- Rows (Gram matrix, factor)

What lies inside the span of earlier queries is computed; the rest is drawn and kept. So every
product is exact in distribution, jointly with all others, and nothing of size in x out exists.
"""
