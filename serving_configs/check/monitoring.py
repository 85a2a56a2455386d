"""What Prometheus, Grafana and the alerts must say alike, with each other and with the server's files."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from serving_configs.check import promql
from serving_configs.check.configs import SERVER, Configs

_DOCS = Path(__file__).parents[2] / "docs"
_METRICS = "/monitoring/prometheus/metrics"


def compose_names_resolve(configs: Configs) -> Iterator[str]:
    """Mounted files, volumes and services exist; Grafana finds Prometheus and the dashboard."""
    compose = configs.files["docker-compose.yaml"]
    used = set()
    mounts: dict[str, str] = {}
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source, target = (volume["source"], volume["target"]) if isinstance(volume, dict) else volume.split(":")[:2]
            mounts[target] = source
            if source.startswith("./") and not (configs.folder / source).is_file():
                yield f"docker-compose.yaml: {name} mounts {source}, which does not exist"
            elif source[0] not in "./$":
                used.add(source)
        for other in service.get("depends_on", []):
            if other not in compose["services"]:
                yield f"docker-compose.yaml: {name} depends on {other}, which does not exist"
    if used != set(compose["volumes"]):
        yield f"docker-compose.yaml: volumes {sorted(compose['volumes'])} are declared, {sorted(used)} used"
    text = (configs.folder / "docker-compose.yaml").read_text(encoding="utf-8")
    explained = " ".join(line for line in text.splitlines() if line.startswith("#"))
    for variable in sorted(set(re.findall(r"\$\{(\w+)", text))):
        if variable not in explained.split():
            yield f"docker-compose.yaml reads ${variable}, which its head does not explain"
    yield from _prometheus_and_grafana(configs, mounts)


def _prometheus_and_grafana(configs: Configs, mounts: dict[str, str]) -> Iterator[str]:
    compose = configs.files["docker-compose.yaml"]
    options = dict(option.removeprefix("--").split("=") for option in compose["services"]["prometheus"]["command"])
    if set(options) != {"config.file", "storage.tsdb.path", "storage.tsdb.retention.time"}:
        yield f"docker-compose.yaml: Prometheus has not all of the options {sorted(options)}"
        return
    config = Path(options["config.file"])
    for file, source in ((config, "./prometheus.yaml"), (config.parent / "alerts.yaml", "./alerts.yaml")):
        if mounts.get(str(file)) != source:
            yield f"docker-compose.yaml: Prometheus reads {file}, where {source} is not mounted"
    for path, volume in ((options["storage.tsdb.path"], "prometheus-data"), ("/var/lib/grafana", "grafana-data")):
        if mounts.get(path) != volume:
            yield f"docker-compose.yaml: what is kept lies at {path}, where {volume} is not mounted"
    (datasource,) = configs.files["grafana/datasources.yaml"]["datasources"]
    host, port = datasource["url"].removeprefix("http://").split(":")
    ports = compose["services"].get(host, {}).get("ports", [])
    if port not in [published.split(":")[2] for published in ports]:
        yield f"grafana/datasources.yaml: no service of docker-compose.yaml answers at {datasource['url']}"
    if datasource["jsonData"]["timeInterval"] != configs.files["prometheus.yaml"]["global"]["scrape_interval"]:
        yield "grafana/datasources.yaml: timeInterval is not prometheus.yaml's scrape_interval"
    path = configs.files["grafana/dashboards.yaml"]["providers"][0]["options"]["path"]
    if mounts.get(f"{path}/twin.json") != "./grafana/twin.json":
        yield f"grafana/dashboards.yaml reads {path}, where docker-compose.yaml mounts no dashboard"
    if (
        compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        != f"{path}/twin.json"
    ):
        yield f"docker-compose.yaml: Grafana's home dashboard is not {path}/twin.json"
    for source in ("datasources", "dashboards"):
        if mounts.get(f"/etc/grafana/provisioning/{source}/twin.yaml") != f"./grafana/{source}.yaml":
            yield f"docker-compose.yaml does not mount grafana/{source}.yaml where Grafana reads it"


def prometheus_finds_the_server(configs: Configs) -> Iterator[str]:
    """Scrape target, path and rule files."""
    job, discovery = configs.scrape_job, configs.scrape_job["dns_sd_configs"][0]
    if discovery["names"] != [SERVER] or ("Service", SERVER) not in configs.objects:
        yield f"prometheus.yaml looks up {discovery['names']}, the server's name in compose and Kubernetes is {SERVER}"
    if str(discovery["port"]) != configs.flags["docker-compose.yaml"].get("rest_api_port"):
        yield f"prometheus.yaml scrapes port {discovery['port']}; metrics are on --rest_api_port"
    monitoring = configs.protos["monitoring.config"].prometheus_config
    notes = configs.objects["Deployment", SERVER]["spec"]["template"]["metadata"]["annotations"]
    paths = {monitoring.path or _METRICS, job["metrics_path"], notes["prometheus.io/path"]}
    if not monitoring.enable or len(paths) > 1:
        yield f"monitoring.config must be enabled on the path that is scraped: {sorted(paths)}"
    if notes["prometheus.io/port"] != str(discovery["port"]):
        yield f"kubernetes/deployment.yaml: prometheus.io/port is {notes['prometheus.io/port']}"
    if configs.files["prometheus.yaml"]["rule_files"] != ["alerts.yaml"]:
        yield "prometheus.yaml must read alerts.yaml"
    for rule in job["metric_relabel_configs"]:
        for name in ("request_latency", "runtime_latency"):
            if re.fullmatch(rule["regex"], f":tensorflow:serving:{name}_bucket;"):
                yield f"prometheus.yaml drops the buckets of {name}, which alerts need"


def alerts_can_fire_and_say_what_to_do(configs: Configs) -> Iterator[str]:
    """Every alert: its metrics exist, it has a row in the runbook and a test of both outcomes."""
    model = configs.model_name
    names = [alert["alert"] for alert in configs.alerts]
    text = (_DOCS / "serving.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| <a id="([a-z]+)"></a>`(\w+)`', text, flags=re.MULTILINE)
    tests = [case for test in configs.files["alerts_test.yaml"]["tests"] for case in test["alert_rule_test"]]
    for alert in configs.alerts:
        name = alert["alert"]
        problems = promql.problems(alert["expr"])
        yield from (f"alerts.yaml: {name}: {problem}" for problem in problems)
        if not problems:
            for label, right in (("job", SERVER), ("model_name", model)):
                for value in promql.matched_values(alert["expr"], label) - {right}:
                    yield f"alerts.yaml: {name} asks for {label} {value!r}, which is {right!r}"
        if (alert["annotations"]["runbook"].partition("#")[2], name) not in rows:
            yield f"alerts.yaml: {name} has no row with its anchor in docs/serving.md"
        outcomes = {bool(case["exp_alerts"]) for case in tests if case["alertname"] == name}
        if outcomes != {True, False}:
            yield f"alerts_test.yaml must show {name} once as it fires and once as it does not"
    if len(set(names)) < len(names):
        yield "alerts.yaml: an alert stands twice"
    for _, row in rows:
        if row not in names:
            yield f"docs/serving.md has a row for {row}, which is no alert"
    for case in tests:
        if case["alertname"] not in names:
            yield f"alerts_test.yaml tests {case['alertname']}, which is no alert"


def the_dashboard_shows_what_exists(configs: Configs) -> Iterator[str]:
    """Panels: the provisioned datasource, known metrics, no overlap."""
    dashboard = configs.files["grafana/twin.json"]
    uid = configs.files["grafana/datasources.yaml"]["datasources"][0]["uid"]
    names = {alert["alert"] for alert in configs.alerts}
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        title, grid = panel["title"], panel["gridPos"]
        if grid["x"] + grid["w"] > 24:
            yield f"grafana/twin.json: {title!r} is wider than the grid"
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        for other in sorted({taken[cell] for cell in cells & taken.keys()}):
            yield f"grafana/twin.json: {title!r} covers {other!r}"
        taken |= dict.fromkeys(cells, title)
    for panel in configs.panels:
        title = panel["title"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            if source["uid"] != uid:
                yield f"grafana/twin.json: {title!r} asks {source['uid']!r}, the provisioned datasource is {uid!r}"
        references = [target["refId"] for target in panel["targets"]]
        if len(set(references)) < len(references):
            yield f"grafana/twin.json: {title!r} has the refId {references} twice"
        for target in panel["targets"]:
            problems = promql.problems(target["expr"])
            yield from (f"grafana/twin.json: {title!r}: {problem}" for problem in problems)
            if problems:
                continue
            if promql.matched_values(target["expr"], "job") != {SERVER}:
                yield f"grafana/twin.json: {title!r} must ask for job {SERVER!r}"
            if promql.matched_values(target["expr"], "model_name") - {configs.model_name}:
                yield f"grafana/twin.json: {title!r} must ask for model_name {configs.model_name!r}"
            said = set(re.findall(r"\bp\d+\b", target["legendFormat"])) or set(re.findall(r"\bp\d+\b", title))
            if said != promql.quantiles(target["expr"]):
                yield f"grafana/twin.json: {title!r} says {said or 'no quantile'}, but asks for another"
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                if label not in promql.grouped_by(target["expr"]):
                    yield f"grafana/twin.json: {title!r} has no label {label!r} left for its legend"
        for mentioned in re.findall(r"\bTwin[A-Z]\w+", panel["description"]):
            if mentioned not in names:
                yield f"grafana/twin.json: {title!r} mentions {mentioned}, which is no alert"
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    if len(set(identifiers)) < len(identifiers):
        yield "grafana/twin.json: two panels have one id"
    for variable in dashboard["templating"]["list"]:
        if variable["datasource"]["uid"] != uid:
            yield f"grafana/twin.json: the variable {variable['name']!r} asks another datasource than {uid!r}"
        if variable["query"]["query"] != f'label_values(up{{job="{SERVER}"}}, {variable["name"]})':
            yield f"grafana/twin.json: the variable {variable['name']!r} must list the values of job {SERVER!r}"


CHECKS: tuple[Callable[[Configs], Iterator[str]], ...] = (
    compose_names_resolve,
    prometheus_finds_the_server,
    alerts_can_fire_and_say_what_to_do,
    the_dashboard_shows_what_exists,
)
