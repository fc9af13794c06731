"""Run a model's factory without allocating storage, and derive the distribution of its tensors.

record/   runs the factory: every operator on a floating point tensor becomes nodes and writes
graph.py  the record: `Node` (a draw or an operator), `Storage` with its `Write`s, `Read`
laws/     `Read` -> `Law`: the distribution, derived from the nodes behind it, without sampling
replay/   `Read` -> values: the nodes computed again, for any seed or any few entries

    w = torch.empty(4, 4)    w.normal_(0, 0.02)       w[:2].mul_(0.5)
    Storage (16 entries)  <- Write(all, Node normal)  <- Write(rows 0-1, Node mul)
                             law N(0, 0.02)              law N(0, 0.01) of the rows it covers

A `Read` is a storage, how many of its writes had happened, and a view of it: later writes never
change what an earlier read means. Memory grows with the number of operators, not of parameters.
"""
