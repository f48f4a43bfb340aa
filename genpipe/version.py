"""The version of the code, which every output names."""

__version__ = "0.1.0"
