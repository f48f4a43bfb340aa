"""Coverage-guided fuzzing of all that reads what strangers send: make fuzz ARGS="--seconds 60 csv wav".

libFuzzer (by atheris, Apache-2.0) takes each target of targets.py in turn, in a process of its own, for an
hour in all. What it learns stays in .fuzz/TARGET/corpus and the next run begins there. What it finds is
.fuzz/TARGET/crash-*, timeout-* or oom-*: run it again with --input FILE, mend it, and keep it as a test in
tests/security.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parents[1] / ".fuzz"
LIMITS = ["-timeout=20", "-rss_limit_mb=3000", "-max_len=20000", "-print_final_stats=1", "-verbosity=1"]
SPARE = 120  # seconds past its time after which a target is stopped from outside
DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
COVER = re.compile(r"cov: (\d+)")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("targets", nargs="*", metavar="TARGET", help="by default all")
    words.add_argument("--seconds", type=int, help="for each target; by default an hour, shared out")
    words.add_argument("--input", type=Path, help="run one target on this file alone")
    words.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.inside:
        fuzz(given.targets[0], given.seconds)
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown or (given.input and len(given.targets) != 1):
        words.error(f"name {'one of' if given.input else 'some of'} " + ", ".join(TARGETS))
    if given.input:
        TARGETS[given.targets[0]][0](given.input.read_bytes())
        return 0
    names = given.targets or list(TARGETS)
    seconds = given.seconds or 3600 // len(names)
    return max([watch(name, seconds) for name in names])


def fuzz(name: str, seconds: int) -> None:
    """One target, in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=["genpipe", "PIL", "ruamel", "re._parser"]):
        sys.path.insert(0, str(HERE))
        from targets import TARGETS
    target, seeds = TARGETS[name]
    corpus = PLACE / name / "corpus"
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    prefix = f"-artifact_prefix={PLACE / name}/"
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *LIMITS, prefix, str(corpus)], target)
    atheris.Fuzz()


def watch(name: str, seconds: int) -> int:
    """Fuzz one target in a child and say how it went; 1 where something was found."""
    folder, begun = PLACE / name, time.time()
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "run.py"), name, "--inside", f"--seconds={seconds}"]
    with (folder / "log").open("wb") as log:
        try:
            code = subprocess.run(command, stdout=log, stderr=log, timeout=seconds + SPARE).returncode
        except subprocess.TimeoutExpired:
            code = -1
    text = (folder / "log").read_text(errors="replace")
    found = [p.name for p in folder.glob("*-*") if p.stat().st_mtime >= begun]
    count, cover = DONE.search(text), COVER.findall(text)
    end = ", ".join(found) or (f"exit {code}" if code else "ok")
    runs, cov = int(count[1]) if count else 0, cover[-1] if cover else "-"
    print(f"{name:<14} {time.time() - begun:5.0f} s {runs:>11,} runs  coverage {cov:>6}  {end}", flush=True)
    if code or found:
        print(f"  the end of {folder / 'log'}:\n  " + "\n  ".join(text.splitlines()[-25:]), flush=True)
    return int(bool(code or found))


if __name__ == "__main__":
    sys.exit(main())
