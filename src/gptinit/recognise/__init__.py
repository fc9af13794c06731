"""Which of theory's formulas hold for a recorded forward pass."""
