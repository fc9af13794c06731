"""Run a factory without allocating storage, and record the operators behind every tensor."""
