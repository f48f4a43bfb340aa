"""The last screen of a run: what was made, how good it is, what it cost, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genpipe.console import shorten
from genpipe.console.quiet import console as terminal
from genpipe.flows.summary import Summary
from genpipe.redaction import holds_secret, link, shown

if TYPE_CHECKING:
    from rich.console import Console


def show(
    summaries: Sequence[Summary], *, console: Console | None = None, fixed: dict[str, float] | None = None
) -> None:
    """Print the summary table of one or several pipelines, then the next commands."""
    from rich.table import Table
    from rich.text import Text

    console = console or terminal()
    table = Table(show_header=True, header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for summary in summaries:
        table.add_column(summary.name, overflow="fold")
    columns = [facts(s) for s in summaries]
    for key in dict.fromkeys(key for column in columns for key in column):
        table.add_row(*(Text(shown(cell)) for cell in (key, *(column.get(key, "–") for column in columns))))
    console.print()
    console.print(table)
    for summary in summaries:
        console.print(f"\n{summary.name}", style="bold")
        for word, uri in places(summary).items():
            console.print(f"  {word:<8} {shorten(uri)}", markup=False, soft_wrap=True)
    overhead = {name: took for name, took in (fixed or summaries[0].fixed).items() if took >= 0.05}
    if overhead:
        console.print(f"\nfixed costs {sum(overhead.values()):.1f} s", style="bold")
        console.print("  " + ", ".join(f"{name} {took:.1f}" for name, took in overhead.items()), style="dim")
    console.print("\nnext", style="bold")
    for command, why in following(summaries[0]):
        console.print(f"  {command}", style="cyan", soft_wrap=True)
        console.print(f"      {why}", style="dim")


def facts(summary: Summary) -> dict[str, str]:
    """The rows of one pipeline, in words."""
    data, report, made, study = summary.dataset, summary.report, summary.generated, summary.study
    out = {
        "data": f"{data['kind']}, {data.get('train', 0):,} train + {data.get('holdout', 0):,} held out",
        "fingerprint": data["fingerprint"],
    }
    if study:
        states = [t["state"] for t in study["trials"]]
        parts = [
            f"{states.count(state)} {state}" for state in ("finished", "stopped", "failed") if state in states
        ]
        out["trials"] = f"{len(states)} ({', '.join(parts)})"
        out["winner"] = winner(study)
    if "steps" in summary.model:
        out["trained"] = f"weights of step {summary.model['steps']:,}"
    for score in report["scores"]:
        out[score["title"]] = score_text(score)
    out["verdict"] = report["verdict"]
    if summary.registered:
        out["model"] = "{name} version {version} ({alias})".format(**summary.registered)
    if made:
        out["generated"] = f"{made.get('generated', 0):,} rows"
    if summary.seconds:
        out["seconds"] = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())
    return out


def places(summary: Summary) -> dict[str, str]:
    """What a person may want to open."""
    rows = {"rows": summary.generated["uri"]} if summary.generated else {}
    seen = {"report": summary.report["page"], "samples": summary.report["picture"]}
    return rows | {word: uri for word, uri in seen.items() if uri}


def winner(study: dict[str, Any]) -> str:
    best = next(t for t in study["trials"] if t["number"] == study["best_trial"])
    choices = ", ".join(
        f"{_last(key)} {_short(value)}"
        for key, value in best["choices"].items()
        if _last(key) not in ("recipe", "steps", "evaluate_every")
    )
    return f"{study['best']['name']}" + (f" ({choices})" if choices else "")


def score_text(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "–"
    unit = f" {score['unit']}" if score["unit"] else ""
    ends = [
        f"{word} {score[key]:.3f}"
        for word, key in (("real", "ceiling"), ("worthless", "floor"))
        if score[key] is not None
    ]
    return f"{score['value']:.3f}{unit}" + (f"  ({', '.join(ends)})" if ends else "")


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def following(summary: Summary) -> list[tuple[str, str]]:
    """Three commands that carry on from here."""
    first = summary.generated["uri"] if summary.generated else ""
    return [
        (
            f"genpipe generate models:/{summary.name}@champion --rows 10000",
            "more rows, from the registered champion",
        ),
        tracked(),
        (f"genpipe explain {shorten(first)}", "where these rows come from")
        if first
        else ("genpipe ingest your.csv --target column", "your own data"),
    ]


def tracked() -> tuple[str, str]:
    """Where MLflow shows runs and models: a link, or the command that serves its database."""
    from genpipe.settings import read_settings

    uri = read_settings().tracking_uri
    if uri.startswith("http"):
        return shown(link(uri)), "runs, trials and models in the browser"
    if uri.startswith("sqlite:///") or "://" not in uri:
        uri = "sqlite:///" + shorten(uri.removeprefix("sqlite:///"))
    elif holds_secret(uri):
        uri = '"$MLFLOW_TRACKING_URI"'  # the shell puts it in; it need not be on the screen
    where = f"mlflow ui --backend-store-uri {uri}"
    return where, "runs, trials and models in the browser: http://127.0.0.1:5000"
