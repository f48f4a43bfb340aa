"""What a generator is on disk: one folder of JSON and safetensors, checked before a byte of it is used.

    <uri>/recipe.json schema.json codec.json metrics.json origin.json weights.safetensors
    <uri>/manifest.json        bytes and sha256 of each; created last, so a folder without one is no bundle

No pickle and no code: opening a bundle runs only the installed genpipe. No training row or row id either;
`weights` are the averaged (EMA) weights of the roles that sampling needs.
"""

from __future__ import annotations

from genpipe.bundle.generator import Bundle, save_bundle

__all__ = ["Bundle", "save_bundle"]
