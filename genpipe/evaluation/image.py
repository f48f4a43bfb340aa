"""Images: Fréchet distance, coverage and precision in random convolution features of the image and its label.

Features: responses of fixed random zero-mean filters, rectified both ways and averaged over a 3 x 3 grid
(random filters with pooling are a decent, data-free descriptor: Saxe et al., 2011), next to a small
thumbnail.

    N images · H, W, C · F features
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image as Picture

from genpipe.errors import DataError
from genpipe.evaluation.base import Judge, Points, Usefulness, View
from genpipe.evaluation.feature_space import FeatureSpace
from genpipe.evaluation.learners import classify
from genpipe.seeds import numpy_rng

MAX_SIDE = 32  # larger images are judged at this size
FILTERS = 24
GRID = 3
THUMBNAIL = 8
NO_LABEL = "the schema names no label (category or boolean target) to predict"


class ImageJudge(Judge):
    """View.x: (N, H, W, C) float32 in [0, 1]."""

    kind = "image"

    def view(self, table: pa.Table) -> View:
        name = self.main("image")[0]
        field = self.schema.field(name)
        assert field.kind == "image"
        x = decode(
            table.column(name), field.channels, min(field.height, MAX_SIDE), min(field.width, MAX_SIDE)
        )
        return View(x, self.codes(table), self.labels(table))

    def fit(self) -> None:
        self.space = FeatureSpace(describe(self.real.x, self.seed), self.real.labels)

    def parts(self, view: View) -> dict[str, float]:
        return self.space.parts(describe(view.x, self.seed), view.labels)

    def points(self, view: View) -> Points:
        return Points(view.x.reshape(len(view), -1), view.codes)

    def scramble(self, view: View, rng: np.random.Generator) -> View:
        """Every pixel position shuffled between images: right mean image, no image is one."""
        flat = view.x.reshape(len(view), -1)
        order = rng.permuted(np.tile(np.arange(len(flat))[:, None], (1, flat.shape[1])), axis=0)
        return View(np.take_along_axis(flat, order, 0).reshape(view.x.shape), view.codes, view.labels)

    def usefulness(self, fit_on: View, test: View) -> Usefulness:
        if fit_on.labels is None or test.labels is None:
            return Usefulness("accuracy", None, 0.0, NO_LABEL)
        x, x_test = (describe(v.x, self.seed) for v in (fit_on, test))
        return classify(x, fit_on.labels, x_test, test.labels, trees=False)


def decode(column: pa.ChunkedArray, channels: int, height: int, width: int) -> np.ndarray:
    """(N, H, W, C) float32 in [0, 1] from encoded images, box-averaged down where they are larger."""
    blobs = column.combine_chunks().field("bytes") if len(column) else pa.array([], pa.binary())
    if isinstance(blobs, pa.ChunkedArray):
        blobs = blobs.combine_chunks()
    out = np.empty((len(blobs), height, width, channels), dtype=np.float32)
    mode = "L" if channels == 1 else "RGB"
    for i, blob in enumerate(blobs.to_pylist()):
        try:
            with Picture.open(io.BytesIO(blob or b"")) as file:
                image = file.convert(mode)
                if image.size != (width, height):
                    image = image.resize((width, height), Picture.Resampling.BOX)
                out[i] = np.asarray(image, dtype=np.float32).reshape(height, width, channels) / 255.0
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(
                "IMAGE", where=f"row {i}", found=str(error).splitlines()[0], expected="a readable image"
            ) from error
    return out


def describe(x: np.ndarray, seed: int, chunk: int = 512) -> np.ndarray:
    """(N, F) features."""
    _, height, width, channels = x.shape
    side = max(1, min(max(3, min(height, width) // 6), height, width))
    step = max(1, min(height, width) // 12)
    filters = (
        numpy_rng(seed, "evaluation", "filters")
        .normal(size=(channels * side * side, FILTERS))
        .astype(np.float32)
    )
    filters -= filters.mean(0)
    filters /= np.linalg.norm(filters, axis=0) + 1e-9
    return np.concatenate([_describe(x[i : i + chunk], filters, side, step) for i in range(0, len(x), chunk)])


def _describe(x: np.ndarray, filters: np.ndarray, side: int, step: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))[:, ::step, ::step]
    rows, high, wide = windows.shape[:3]
    response = windows.reshape(rows * high * wide, -1) @ filters
    response = response.reshape(rows, high, wide, -1)
    both = np.concatenate([np.maximum(response, 0), np.maximum(-response, 0)], -1)
    return np.concatenate([_pool(both, GRID), _pool(x, THUMBNAIL)], 1).astype(np.float64)


def _pool(x: np.ndarray, cells: int) -> np.ndarray:
    """(N, H, W, C) averaged over a grid of at most cells x cells, flattened."""
    rows = [r for r in np.array_split(np.arange(x.shape[1]), cells) if len(r)]
    columns = [c for c in np.array_split(np.arange(x.shape[2]), cells) if len(c)]
    return np.concatenate(
        [x[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean((1, 2)) for r in rows for c in columns], 1
    )
