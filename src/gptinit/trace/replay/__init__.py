"""Values and recipes of recorded tensors, computed again from their graph."""
