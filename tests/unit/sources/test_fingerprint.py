"""A hash of rows tells what they are, and nothing of the memory they lie in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.sources.tabular.fingerprint import Fingerprint

ROWS = 300  # ends within a byte of a bitmap


def fingerprint(batch: pa.RecordBatch) -> str:
    found = Fingerprint()
    found.add(batch)
    return found.hexdigest()


def as_a_driver_leaves_it(seed: int, first: int = 0) -> pa.RecordBatch:
    """Every third value is there; below the others, and past the last, lies what `seed` gives."""
    rng = np.random.default_rng(seed)
    there = np.arange(ROWS) % 3 == 0

    def bitmap(bits: np.ndarray) -> pa.Buffer:
        packed = np.packbits(bits, bitorder="little")
        packed[-1] |= rng.integers(16) << 4
        return pa.py_buffer(packed.tobytes() + rng.bytes(26))

    values = np.where(there, np.arange(ROWS) + first, rng.integers(1 << 40, size=ROWS))
    offsets = np.arange(0, 2 * ROWS + 1, 2, dtype=np.int32)
    chars = np.repeat(np.where(there, 65, rng.integers(65, 90, size=ROWS)).astype(np.uint8), 2)
    numbers = pa.Array.from_buffers(pa.int64(), ROWS, [bitmap(there), pa.py_buffer(values.tobytes())])
    words = [bitmap(there), pa.py_buffer(offsets.tobytes()), pa.py_buffer(chars.tobytes())]
    wide = pa.py_buffer(np.repeat(values, 2).tobytes())
    return pa.record_batch(
        {
            "number": numbers,
            "whether": pa.Array.from_buffers(pa.bool_(), ROWS, [None, bitmap(there)]),
            "decimal": pa.Array.from_buffers(pa.decimal128(8, 2), ROWS, [bitmap(there), wide]),
            "word": pa.Array.from_buffers(pa.string(), ROWS, words),
            "struct": pa.StructArray.from_arrays([numbers], ["number"], mask=pa.array(~there)),
        }
    )


def test_memory_below_nulls_and_past_the_end_is_not_told() -> None:
    one, other = as_a_driver_leaves_it(1), as_a_driver_leaves_it(2)
    assert one.equals(other)
    assert fingerprint(one) == fingerprint(other)


def test_every_value_name_and_type_is() -> None:
    batch = as_a_driver_leaves_it(1)
    found = {fingerprint(batch), fingerprint(as_a_driver_leaves_it(1, first=1))}
    found.add(fingerprint(batch.rename_columns(["n", *batch.schema.names[1:]])))
    found.add(fingerprint(batch.set_column(0, "number", batch["number"].cast(pa.float64()))))
    found.add(fingerprint(batch.set_column(1, "whether", pa.array([None] * ROWS, pa.bool_()))))
    assert len(found) == 5
