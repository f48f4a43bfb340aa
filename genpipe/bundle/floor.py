"""The least that a generator says of a value: what it never makes looks like what it seldom makes.

Minus infinity would be a proof: no five people of the training data had this value. So whoever asks is told
no less than the share of the fewest entities by which a codec keeps a value (`codec.rare_below` of all rows
trained on), spread evenly over all values the column may take. What is kept, but rare beside the rest of its
row, lies there too: which of both a value is cannot be seen.
"""

from __future__ import annotations

import math

from genpipe.bundle.generator import Bundle
from genpipe.bundle.observed import partial_conditioning
from genpipe.codecs.tabular.numeric import Scale

SMALL = 1000  # rows, of a bundle that does not tell how many it learnt from


def floors(bundle: Bundle) -> dict[str, float]:
    """Learnt column -> the least nats that are told of a value: of real numbers a density per unit."""
    codec, config = partial_conditioning(bundle.family, bundle.codec)[1], bundle.recipe.codec
    rows = int(bundle.origin.get("rows", 0)) or SMALL
    fewest = config.rare_below if config.rare != "keep" else 1
    share = math.log(min(1.0, fewest / rows))
    found = dict.fromkeys(codec.conditions.names, share)
    for column, _, _ in codec.positions:
        values = 1.0
        if isinstance(column, Scale):  # points of a lattice, or units
            values = float(column.axis.high) - float(column.axis.low) + column.axis.whole
        owner = codec.relations.owner(column.field.name)
        found[owner] = found.get(owner, share) - (math.log(values) if values > 0 else 0.0)
    return found
