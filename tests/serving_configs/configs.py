"""One folder of serving configurations, read: text protos, YAML documents, the server's flags."""

import dataclasses
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from tests.serving_configs import schemas, server_flags, text_protos

SCHEMAS = {
    "docker-compose.yaml": ("compose", "file"),
    "prometheus.yaml": ("prometheus", "file"),
    "alerts.yaml": ("prometheus", "alerts"),
    "alerts_test.yaml": ("prometheus", "alert_tests"),
    "grafana/datasources.yaml": ("grafana", "datasources"),
    "grafana/dashboards.yaml": ("grafana", "dashboards"),
    "grafana/twin.json": ("grafana", "dashboard"),
}
SERVER = "twin-serving"


@dataclasses.dataclass(frozen=True)
class Configs:
    """What the files hold, each valid by itself.

    Args:
        folder: the folder read.
        protos: text protos by file name.
        files: YAML and JSON by path within the folder.
        objects: Kubernetes objects by (kind, name).
        flags: the server's flags by where they stand, `docker-compose.yaml` and `kubernetes/deployment.yaml`.
    """

    folder: Path
    protos: dict[str, Message]
    files: dict[str, Any]
    objects: dict[tuple[str, str], Any]
    flags: dict[str, dict[str, str]]

    @property
    def compose_server(self) -> Any:
        """The server's service in docker-compose.yaml."""
        return self.files["docker-compose.yaml"]["services"][SERVER]

    @property
    def server_pod(self) -> Any:
        """The pod of the server's Deployment."""
        return self.objects["Deployment", SERVER]["spec"]["template"]["spec"]

    @property
    def refresh_pod(self) -> Any:
        """The pod of the refresh."""
        return self.objects["CronJob", "twin-refresh"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]

    @property
    def scrape_job(self) -> Any:
        """Prometheus's job of the server."""
        return next(job for job in self.files["prometheus.yaml"]["scrape_configs"] if job["job_name"] == SERVER)

    @property
    def alerts(self) -> list[Any]:
        """Every alert."""
        return [rule for group in self.files["alerts.yaml"]["groups"] for rule in group["rules"]]

    @property
    def panels(self) -> list[Any]:
        """The dashboard's panels that ask for something."""
        return [panel for panel in self.files["grafana/twin.json"]["panels"] if panel["type"] != "row"]


def read(folder: Path) -> tuple[Configs, list[str]]:
    """Reads and checks each file by itself; with problems the `Configs` may be incomplete."""
    wrong: list[str] = []
    protos: dict[str, Message] = {}
    for name in text_protos.KINDS:
        try:
            protos[name] = text_protos.parse(name, (folder / name).read_text(encoding="utf-8"))
        except ValueError as error:
            wrong.append(str(error))
    files: dict[str, Any] = {}
    for name, (schema, definition) in SCHEMAS.items():
        documents, found = _documents(folder, name)
        wrong += found
        for document in documents[:1]:
            files[name] = document
            wrong += [f"{name}: {problem}" for problem in schemas.problems(document, schema, definition)]
    objects: dict[tuple[str, str], Any] = {}
    for path in [folder / "kustomization.yaml", *sorted((folder / "kubernetes").glob("*.yaml"))]:
        name = path.relative_to(folder).as_posix()
        documents, found = _documents(folder, name)
        wrong += found
        for document in documents:
            kind = str(document.get("kind"))
            wrong += [f"{name}: {problem}" for problem in schemas.problems(document, "kubernetes", kind)]
            key = (kind, str(document.get("metadata", {}).get("name", name)))
            if key in objects:
                wrong.append(f"{name}: {kind} {key[1]} stands twice")
            objects[key] = document
    configs = Configs(folder, protos, files, objects, {})
    if not wrong:
        try:
            commands = {
                "docker-compose.yaml": configs.compose_server["command"],
                "kubernetes/deployment.yaml": configs.server_pod["containers"][0]["args"],
            }
        except KeyError as error:
            return configs, [f"nothing is called {error}: the server is {SERVER} in compose and in Kubernetes"]
        for where, arguments in commands.items():
            configs.flags[where], found = server_flags.parse(arguments)
            wrong += [f"{where}: {problem}" for problem in found]
    return configs, wrong


def _documents(folder: Path, name: str) -> tuple[list[Any], list[str]]:
    try:
        documents = schemas.load_all((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        return [], [f"{name}: {error}"]
    if not all(isinstance(document, dict) for document in documents):
        return [], [f"{name}: every document must be a mapping"]
    return documents, []
