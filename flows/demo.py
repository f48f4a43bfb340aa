"""`genpipe demo`: two real data sets down the whole road, without a network, on one quiet screen."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpipe.flows.summary import Summary
from genpipe.progress import Event, Progress

if TYPE_CHECKING:
    from genpipe.console import Screen

STEPS = ("ingest", "tune", "train", "evaluate", "register", "generate")


def specs(*, seed: int) -> list[dict[str, Any]]:
    """The two pipelines, as a user would write them (examples/digits.yaml, examples/people.yaml)."""
    return [
        {
            "name": "digits",
            "source": {"path": "builtin:digits"},
            "search": {
                "recipes": ["image_gan", "image_vae"],
                "vary": {
                    "adversarial": ["hinge", "non_saturating", "least_squares", "wasserstein"],
                    "steps": [200],
                    "evaluate_every": [50],
                },
                "trials": 6,
            },
            "train": {"workers": 2 if _cpus() >= 2 else 0, "steps": 500, "seed": seed},
            "generate": {"rows": 5000, "rows_per_part": 2500, "seed": seed, "workers": 0},
        },
        {
            "name": "titanic",
            "source": {"path": "builtin:titanic"},
            "recipe": {"base": "tabular_autoregressive", "training": {"steps": 600, "evaluate_every": 150}},
            "train": {"workers": 0, "seed": seed},
            "generate": {"rows": 5000, "seed": seed},
        },
    ]


def _cpus() -> int:
    from genpipe.settings import read_settings

    return read_settings().cpus


class Startup:
    """Listens for the first sign of work of each stage: what came before it was processes starting."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.began: dict[str, float] = {}
        self.waited: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        self.began.setdefault(event.stage, now)
        if event.done > 0 and event.unit and event.stage not in self.waited:
            self.waited[event.stage] = now - self.began[event.stage]
        self.progress(event)


def demo(*, fresh: bool = False, picture: str = "") -> list[Summary]:
    """Run both pipelines and print what came of them. fresh: all of it again, from another seed.

    picture: also draw the last screen into this SVG file.
    """
    from genpipe.console import Screen, log_file, quiet, write_traceback
    from genpipe.flows.closing import show

    began, log = time.monotonic(), log_file("demo")
    wanted = specs(seed=int(time.time()) if fresh else 0)
    plan = tuple(f"{s['name']}/{step}" for s in wanted for step in STEPS if step != "tune" or "search" in s)
    with quiet(log) as (out, err):
        with Screen(err, title="genpipe demo", log=log, plan=("start", *plan)) as screen:
            try:
                summaries, fixed = road(wanted, screen, fresh=fresh)
            except BaseException as error:
                write_traceback(log, error)
                raise
        show(summaries, console=out, fixed=fixed)
        if picture:
            _draw(picture, screen, summaries, fixed)
        out.print(f"\n{time.monotonic() - began:.0f} s in all; log: {os.path.relpath(log)}", style="dim")
    return summaries


def _draw(picture: str, screen: Screen, summaries: list[Summary], fixed: dict[str, float]) -> None:
    import io

    from rich.console import Console

    from genpipe.flows.closing import show

    paper = Console(record=True, width=110, file=io.StringIO(), force_terminal=True, highlight=False)
    paper.print("$ genpipe demo")
    paper.print(screen.render())
    show(summaries, console=paper, fixed=fixed)
    drawing = paper.export_svg(title="genpipe demo")
    # a picture in a README must not fetch fonts from elsewhere
    Path(picture).write_text(re.sub(r"@font-face \{.*?\}\n?", "", drawing, flags=re.DOTALL))


def road(
    wanted: list[dict[str, Any]], screen: Progress, *, fresh: bool
) -> tuple[list[Summary], dict[str, float]]:
    """Start Ray, Prefect and MLflow once, then run the specs one after the other."""
    from genpipe import store
    from genpipe.flows.embedded import prefect_api
    from genpipe.pipeline import load_spec
    from genpipe.settings import read_settings
    from genpipe.stages.cluster import disconnect

    checked = [load_spec(spec) for spec in wanted]
    screen(Event("start", note="Prefect, Ray, torch, MLflow"))
    summaries: list[Summary] = []
    # where the last rows are there already, nothing will train, and Ray and torch need not start
    done = not fresh and store.exists(store.join(read_settings().store, "generated", checked[-1].name))
    with prefect_api(prepare=None if done else lambda: prepare(screen)) as fixed:
        from genpipe.flows.pipeline import run_spec

        screen(Event("start", 1, 1, note="Prefect, Ray, torch, MLflow"))
        for spec in checked:
            listener = Startup(_grouped(screen, spec.name))
            summaries.append(run_spec(spec, progress=listener))
            if spec.train.workers and "train" in listener.waited:
                fixed["start training workers"] = listener.waited["train"]
        disconnect()
    return summaries, dict(fixed)


def prepare(screen: Progress) -> dict[str, float]:
    """Import and start, in the main thread, while Prefect's server boots in its own process."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> None:
        screen(Event("start", note=name))
        began = time.monotonic()
        work()
        seconds[name] = time.monotonic() - began

    timed("start Ray", _ray)
    timed("import torch", _torch)
    timed("open MLflow", _mlflow)
    return seconds


def _ray() -> None:
    from genpipe.stages.cluster import connect

    connect()


def _torch() -> None:
    import ray.train.torch  # noqa: F401
    import torch
    import torch._dynamo

    torch.set_num_threads(max(1, _cpus()))


def _mlflow() -> None:
    from genpipe.registry.tracking import client

    client()  # makes the database


def _grouped(screen: Progress, name: str) -> Progress:
    return lambda event: screen(replace(event, stage=f"{name}/{event.stage}"))
