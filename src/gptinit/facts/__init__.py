"""Known before any model is built: vocabulary, distributions, formulas, schemes, presets, bounds."""
