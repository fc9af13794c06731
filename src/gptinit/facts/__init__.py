"""What is known before any model is built: distributions, schemes, presets, bounds, names.

`vocabulary`, `architectures`, `bounds` and `presets` are tables with their sources. `schemes` holds
published inits: a formula (`formulas`) for each role; `apply_scheme` applies one to a model. `gpt`
lists the parameters of the built-in GPT, and `model_argument` reads what a MODEL argument names.
`distributions` says what a parameter can be drawn from, and `algebra` compares and scales that.
`step` is one call of an init.
"""
