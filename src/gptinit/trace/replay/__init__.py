"""Values of recorded tensors, computed again from their nodes."""
