"""Random numbers and networks that a test writes down itself, so that a loss can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genpipe.draws import Draws

Numbers = Sequence[Sequence[float]]


class Told(Draws):
    """Draws that return the tables they were given, in this order; a call too many is an IndexError."""

    def __init__(self, *, normal: Sequence[Numbers] = (), uniform: Sequence[Sequence] = ()) -> None:
        rows = len((*normal, *uniform)[0])
        super().__init__(0, total=rows)
        self.normals, self.uniforms = list(normal), list(uniform)

    def normal(self, *shape: int) -> Tensor:
        return self._next(self.normals, shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._next(self.uniforms, shape)

    def _next(self, left: list, shape: tuple[int, ...]) -> Tensor:
        numbers = torch.tensor(left.pop(0), dtype=torch.float32)
        assert numbers.shape == (self.total, *shape), (
            "the numbers told are not of the shape that is asked for"
        )
        return numbers


class Given(nn.Module):
    """A network that is the function given, of its first two inputs. log_scale: what a VAE reads besides."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *, log_scale: float = 0.0) -> None:
        super().__init__()
        self.function = function
        self.log_scale = nn.Parameter(torch.tensor([log_scale]))

    def forward(self, x: Tensor, c: Tensor, *more: Tensor) -> Tensor:
        return self.function(x, c)
