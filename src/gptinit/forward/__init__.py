"""What a model's own forward does with its weights, seen on eight tokens without computing them.

calling.py finds how to call a model and where its logits are, activations.py turns the record of
that call into a graph, residuals.py finds the stream and its branches in the graph, weights.py
what every weight is for, and sites.py which modules a measurement can listen at.
"""
