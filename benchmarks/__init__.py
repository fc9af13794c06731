"""Tables of what gptinit costs: `python -m benchmarks NAME`."""
