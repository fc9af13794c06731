"""Build a model in the ways asked for, and judge its init program."""
