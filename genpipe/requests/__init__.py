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

__all__ = [
    "Budget",
    "Delivery",
    "Evaluate",
    "Fit",
    "Generate",
    "Impute",
    "Ingest",
    "Likelihood",
    "Part",
    "Reading",
    "Register",
    "Request",
    "Run",
    "Train",
    "Tune",
]
