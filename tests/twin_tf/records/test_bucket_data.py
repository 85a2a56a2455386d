"""Prepared data in a bucket are read like local ones: the same batches, the same refusals, by their URL."""

import json

import numpy as np
import pytest

from tests.twin_tf.fake_bucket import FakeBucket, Ram, registered
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.digests import DamagedFileError
from twin_tf.core.keras_api import tf
from twin_tf.core.tfrecord import CorruptRecordError
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.records.record_reader import read_targets
from twin_tf.records.seen_items import seen_items
from twin_tf.records.shard_files import shard_files
from twin_tf.runs.item_embeddings import load_item_embeddings, make_item_embeddings

pytestmark = pytest.mark.integration

URL = "fake://shop/days/prepared"


@pytest.fixture
def bucket(prepared):
    with registered("fake", FakeBucket()) as made:
        made.put(prepared, URL)
        made.lists_late, made.late = True, set(made.objects)
        yield made


def same_batches(one: Manifest, other: Manifest) -> None:
    batches = [list(make_dataset(m, "train", 200, 8, shuffle_seed=1)) for m in (one, other)]
    assert len(batches[0]) == len(batches[1]) > 3
    for mine, theirs in zip(*batches, strict=True):
        for a, b in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs), strict=True):
            np.testing.assert_array_equal(a, b)


def test_shards_are_copied_where_tensorflow_knows_no_such_scheme(bucket, manifest, capsys):
    there = Manifest.load(URL)
    assert (there.place, there.origin, there.sha256) == (URL, URL, manifest.sha256)
    assert there.to_json() == manifest.to_json() and there.schema == manifest.schema
    same_batches(manifest, there)
    shards = manifest.shards("train")
    said = f"TensorFlow does not read fake:// here, so {len(shards)} shards of train are copied to "
    assert capsys.readouterr().err.startswith(said)
    assert shard_files(there, "train") == [f"{there.directory}/{shard.name}" for shard in shards]
    assert not capsys.readouterr().err, "once is enough"
    np.testing.assert_array_equal(seen_items(there), seen_items(manifest))
    mine, theirs = (read_targets(m, ("valid", "test")) for m in (manifest, there))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shards_are_streamed_where_tensorflow_knows_the_scheme(prepared, manifest):
    url = "ram://shop/prepared"
    with registered("ram", Ram()) as ram:
        ram.put(prepared, url)
        there = Manifest.load(url)
        assert shard_files(there, "train") == [f"{url}/{shard.name}" for shard in manifest.shards("train")]
        same_batches(manifest, there)


def test_item_embeddings_of_and_in_a_bucket(bucket, manifest, tmp_path):
    made = make_item_embeddings(URL, tmp_path / "local", 4, 1)
    bucket.put(tmp_path / "local", "fake://shop/embeddings")
    bucket.settle()
    found = load_item_embeddings("fake://shop/embeddings", manifest.directory, manifest.split.train_until)
    local = load_item_embeddings(tmp_path / "local", manifest.directory, manifest.split.train_until)
    np.testing.assert_array_equal(found, local)
    assert made["items"] == len(local)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("manifest.json", f"^{URL} is not prepared data: it has no manifest.json; run `twin-tf preprocess` first$"),
        ("_SUCCESS", f"^{URL} is not finished: it has no _SUCCESS;"),
        ("items/items.parquet", f"^{URL}/items/items.parquet cannot be read .* but manifest.json lists it;"),
    ],
)
def test_what_lacks_a_file_is_refused(bucket, gone, said):
    del bucket.objects[f"shop/days/prepared/{gone}"]
    with pytest.raises(ConfigError, match=said):
        Manifest.load(URL)


def test_damage_is_named_by_its_url(bucket, manifest):
    at, shard = "shop/days/prepared", manifest.shards("train")[0]
    whole = dict(bucket.objects)
    bucket.objects[f"{at}/schema.yaml"] = whole[f"{at}/schema.yaml"] + b"\n"
    with pytest.raises(DamagedFileError, match=f"^{URL}/schema.yaml is damaged or was changed"):
        Manifest.load(URL)
    bucket.objects[f"{at}/schema.yaml"] = whole[f"{at}/schema.yaml"]
    content = bytearray(whole[f"{at}/{shard.name}"])
    content[len(content) // 2] ^= 1
    bucket.objects[f"{at}/{shard.name}"] = bytes(content)
    there = Manifest.load(URL)
    with pytest.raises(DamagedFileError, match=f"^{URL}/{shard.name} is damaged or was changed"):
        make_dataset(there, "train", 200, 8)
    bucket.objects[f"{at}/{shard.name}"] = bytes(content[:-1])
    with pytest.raises(ConfigError, match=f"^{URL}/{shard.name} has {shard.bytes - 1} bytes, manifest.json says"):
        make_dataset(Manifest.load(URL), "train", 200, 8)
    del bucket.objects[f"{at}/{shard.name}"]
    with pytest.raises(ConfigError, match=f"^{URL}/{shard.name} is missing, but manifest.json lists it"):
        make_dataset(Manifest.load(URL), "train", 200, 8)


def test_a_corrupt_record_that_is_streamed_is_named_by_its_url(prepared, manifest, tmp_path):
    url, shard = "ram://shop/corrupt", manifest.shards("train")[0]
    with registered("ram", Ram()) as ram:
        ram.put(prepared, url)
        content = bytearray((prepared / shard.name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / shard.name).parent.mkdir()
        (tmp_path / shard.name).write_bytes(content)
        ram.put(tmp_path, url)
        there = Manifest.load(url)
        with pytest.raises(CorruptRecordError, match=f"^{url}/{shard.name} is corrupt"), corrupt_records_named(there):
            list(make_dataset(there, "train", 200, 8))


def test_a_manifest_that_leads_out_of_the_bucket_is_refused(bucket):
    at = "shop/days/prepared/manifest.json"
    plain = json.loads(bucket.objects[at])
    bucket.objects[at] = json.dumps(plain | {"files": {"../../x": "0"}}).encode()
    with pytest.raises(OSError, match="leads out of it"):
        Manifest.load(URL, verify=False)
