"""The contracts of networks, losses and families, as checks that a plug-in's own tests can call.

    import pytest
    from genpipe import testing

    CASES = testing.network_cases(["spectral"]) + testing.loss_cases(["cosine"])

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_contract(case):
        case()

Without names a function makes the cases of a whole registry, as genpipe's own tests do. A case takes
milliseconds, and raises AssertionError where its contract is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from genpipe.families import FAMILIES, form_for, networks_for
from genpipe.networks import NETWORKS
from genpipe.networks.base import form, roles_on
from genpipe.objectives import ADVERSARIAL
from genpipe.testing.families import check_family
from genpipe.testing.losses import check_loss
from genpipe.testing.networks import check_declaration, check_model, check_network
from genpipe.testing.specs import LATENT, SPECS, one_thread, small

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One check: call it. `str(case)` names it."""

    name: str
    check: Callable[[], None]

    def __call__(self) -> None:
        with one_thread():
            self.check()

    def __str__(self) -> str:
        return self.name


def network_cases(names: Collection[str] | None = None) -> list[Case]:
    """Every network in every role, on every spec it accepts, alone and in each family it fits."""
    cases = []
    for name in NETWORKS if names is None else names:
        kind = NETWORKS[name]
        cases.append(Case(name, partial(check_declaration, name)))
        for key, spec in SPECS.items():
            roles = sorted(roles_on(kind, form(spec)))
            for role in roles:
                cases.append(Case(f"{name}-{role}-{key}", partial(check_network, name, role, spec)))
                if role == "model":
                    cases.append(Case(f"{name}-causal-{key}", partial(check_model, name, spec)))
            for family, game in FAMILIES.items():
                fields = [
                    field
                    for field, role in game.network_roles.items()
                    if role in roles and form_for(family, field, form(spec)) in kind.accepts
                ]
                if fields and form(spec) in game.accepts:
                    parts = {**networks_of(family, key), **dict.fromkeys(fields, small(name))}
                    cases.append(_family_case(family, key, parts))
    return cases


def loss_cases(names: Collection[str] | None = None) -> list[Case]:
    """Every adversarial loss alone, and in a GAN on every spec."""
    cases = []
    for name in ADVERSARIAL if names is None else names:
        cases.append(Case(name, partial(check_loss, name)))
        for key in _learnable("gan"):
            options = {"penalty": "r1", **ADVERSARIAL[name].settings, "adversarial": name}
            cases.append(_family_case("gan", key, {**networks_of("gan", key), **options}))
    return cases


def family_cases(
    names: Collection[str] | None = None, options: Mapping[str, Iterable[Options]] | None = None
) -> list[Case]:
    """Every family on every spec it accepts, with the first networks that fit. options: family -> fields of
    its config, for more cases of it.
    """
    cases = []
    for name in FAMILIES if names is None else names:
        for key in _learnable(name):
            for option in ({}, *(options or {}).get(name, ())):
                cases.append(_family_case(name, key, {**networks_of(name, key), **option}))
    return cases


def networks_of(family: str, key: str) -> dict[str, Any]:
    """Small networks for every role, the first that fit."""
    what = form(SPECS[key])
    return {field: small(networks_for(family, field, what)[0]) for field in FAMILIES[family].network_roles}


def _learnable(family: str) -> list[str]:
    return [key for key, spec in SPECS.items() if form(spec) in FAMILIES[family].accepts]


def _family_case(family: str, key: str, options: Options) -> Case:
    words = [str(getattr(value, "network", value)) for value in options.values()]
    latent = {"latent": LATENT} if "latent" in FAMILIES[family].Config.model_fields else {}
    check = partial(check_family, family, SPECS[key], {**latent, **options})
    return Case("-".join([family, key, *words]), check)


__all__ = ["Case", "family_cases", "loss_cases", "network_cases"]
