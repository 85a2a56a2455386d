"""A Dataflow job, launched as the Flex template's launcher does it, up to the moment when Google would take over."""

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

pytest.importorskip("apache_beam.io.gcp.gcsio", reason="NOT checked for Dataflow: pip install '.[gcp]'")

from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.stager import Stager
from fake_storage import FakeStorage, fake_storage
from small_job import SmallJob, build, digest
from worker_environment import worker_environment

from beam_pipelines.io.launch import MODEL_REQUIREMENTS, beam_options
from tests.packaging.checkout import copy_checkout

pytestmark = pytest.mark.integration

DATAFLOW = [
    "--runner=DataflowRunner",
    "--project=project",
    "--region=europe-west1",
    "--job_name=nightly",
    "--temp_location=gs://bucket/tmp",
    "--staging_location=gs://bucket/staging",
]
JOB = "gs://bucket/launches/job_object"


class Launched:
    """What a launch left behind: the job that Dataflow is asked to run, and the staged files it refers to."""

    def __init__(self, storage: FakeStorage, directory: Path) -> None:
        self.job = json.loads(storage.objects[JOB])
        (pool,) = [pool for pool in self.job["environment"]["workerPools"] if pool.get("packages")]
        staged = {package["name"]: package["location"] for package in pool["packages"]}
        self.packages = sorted(staged)
        self.pipeline_file = directory / "pipeline.pb"
        self.pipeline_file.write_bytes(storage.objects[_staged(storage, "pipeline.pb")])
        self.pipeline = beam_runner_api_pb2.Pipeline.FromString(self.pipeline_file.read_bytes())
        self.sdist = directory / "workflow.tar.gz"
        self.sdist.write_bytes(storage.objects[_staged(storage, "workflow.tar.gz")])


def _staged(storage: FakeStorage, name: str) -> str:
    (found,) = [path for path in storage.objects if path.endswith(f"/{name}")]
    return found


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, job: SmallJob) -> Iterator[FakeStorage]:
    with fake_storage(tmp_path_factory.mktemp("storage")) as served:
        served.upload(job.logs, "gs://bucket/logs")
        yield served


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher's own layout: the sources lie in one folder."""
    return copy_checkout(tmp_path_factory.mktemp("launcher") / "template")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, storage: FakeStorage, job: SmallJob, template: Path) -> Launched:
    """A job whose script is started by its path."""
    directory = tmp_path_factory.mktemp("launched")
    finished = subprocess.run(
        [
            sys.executable,
            str(template / "beam_pipelines/build_examples.py"),
            *job.arguments("gs://bucket/prepared", logs="gs://bucket/logs"),
            *DATAFLOW,
            f"--setup_file={template}/setup.py",
            f"--template_location={JOB}",
        ],
        cwd=directory,
        env={**os.environ, **storage.environment, "PYTHONPATH": str(template)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert finished.returncode == 0, finished.stderr
    assert "built" in finished.stdout
    return Launched(storage, directory)


def test_the_job_is_a_batch_job_without_a_main_session(launched: Launched) -> None:
    options = launched.job["environment"]["sdkPipelineOptions"]["options"]
    assert launched.job["type"] in ("JOB_TYPE_BATCH", 1)
    assert launched.job["name"] == "nightly"
    assert options["save_main_session"] is False
    assert [name for name in launched.packages if "main_session" in name] == []
    assert "workflow.tar.gz" in launched.packages


def test_workers_get_a_light_sdist_of_the_packages_alone(launched: Launched) -> None:
    with tarfile.open(launched.sdist) as archive:
        names = [member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()]
        (info,) = [member for member in archive.getmembers() if re.fullmatch(r"[^/]+/PKG-INFO", member.name)]
        stream = archive.extractfile(info)
        assert stream is not None
        required = [line for line in stream.read().decode().splitlines() if line.startswith("Requires-Dist:")]
    always = [line.split()[1] for line in required if "extra ==" not in line]
    assert sorted(name.split(">")[0].lower() for name in always) == [
        "click",
        "google-crc32c",
        "numpy",
        "protobuf",
        "pyarrow",
        "pyyaml",
        "rich",
    ]
    packages = {"twin_tf", "beam_pipelines", "export"}
    assert {name.split("/")[0] for name in names if "/" in name} == packages
    assert {"twin_tf/configs/simulated.yaml", "beam_pipelines/build_examples.py"} <= set(names)


def test_a_job_that_runs_the_model_sends_its_requirements_and_no_wheel(template: Path, tmp_path: Path) -> None:
    options = beam_options("DataflowRunner", 1, [f"--setup_file={template}/setup.py"], model=True)
    resources = Stager.create_job_resources(options, str(tmp_path), log_submission_env_dependencies=False)
    staged = {name: Path(path) for path, name, _ in Stager.extract_staging_tuple_iter(resources)}
    assert set(staged) == {"requirements.txt", "workflow.tar.gz"}
    assert staged["requirements.txt"].read_text() == MODEL_REQUIREMENTS.read_text()


@pytest.mark.slow
def test_workers_need_nothing_but_beam_and_the_sdist(launched: Launched, job: SmallJob, tmp_path: Path) -> None:
    python = worker_environment(tmp_path / "worker", launched.sdist)
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    script = Path(__file__).parent / "unpickle_job.py"
    unpickled = subprocess.run(
        [str(python), "-I", str(script), str(launched.pipeline_file)],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert unpickled.returncode == 0, unpickled.stderr
    found = json.loads(unpickled.stdout)
    assert found["tensorflow"] is False
    assert [name for name in found["classes"] if name.startswith("__main__")] == []
    steps = {"encode_logs.MatchFiles", "encode_logs.ReadChunk", "fit_vocabularies.Merge", "user_shards.WriteShard"}
    assert {f"beam_pipelines.examples.{step}" for step in steps} <= set(found["classes"])

    ran = subprocess.run(
        [str(python), "-I", "-m", "beam_pipelines.build_examples", *job.arguments(tmp_path / "prepared")],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0, ran.stderr
    assert _without_plots(digest(tmp_path / "prepared")) == _without_plots(job.local)


def _without_plots(files: dict[str, str]) -> dict[str, str]:
    """Workers have no matplotlib: the report leaves its plots out, and says so."""
    return {name: content for name, content in files.items() if name != "report.md" and not name.endswith(".png")}


@pytest.mark.slow
def test_gs_paths_give_the_bytes_of_local_paths(storage: FakeStorage, job: SmallJob, tmp_path: Path) -> None:
    arguments = job.arguments("gs://bucket/finished", logs="gs://bucket/logs")
    finished = build(arguments, storage.environment)
    assert finished.returncode == 0, finished.stderr
    storage.download("gs://bucket/finished", tmp_path)
    found = digest(tmp_path)
    assert found == job.local
    again = build(arguments, storage.environment)
    assert again.returncode == 1
    assert "error: gs://bucket/finished is not empty; name a new directory" in again.stderr.splitlines()


@pytest.mark.slow
def test_a_run_over_gs_paths_removes_what_an_unfinished_one_left(
    storage: FakeStorage, job: SmallJob, tmp_path: Path
) -> None:
    for name in ("_STARTED", "train/part-00000-of-00009.tfrecord", "dead_letters/events-00000-000000000000.jsonl"):
        storage.objects[f"gs://bucket/again/{name}"] = b"of a run that was killed"
    finished = build(job.arguments("gs://bucket/again", logs="gs://bucket/logs"), storage.environment)
    assert finished.returncode == 0, finished.stderr
    storage.download("gs://bucket/again", tmp_path)
    found = digest(tmp_path)
    assert found == job.local


def test_a_dry_run_builds_the_job_and_stages_nothing(storage: FakeStorage, job: SmallJob) -> None:
    before = set(storage.objects)
    arguments = job.arguments("gs://bucket/dry", logs="gs://bucket/logs")
    finished = build([*arguments, *DATAFLOW, "--dry_run=True"], storage.environment)
    assert finished.returncode == 0, finished.stderr
    assert "not run" in finished.stdout
    assert set(storage.objects) - before == {"gs://bucket/dry/_STARTED"}
