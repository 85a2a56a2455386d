"""Prepared data with clustered histories: from the pipeline to the served scores."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from beam_pipelines.cluster_histories import cluster_histories, cluster_text, main
from export.saved_model.exporter import export_run
from tests.beam_pipelines.examples.test_build_examples import digest
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import (
    decode,
    read_json,
    sign_run,
    small_config,
    small_data,
    small_run,
)
from twin_tf.config import ClusterConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.tfrecord import frame, read_records
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.records.format import Manifest
from twin_tf.runs.run import RUN, load_info, save_info
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration

SETTINGS = ClusterConfig(completion="completion", gamma=8, recent=10, period_days=4.0)


@pytest.fixture(scope="module")
def root() -> Path:
    small_run(shared_root())
    return shared_root()


@pytest.fixture(scope="module")
def clustered(root: Path) -> Manifest:
    output = root / "clustered"
    if not output.exists():
        cluster_histories(root / "prepared", root / "run", output, SETTINGS, progress=False)
    return Manifest.load(output)


def test_every_target_is_there_once_in_its_order(root: Path, clustered: Manifest) -> None:
    raw = small_data(root)
    for split in ("train", "valid", "test"):
        before, after = decode(raw, split), decode(clustered, split)
        for key in ("target/item", "target/time", "target/label", "target/shown_at"):
            mine, theirs = (np.concatenate([r[key] for r in records]) for records in (after, before))
            np.testing.assert_array_equal(mine, theirs)
        assert split != "train" or len(after) > len(before)  # cut at the moments of clustering
        assert sum(shard.targets for shard in clustered.shards(split)) == raw.counts.targets[split]


def test_targets_see_as_many_behaviours_as_before_and_only_earlier_ones(root: Path, clustered: Manifest) -> None:
    seen = {}
    for split in ("train", "valid", "test"):
        for record in decode(small_data(root), split):
            for time, end in zip(record["target/time"], record["target/history_end"], strict=True):
                seen[split, record["user/id"], int(time)] = min(int(end), 400)
    shorter = 0
    for split in ("train", "valid", "test"):
        for record in decode(clustered, split):
            for time, end in zip(record["target/time"], record["target/history_end"], strict=True):
                assert record["history/count"][:end].sum() >= seen[split, record["user/id"], int(time)]
                assert (record["history/time"][:end] < time).all()
                shorter += end < record["history/count"][:end].sum()
            assert record["history/count"].max(initial=1) <= SETTINGS.gamma
    assert shorter > 1000


def test_the_manifest_says_what_it_was_made_of(root: Path, clustered: Manifest) -> None:
    source, run = clustered.clusters, load_info(root / "run")
    assert source is not None and source.weights_version == run.weights_version
    assert source.settings == dataclasses.asdict(SETTINGS)
    assert {clustered.split.valid_from, clustered.split.test_from, clustered.last_time + 1} <= set(source.moments)
    assert clustered.schema.history.clustered
    files = {p.relative_to(root / "clustered").as_posix() for p in (root / "clustered").rglob("*") if p.is_file()}
    shards = {shard.name for shards in clustered.splits.values() for shard in shards}
    assert files == {*shards, *clustered.files, "manifest.json", "_SUCCESS", "report.md", "compression.png"}
    assert not [path for path in (root / "clustered").rglob("*") if path.is_dir() and not any(path.iterdir())]
    report = read_json(root / "clustered" / "clusters.json")["splits"]
    assert report["histories"]["entries"] == sum(s.events for s in clustered.shards("histories"))
    assert report["histories"]["behaviours"] == sum(s.events for s in small_data(root).shards("histories"))
    page = (root / "clustered" / "report.md").read_text()
    assert "5 groups by completion" in page and "compression.png" in page
    assert (root / "clustered" / "compression.png").read_bytes().startswith(b"\x89PNG")
    assert f"{report['histories']['behaviours']:,} behaviours" in cluster_text(str(root / "clustered"), clustered)


def test_a_second_run_with_other_workers_gives_the_same_bytes(root: Path, clustered: Manifest, tmp_path: Path) -> None:
    cluster_histories(root / "prepared", root / "run", tmp_path / "again", SETTINGS, workers=2, progress=False)
    assert digest(tmp_path / "again") == digest(root / "clustered")


def test_clusters_are_trained_on_exported_and_served_with_the_trainers_scores(
    root: Path, clustered: Manifest, tmp_path: Path
) -> None:
    """The gate replays probes with clusters in the C++ session and compares the scores."""
    report = train_model(root / "clustered", tmp_path / "run", small_config("training.epochs=1"))
    assert report["steps"] > 0
    found = evaluate_run(tmp_path / "run", root / "clustered")
    assert found["metrics"]["targets"] == small_data(root).counts.targets["test"]
    lengths = [row["from"] for row in found["by_history_length"]]
    assert max(lengths) >= 200  # slices are of behaviours, not of the few entries that stand for them
    again = cluster_histories(root / "prepared", tmp_path / "run", tmp_path / "next", SETTINGS, progress=False)
    assert again.clusters is not None and again.clusters.weights_version == load_info(tmp_path / "run").weights_version
    export_run(tmp_path / "run", tmp_path / "model")
    with np.load(tmp_path / "model" / "assets.extra" / "probes.npz") as probes:
        assert probes["input/history_count"].max() > 1
    command = [sys.executable, "-m", "twin_tf.cli", "validate", str(tmp_path / "model")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)  # free of TensorFlow
    assert checked.returncode == 0, checked.stdout + checked.stderr


def failing(root: Path, output: Path, **changes: Any) -> str:
    given = {"prepared": root / "prepared", "run": root / "run", "settings": SETTINGS, **changes}
    with pytest.raises(ConfigError) as error:
        cluster_histories(output=output, progress=False, **given)
    assert not output.exists() and not list(output.parent.glob(f".{output.name}*"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_clustered_is_one_sentence(root: Path, clustered: Manifest, tmp_path: Path) -> None:
    output = tmp_path / "output"
    assert "holds clusters already" in failing(root, output, prepared=root / "clustered")
    assert "not finished prepared data" in failing(root, output, prepared=root / "raw")
    assert "is not a run" in failing(root, output, run=root / "prepared")
    other = dataclasses.replace(SETTINGS, completion="page_position")
    assert "keep no values of 'page_position'" in failing(root, output, settings=other)
    unknown = dataclasses.replace(SETTINGS, completion="complet")
    assert "no feature 'complet'; did you mean 'completion'" in failing(root, output, settings=unknown)
    later = tmp_path / "later"
    shutil.copytree(root / "run", later)
    save_info(later, dataclasses.replace(load_info(later), trained_until=clustered.split.valid_from + 1))
    assert "its embeddings know what validation is to show" in failing(root, output, run=later)
    save_info(later, dataclasses.replace(load_info(later), trained_until=0))
    assert "does not say until when" in failing(root, output, run=later)


def damaged(root: Path, copy: Path) -> tuple[Path, Path]:
    """A copy of the prepared data, and one of its shards."""
    shutil.copytree(root / "prepared", copy)
    return copy, sorted((copy / "test").glob("*"))[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_data_are_refused(root: Path, tmp_path: Path, workers: int) -> None:
    output = tmp_path / "output"
    broken, shard = damaged(root, tmp_path / "flipped")
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    assert "the prepared data cannot be read" in failing(root, output, prepared=broken, workers=workers)
    if workers == 1:
        with (root / "prepared/test" / shard.name).open("rb") as stream:
            records = list(read_records(stream, shard.name))
        shard.write_bytes(b"".join(map(frame, records[::-1])))
        assert f"{shard} is not the file that the manifest lists" in failing(root, output, prepared=broken)
        shard.write_bytes(content[:-3])
        assert "is another size than the manifest says" in failing(root, output, prepared=broken)
        shard.unlink()
        assert "is missing, but the manifest lists it" in failing(root, output, prepared=broken)
        edited, _ = damaged(root, tmp_path / "edited")
        name = next(name for name in Manifest.load(edited).files if name.startswith("vocabularies/"))
        (edited / name).write_text((edited / name).read_text() + " ")
        assert f"{edited / name} is damaged or was changed" in failing(root, output, prepared=edited)


def test_a_run_with_another_schema_is_named_with_the_data_as_the_user_knows_them(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(root / "run", other)
    for name in ("config.yaml", "schema.yaml"):
        (other / name).write_text((other / name).read_text().replace("name: simulated", "name: another", 1))
    (other / "contract.json").unlink()  # it would say that the schema was edited
    sign_run(other)
    said = failing(root, tmp_path / "output", run=other)
    assert said == (
        f"{root / 'prepared'} was prepared with another contract than the run {other} was trained with: its name is "
        "'simulated', not 'another'; preprocess with --previous, which keeps it"
    )


def test_nothing_is_run_where_a_job_is_only_built(root: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"settings": SETTINGS, "progress": False, "runner": "DataflowRunner"}
    template = ["--template_location=gs://bucket/template", "--project=p", "--region=r"]
    with pytest.raises(ConfigError, match="no template of a clustering can be made"):
        cluster_histories(root / "prepared", root / "run", tmp_path / "no", beam_arguments=template, **given)
    assert not (tmp_path / "no").exists()


def test_logs_cannot_claim_to_be_clustered(root: Path, clustered: Manifest, tmp_path: Path) -> None:
    from beam_pipelines.build_examples import build_examples

    schema = small_config().schema
    assert schema is not None
    logs = {log: str(root / "raw" / f"{log}*.parquet") for log in ("events", "items", "users")}
    with pytest.raises(ConfigError, match="history.clustered is for what `twin-tf cluster` writes"):
        build_examples(schema.clustered(True), **logs, output=tmp_path / "no", progress=False)
    with pytest.raises(ConfigError, match="holds clusters; continue the prepared data"):
        build_examples(schema, **logs, output=tmp_path / "no", progress=False, previous=clustered.directory)


def test_the_command_says_what_it_did(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({"clusters": {"gamma": 4}}))
    given = [f"--prepared={root / 'prepared'}", f"--run={root / 'run'}", f"--config={config}"]
    assert main([*given, f"--output={tmp_path / 'new'}"]) == 0
    assert "entries" in capsys.readouterr().out
    manifest = Manifest.load(tmp_path / "new")
    assert manifest.clusters is not None and manifest.clusters.settings["gamma"] == 4
    assert main([*given, f"--output={tmp_path / 'new'}"]) == 1
    assert "not empty" in capsys.readouterr().err


def test_a_run_says_until_when_it_was_trained(root: Path) -> None:
    assert json.loads((root / "run" / RUN).read_text())["trained_until"] == small_data(root).split.valid_from
