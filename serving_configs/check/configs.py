"""One folder of serving configurations, read: text protos, YAML documents, the server's flags."""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from serving_configs.check import schemas, server_flags, text_protos

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
_OBJECTS = {
    ("Deployment", SERVER): "kubernetes/deployment.yaml",
    ("Service", SERVER): "kubernetes/service.yaml",
    ("PodDisruptionBudget", SERVER): "kubernetes/scaling.yaml",
    ("HorizontalPodAutoscaler", SERVER): "kubernetes/scaling.yaml",
    ("PersistentVolumeClaim", "twin-models"): "kubernetes/volumes.yaml",
    ("CronJob", "twin-refresh"): "kubernetes/refresh.yaml",
    ("NetworkPolicy", SERVER): "kubernetes/network.yaml",
    ("NetworkPolicy", "twin-refresh"): "kubernetes/network.yaml",
    ("Kustomization", "kustomization.yaml"): "kustomization.yaml",
}


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
    protos: dict[str, Any]
    files: dict[str, Any]
    objects: dict[tuple[str, str], Any]
    flags: dict[str, dict[str, str]]

    @property
    def model_name(self) -> str:
        """The name that the server serves under."""
        return self.protos["models.config"].model_config_list.config[0].name

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
    def refresh_labels(self) -> Any:
        """The labels of the refresh's pod."""
        return self.objects["CronJob", "twin-refresh"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]

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
    protos: dict[str, Any] = {}
    for name in text_protos.KINDS:
        try:
            protos[name] = text_protos.parse(name, _text(folder, name))
        except ValueError as error:
            wrong.append(str(error))
    files: dict[str, Any] = {}
    for name, (schema, definition) in SCHEMAS.items():
        documents, found = _documents(folder, name, schema, definition)
        wrong += found
        if documents:
            files[name] = documents[0]
    objects: dict[tuple[str, str], Any] = {}
    for name in ["kustomization.yaml", *sorted(f"kubernetes/{path.name}" for path in folder.glob("kubernetes/*.yaml"))]:
        documents, found = _documents(folder, name, "kubernetes", "")
        wrong += found
        for document in documents:
            key = (str(document.get("kind")), str(document.get("metadata", {}).get("name", name)))
            if key in objects:
                wrong.append(f"{name}: {key[0]} {key[1]} stands twice")
            objects[key] = document
    wrong += [f"{_OBJECTS[key]}: no {key[0]} is called {key[1]!r}" for key in _OBJECTS if key not in objects]
    jobs = files.get("prometheus.yaml", {}).get("scrape_configs", [])
    services = files.get("docker-compose.yaml", {}).get("services", {})
    for name, needed, names in (
        ("docker-compose.yaml", (SERVER, "prometheus", "grafana"), services),
        ("prometheus.yaml", (SERVER,), [job.get("job_name") for job in jobs]),
    ):
        wrong += [f"{name}: nothing is called {called!r}" for called in needed if called not in names]
    configs = Configs(folder, protos, files, objects, {})
    if not wrong:
        for where, arguments in (
            ("docker-compose.yaml", configs.compose_server["command"]),
            ("kubernetes/deployment.yaml", configs.server_pod["containers"][0]["args"]),
        ):
            configs.flags[where], found = server_flags.parse(arguments)
            wrong += [f"{where}: {problem}" for problem in found]
    return configs, wrong


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}") from error


def _documents(folder: Path, name: str, schema: str, definition: str) -> tuple[list[Any], list[str]]:
    try:
        return _checked(name, _text(folder, name), schema, definition)
    except ValueError as error:
        return [], [str(error)]


@cache
def _checked(name: str, text: str, schema: str, definition: str) -> tuple[list[Any], list[str]]:
    """The documents of a text and their problems; an empty `definition` is the document's kind."""
    try:
        documents = schemas.load_all(text)
    except ValueError as error:
        return [], [f"{name}: {error}"]
    if not all(isinstance(document, dict) for document in documents):
        return [], [f"{name}: every document must be a mapping"]
    wrong = [
        f"{name}: {problem}"
        for document in documents
        for problem in schemas.problems(document, schema, definition or str(document.get("kind")))
    ]
    return documents, wrong
