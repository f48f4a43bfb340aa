"""Whether what a remembered step refers to is still there; else the step runs again."""

from __future__ import annotations

from typing import Any

from genpipe import store
from genpipe.dataset import Dataset
from genpipe.one_file import is_there, one_file


def bundle_exists(result: dict[str, Any]) -> bool:
    return any(store.exists(store.join(result["uri"], name)) for name in ("manifest.json", "tables.json"))


def study_exists(result: dict[str, Any]) -> bool:
    return store.exists(store.join(result["uri"], "result.json"))


def report_exists(report: dict[str, Any]) -> bool:
    return report["verdict"] == "unchecked" or store.exists(report["uri"])


def dataset_exists(dataset: dict[str, Any]) -> bool:
    return Dataset.exists(dataset["uri"])


def tables_exist(made: dict[str, Any]) -> bool:
    return store.exists(store.join(made["uri"], "tables.json"))


def file_missing(output: str | None) -> bool:
    """Whether one file was asked for and is gone, though its rows may be in the store. Of a table in a
    database only the database knows, so it is asked again.
    """
    return one_file(output) and not is_there(str(output))
