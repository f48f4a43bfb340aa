"""Commands killed at random moments: does the next one end well, with the bytes of an undisturbed one?

    python -m benchmarks.kill_points [--kills 100] [--minutes 60] [--only train] [--seed 0]

Each kill is a real command in a home of its own and a SIGKILL at a random moment of its work, start-up apart:
to the process alone, as the kernel does when memory is short, or to all it started as well, as when a machine
is gone. Then the same command again. It must end with exit code 0, without a word of a defect, and what it
made must be, byte for byte, what an undisturbed command makes. A kill that came too late is made again.

Writes benchmarks/results/kill_points.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.killed_commands import STAGES, Stage, environment, prepared

RESULT = Path(__file__).parent / "results" / "kill_points.json"
SECONDS = 900  # for a command


@dataclass(frozen=True)
class Kill:
    stage: str
    moment: float  # seconds after the work began
    whole: bool  # with all it started
    verdict: str
    seconds: float  # of the command that followed, start-up and all


def start(stage: Stage, home: Path) -> subprocess.Popen[str]:
    """The command, in the folder of its inputs and with a process group of its own."""
    return subprocess.Popen(
        stage.command(home),
        env=environment(home),
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def begun(stage: Stage, home: Path, child: subprocess.Popen[str], before: set[Path]) -> float:
    """Wait until its work begins; when that was."""
    while child.poll() is None and not set(home.glob(stage.begun)) - before:
        time.sleep(0.01)
    return time.monotonic()


def whole(stage: Stage, home: Path) -> tuple[float, float, str]:
    """An undisturbed command: the seconds of its work, all of them, and what is wrong with how it ended."""
    before, started = set(home.glob(stage.begun)), time.monotonic()
    child = start(stage, home)
    began = begun(stage, home, child, before)
    try:
        said, _ = child.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return SECONDS, SECONDS, f"hangs: {child.communicate()[0][-300:]}"
    wrong = "E-INTERNAL" in said or "Traceback" in said
    now = time.monotonic()
    return now - began, now - started, said[-500:] if child.returncode or wrong else ""


def fresh(stage: Stage, done: dict[str, Path], target: Path) -> Path:
    """The home of one kill: inputs, and the datasets and runs that the stage needs."""
    target.mkdir(parents=True)
    for name in ("people.csv", "recipe.json", "spec.json"):
        shutil.copy(done["inputs"] / name, target)
    if stage.needs:
        shutil.copytree(done[stage.needs[-1]] / "home", target / "home")
        for result in (target / "home/store/runs").glob("*/result.json"):  # it names its bundle's place
            told = result.read_text().replace(str(done[stage.needs[-1]]), str(target))
            result.write_text(told)
    return target / "home"


def one_kill(
    stage: Stage, home: Path, seconds: float, rng: random.Random, wanted: dict[str, str]
) -> Kill | None:
    """None where the command ended before it was killed."""
    moment, all_of_it = rng.uniform(0, seconds), rng.random() < 0.5
    before = set(home.glob(stage.begun))
    child = start(stage, home)
    began = begun(stage, home, child, before)
    time.sleep(max(0.0, began + moment - time.monotonic()))
    if child.poll() is not None:
        child.communicate()
        return None
    if all_of_it:
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()
    _, took, wrong = whole(stage, home)
    if not wrong and (made := stage.made(home)) != wanted:
        wrong = "other bytes: " + ", ".join(
            sorted(k for k in {*made, *wanted} if made.get(k) != wanted.get(k))
        )
    return Kill(stage.name, round(moment, 2), all_of_it, wrong or "well", round(took, 1))


def run(kills: int, minutes: float, only: str, seed: int) -> list[Kill]:
    rng, end, made = random.Random(seed), time.monotonic() + 60 * minutes, list[Kill]()
    chosen = [s for s in STAGES if only in s.name]
    needed = {s.name for s in chosen} | {name for s in chosen for name in s.needs}
    plan = [*chosen, *rng.choices(chosen, [s.share for s in chosen], k=kills)][:kills]  # each at least once
    with tempfile.TemporaryDirectory(prefix="genpipe-kills-") as folder:
        done = {"inputs": prepared(Path(folder))}
        wanted, seconds = dict[str, dict[str, str]](), dict[str, float]()
        for stage in (s for s in STAGES if s.name in needed):
            home = fresh(stage, done, Path(folder) / f"whole-{stage.name.replace(' ', '-')}")
            seconds[stage.name], _, wrong = whole(stage, home)
            assert not wrong, (stage.name, wrong)
            done[stage.name], wanted[stage.name] = home.parent, stage.made(home)
            print(f"undisturbed {stage.name}: {seconds[stage.name]:.1f} s", file=sys.stderr, flush=True)
        for number, stage in enumerate(plan):
            kill, attempt = None, 0
            while kill is None and time.monotonic() < end:
                home = fresh(stage, done, Path(folder) / f"{number}-{attempt}")
                kill, attempt = (
                    one_kill(stage, home, seconds[stage.name], rng, wanted[stage.name]),
                    attempt + 1,
                )
                shutil.rmtree(home.parent, ignore_errors=True)
            if kill is None:
                break
            made.append(kill)
            RESULT.write_text(json.dumps([asdict(k) for k in made], indent=1) + "\n")
            print(number, kill, file=sys.stderr, flush=True)
    return made


def table(kills: list[Kill]) -> list[tuple[str, str, str, str]]:
    """fault, stage, verdict, seconds."""
    rows = []
    for stage in dict.fromkeys(k.stage for k in kills):
        for all_of_it in (False, True):
            some = [k for k in kills if k.stage == stage and k.whole == all_of_it]
            if some:
                fault = f"SIGKILL at {len(some)} random moments" + (
                    ", of all it started" if all_of_it else ""
                )
                ends = Counter(k.verdict for k in some)
                verdict = "; ".join(f"{count} {verdict[:60]}" for verdict, count in ends.items())
                slowest = max(k.seconds for k in some)
                rows.append((fault, stage, verdict, f"{slowest:.0f} at most, to go on"))
    return rows


def main(arguments: list[str] | None = None) -> list[Kill]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--only", default="", help="stages with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    kills = run(asked.kills, asked.minutes, asked.only, asked.seed)
    for row in table(kills):
        print(" | ".join(row))
    return kills


if __name__ == "__main__":
    sys.exit(any(kill.verdict != "well" for kill in main()))
