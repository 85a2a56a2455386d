"""Batches hold exactly what the records hold, whatever the window, the order and the buckets."""

import dataclasses
import shutil
from collections import Counter

import numpy as np
import pytest

from tests.twin_tf.small_run import decode, small_config, with_splits
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.models.twin import TwinModel
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import POOL_COPIES, POOL_RECORDS, load_item_features, make_dataset, pool_records

pytestmark = pytest.mark.integration

WHOLE = 400


def batches(manifest, split="train", window=WHOLE, size=4, **order):
    return list(make_dataset(manifest, split, window, size, **order).as_numpy_iterator())


def key(user, times, items):
    return int(user), tuple(np.asarray(times).tolist()), tuple(np.asarray(items).tolist())


def rows(found):
    """Key -> (batch, row in it)."""
    placed = {}
    for batch in found:
        for row, count in enumerate(batch.targets.count):
            place = key(batch.user_id[row], batch.targets.time[row, :count], batch.targets.item[row, :count])
            assert place not in placed
            placed[place] = (batch, row)
    return placed


@pytest.mark.parametrize("split", ["train", "valid", "test", "histories"])
@pytest.mark.parametrize("window", [WHOLE, 30])
def test_batches_hold_what_the_records_hold_and_no_target_loses_a_behaviour_in_its_window(manifest, split, window):
    schema, placed = manifest.schema, rows(batches(manifest, split, window))
    expected = decode(manifest, split)
    assert len(placed) == len(expected) > 0
    cut = 0
    for record in expected:
        batch, row = placed[key(record["user/id"], record["target/time"], record["target/item"])]
        history, targets = batch.history, batch.targets
        ends = record["target/history_end"]
        oldest = ends.min() if len(ends) else record["history/length"]
        dropped = max(0, int(oldest) - window)
        cut += dropped
        length, count = record["history/length"] - dropped, record["target/length"]
        assert (history.length[row], targets.count[row]) == (length, count)
        columns = {"history/item": history.item, "history/time": history.time}
        columns |= {f"history/{f.name}": history.cross[f.name] for f in schema.stored_cross}
        for name, values in columns.items():
            assert values[row, :length].tolist() == record[name][dropped:].tolist(), name
            assert not values[row, length:].any(), name
        columns = {"target/item": targets.item, "target/time": targets.time, "target/label": batch.label}
        columns |= {f"target/{f.name}": targets.context[f.name] for f in schema.stored_target}
        for name, values in columns.items():
            assert values[row, :count].tolist() == record[name].tolist(), name
            assert not values[row, count:].any(), name
        assert targets.end[row, :count].tolist() == (ends - dropped).tolist()
        assert {f.name: batch.user[f.name][row] for f in schema.user} == {
            f.name: record[f"user/{f.name}"] for f in schema.user
        }
    assert (cut > 0) == (window == 30)


def test_dtypes_and_widths_are_those_of_the_batch(manifest):
    for batch in batches(manifest, "histories"):
        assert batch.history.item.shape[1] == max(1, batch.history.length.max())
        assert batch.targets.item.shape == (len(batch.user_id), 1)  # no targets: one column of padding
        assert not batch.targets.count.any()
        dtypes = (batch.history.item.dtype, batch.history.time.dtype, batch.label.dtype, batch.user_id.dtype)
        assert dtypes == (np.int32, np.int64, np.float32, np.int64)


@pytest.mark.parametrize("search", ["twin", "din"])
def test_what_the_window_drops_changes_no_score(manifest, prepared, search):
    config = dataclasses.replace(small_config().model, history_length=30, top_k=12, search=search)
    features, _ = load_item_features(prepared, manifest.schema)
    model = TwinModel(manifest.schema, config, features, manifest.cardinalities, seed=1)
    dataset = make_dataset(manifest, "test", WHOLE, 4)
    score = tf.function(model, input_signature=[dataset.element_spec])

    def scores(window):
        found = {}
        for batch in make_dataset(manifest, "test", window, 4):
            logits = score(batch).numpy()
            for row, count in enumerate(batch.targets.count.numpy()):
                targets = batch.targets
                place = key(batch.user_id[row], targets.time[row, :count], targets.item[row, :count])
                found[place] = logits[row, :count]
        return found

    whole, cut = scores(WHOLE), scores(model.window)
    assert whole.keys() == cut.keys()
    for place, logits in whole.items():
        np.testing.assert_allclose(cut[place], logits, atol=3e-6)


def equal(left, right):
    flat, other = tf.nest.flatten(left), tf.nest.flatten(right)
    return len(flat) == len(other) and all(np.array_equal(a, b) for a, b in zip(flat, other, strict=True))


def seen(found):
    """How often each (user, time, item, label) appears."""
    counter = Counter()
    for batch in found:
        for row, count in enumerate(batch.targets.count):
            columns = (batch.targets.time, batch.targets.item, batch.label)
            values = zip(*(column[row, :count].tolist() for column in columns), strict=True)
            counter.update((int(batch.user_id[row]), *value) for value in values)
    return counter


def test_batches_are_a_function_of_files_seed_and_epoch(manifest):
    first = batches(manifest, shuffle_seed=5, epoch=1)
    assert equal(batches(manifest, shuffle_seed=5, epoch=1), first)
    for order in ({"shuffle_seed": 5, "epoch": 2}, {"shuffle_seed": 6, "epoch": 1}, {}):
        assert not equal(batches(manifest, **order), first)


@pytest.mark.parametrize("order", [{}, {"shuffle_seed": 5, "epoch": 0}, {"shuffle_seed": 5, "epoch": 3}])
def test_a_pass_shows_every_target_exactly_once(manifest, order):
    expected = Counter()
    for record in decode(manifest, "train"):
        columns = (record[f"target/{name}"].tolist() for name in ("time", "item", "label"))
        expected.update((record["user/id"], *values) for values in zip(*columns, strict=True))
    assert expected.total() == manifest.counts.targets["train"]
    assert seen(batches(manifest, **order)) == expected


def test_records_of_like_length_share_a_batch(manifest):
    found = batches(manifest, shuffle_seed=5)
    lengths = np.concatenate([batch.history.length for batch in found])
    at_random = np.random.default_rng(1).permutation(lengths)

    def padding(together):
        return sum(int((row.max() - row).sum()) for row in together)

    like = padding([batch.history.length for batch in found])
    assert like < 0.25 * padding(np.array_split(at_random, np.arange(4, len(lengths), 4)))


@pytest.mark.parametrize("order", [{}, {"shuffle_seed": 5}])
def test_every_batch_but_the_last_is_whole(manifest, order):
    records = sum(shard.records for shard in manifest.splits["train"])
    sizes = [len(batch.user_id) for batch in batches(manifest, size=7, **order)]
    assert records % 7
    assert sizes == [7] * (records // 7) + [records % 7]


def test_the_smaller_batch_may_hold_any_length(manifest):
    """Else the longest, or the shortest, histories would always train last."""
    last = [batches(manifest, size=7, shuffle_seed=seed)[-1].history.length.mean() for seed in range(8)]
    lengths = np.concatenate([batch.history.length for batch in batches(manifest)])
    low, high = np.quantile(lengths, [0.25, 0.75])
    assert min(last) < high
    assert max(last) > low
    assert len(set(last)) > 3


def test_a_pool_is_bounded_by_its_memory(manifest):
    """Of records as long as the longest, all copies together; smaller pools show the same records."""
    shard = dataclasses.replace(manifest.splits["train"][0], longest=10**6)
    long = with_splits(manifest, train=(shard,))
    window, per_record = 10_000, manifest.schema.targets.per_record
    history = [name for name in manifest.widths if name.startswith("history/")]
    record = (window + per_record) * sum(manifest.widths[name] for name in history)
    for memory in (256, 1024):
        pool = pool_records(long, "train", window, 8, memory)
        assert pool % 8 == 0
        assert 0.9 * memory < pool * record * POOL_COPIES / 2**20 < memory
    assert pool_records(long, "train", window, 8, 1) == 8
    assert pool_records(manifest, "train", window, 8, 10**6) == POOL_RECORDS
    whole, small = (batches(manifest, shuffle_seed=5, pool_mb=size) for size in (512, 1))
    assert seen(small) == seen(whole)
    assert not equal(small, whole)


def test_an_empty_split_is_named(manifest):
    for shards in ((), (dataclasses.replace(manifest.splits["valid"][0], records=0),)):
        with pytest.raises(ConfigError, match=r"^the valid split of \S+ has no records; check the split times"):
            make_dataset(with_splits(manifest, valid=shards), "valid", WHOLE, 4)


def test_an_unknown_split_is_named(manifest):
    with pytest.raises(ConfigError, match="no split 'tset'; did you mean 'test'?"):
        make_dataset(manifest, "tset", WHOLE, 4)


def test_only_files_that_the_manifest_lists_are_opened(manifest, prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    (copy / "train" / "part-00002-of-00003.tfrecord").write_bytes(manifest.shard_paths("train")[0].read_bytes())
    (copy / "train" / "part-00003-of-00003.tfrecord").write_bytes(b"not a record")
    assert equal(batches(Manifest.load(copy)), batches(manifest))
    (copy / manifest.splits["train"][1].name).unlink()
    with pytest.raises(ConfigError, match="is missing, but manifest.json lists it"):
        batches(Manifest.load(copy))


def test_the_catalogue_begins_with_padding_and_unknown(manifest, prepared):
    features, ids = load_item_features(prepared, manifest.schema)
    width = len(manifest.schema.inherent)
    assert features[:2, :width].tolist() == [[0] * width, [1] * width]
    assert ids[:2].tolist() == [-1, -1]
    assert len(ids) == len(features) == manifest.counts.items + 2
    assert (np.diff(ids[2:]) > 0).all()
    for column, feature in enumerate(manifest.schema.inherent):
        assert features[2:, column].min() >= 1
        assert features[:, column].max() < manifest.cardinalities[feature.name]
