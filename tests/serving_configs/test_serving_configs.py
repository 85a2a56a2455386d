"""The files for stock TensorFlow Serving, as they are: valid each by itself, and in agreement with one another."""

import http.server
import importlib.util
import mmap
import re
import subprocess
import threading
from pathlib import Path

import pytest

from serving_configs.check import promql, server_flags, text_protos
from serving_configs.check.configs import read
from serving_configs.check.problems import problems
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "serving_configs"


def test_the_files_have_no_problem():
    assert problems(FOLDER) == []


def test_every_file_is_read_by_a_check():
    configs, _ = read(FOLDER)
    read_files = {
        *configs.protos,
        *configs.files,
        "kustomization.yaml",
        "Dockerfile",
        "Dockerfile.dockerignore",
        "make_ssl_config.sh",
    }
    read_files |= set(configs.objects["Kustomization", "kustomization.yaml"]["resources"])
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("check/")} == read_files


def test_models_config_serves_the_newest_version():
    configs, _ = read(FOLDER)
    (model,) = configs.protos["models.config"].model_config_list.config
    assert model.model_version_policy.latest.num_versions == 1


def test_the_labels_of_the_runbook_are_what_models_config_takes():
    text = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
    policy, label = re.findall(r"`(model_version_policy \{.+?\}|version_labels \{.+?\})`", text)
    config = text_protos.parse("models.config", f'model_config_list {{ config {{ name: "twin" {policy} {label} }} }}')
    (model,) = config.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1700000000, 1700000900]
    assert dict(model.version_labels) == {"canary": 1700000900}


class _Answers(http.server.BaseHTTPRequestHandler):
    """A REST port that serves the model's metadata, or does not."""

    def do_GET(self):
        known = self.server.loaded and self.path == "/v1/models/twin/metadata"
        self.send_response(200 if known else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("loaded", "code"), [(True, 0), (False, 1)])
def test_the_healthcheck_of_compose_passes_only_while_a_version_is_served(loaded, code):
    configs, _ = read(FOLDER)
    *command, script = configs.compose_server["healthcheck"]["test"][1:]
    with http.server.HTTPServer(("127.0.0.1", 0), _Answers) as server:
        server.loaded = loaded
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = subprocess.run(
            [*command, script.replace("8501", str(server.server_port))], check=False, timeout=PATIENCE_S
        )
        thread.join()
    assert done.returncode == code


def test_batching_can_be_turned_on_by_the_two_lines_that_compose_shows():
    text = (FOLDER / "docker-compose.yaml").read_text(encoding="utf-8")
    shown = re.findall(r"#   - (--.+)", text)
    flags, wrong = server_flags.parse(["--port=8500", "--rest_api_port=8501", *shown])
    assert wrong == []
    assert flags["enable_batching"] == "true"
    assert (FOLDER / Path(flags["batching_parameters_file"]).name).is_file()


def test_the_metrics_of_the_core_are_in_the_installed_tensorflow():
    package = Path(importlib.util.find_spec("tensorflow").origin).parent
    names = promql.library_metrics()
    assert len(names) == 4
    with (
        (package / "libtensorflow_framework.so.2").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library,
    ):
        missing = [name for name in names if library.find(name.encode() + b"\0") < 0]
    assert missing == []


def test_links_and_anchors_of_the_runbook_lead_somewhere():
    text = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (REPOSITORY / "docs" / target.partition("#")[0]).exists(), target  # anchors: tests/docs/test_pages


@pytest.mark.parametrize("mutual", [False, True])
def test_make_ssl_config_keeps_every_line_of_the_pem_files(tmp_path, mutual):
    names = ["server.key", "server.crt", "clients-ca.crt"][: 3 if mutual else 2]
    pem = {name: f"-----BEGIN {name}-----\nMIIB+/==\nsecond\n-----END {name}-----\n" for name in names}
    for name, text in pem.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = ["sh", str(FOLDER / "make_ssl_config.sh"), *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    ssl = text_protos.parse("ssl.config", done.stdout)
    assert [ssl.server_key, ssl.server_cert] == [pem["server.key"], pem["server.crt"]]
    assert (ssl.custom_ca, ssl.client_verify) == ((pem["clients-ca.crt"], True) if mutual else ("", False))


def test_make_ssl_config_refuses_what_is_no_pem_file(tmp_path):
    (tmp_path / "server.key").write_text("not a key\n", encoding="utf-8")
    command = ["sh", str(FOLDER / "make_ssl_config.sh"), "server.key", "server.key"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "server.key is no PEM file: it has no BEGIN line\n")
