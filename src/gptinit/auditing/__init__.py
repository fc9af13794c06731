"""Build a model in the requested ways, and judge its init program."""
