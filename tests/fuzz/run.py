"""Coverage-guided fuzzing of one target: python tests/fuzz/run.py TARGET [SECONDS] [CORPUS].

Needs `pip install atheris` (Apache-2.0), which no other part does. What it finds is written to `crash-*` and
`timeout-*`, and becomes a test in tests/security.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["genpipe", "PIL", "ruamel", "re._parser"]):
    sys.path.insert(0, str(Path(__file__).parent))
    from targets import TARGETS


def main() -> None:
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "300"
    corpus = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    target, seeds = TARGETS[name]
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = ["-timeout=20", "-rss_limit_mb=3000", "-max_len=20000", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *limits, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
