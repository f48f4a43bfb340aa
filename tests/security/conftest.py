"""The fixture of two namespaces; what it gives is described in town.py."""

from town import town

__all__ = ["town"]
