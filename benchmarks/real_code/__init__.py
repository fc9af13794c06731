"""Public code bases that were not written with gptinit in mind: what it says of them, and whether.

`subjects.toml` names them, `tries` types the commands and does what their messages say, `hooks`
builds the model really and measures it without gptinit, `rows` puts both together, `main` runs all.
"""
