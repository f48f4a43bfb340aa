"""What a person finds in the Prefect UI under a run: scores, samples, links.

The UI takes descriptions, and some cells of tables, as Markdown, and titles hold names of columns: what is
text passes through `plain`.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from genpipe import store
from genpipe.redaction import link, shown
from genpipe.settings import read_settings

MAX_PICTURE, MAX_CELL = 400_000, 1_000


def slug(*words: str) -> str:
    """An artifact key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def plain(value: Any) -> Any:
    """A cell or description as text that is no Markdown, no HTML and no secret; numbers as they are."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", shown(value, MAX_CELL))


def show_table(rows: list[dict[str, Any]], *, key: str, description: str) -> None:
    cells = [{plain(name): plain(value) for name, value in row.items()} for row in rows]
    create_table_artifact(cells, key=key, description=plain(description))


def show_scores(name: str, report: dict[str, Any]) -> None:
    rows = [
        {
            "score": s["title"],
            "value": s["value"],
            "worthless": s["floor"],
            "real data": s["ceiling"],
            "meaning": s["reason"] or s["meaning"],
        }
        for s in report["scores"]
    ]
    rows = rows or [{"score": "none", "meaning": report["headline"]}]
    show_table(rows, key=slug(name, "scores"), description=report["headline"])


def show_samples(name: str, report: dict[str, Any]) -> None:
    picture = report.get("picture", "")
    if picture and store.exists(picture) and len(data := store.read_bytes(picture)) <= MAX_PICTURE:
        image = base64.b64encode(data).decode()
        create_markdown_artifact(
            f"![samples](data:image/png;base64,{image})",
            key=slug(name, "samples"),
            description="generated samples",
        )


def show_links(name: str, report: dict[str, Any], registered: dict[str, Any] | None) -> None:
    if report.get("page"):
        page = link(report["page"])
        create_link_artifact(
            f"file://{quote(page)}" if page.startswith("/") else quote(page, safe=":/"),
            key=slug(name, "report"),
            link_text="report",
        )
    tracking = link(read_settings().tracking_uri)
    if registered and tracking.startswith("http"):
        create_link_artifact(
            f"{tracking.rstrip('/')}/#/models/{registered['name']}/versions/{registered['version']}",
            key=slug(name, "mlflow"),
            link_text=f"{registered['name']} version {registered['version']} in MLflow",
        )


def show_dataset(dataset: dict[str, Any]) -> None:
    rows = [{"": key, "value": str(value)} for key, value in dataset.items() if key != "notices"]
    rows += [{"": "note", "value": notice} for notice in dataset.get("notices", [])]
    show_table(
        rows, key=slug(dataset["name"], "dataset"), description=f"{dataset['name']}: {dataset['fingerprint']}"
    )
