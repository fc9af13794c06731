"""How a model comes into being: every tensor that its factory makes, without storage.

tracing.py runs a factory under it all. tensor.py is the tensor that records, and recorder.py what
an operator on it does, with creation.py, writing.py, drawing.py and shapes.py; graph.py is the
record and provenance.py where in the code it was made. noise.py, replay.py, points.py and
partial.py turn a record into values. laws.py reads a distribution from it, with law.py, pieces.py,
moments.py, arithmetic.py, selection.py and expected.py; recipes.py draws it again.
"""
