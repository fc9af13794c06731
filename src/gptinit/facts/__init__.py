"""What is known before any model is built; no torch.

    vocabulary architectures bounds presets    the words, and tables with their sources
    schemes formulas                           published inits: role -> `Scheme` rule -> formula
    distributions algebra                      what a parameter is drawn from (`Distribution`)
    step names sampling                        one call of an init (`Step`), names, rows to sample
"""
