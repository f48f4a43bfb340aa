"""`python -m genpipe.cli`, for where the console script is not on the PATH."""

from genpipe.cli import main

main()
