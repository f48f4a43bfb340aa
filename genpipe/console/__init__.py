"""What a person sees of a run: a screen of stages (screen.py); the rest goes to a log file (quiet.py)."""

from __future__ import annotations

from genpipe.console.quiet import last_log, log_file, quiet, shorten, write_traceback
from genpipe.console.screen import Screen

__all__ = ["Screen", "last_log", "log_file", "quiet", "shorten", "write_traceback"]
