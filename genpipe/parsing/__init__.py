"""Decoders of strangers' files, each run in a process of its own that may take so much memory and no more.

Their libraries are written in C and C++, and what a file takes is known only when it is decoded. So such a
process knows no secrets, imports nothing else of genpipe, and may die; `sources/child.py` starts it.
"""
