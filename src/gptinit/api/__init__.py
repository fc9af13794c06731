"""The verbs of gptinit: what the command line calls, and what a notebook would."""
