"""Significant digits: how exactly a rate or a logarithm is written, whatever its size."""

from __future__ import annotations

import numpy as np

SLACK = 2.0  # units of the last significant digit by which single precision may be off
MOST = 15


def significant(values: np.ndarray, digits: int) -> np.ndarray:
    """Values rounded to so many significant digits."""
    with np.errstate(divide="ignore"):
        place = np.where(values == 0, 0.0, np.floor(np.log10(np.abs(np.where(values == 0, 1.0, values)))))
    power = np.clip(digits - 1 - place, -300, 300)
    unit = 10.0 ** np.abs(power)
    out: np.ndarray = np.where(power >= 0, np.rint(values * unit) / unit, np.rint(values / unit) * unit)
    return out


def digits_of(values: np.ndarray, share: float) -> int:
    """With how many significant digits at least such a share of the values is written."""
    for digits in range(1, MOST):
        near = np.abs(significant(values, digits) - values) <= 1e-12 * np.abs(values)
        if near.mean() >= share:
            return digits
    return MOST
