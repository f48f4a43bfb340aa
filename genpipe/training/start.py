"""Where a training begins: at the weights of an earlier model in place of the seed's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from genpipe.errors import UsageError
from genpipe.families.base import Family

Weights = Mapping[str, Mapping[str, Tensor]]  # role -> parameter -> tensor


def starting(family: Family, weights: Weights) -> Family:
    """The family whose fresh networks have these weights. Raises a UsageError where they are not of its
    networks, or not of all that are trained.
    """
    build = family.build

    def begun() -> dict[str, nn.Module]:
        nets = build()
        for role, net in nets.items():
            net.load_state_dict(dict(weights[role]))
        return nets

    _check(build(), weights)
    family.build = begun  # type: ignore[method-assign]
    family.has_begun = True  # type: ignore[attr-defined]  # it has looked at training rows
    return family


def _check(nets: Mapping[str, nn.Module], weights: Weights) -> None:
    if absent := [role for role in nets if role not in weights]:
        found = f"a model without its {' and '.join(absent)}, which bundles and the registry do not keep"
        expected = f"all that is trained: {', '.join(nets)}"
        fix = "train anew; of codes of rows take the run's own folder, which keeps the encoder"
        raise UsageError("FROM", where="from", found=found, expected=expected, fix=fix)
    for role, net in nets.items():
        both = net.state_dict(), weights[role]
        mine, theirs = ({n: tuple(t.shape) for n, t in of.items()} for of in both)
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                found, expected = (
                    f"{role}.{name} of {list(of[name])}" if name in of else f"no {role}.{name}"
                    for of in (theirs, mine)
                )
                fix = "leave the networks as they were: change training alone in the recipe"
                raise UsageError("FROM", where="from", found=found, expected=expected, fix=fix)
