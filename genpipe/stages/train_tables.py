"""Where models registered by genpipe 0.1 look for this name: MLflow keeps their code as text."""

from genpipe.related.train import open_tables

__all__ = ["open_tables"]
