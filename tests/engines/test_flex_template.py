"""The Flex template's parameters are the command line's options, and its files what gcloud and Dataflow expect."""

import importlib.resources
import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from small_job import REPOSITORY

from beam_pipelines.build_examples import main
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration

TEMPLATES = importlib.resources.files("beam_pipelines") / "templates"
METADATA = json.loads((TEMPLATES / "build_examples_metadata.json").read_text())
PARAMETERS: dict[str, dict[str, Any]] = {parameter["name"]: parameter for parameter in METADATA["parameters"]}

# Dataflow chooses the runner, and the workers of the local runner are not its own. A template's parameter has a value,
# `--name=value`; a flag takes none.
NOT_IN_THE_TEMPLATE = {"help", "runner", "workers", "no_verify"}

MOMENTS = (
    ["2024-02-01", "2024-02-01T00:00:00Z", "2024-02-01T12:30+05:30"],
    ["yesterday", "1706745600", "2024-2-1", "2024-02-01 00:00"],
)
EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "schema": (["complete_journey", "schemas/shop.yaml"], ["", "a,b", "my schema.yaml"]),
    "events": (
        ["gs://b/e/*.parquet", "gs://b/1.csv,gs://b/2.csv", "bigquery://project.dataset.table"],
        ["logs/*.parquet", "gs://b/1.csv, gs://b/2.csv", "gs://b/1.csv,", "bigquery://"],
    ),
    "items": (["gs://b/items.csv", "bigquery://p.d.t"], ["items.csv", "gs://b/1.csv,items.csv"]),
    "users": (["gs://b/users.csv.gz,gs://b/more.csv"], ["", "gs://"]),
    "output": (["gs://b/prepared/2024-01-31"], ["prepared", "gs://b/a,gs://b/b"]),
    "previous": (["gs://b/prepared/2024-01-30"], ["/prepared"]),
    "as_of": MOMENTS,
    "not_before": MOMENTS,
    "shards": (["1", "4096"], ["0", "-1", "8.5", "08"]),
    "max_dead_share": (["0", "0.005", "1", "1.0"], ["1.5", "-0.1", ".5", "5%"]),
}


def test_parameters_are_the_options_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    usage, _, options = capsys.readouterr().out.partition("options:")
    names = set(re.findall(r"^ +(?:-\w, )?--(\w+)", options, flags=re.MULTILINE))
    assert set(PARAMETERS) == names - NOT_IN_THE_TEMPLATE
    optional = set(re.findall(r"\[--(\w+) ", usage))
    assert {name for name, parameter in PARAMETERS.items() if parameter.get("isOptional")} == optional & set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_takes_right_values_and_refuses_wrong_ones(name: str) -> None:
    (pattern,) = PARAMETERS[name]["regexes"]
    right, wrong = EXAMPLES[name]
    assert [value for value in right if not re.search(pattern, value)] == []
    assert [value for value in wrong if re.search(pattern, value)] == []
    default = PARAMETERS[name].get("defaultValue")
    assert default is None or re.search(pattern, default)


def test_defaults_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ("shards", "max_dead_share"):
        default = re.search(rf"--{name}[ ,].*?default: ([0-9.]+)", text.partition("options:")[2])
        assert default is not None
        assert PARAMETERS[name]["defaultValue"] == default[1]


def required_by(name: str) -> list[str]:
    return [line for line in (TEMPLATES / name).read_text().splitlines() if not line.startswith("#")]


def test_workers_install_what_setup_py_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    declared: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", lambda **arguments: declared.update(arguments))
    variables = runpy.run_path(str(REPOSITORY / "setup.py"))
    beam, *light = required_by("requirements.txt")
    locked = re.findall(r"^apache-beam==(\S+) \\$", (REPOSITORY / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert [beam] == [f"apache-beam[gcp]=={version}" for version in locked]
    assert sorted(light) == sorted(declared["install_requires"])
    assert required_by("model_requirements.txt") == variables["MODEL"]


def test_gcloud_makes_a_template_specification_of_the_metadata(tmp_path: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("the template's specification was NOT made: gcloud is not installed")
    image = "europe-west1-docker.pkg.dev/project/twin/build-examples:1"
    made = subprocess.run(
        [
            *("gcloud", "dataflow", "flex-template", "build", "gs://bucket/templates/build_examples.json"),
            *(f"--image={image}", "--sdk-language=PYTHON", "--print-only", "--format=json", "--project=project"),
            f"--metadata-file={TEMPLATES / 'build_examples_metadata.json'}",
        ],
        env={**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert made.returncode == 0, made.stderr
    specification = json.loads(json.loads(made.stdout))
    expected = {name: value for name, value in METADATA.items() if name != "streaming"}  # gcloud drops it
    assert specification == {
        "defaultEnvironment": {},
        "image": image,
        "metadata": expected,
        "sdkInfo": {"language": "PYTHON"},
    }
