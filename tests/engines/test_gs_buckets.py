"""gs:// through Arrow's own client, against the Cloud Storage of this machine: no object store of Google was used."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_storage import FakeStorage, fake_storage

from export.session.child_process import child_environment
from tests.export.publishing.tiny_models import write_model
from tests.patience import PATIENCE_S
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root

pytestmark = pytest.mark.integration


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FakeStorage]:
    with fake_storage(tmp_path) as served:
        yield served


def client(storage: FakeStorage, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `bucket_client.py`; Arrow's client waits for the answer of this process, so it cannot be this one."""
    command = [sys.executable, str(Path(__file__).with_name("bucket_client.py")), *arguments]
    environment = {**os.environ, **child_environment(), **storage.environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_base_path_in_cloud_storage(storage: FakeStorage, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", manifest=True)
    done = client(storage, "publish", str(model))
    assert done.returncode == 0, done.stderr
    (first, alone), (second, two), (third, kept), (back, left), files = json.loads(done.stdout)
    assert (alone, two) == ([int(first)], [int(first), int(second)])
    assert kept == [int(second), int(third)]
    assert (back, left) == (second, [int(second)])
    assert files == sorted(p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    base = "gs://bucket/serving/twin"
    entries = {name.removeprefix(f"{base}/").split("/")[0] for name in storage.objects if name.startswith(base)}
    assert entries == {second, f".rolled-back-{third}", ".rolled-back.json", ".versions.json"}
    for path in (p for p in model.rglob("*") if p.is_file()):
        name = path.relative_to(model).as_posix()
        assert storage.objects[f"{base}/{second}/{name}"] == path.read_bytes()


@pytest.mark.slow
def test_the_commands_of_the_page_over_gs(storage: FakeStorage, tmp_path: Path) -> None:
    """docs/buckets.md, each command a process: train, evaluate, export, publish, validate, refresh, roll back."""
    prepared = Path(small_run.small_data(shared_root()).directory)
    small_run.small_config("training.epochs=1", "training.batch_records=16").save(tmp_path / "my.yaml")
    storage.upload(prepared, "gs://bucket/prepared")
    data, run, base = ("--prepared", "gs://bucket/prepared"), ("--run", "gs://bucket/run"), "gs://bucket/serving/twin"

    def command(*arguments: str) -> dict[str, Any]:
        environment = {**os.environ, **child_environment(), **storage.environment}
        call = [sys.executable, "-m", "twin_tf.cli", *arguments, "--json"]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    trained = command("train", "--config", "my.yaml", *data, *run)
    assert trained["page"] == "gs://bucket/run/report.md"
    found = command("evaluate", *run, *data, "--no-yardsticks", "--users", "0")
    assert json.loads(storage.objects["gs://bucket/run/evaluation-test.json"])["metrics"] == found["metrics"]
    command("export", *run, "--output", "gs://bucket/model")
    first = command("publish", "gs://bucket/model", "--base-path", base)
    assert first["path"] == f"{base}/{first['version']}"
    assert command("validate", first["path"], "--base-path", base)["ok"]
    second = command("refresh", "--base-path", base, *run)
    assert second["refreshed"] == first["path"] and second["version"] > first["version"]
    assert command("rollback", "--base-path", base)["path"] == first["path"]
    assert {path.name for path in tmp_path.iterdir()} == {"my.yaml", "account.json"}


def test_what_is_missing_is_one_sentence(storage: FakeStorage) -> None:
    done = client(storage, "read", "gs://bucket/nowhere")
    said = "ConfigError: gs://bucket/nowhere is not prepared data: it has no manifest.json; run `twin-tf preprocess`"
    assert said in done.stderr.splitlines()[-1]


def test_prepared_data_in_cloud_storage(storage: FakeStorage) -> None:
    prepared = Path(small_run.small_data(shared_root()).directory)
    storage.upload(prepared, "gs://bucket/prepared")
    done = client(storage, "read", "gs://bucket/prepared")
    assert done.returncode == 0, done.stderr
    listed = json.loads((prepared / "manifest.json").read_text())["splits"]
    expected = {f"gs://bucket/prepared/{s['name']}": s["sha256"] for shards in listed.values() for s in shards}
    assert json.loads(done.stdout) == expected
