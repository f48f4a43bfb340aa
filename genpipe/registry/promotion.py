"""Moving an alias that two jobs may want at once.

MLflow sets an alias without asking what it was. So each move first takes a number in a log of the store,
`<store>/registry/<name>-<created>/champion-00007.json`, by conditional create: only one job gets number
7, and the other is told who did. A move that was cut off between its number and the alias is finished by
the next one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from genpipe import store
from genpipe.errors import ConflictError, DataError, few, unknown
from genpipe.settings import read_settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Terms of a version, as tags: `unchecked` and `despite` say why it is there though nobody could check it, or
# though it did not pass, with its `verdict`; `allow` says what consumers may do.
CHAMPION, CHALLENGER = "champion", "challenger"  # aliases
UNSOUND = ("unchecked", "despite")
DONE = "genpipe.promotion"  # tag of the registered model: the number of the last finished move


def current(to: MlflowClient, name: str, alias: str) -> int | None:
    """The version an alias names; None without one."""
    aliases = to.get_registered_model(name).aliases
    return int(aliases[alias]) if alias in aliases else None


def by_terms(
    to: MlflowClient, name: str, version: int, champion: int, fingerprint: str
) -> tuple[bool, str] | None:
    """(whether the version becomes champion, why) where the terms of publishing decide and no score does."""
    ours, theirs = (to.get_model_version(name, str(number)).tags for number in (version, champion))
    sound = [not set(tags) & set(UNSOUND) for tags in (ours, theirs)]
    if not sound[0] and sound[1]:
        return False, f"version {champion} was checked, this one was not or did not pass"
    if sound[0] and not sound[1]:
        return True, f"version {champion} was not checked or did not pass"
    if theirs.get("bundle_fingerprint") == fingerprint:
        return True, f"the generator of version {champion}, published on other terms"
    return None


def no_model(to: MlflowClient, model: str, name: str) -> DataError:
    """The error of a reference to nothing: which versions and aliases a name has, or which names exist."""
    known = {each.name: each for each in to.search_registered_models(max_results=1000)}
    if name not in known:
        told = unknown("model", name, known or {"(none registered yet)"})
        fix = told.fix or "register one under this name: genpipe register NAME"
        return DataError("NOMODEL", where=model, found=told.found, expected=told.expected, fix=fix)
    versions = sorted(int(v.version) for v in to.search_model_versions(f"name='{name}'", max_results=1000))
    names = [f"{name}@{each}" for each in [*known[name].aliases, *versions[-20:]]]
    return DataError(
        "NOMODEL", where=model, found="no such version or alias", expected=f"one of {few(names)}"
    )


class Promotion:
    """What was seen when the comparison began; `move` succeeds only if it still holds."""

    def __init__(self, to: MlflowClient, name: str, alias: str) -> None:
        self.client, self.name, self.alias = to, name, alias
        model = to.get_registered_model(name)
        # the time of creation tells a model apart from a deleted one of the same name
        self.log = store.join(read_settings().store, "registry", f"{name}-{model.creation_timestamp}")
        tag = model.tags.get(DONE, "")
        done = int(tag) if re.fullmatch("[0-9]{1,9}", tag) else 0  # else all moves are made again, in order
        last, entry = done, self._entry(done + 1)
        while entry is not None:  # numbers that were taken, but not finished as far as we can see
            last += 1
            self._apply(last, entry["to"])
            entry = self._entry(last + 1)
        self.number, self.version = last + 1, current(to, name, alias)

    def before(self) -> int | None:
        """The version that was champion before the one that is now; None where the log knows of none."""
        for number in range(self.number - 1, 0, -1):
            entry = self._entry(number)
            if entry and entry["to"] == self.version and entry["from"] not in (None, self.version):
                return int(entry["from"])
        return None

    def move(self, version: int) -> None:
        where = self._where(self.number)
        try:
            store.create(where, store.canonical({"from": self.version, "to": version}))
        except ConflictError:
            winner = (self._entry(self.number) or {}).get("to")
            found = f"version {winner} became {self.alias} while version {version} was compared"
            fix = "run the same command again to compare with it"
            raise ConflictError("PROMOTED", where=self.name, found=found, fix=fix) from None
        self._apply(self.number, version)

    def _apply(self, number: int, version: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.set_registered_model_alias(self.name, self.alias, str(version))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise  # a version that was deleted since is passed over
        self.client.set_registered_model_tag(self.name, DONE, str(number))
        # slower than a later move? then what it wrote is put back
        later = self._entry(number + 1)
        if later is not None:
            self._apply(number + 1, later["to"])

    def _entry(self, number: int) -> Any:
        try:
            return store.read_json(self._where(number))
        except FileNotFoundError:
            return None

    def _where(self, number: int) -> str:
        return store.join(self.log, f"{self.alias}-{number:05d}.json")
