"""Where models registered by genpipe 0.1 look for this name: MLflow keeps their code as text."""

from genpipe.stages.generate.shards import open_bundle

__all__ = ["open_bundle"]
