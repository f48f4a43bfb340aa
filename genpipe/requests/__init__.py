"""What each verb may be asked (models.py), within which limits (types.py), what is said beyond (words.py)."""

from __future__ import annotations

from genpipe.requests.models import (
    Budget,
    Delivery,
    Evaluate,
    Fit,
    Generate,
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
from genpipe.requests.upkeep import Clean, Doctor, Promote

__all__ = [
    "Budget",
    "Clean",
    "Delivery",
    "Doctor",
    "Evaluate",
    "Fit",
    "Generate",
    "Impute",
    "Ingest",
    "Likelihood",
    "Part",
    "Promote",
    "Reading",
    "Register",
    "Request",
    "Run",
    "Train",
    "Tune",
]
