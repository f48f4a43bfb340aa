"""Fréchet distance, coverage and precision in a fixed, deterministic feature space.

The Fréchet distance (Heusel et al., 2017, arXiv 1706.08500) sees mean and covariance; coverage (Naeem et
al., 2020, arXiv 2002.09797) is the share of real records that have a generated one within the distance of
their own k-th real neighbour, so a generator that repeats itself scores low; precision (Kynkäänniemi et al.,
2019, arXiv 1904.06991) is the share of generated records inside such a ball.

    N rows · F features · D principal components
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 5
COMPONENTS = 32
LABEL_SHARE = 0.5  # variance that labels add, relative to the features': generated classes must also be right
MAX_CLASSES = 64
STEEPNESS = 5.0


class FeatureSpace:
    """Principal components of real features (N, F), one-hot labels beside them where there are any."""

    def __init__(self, features: np.ndarray, labels: np.ndarray | None) -> None:
        self.classes = np.unique(labels.astype(str)) if labels is not None else np.zeros(0, dtype=str)
        if len(self.classes) > MAX_CLASSES:
            self.classes = self.classes[:0]
        self.mean = features.mean(0)
        # half-way standardised: features that hardly vary stay small, or their noise would decide
        self.scale = np.sqrt(features.var(0) + 0.1 * features.var(0).mean() + 1e-12)
        centred = (features - self.mean) / self.scale
        keep = max(1, min(COMPONENTS, len(features) // 8, features.shape[1]))
        _, vectors = np.linalg.eigh(centred.T @ centred)
        self.components = vectors[:, ::-1][:, :keep]
        projected = centred @ self.components
        self.label_weight = 0.0
        if len(self.classes) > 1:
            share = np.asarray([(labels.astype(str) == c).mean() for c in self.classes])  # type: ignore[union-attr]
            self.label_weight = float(np.sqrt(LABEL_SHARE * projected.var(0).sum() / (1 - share @ share)))
        self.real = self.project(features, labels)
        self.radii = np.sqrt(_kth_square(self.real, NEIGHBOURS))
        self.moments = _moments(self.real)

    def project(self, features: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """(N, F) -> (N, D [+ classes])"""
        z = ((features - self.mean) / self.scale) @ self.components
        if not len(self.classes) or labels is None:
            return z
        hot = (labels.astype(str)[:, None] == self.classes[None, :]).astype(z.dtype)
        return np.concatenate([z, hot * self.label_weight], 1)

    def parts(self, features: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
        """frechet = 1 / (1 + 5 d / tr(real covariance)), coverage, precision; each 1 at best."""
        fake = self.project(features, labels)
        total = float(np.trace(self.moments[1])) + 1e-12
        distance = frechet(self.moments, _moments(fake)) / total
        covered, inside = _balls(self.real, self.radii, fake)
        return {"frechet": 1.0 / (1.0 + STEEPNESS * distance), "coverage": covered, "precision": inside}


def _moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return z.mean(0, dtype=np.float64), np.atleast_2d(np.cov(z.astype(np.float64), rowvar=False))


def frechet(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the trace of the root by symmetric eigenvalues."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(max(0.0, ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N_a, N_b) squared Euclidean distances."""
    return np.clip((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2.0 * (a @ b.T), 0, None)


def _kth_square(z: np.ndarray, k: int, chunk: int = 1024) -> np.ndarray:
    """Squared distance of every row to its k-th other row."""
    k = min(k, len(z) - 1)
    return np.concatenate(
        [np.partition(squares(z[i : i + chunk], z), k, axis=1)[:, k] for i in range(0, len(z), chunk)]
    )


def _balls(real: np.ndarray, radii: np.ndarray, fake: np.ndarray, chunk: int = 1024) -> tuple[float, float]:
    """(share of real rows with a fake one in their ball, share of fake rows in any ball)."""
    covered, inside = np.zeros(len(real), dtype=bool), []
    for i in range(0, len(fake), chunk):
        hit = squares(fake[i : i + chunk], real) <= radii[None, :] ** 2
        covered |= hit.any(0)
        inside.append(hit.any(1))
    return float(covered.mean()), float(np.concatenate(inside).mean()) if inside else 0.0
