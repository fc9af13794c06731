"""The version, by itself so that reports can name it without loading the package's face."""

__version__ = "0.1.0"
