"""The weights of a bundle, which a stranger may have made: the networks they are for cost no more than they.

A recipe of a few bytes can ask for networks of a terabyte. So networks are built on a budget, a small
multiple of the bytes of the weights (`Budget`), and their tensors are compared with the file's header before
any of these is read. What a block of rows will take is bounded in the same way (`check_block`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import zip_longest
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genpipe.bundle.folder import AGAIN
from genpipe.documents import first_line, parse_json
from genpipe.errors import DataError
from genpipe.families.base import Family
from genpipe.recipe import FAMILIES, Recipe
from genpipe.spec import TensorSpec

MAX_HEADER, MAX_TENSORS = 16 * 2**20, 100_000
LEAST_BUDGET, PER_BYTE = 2**28, 32  # of building: the weights, their masks, and what their first values take
LEAST_BLOCK = 2**28  # numbers
SIZED = (torch.empty, torch.zeros, torch.ones, torch.full, torch.randn, torch.rand)
ITEM = 8  # bytes of a number, at most
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}

Header = dict[str, tuple[str, tuple[int, ...]]]  # tensor -> dtype, shape


class TooLarge(ValueError):
    """What was asked for costs more than the budget."""


class Budget(TorchFunctionMode):
    """So many bytes may be made inside; what would pass that is refused before it is made."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = self.most = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (coming := _coming(func, args)) > self.left:
            raise TooLarge(f"a tensor of {coming} bytes")
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out._base is None:
            self.left -= out.nbytes
            if self.left < 0:
                raise TooLarge(f"tensors of more than {self.most} bytes")
        return out


def _coming(func: Any, args: Any) -> int:
    """Bytes that a call is about to make, at most, as far as its arguments tell."""
    if func in SIZED:
        sizes = args[0] if args and not isinstance(args[0], int) else args
        return ITEM * math.prod(n for n in sizes if isinstance(n, int))
    shapes = [a.shape for a in args if isinstance(a, Tensor)]
    if len(shapes) < 2 or ITEM * math.prod(map(math.prod, shapes)) < LEAST_BUDGET // 16:
        return 0  # `left` counts what was made
    # what `torch.broadcast_shapes` says, which imports sympy first: a second of CPU in each process
    sizes = [{*dims} - {1} for dims in zip_longest(*(s[::-1] for s in shapes), fillvalue=1)]
    if any(len(size) > 1 for size in sizes):  # no operation on equal shapes
        return 0
    return ITEM * math.prod(n for size in sizes for n in size)


def read_header(data: bytes, *, where: str) -> Header:
    """What a safetensors file holds, from a header that is small and unambiguous."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 0 < size <= min(MAX_HEADER, len(data) - 8):
        found = f"a header of {size} bytes in a file of {len(data)}"
        raise DataError("WEIGHTS", where=where, found=found, expected=f"at most {MAX_HEADER}", fix=AGAIN)
    header = parse_json(data[8 : 8 + size], where=where)
    names = [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
    if not 0 < len(names) <= MAX_TENSORS or any("." not in name for name in names):
        expected = f"1 to {MAX_TENSORS}, named role.parameter"
        raise DataError("WEIGHTS", where=where, found=f"{len(names)} tensors", expected=expected)
    try:
        return {name: (str(header[name]["dtype"]), tuple(header[name]["shape"])) for name in names}
    except (KeyError, TypeError) as error:
        found = f"a header without {first_line(error)}"
        raise DataError(
            "WEIGHTS", where=where, found=found, expected="dtype and shape of each tensor"
        ) from error


def read_weights(data: bytes, *, where: str) -> dict[str, dict[str, Tensor]]:
    """role -> parameter -> tensor; all numbers are finite."""
    read_header(data, where=where)
    try:
        # compares sizes and places of all tensors with one another and with the file
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError) as error:
        found = first_line(error)
        raise DataError("WEIGHTS", where=where, found=found, expected="a safetensors file") from error
    roles: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            found = f"{name} has numbers that are not finite"
            raise DataError("WEIGHTS", where=where, found=found, fix="train again")
        role, parameter = name.split(".", 1)
        roles.setdefault(role, {})[parameter] = tensor
    return roles


def without(data: bytes, roles: Collection[str], *, where: str) -> bytes:
    """A safetensors file without the tensors of these roles; the same bytes where it has none."""
    there = read_weights(data, where=where)
    kept = {f"{r}.{name}": t for r, each in there.items() if r not in roles for name, t in each.items()}
    return data if not set(roles) & set(there) else safetensors.torch.save(kept)


def built_for(data: bytes, family: Family, *, where: str) -> dict[str, nn.Module]:
    """Fresh networks of the family by role, if the file holds exactly their tensors."""
    header = read_header(data, where=where)
    roles = {name.split(".", 1)[0] for name in header}
    try:
        # `build` draws from the global generator: leave that as it was
        with torch.random.fork_rng(devices=[]), Budget(LEAST_BUDGET + PER_BYTE * len(data)):
            built = family.build()
    except TooLarge as error:
        found = f"a recipe that asks for {error}, beside weights of {len(data)} bytes"
        raise DataError("LIMIT", where=where, found=found, fix=AGAIN) from error
    if not set(family.sample_roles) <= roles <= set(built):
        expected = f"{list(family.sample_roles)}"
        raise DataError("WEIGHTS", where=where, found=f"roles {sorted(roles)}"[:300], expected=expected)
    wanted = {
        f"{role}.{name}": (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape))
        for role in roles
        for name, t in built[role].state_dict().items()
    }
    for name in sorted(wanted.keys() | header.keys()):
        if wanted.get(name) != header.get(name):
            found, expected = (
                f"{name} of {of[name][0]} {list(of[name][1])}" if name in of else f"no {name}"
                for of in (header, wanted)
            )
            expected = f"the parameters of the recipe's networks: {expected}"
            raise DataError("WEIGHTS", where=where, found=found[:300], expected=expected[:300], fix=AGAIN)
    return built


def check_block(recipe: Recipe, spec: TensorSpec, rows: int, *, weights: int, where: str) -> None:
    """Raise a DataError where a block of rows would take far more numbers than its generator's weights.

    weights: their bytes.
    """
    kind = FAMILIES[recipe.family.family]
    own = kind.network_specs(recipe.family, spec) if hasattr(kind, "network_specs") else {}
    nets = ((getattr(recipe.family, field), own.get(field, spec)) for field in kind.network_roles)
    each = math.prod(spec.shape) + sum(spec.conditions) + max(spec.vocabulary, default=0)
    held = rows * each + max((net.held(what, rows) for net, what in nets), default=0)
    most = max(LEAST_BLOCK, PER_BYTE * weights)
    if held > most:
        found = f"{rows} rows of shape {list(spec.shape)} take some {held} numbers"
        raise DataError(
            "LIMIT", where=where, found=found, expected=f"at most {most}", fix="learn smaller rows"
        )
