"""What a generator is on disk: one folder of JSON and safetensors, checked before a byte of it is used.

    <uri>/recipe.json schema.json codec.json metrics.json origin.json weights.safetensors
    <uri>/manifest.json        bytes and sha256 of each; created last, so a folder without one is no bundle

No pickle and no code: opening a bundle runs only the installed genpipe. No training row or row id either;
`weights` are the averaged (EMA) weights of the roles that sampling needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genpipe.bundle.generator import Bundle, save_bundle

__all__ = ["Bundle", "save_bundle"]


def __getattr__(name: str) -> Any:
    """Loaded when first used: the documents of a bundle are read without torch."""
    if name in __all__:
        from genpipe.bundle import generator

        return getattr(generator, name)
    raise AttributeError(f"module 'genpipe.bundle' has no attribute {name!r}")
