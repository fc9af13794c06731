"""What is known before any model is built: distributions, schemes, presets, bounds, names."""
