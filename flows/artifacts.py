"""What a person finds in the Prefect UI under a run: scores, samples, links."""

from __future__ import annotations

import base64
import re
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from genpipe import store
from genpipe.settings import read_settings

MAX_PICTURE = 400_000


def slug(*words: str) -> str:
    """An artifact key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


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
    create_table_artifact(rows, key=slug(name, "scores"), description=report["headline"])


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
        page = report["page"]
        create_link_artifact(
            page if "://" in page else f"file://{page}", key=slug(name, "report"), link_text="report"
        )
    tracking = read_settings().tracking_uri
    if registered and tracking.startswith("http"):
        link = f"{tracking.rstrip('/')}/#/models/{registered['name']}/versions/{registered['version']}"
        create_link_artifact(
            link,
            key=slug(name, "mlflow"),
            link_text=f"{registered['name']} version {registered['version']} in MLflow",
        )


def show_dataset(dataset: dict[str, Any]) -> None:
    rows = [{"": key, "value": str(value)} for key, value in dataset.items()]
    create_table_artifact(
        rows, key=slug(dataset["name"], "dataset"), description=f"{dataset['name']}: {dataset['fingerprint']}"
    )
