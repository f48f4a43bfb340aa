"""The distribution of a VAE's codes, fitted once after training: a mixture of Gaussians for each class.

Codes of real rows are never quite N(0, I), whatever weight the divergence had, and where a class is known
to the encoder they differ from class to class. Drawing them as they lie mends both, with the networks as they
are (ex-post density estimation: Ghosh et al. 2020, "From variational to deterministic autoencoders",
section 4, arXiv:1903.12436; Dai & Wipf 2019).

    B rows · C cells (combinations of classes) · K components · Z numbers of a code
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genpipe.draws import Draws

COMPONENTS, MOST = 8, 256  # of a cell; of all
PER_COMPONENT = 200  # rows, so that no component is a few people's
WIDEST = 64  # numbers of a code whose covariances are kept; of wider ones the variances alone
STRENGTH = 20.0  # rows that what all rows say counts for in a cell
RIDGE = 1e-3  # added to every variance
CLUSTER, SMALLEST = 25, 10  # rows of a cluster, on average and at least
FORMS = ("normal", "gaussian", "classes", "clusters", "mixture")
HELD = 5  # every so manieth row chooses between them

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


class MixturePrior(nn.Module):
    """p(z | classes): standard normal until `fit`."""

    weight: Tensor
    mean: Tensor
    factor: Tensor
    fitted: Tensor

    def __init__(self, conditions: Sequence[int], latent: int) -> None:
        """conditions: the number of classes of each condition field."""
        super().__init__()
        cells = math.prod(conditions)
        self.sizes = tuple(conditions) if cells <= MOST else ()
        cells = cells if self.sizes else 1
        parts = max(1, min(COMPONENTS, MOST // cells))
        full = latent <= WIDEST
        one = torch.eye(latent) if full else torch.ones(latent)
        self.register_buffer("weight", torch.full((cells, parts), 1 / parts))
        self.register_buffer("mean", torch.zeros(cells, parts, latent))
        self.register_buffer("factor", one.expand(cells, parts, *one.shape).clone())
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def cells(self, condition: Tensor) -> Tensor:
        """(B,) the cell of each row of condition (B, F)."""
        cell = torch.zeros(len(condition), dtype=torch.long, device=condition.device)
        for k, size in enumerate(self.sizes):
            cell = cell * size + condition[:, k]
        return cell

    def draw(self, condition: Tensor, rng: Draws, temperature: float = 1.0) -> Tensor:
        """(B, Z) codes of rng's rows. temperature: factor of how far they lie from their component's mean."""
        noise = rng.normal(self.mean.shape[-1]) * temperature
        if not self.fitted:
            return noise
        cell = self.cells(condition)
        part = rng.categorical(self.weight[cell].clamp_min(1e-12).log())
        mean, factor = self.mean[cell, part], self.factor[cell, part]
        if factor.dim() == 2:
            return mean + factor * noise
        return mean + (factor @ noise.unsqueeze(-1)).squeeze(-1)

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        """(B,) nats."""
        cell, size = self.cells(condition), z.shape[-1]
        off, factor = z.unsqueeze(1) - self.mean[cell], self.factor[cell]
        if factor.dim() == 3:
            white, volume = off / factor, factor.abs().log().sum(-1)
        else:
            white = torch.linalg.solve_triangular(factor, off.unsqueeze(-1), upper=False).squeeze(-1)
            volume = factor.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
        each = -0.5 * white.square().sum(-1) - volume - 0.5 * size * math.log(2 * math.pi)
        return torch.logsumexp(self.weight[cell].clamp_min(1e-12).log() + each, 1)

    @torch.no_grad()
    def fit(self, z: Tensor, condition: Tensor, seed: int, *, clusters: bool = False) -> None:
        """To codes z (N, Z) of training rows: the form that makes rows it was not fitted to likeliest.

        Forms: N(0, I); one Gaussian; one a cell; several with covariances of their own; with `clusters`,
        several of few rows and of covariances that are much alike. A cluster may be one person's rows.

        A covariance of many numbers and few rows says less of others than N(0, I) does.
        """
        from threadpoolctl import threadpool_limits

        codes, cell = z.double().cpu().numpy(), self.cells(condition).cpu().numpy()
        held = np.arange(len(codes)) % HELD == 0
        there, asked = (t.cpu()[torch.from_numpy(held)] for t in (z, condition))
        home, best, chosen = self.mean.device, -math.inf, ""
        self.cpu()
        with threadpool_limits(1):  # sums of several threads depend on their number
            for form in FORMS if clusters else (form for form in FORMS if form != "clusters"):
                self._take(_Fit(codes[~held], self).parts(cell[~held], form, seed))
                if (found := float(self.log_density(there, asked).mean())) > best:
                    best, chosen = found, form
            self._take(_Fit(codes, self).parts(cell, chosen, seed))
        self.fitted.fill_(True)
        self.to(home)

    def _take(self, parts: list[Parts]) -> None:
        self.weight.zero_()
        for k, (weight, mean, covariance) in enumerate(parts):
            factor = np.linalg.cholesky(covariance)
            if self.factor.dim() == 3:
                factor = np.diagonal(factor, axis1=-2, axis2=-1)
            for own, there in ((self.weight, weight), (self.mean, mean), (self.factor, factor)):
                own[k, : len(weight)] = torch.from_numpy(np.array(there))


class _Fit:
    """Weights (K,), means (K, Z) and covariances (K, Z, Z) of each cell of codes (N, Z), in one of FORMS."""

    def __init__(self, codes: np.ndarray, prior: MixturePrior) -> None:
        self.codes, (self.cells, self.most), self.size = codes, prior.weight.shape, codes.shape[1]
        self.diagonal = prior.factor.dim() == 3
        rows = len(codes)
        self.center = codes.sum(0) / (rows + STRENGTH)
        self.wide = self._toward(codes, np.eye(self.size))

    def parts(self, cell: np.ndarray, form: str, seed: int) -> list[Parts]:
        if form == "normal":
            return [(np.ones(1), np.zeros((1, self.size)), np.eye(self.size)[None])] * self.cells
        if form == "gaussian":
            return [(np.ones(1), self.center[None], self.wide[None])] * self.cells
        if form == "clusters":
            return self._clusters(cell, seed)
        most = 1 if form == "classes" else self.most
        return [self._cell(self.codes[cell == k], most, seed) for k in range(self.cells)]

    def _cell(self, codes: np.ndarray, most: int, seed: int) -> Parts:
        """Of few rows lean on what all rows say."""
        rows = len(codes)
        mean = (codes.sum(0) + STRENGTH * self.center) / (rows + STRENGTH)
        pooled = self._toward(codes, self.wide)
        parts = min(most, rows // PER_COMPONENT)
        if parts < 2:
            return np.ones(1), mean[None], pooled[None]
        found = _mixture(codes, parts, seed, full=not self.diagonal)
        own = found.covariances_ if not self.diagonal else found.covariances_[:, :, None] * np.eye(self.size)
        count = rows * found.weights_[:, None, None]
        return found.weights_, found.means_, (count * own + self.size * pooled) / (count + self.size)

    def _clusters(self, cell: np.ndarray, seed: int) -> list[Parts]:
        """Clusters of a cell's rows, each with its own mean; what they say of covariances together counts in
        each for as many rows as a code has numbers.
        """
        groups = [_grouped(self.codes[cell == k], self.most, seed) for k in range(self.cells)]
        off = np.concatenate([part - part.mean(0) for group in groups for part in group])
        within = self._toward(off, self.wide)
        made = []
        for group, alone in zip(groups, self.parts(cell, "classes", seed), strict=True):
            if len(group) < 2:
                made.append(alone)
                continue
            count = np.array([len(part) for part in group])
            own = np.stack([np.atleast_2d(np.cov(part, rowvar=False, bias=True)) for part in group])
            rows = count[:, None, None]
            covariance = (rows * own + self.size * within) / (rows + self.size)
            if self.diagonal:
                covariance = covariance * np.eye(self.size)
            made.append((count / count.sum(), np.stack([part.mean(0) for part in group]), covariance))
        return made

    def _toward(self, codes: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The covariance of codes, drawn to another one that counts as so many rows as a code has numbers."""
        rows, own = len(codes), STRENGTH + self.size
        if rows > 1:
            found = np.atleast_2d(np.cov(codes, rowvar=False, bias=True)) + RIDGE * np.eye(self.size)
            target = (rows * found + own * target) / (rows + own)
        return np.diag(np.diag(target)) if self.diagonal else target


def _grouped(codes: np.ndarray, most: int, seed: int) -> list[np.ndarray]:
    """Rows by the nearest of up to `most` centers; groups of few rows are dealt to the others."""
    from sklearn.cluster import KMeans

    count = min(most, len(codes) // CLUSTER)
    if count < 2:
        return [codes] if len(codes) else []
    centers = KMeans(count, n_init=3, random_state=seed % 2**32).fit(codes).cluster_centers_
    while True:
        home = np.square(codes[:, None] - centers).sum(2).argmin(1)
        sizes = np.bincount(home, minlength=len(centers))
        if sizes.min() >= SMALLEST:
            return [codes[home == k] for k in range(len(centers))]
        centers = np.delete(centers, sizes.argmin(), 0)


def _mixture(codes: np.ndarray, parts: int, seed: int, *, full: bool) -> Any:
    from sklearn.mixture import GaussianMixture

    kind = "full" if full else "diag"
    model = GaussianMixture(
        parts, covariance_type=kind, reg_covar=RIDGE, max_iter=100, random_state=seed % 2**32
    )
    return model.fit(codes)
