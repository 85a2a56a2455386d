"""One bit flipped in any file of prepared data or of a run: refused in one sentence that names the file."""

import dataclasses
import json
import os
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.cluster_histories import cluster_histories
from export.saved_model.exporter import export_run
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import read_json, sign_prepared, small_config, small_data, with_splits
from twin_tf.config import ClusterConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.digests import DamagedFileError, UncheckedFilesWarning
from twin_tf.core.errors import UserError
from twin_tf.core.tfrecord import CorruptRecordError, digest_of_ends, frame, read_records
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.evaluation.nearest_items import nearest_items
from twin_tf.evaluation.yardsticks import compute_yardsticks
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.item_embeddings import make_item_embeddings
from twin_tf.runs.projections import run_with_catalogue
from twin_tf.runs.run import RunInfo, check_run_files, copied_files, load_info, load_run
from twin_tf.runs.run_lock import claimed_run
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration


def files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def flip(path: Path, seed: str) -> None:
    """One bit, anywhere."""
    content, place = bytearray(path.read_bytes()), random.Random(seed)
    content[place.randrange(len(content))] ^= 1 << place.randrange(8)
    path.write_bytes(content)


def one_sentence(error: BaseException, path: Path) -> None:
    assert isinstance(error, UserError)
    assert str(path) in str(error)
    assert "\n" not in str(error)


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(prepared, tmp_path / "prepared")


def test_every_file_but_the_pages_for_people_has_a_digest(manifest: Manifest) -> None:
    listed = {*manifest.files, *(shard.name for shards in manifest.splits.values() for shard in shards)}
    rest = set(files(Path(manifest.directory))) - listed
    assert {name for name in rest if not name.endswith((".png", ".csv"))} == {
        "_SUCCESS", "manifest.json", "report.json", "report.md"
    }  # fmt: skip
    assert all(shard.ends_sha256 for shards in manifest.splits.values() for shard in shards)


@pytest.mark.parametrize("seed", ["one", "two", "three"])
def test_a_flipped_bit_in_any_file_without_records_is_no_training(copy: Path, tmp_path: Path, seed: str) -> None:
    names = ["manifest.json", "_SUCCESS", *Manifest.load(copy).files]
    assert len(names) > 10
    for name in names:
        whole = (copy / name).read_bytes()
        flip(copy / name, f"{seed} {name}")
        with pytest.raises(DamagedFileError) as refused:
            train_model(copy, tmp_path / "run", small_config())
        one_sentence(refused.value, copy / ("manifest.json" if name == "_SUCCESS" else name))
        (copy / name).write_bytes(whole)
    assert not (tmp_path / "run").exists()


def test_a_flipped_bit_in_any_shard_names_it(copy: Path) -> None:
    manifest = Manifest.load(copy)
    for split, shards in manifest.splits.items():
        for path, shard in zip(manifest.shard_paths(split), shards, strict=True):
            whole = path.read_bytes()
            flip(path, shard.name)
            with pytest.raises(UserError) as refused, corrupt_records_named(manifest):
                list(make_dataset(manifest, split, 400, 64))
            one_sentence(refused.value, path)
            assert "copy it anew or preprocess again" in str(refused.value)
            path.write_bytes(whole)


def damaged_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_every_reader_of_records_names_the_shard(copy: Path, run: Path, tmp_path: Path) -> None:
    config = small_config("training.epochs=1", "model.search=din")
    readers = {
        "train": (lambda: train_model(copy, tmp_path / "run", config),),
        "test": (
            lambda: evaluate_run(run, copy),
            lambda: export_run(run, tmp_path / "out", copy),
            lambda: compute_yardsticks(Manifest.load(copy), "test", ["author"]),
        ),
        "histories": (lambda: make_item_embeddings(copy, tmp_path / "out"), lambda: nearest_items(run, copy)),
    }
    for split, reading in readers.items():
        path = Manifest.load(copy).shard_paths(split)[1]
        damaged_in_the_middle(path)
        for read in reading:
            with pytest.raises(CorruptRecordError) as refused:
                read()
            one_sentence(refused.value, path)
        damaged_in_the_middle(path)  # sound again
    assert not (tmp_path / "out").exists()


def rolled(path: Path) -> None:
    """The items' ids one row further."""
    table = pq.read_table(path)
    ids = table["id"].to_pylist()
    pq.write_table(table.set_column(table.column_names.index("id"), "id", pa.array([*ids[1:], ids[0]])), path)


def test_ids_rolled_by_a_row_are_refused_and_read_when_told_so(copy: Path, run: Path, tmp_path: Path) -> None:
    sign_prepared(with_splits(Manifest.load(copy), train=(), histories=()))
    rolled(copy / "items/items.parquet")
    said = r"prepared/items/items\.parquet is damaged or was changed: manifest\.json lists another SHA-256; copy it"
    clustered = (tmp_path / "clustered", ClusterConfig())
    further = "has another items/items.parquet than the run"
    for read, refused_then in (
        (
            lambda **told: train_model(copy, tmp_path / "run", small_config(), **told),
            "the train split of .* no records",
        ),
        (lambda **told: make_item_embeddings(copy, tmp_path / "out", **told), "the histories split of .* no records"),
        (lambda **told: evaluate_run(run, copy, **told), further),
        (lambda **told: export_run(run, tmp_path / "out", copy, **told), further),
        (lambda **told: run_with_catalogue(run, copy, **told), further),
        (lambda **told: nearest_items(run, copy, **told), "nothing is wrong"),
        (lambda **told: cluster_histories(copy, run, *clustered, progress=False, **told), further),
    ):
        with pytest.raises(DamagedFileError, match=said):
            read()
        if refused_then != "nothing is wrong":
            with pytest.raises(ConfigError, match=refused_then):
                read(verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_a_run_keeps_the_digests_of_sound_data_though_it_was_begun_with_damaged_ones(
    copy: Path, tmp_path: Path
) -> None:
    rolled(copy / "items/items.parquet")
    manifest = Manifest.load(copy, verify=False)
    files = copied_files(manifest)
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, str(copy), files=files)
    config = dataclasses.replace(small_config(), schema=manifest.schema)
    with claimed_run(tmp_path / "run", manifest, config, info):
        pass
    said = r"run/items/items\.parquet is damaged or was changed: run\.json lists another SHA-256"
    with pytest.raises(DamagedFileError, match=said):
        check_run_files(tmp_path / "run", load_info(tmp_path / "run"))
    with pytest.raises(DamagedFileError, match=said), claimed_run(tmp_path / "run", manifest, config, info):
        pass


def test_every_file_of_a_run_is_checked(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    listed = load_info(copy).files
    assert {"config.yaml", "schema.yaml", "items/items.parquet", "items/seen.npy"} <= listed.keys()
    assert {name for name in files(copy) if name.startswith("vocabularies/")} <= listed.keys()
    for name in (*listed, "run.json", "checkpoints/checkpoint"):
        whole = (copy / name).read_bytes()
        flip(copy / name, name)
        with pytest.raises(ConfigError) as refused:
            load_run(copy)
        one_sentence(refused.value, copy / name if name != "checkpoints/checkpoint" else copy)
        (copy / name).write_bytes(whole)
    named = (copy / "checkpoints/checkpoint").read_bytes()
    (copy / "checkpoints/checkpoint").write_bytes(b"model_checkpoint_path: \xe9")
    with pytest.raises(ConfigError, match="checkpoints/checkpoint is damaged"):
        load_run(copy)
    (copy / "checkpoints/checkpoint").write_bytes(named)
    (copy / "vocabularies/topic.json").unlink()
    with pytest.raises(DamagedFileError, match=r"topic\.json cannot be read \(No such file or directory\), but"):
        evaluate_run(copy, tmp_path)


def test_what_earlier_code_left_is_read_with_a_warning(copy: Path, run: Path, tmp_path: Path) -> None:
    (copy / "_SUCCESS").write_text("")
    with pytest.warns(UncheckedFilesWarning, match=r"manifest\.json was written before digests were noted"):
        assert Manifest.load(copy).counts.users > 0
    old = shutil.copytree(run, tmp_path / "run")
    earlier = {name: value for name, value in read_json(old / "run.json").items() if name not in ("files", "sha256")}
    (old / "run.json").write_text(json.dumps(earlier))
    with pytest.warns(UncheckedFilesWarning, match=r"^the run \S+ was written before digests were noted"):
        load_run(old)


def without_ends(manifest: Manifest) -> Manifest:
    """As earlier code wrote it."""
    plain = json.loads(manifest.to_json())
    for shards in plain["splits"].values():
        for shard in shards:
            del shard["ends_sha256"]
    return Manifest.from_json(json.dumps(plain), manifest.directory)


def padded_to(path: Path, size: int) -> None:
    """One more record, so that the file has another size."""
    missing = size - path.stat().st_size
    with path.open("ab") as file:
        file.write(frame(bytes(missing - len(frame(b"")))))


def test_exchanged_shards_of_one_size_are_found(copy: Path) -> None:
    manifest = Manifest.load(copy)
    one, other = manifest.shard_paths("train")[0], manifest.shard_paths("test")[0]
    sizes = sorted((one.stat().st_size, other.stat().st_size))
    padded_to(min(one, other, key=lambda path: path.stat().st_size), sizes[1])
    both = {path: path.read_bytes() for path in (one, other)}
    assert len({len(content) for content in both.values()}) == 1
    shards = {
        name: (
            dataclasses.replace(manifest.shards(name)[0], bytes=sizes[1], ends_sha256=ends),
            *manifest.shards(name)[1:],
        )
        for name, ends in (("train", digest_of(both[one])), ("test", digest_of(both[other])))
    }
    whole = with_splits(manifest, **shards)
    sign_prepared(whole)
    assert Manifest.load(copy).shard_paths("train")[0] == one
    one.write_bytes(both[other])
    other.write_bytes(both[one])
    for split, path in (("train", one), ("test", other)):
        with pytest.raises(UserError, match="is not the file that manifest.json lists under this name") as refused:
            Manifest.load(copy).shard_paths(split)
        one_sentence(refused.value, path)
    assert without_ends(whole).shard_paths("train")[0] == one, "data of earlier code has no such digest"


def digest_of(content: bytes) -> str:
    return digest_of_ends(content, content)


def test_a_shard_that_the_manifest_does_not_list_is_not_read(copy: Path) -> None:
    manifest = Manifest.load(copy)
    paths = manifest.shard_paths("train")
    shutil.copyfile(paths[0], paths[0].with_name("part-00009-of-00009.tfrecord"))
    assert Manifest.load(copy).shard_paths("train") == paths
    os.truncate(paths[0], paths[0].stat().st_size - 1)
    with pytest.raises(UserError, match=r"part-00000-of-00002\.tfrecord has \d+ bytes, manifest\.json says"):
        manifest.shard_paths("train")


def test_the_writers_note_what_they_wrote() -> None:
    manifest = small_data(shared_root())
    for shards in manifest.splits.values():
        for shard in shards:
            content = (Path(manifest.directory) / shard.name).read_bytes()
            assert shard.ends_sha256 == digest_of(content)
            with (Path(manifest.directory) / shard.name).open("rb") as stream:
                assert len(list(read_records(stream, shard.name))) == shard.records
