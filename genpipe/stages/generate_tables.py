"""Where models registered by genpipe 0.1 look for this name: MLflow keeps their code as text."""

from genpipe.related.generate import rows_of

__all__ = ["rows_of"]
