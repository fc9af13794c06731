"""Run a factory without storage, and record the operator behind every tensor."""
