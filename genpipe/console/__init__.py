"""What a person sees of a run: a screen of stages (screen.py), and everything else in a log file (quiet.py)."""

from __future__ import annotations

from genpipe.console.quiet import last_log, log_file, quiet, shorten
from genpipe.console.screen import Screen

__all__ = ["Screen", "last_log", "log_file", "quiet", "shorten"]
