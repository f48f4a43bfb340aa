"""What is asked of a house that is in use: to look whether all is well, and to remove what nobody needs."""

from __future__ import annotations

from pydantic import Field as About

from genpipe.requests.models import Request
from genpipe.requests.types import Days, Flag, Hours, Place, ReasonOrNone, Version


class Clean(Request):
    """A store and a home -> what nobody needs in them."""

    place: Place | None = About(
        default=None,
        description="A store, or the folder of one output; by default GENPIPE_STORE and the home.",
    )
    remove: Flag = About(default=False, description="Remove what is found; without it nothing is touched.")
    hours: Hours = About(
        default=24, description="Leave the folder of an output that was written to within so many hours."
    )
    days: Days = About(
        default=30, description="Keep logs, copies of databases and folders of Ray so many days."
    )


class Promote(Request):
    """A version of a registered model -> its champion."""

    name: str = About(description="The registered model.")
    version: Version = About(description="Its number, or 'previous': the champion before this one.")
    reason: ReasonOrNone = About(default="", description="Why; it stays in the version's tags.")


class Doctor(Request):
    """An environment -> what in it is not as it should be."""
