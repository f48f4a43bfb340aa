"""What is asked of a house that is in use: to look whether all is well, and to remove what nobody needs."""

from __future__ import annotations

from pydantic import Field as About

from genpipe.requests.models import Request
from genpipe.requests.types import Age, Days, Flag, Hours, Kept, Place, ReasonOrNone, Version


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
    keep: Kept | None = About(
        default=None,
        description="Also find what is whole: all but the newest so many of each name, and what these name.",
    )
    older: Age | None = About(
        default=None, description="Of these only what is older than so many days: 90, 90d, 12w."
    )


class Forget(Request):
    """A dataset -> all that was learnt and made from it, and the dataset."""

    dataset: str = About(description="Its name, for all of its versions, or the place of one of them.")
    remove: Flag = About(
        default=False, description="Unpublish and remove what is found; without it nothing is touched."
    )


class Promote(Request):
    """A version of a registered model -> its champion."""

    name: str = About(description="The registered model.")
    version: Version = About(description="Its number, or 'previous': the champion before this one.")
    reason: ReasonOrNone = About(default="", description="Why; it stays in the version's tags.")


class Doctor(Request):
    """An environment -> what in it is not as it should be."""
