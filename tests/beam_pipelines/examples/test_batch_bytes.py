"""The bytes that the shuffle carries: what goes in comes out, cut by user shard, at a size that the rows decide."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.examples.batch_bytes import cut_by_shard, from_event_batches, group_by_kind, to_event_batch
from beam_pipelines.examples.gathered_counts import GatheredCounts
from beam_pipelines.examples.shard_buffer import ShardBuffer
from beam_pipelines.examples.user_hash import shard_of
from beam_pipelines.examples.value_counts import ValueCounts

pytestmark = pytest.mark.integration

TYPES = {
    "number": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "share": (st.floats(allow_nan=False), pa.float64()),
    "flag": (st.booleans(), pa.bool_()),
    "text": (st.text(max_size=9), pa.string()),
    "texts": (st.lists(st.none() | st.text(max_size=3), max_size=3), pa.list_(pa.string())),
    "words": (st.text(max_size=9), pa.dictionary(pa.int32(), pa.string())),
    "codes": (st.integers(-3, 3), pa.dictionary(pa.int32(), pa.int64())),
}


@st.composite
def tables(draw: Any) -> pa.Table:
    rows = draw(st.integers(0, 30))
    columns = {"user": pa.array(draw(st.lists(st.integers(-5, 5), min_size=rows, max_size=rows)), pa.int64())}
    for name in draw(st.lists(st.sampled_from(sorted(TYPES)), unique=True)):
        values, type_ = TYPES[name]
        columns[name] = pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), type_)
    cut = draw(st.integers(0, rows))
    table = pa.table(columns)
    return pa.concat_tables([table.slice(cut), table.slice(0, cut)])  # chunked, each with a part of another array


@given(tables(), st.integers(1, 7))
def test_every_row_comes_out_in_its_shard(table: pa.Table, shards: int) -> None:
    cut = list(cut_by_shard("events", table, shards))
    assert [shard for shard, _ in cut] == sorted({shard for shard, _ in cut})
    found = []
    for shard, event_batch in cut:
        ((kind, part),) = from_event_batches([event_batch], "events", "users")
        assert kind == "events"
        assert part.schema.equals(table.schema)
        assert set(shard_of(part["user"].to_numpy(), shards).tolist()) == {shard}
        part.validate(full=True)
        found += part.to_pylist()
    wanted = table.to_pylist()
    for user in set(table["user"].to_pylist()):  # the order of a user's rows stays
        assert [row for row in found if row["user"] == user] == [row for row in wanted if row["user"] == user]
    assert len(found) == len(wanted)


@given(tables())
def test_a_whole_table_comes_out_as_it_went_in(table: pa.Table) -> None:
    batches = [to_event_batch("items", table), to_event_batch("users", table)]
    found = group_by_kind(batches, "items", "events")
    assert found["events"] == []
    assert found["items"][0].to_pylist() == table.to_pylist()


def test_a_dictionary_is_cut_to_the_values_of_the_shard() -> None:
    words = pa.array([f"word {number % 40_000}" for number in range(200_000)]).dictionary_encode()
    table = pa.table({"user": np.arange(200_000) * 7, "words": words})
    sizes = {}
    for shards in (8, 2_000):
        cut = list(cut_by_shard("events", table, shards))
        assert len(cut) == shards
        sizes[shards] = sum(len(event_batch) for _, event_batch in cut)
        ((_, part),) = from_event_batches([cut[0][1]], "events")
        column = part["words"].chunk(0)
        assert sorted(column.dictionary.to_pylist()) == sorted(set(column.to_pylist()))
    assert sizes[2_000] < 2.5 * sizes[8]  # whole dictionaries: 300 times


def test_rows_wait_until_a_shard_has_enough_of_them() -> None:
    table = pa.table({"user": np.arange(50_000), "time": np.arange(50_000)})
    few, many = ShardBuffer("events", 4), ShardBuffer("events", 100)
    assert len(list(few.add(table))) == 4
    assert list(few.flush()) == []
    assert [len(list(many.add(table))) for _ in range(9)] == [0] * 8 + [100]
    assert list(many.add(table)) == []
    assert len(list(many.flush())) == 100


def test_counts_of_many_shards_are_handed_on_as_one() -> None:
    gathered = GatheredCounts()
    for number in range(300):
        part = ValueCounts.of(pa.array([number % 7, 7, None]), np.array([1, 0, 1]))
        assert list(gathered.add("a", part)) == []
    ((name, counts),) = gathered.flush()
    assert name == "a"
    order = np.argsort(counts.values.to_numpy())
    assert counts.values.to_numpy()[order].tolist() == list(range(8))
    assert counts.counts[order].tolist() == [43] * 6 + [42] + [0]
    assert counts.totals[order].tolist() == [43] * 6 + [42] + [300]
    assert list(gathered.flush()) == []
