"""The command line: parse, call one verb of the API, render, exit."""

from gptinit.cli.app import main

__all__ = ["main"]
