"""What each verb may be asked (models.py, delivery.py), its limits (types.py), what is said (words.py)."""

from __future__ import annotations

from genpipe.requests.delivery import Delivery, Generate
from genpipe.requests.latent import (
    LATENT,
    Anomaly,
    Classify,
    Cluster,
    Compress,
    Edit,
    Encode,
    Interpolate,
    OnRows,
    Reconstruct,
)
from genpipe.requests.models import (
    Budget,
    Evaluate,
    Fit,
    Impute,
    Ingest,
    Likelihood,
    Part,
    Reading,
    Register,
    Request,
    Run,
    Train,
    Tune,
)
from genpipe.requests.upkeep import Clean, Doctor, Forget, Promote

__all__ = [
    "LATENT",
    "Anomaly",
    "Budget",
    "Classify",
    "Clean",
    "Cluster",
    "Compress",
    "Delivery",
    "Doctor",
    "Edit",
    "Encode",
    "Evaluate",
    "Fit",
    "Forget",
    "Generate",
    "Impute",
    "Ingest",
    "Interpolate",
    "Likelihood",
    "OnRows",
    "Part",
    "Promote",
    "Reading",
    "Reconstruct",
    "Register",
    "Request",
    "Run",
    "Train",
    "Tune",
]
