"""The tools of others on the same files; a missing one is said aloud. By day those that lie on a machine or do not
(kubectl, docker), by `make test-parts` those that a registry has (kustomize, hadolint, promtool)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from serving_configs.check import schemas
from serving_configs.check.configs import read
from tests.other_programs import DEBIAN, GO, PIP, program
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "serving_configs"
FOLDERS = ("beam_pipelines", "benchmarks", "docs", "examples", "export", "serving_configs", "twin_tf")


def run(tool, *arguments):
    if tool in {*GO, *PIP, *DEBIAN}:
        tool = program(tool)
    elif shutil.which(tool) is None:
        pytest.skip(f"serving_configs/ was NOT checked by {tool}: it is not installed")
    done = subprocess.run(
        [tool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("kubectl", "kustomize", "."), id="kubectl"),
        pytest.param(("kustomize", "build", "."), id="kustomize", marks=pytest.mark.parts),
    ],
)
def test_kustomize_puts_the_manifests_together(command):
    built = {(one["kind"], one["metadata"]["name"]): one for one in schemas.load_all(run(*command))}
    objects = {key for key in read(FOLDER)[0].objects if key[0] != "Kustomization"}
    (config_map,) = built.keys() - objects
    assert built.keys() - {config_map} == objects
    volumes = built["Deployment", "twin-serving"]["spec"]["template"]["spec"]["volumes"]
    assert config_map[1] in [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]


@pytest.mark.parts
def test_hadolint_finds_nothing_in_any_dockerfile():
    files = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*Dockerfile")]
    assert FOLDER / "Dockerfile" in files
    assert run("hadolint", *files) == ""


@pytest.mark.parts
def test_promtool_takes_the_settings_and_each_alert_fires():
    run("promtool", "check", "config", "prometheus.yaml")
    run("promtool", "check", "rules", "alerts.yaml")
    run("promtool", "test", "rules", "alerts_test.yaml")


def test_docker_compose_takes_its_file(tmp_path):
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker-compose.yaml was NOT checked by docker: its compose plugin is not installed")
    run("docker", "compose", "--file", "docker-compose.yaml", "config", "--quiet")
