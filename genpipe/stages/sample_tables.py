"""Where models registered by genpipe 0.1 look for this name: MLflow keeps their code as text."""

from genpipe.related.sample import sample_tables

__all__ = ["sample_tables"]
