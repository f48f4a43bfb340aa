"""genpipe's contracts, kept by what this plug-in adds."""

from __future__ import annotations

import pytest

from genpipe import testing

CASES = [
    *testing.network_cases(["gated"]),
    *testing.loss_cases(["smoothed"]),
    *testing.family_cases(["plain_flow"], {"plain_flow": [{"draws": 2}]}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contracts(case: testing.Case) -> None:
    case()
