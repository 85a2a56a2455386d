"""Every id finds its row, whatever the ids look like."""

import numpy as np
import pytest

from export.saved_model.item_lookup import ItemLookup
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN

GENERATOR = np.random.default_rng(3)
LIKELY = {
    "one": [7],
    "in a row": range(5_000),
    "negative too": range(-700, 700),
    "even": range(0, 4_000, 2),
    "multiples of a power of two": [number << 22 for number in range(3_000)],
    "multiples of the first numbers of buckets": [number * 2_001 * 2_003 for number in range(1_000)],
    "times and counters": [(1_700_000_000_000 + 37 * number) << 12 | number % 5 for number in range(3_000)],
    "hashes": GENERATOR.integers(-(2**63), 2**63 - 1, 20_000),
    "the ends of the range": [-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 1],
}


@pytest.mark.parametrize("ids", LIKELY.values(), ids=LIKELY)
def test_every_id_finds_its_row_and_others_none(ids):
    ids = GENERATOR.permutation(np.array(list(ids), np.int64))
    lookup = ItemLookup(np.concatenate([[-1, -1], ids]).astype(np.int64))
    assert int(lookup.depth) <= 12  # so many numbers are compared for each id that is asked for
    rows = tf.function(lookup.rows)
    np.testing.assert_array_equal(rows(ids[None])[0], FIRST_KNOWN + np.arange(len(ids)))
    near = np.setdiff1d(np.concatenate([ids ^ 1, ids ^ 64, GENERATOR.integers(-(2**63), 2**63 - 1, 500)]), ids)
    assert set(rows(near).numpy().tolist()) == {UNKNOWN}
    assert rows(np.zeros((2, 0), np.int64)).shape == (2, 0)
