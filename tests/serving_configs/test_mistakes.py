"""Each check catches its mistake: one edit in a copy of the files, and the sentence that must follow."""

import shutil
import subprocess
import sys

import pytest

from serving_configs.check.problems import problems
from tests.serving_configs.test_serving_configs import FOLDER

pytestmark = pytest.mark.integration

COMPOSE, DEPLOYMENT = "docker-compose.yaml", "kubernetes/deployment.yaml"
REFRESH, SCALING, SERVICE = "kubernetes/refresh.yaml", "kubernetes/scaling.yaml", "kubernetes/service.yaml"
NETWORK = "kubernetes/network.yaml"
DASHBOARD = "grafana/twin.json"

# file, what stands there, what a slip makes of it, what is said
MISTAKES = [
    ("docker-compose.yaml", 'TF_ENABLE_ONEDNN_OPTS: "1"', 'TF_ENABLE_ONEDNN_OPTS: "0"', "gives the server"),
    ("docker-compose.yaml", "TF_ENABLE_ONEDNN_OPTS:", "TF_ENABLE_ONEDNN:", "unknown key 'TF_ENABLE_ONEDNN'"),
    # Text protos: unknown fields with the nearest name, wrong values, broken rules.
    ("models.config", "base_path:", "base_pth:", "did you mean 'base_path'?"),
    ("models.config", "num_versions: 1", "num_versions: one", "Couldn't parse integer: one"),
    ("models.config", 'name: "twin"', 'name: "twins"', "names the model 'twins', the client asks for 'twin'"),
    ("models.config", "/models/twin", "/srv/twin", "mounts nothing at /srv"),
    ("models.config", "/models/twin", "/models/other", "must publish with --base-path=/models/other"),
    ("models.config", '"tensorflow"', '"tensorflwo"', "one model on the platform tensorflow"),
    ("batching.config", "max_batch_size {", "max_batch_sizes {", "did you mean 'max_batch_size'?"),
    ("batching.config", "num_batch_threads { value: 4 }", "num_batch_threads: 4", "batching.config: "),
    ("batching.config", "num_batch_threads { value: 4 }", "num_batch_threads { value: 64 }", "pod asks for 4 CPUs"),
    (
        "batching.config",
        "max_batch_size { value: 8 }",
        "max_batch_size { value: 16 }",
        "must rise to max_batch_size 16",
    ),
    (COMPOSE, "--grpc_max_threads=32", "--grpc_max_threads=16", "must be 32 at least, or the batches"),
    ("batching.config", "allowed_batch_sizes: 1\n", "", "a lone user pays for two"),
    ("batching.config", "inputs: true", "inputs: false", "different history lengths cannot share a batch"),
    ("monitoring.config", "prometheus_config {", "promethus_config {", "did you mean 'prometheus_config'?"),
    ("monitoring.config", "/monitoring/prometheus/metrics", "/metrics", "on the path that is scraped"),
    ("monitoring.config", "enable: true", "enable: false", "must be enabled"),
    ("ssl.config", "server_key:", "server_private_key:", "did you mean 'server_key'?"),
    ("ssl.config", 'cert: "-----BEGIN CERTIFICATE-----\\nreplace me', 'cert: "/etc/server.crt', "hold a PEM form"),
    # Flags of the server: unknown, mistyped, given twice, at odds with each other.
    (COMPOSE, "--num_load_threads=2", "--num_load_thread=2", "did you mean 'num_load_threads'?"),
    (DEPLOYMENT, "--max_num_load_retries=1", "--max_load_retries=1", "did you mean 'max_num_load_retries'?"),
    (COMPOSE, "--load_retry_interval_micros=5000000", "--load_retry_interval_micros=5s", "must be int, not '5s'"),
    (COMPOSE, "--num_load_threads=2", "--num_load_threads 2", "must read --flag=value"),
    (COMPOSE, "--num_load_threads=2", "--num_load_threads=4", "is 2 in kubernetes/deployment.yaml"),
    (COMPOSE, "--num_unload_threads=1", "--num_load_threads=2", "--num_load_threads is given twice"),
    (COMPOSE, "--rest_api_port=8501", "--rest_api_port=8500", "must differ from --port"),
    (COMPOSE, "#   - --enable_batching=true", "- --enable_batching=true", "go together"),
    (COMPOSE, "/etc/twin/monitoring.config", "/etc/twin/monitor.config", "names monitor.config, which is not"),
    (DEPLOYMENT, "/etc/twin/monitoring.config", "/etc/other/monitoring.config", "outside the mounted /etc/twin"),
    (DEPLOYMENT, "intra_op_parallelism=4", "intra_op_parallelism=8", "asks for 4 CPUs"),
    # Compose: unknown keys, wrong values, names that lead nowhere.
    (COMPOSE, "entrypoint:", "entripoint:", "did you mean 'entrypoint'?"),
    (COMPOSE, "tensorflow/serving:2.20.0", "tensorflow/serving:latest", "does not match"),
    (COMPOSE, "tensorflow/serving:2.20.0", "tensorflow/serving:2.19.0", "not of TensorFlow 2.20"),
    (COMPOSE, "127.0.0.1:8500:8500", "8500:8500", "does not match"),
    (COMPOSE, "127.0.0.1:8501:8501", "127.0.0.1:8502:8502", "publishes ports"),
    (COMPOSE, "127.0.0.1:8501:8501", "127.0.0.1:8501:8500", "does not match"),
    (COMPOSE, "entrypoint: [tensorflow", "entrypoint: [tensorflwo", "must start ['tensorflow_model_server']"),
    (COMPOSE, "  prometheus:\n", "  prom:\n", "docker-compose.yaml: nothing is called 'prometheus'"),
    (DEPLOYMENT, "command: [tensorflow", "command: [tensorflwo", "must start ['tensorflow_model_server']"),
    (COMPOSE, "read_only: true\n        bind:", "read_only: false\n        bind:", "True was expected"),
    (COMPOSE, "restart: unless-stopped", "restart: sometimes", "is not one of"),
    (COMPOSE, "models/twin/metadata", "models/twin", "the healthcheck must ask port 8501"),
    (COMPOSE, "./alerts.yaml:", "./alert.yaml:", "mounts ./alert.yaml, which does not exist"),
    (COMPOSE, "  grafana-data:\n", "  grafana-store:\n", "volumes ['grafana-store', 'prometheus-data'] are declared"),
    (COMPOSE, "      - prometheus\n", "      - promtheus\n", "depends on promtheus, which does not exist"),
    (COMPOSE, "  twin-serving:\n", "  server:\n", "docker-compose.yaml: nothing is called 'twin-serving'"),
    (COMPOSE, "    restart: unless-stopped\n", "    restart: always\n    restart: no\n", "'restart' stands twice"),
    (COMPOSE, "provisioning/datasources/twin.yaml", "provisioning/twin.yaml", "where Grafana reads it"),
    (COMPOSE, "target: /etc/twin", "target: /etc/other", "must mount this folder at /etc/twin"),
    (COMPOSE, "${TWIN_UID:-1000}", "${UID:-1000}", "reads $UID, which its head does not explain"),
    (COMPOSE, "- CMD\n", "- CMD-SHELL\n", "'CMD' was expected"),
    (COMPOSE, "      - ALL\n", "      - SYS_ADMIN\n", "was expected"),
    (COMPOSE, "--storage.tsdb.retention.time", "--storage.retention.time", "has not all of the options"),
    (COMPOSE, "--config.file=/etc/prometheus/", "--config.file=/etc/prom/", "where ./prometheus.yaml is not mounted"),
    (COMPOSE, "path=/prometheus\n", "path=/data\n", "where prometheus-data is not mounted"),
    (COMPOSE, "GF_AUTH_ANONYMOUS_ENABLED:", "GF_AUTH_ANONYM_ENABLED:", "did you mean 'GF_AUTH_ANONYMOUS_ENABLED'?"),
    (COMPOSE, "PATH: /var/lib/grafana/dashboards/twin.json", "PATH: /twin.json", "home dashboard is not"),
    # Prometheus: keys, targets, rules, PromQL, metrics and labels.
    ("prometheus.yaml", "metrics_path:", "metric_path:", "did you mean 'metrics_path'?"),
    ("prometheus.yaml", "scrape_interval: 15s", "scrape_interval: 15", "15 is not of type 'string'"),
    ("prometheus.yaml", "scrape_interval: 15s", "scrape_interval: 30s", "timeInterval is not"),
    ("prometheus.yaml", "port: 8501", "port: 8500", "metrics are on --rest_api_port"),
    ("prometheus.yaml", "names: [twin-serving]", "names: [serving]", "prometheus.yaml looks up ['serving']"),
    ("prometheus.yaml", "- alerts.yaml", "- alert.yaml", "must read alerts.yaml"),
    ("prometheus.yaml", "_bucket;.+", "_bucket;.*", "drops the buckets of request_latency"),
    ("alerts.yaml", "serving:request_count{model_name", "serving:requests{model_name", "no server exports"),
    ("alerts.yaml", 'API="Predict"', 'api="Predict"', "has no label 'api'"),
    ("alerts.yaml", "sum by (job, le)", "sum by (job, el)", "no metric here has the label 'el'"),
    ("alerts.yaml", "OK|CANCELLED", "OK|CANCELED", "did you mean 'CANCELLED'?"),
    ("alerts.yaml", 'status="fail"', 'status="failed"', "did you mean 'fail'?"),
    ("alerts.yaml", "on (job, instance, model_path)", "on (job, instance, path)", "has the label 'path'"),
    ("alerts.yaml", "histogram_quantile(0.99", "histogram_quantile(99", "a number below 1, not 99"),
    ("prometheus.yaml", "[__name__, model_path]", "[__name__, model]", "is not one of"),
    ("alerts.yaml", "absent(up", "absent((up", "not PromQL"),
    ("alerts.yaml", 'absent(up{job="twin-serving"}', 'absent(up{job="twin"}', "asks for job 'twin'"),
    ("alerts.yaml", 'model_name="twin"}[15m]', 'model_name="twins"}[15m]', "asks for model_name 'twins'"),
    ("alerts.yaml", "for: 1m", "four: 1m", "did you mean 'for'?"),
    ("alerts.yaml", "  severity: page", "  severity: critical", "is not one of"),
    ("alerts.yaml", "serving.md#twinslow", "serving.md#twinfast", "TwinSlow has no row with its anchor"),
    ("alerts.yaml", "alert: TwinSlow", "alert: TwinSluggish", "row for TwinSlow, which is no alert"),
    ("alerts.yaml", "alert: TwinSlow", "alert: TwinErrors", "an alert stands twice"),
    ("alerts_test.yaml", "alertname: TwinSlow\n", "alertname: TwinErrors\n", "show TwinSlow once as it fires"),
    ("alerts_test.yaml", "alertname: TwinSlow\n", "alertname: TwinSlw\n", "tests TwinSlw, which is no alert"),
    # Grafana: datasource, metrics, layout.
    ("grafana/datasources.yaml", "access:", "acess:", "did you mean 'access'?"),
    (
        "grafana/datasources.yaml",
        "uid: twin-prometheus",
        "uid: prometheus",
        "the provisioned datasource is 'prometheus'",
    ),
    ("grafana/datasources.yaml", "prometheus:9090", "prometheus:9091", "no service of docker-compose.yaml answers"),
    ("grafana/dashboards.yaml", "path: /var/lib/grafana/dashboards", "path: /dashboards", "mounts no dashboard"),
    (DASHBOARD, '"unit": "reqps"', '"unit": "rps"', "is not one of"),
    (DASHBOARD, '"legendFormat"', '"legend"', "did you mean 'legendFormat'?"),
    (DASHBOARD, "request_latency_bucket", "request_latency_buckets", "no server exports"),
    (DASHBOARD, "sum by (status)", "sum by (code)", "no metric here has the label 'code'"),
    (DASHBOARD, '"x": 8, "y": 1', '"x": 7, "y": 1', "covers 'Calls by status'"),
    (DASHBOARD, '"x": 16, "y": 1', '"x": 17, "y": 1', "wider than the grid"),
    (DASHBOARD, '"id": 3,', '"id": 2,', "two panels have one id"),
    (DASHBOARD, '"refId": "B"', '"refId": "A"', "twice"),
    (DASHBOARD, "What TwinErrors watches", "What TwinFailures watches", "mentions TwinFailures, which is no alert"),
    (DASHBOARD, 'count(up{job=\\"twin-serving\\"})', "count(up)", "must ask for job 'twin-serving'"),
    (DASHBOARD, "{{status}}", "{{code}}", "no label 'code' left for its legend"),
    (DASHBOARD, "$instance", "$server", "Grafana has no variable $server"),
    (DASHBOARD, 'model_name=\\"twin\\"', 'model_name=\\"twins\\"', "must ask for model_name 'twin'"),
    (DASHBOARD, "histogram_quantile(0.9,", "histogram_quantile(0.95,", "says {'p90'}, but asks for another"),
    (DASHBOARD, "label_values(up", "labels(up", "must list the values of job"),
    # Kubernetes: keys, names that lead nowhere, ports, draining, what the pods may do.
    (DEPLOYMENT, "readinessProbe:", "readynessProbe:", "did you mean 'readinessProbe'?"),
    (DEPLOYMENT, "kind: Deployment", "kind: Deplyoment", "unknown kind 'Deplyoment'; did you mean 'Deployment'?"),
    (DEPLOYMENT, 'prometheus.io/port: "8501"', "prometheus.io/port: 8501", "8501 is not of type 'string'"),
    (DEPLOYMENT, 'prometheus.io/port: "8501"', 'prometheus.io/port: "8500"', "prometheus.io/port is 8500"),
    (DEPLOYMENT, "containerPort: 8501", "containerPort: 8502", "are not those of --port and --rest_api_port"),
    (
        DEPLOYMENT,
        "port: rest\n            periodSeconds: 10",
        "port: http\n            periodSeconds: 10",
        "port 'http'",
    ),
    (DEPLOYMENT, "path: /v1/models/twin/metadata", "path: /v1/models/twin", "200 only while it serves"),
    (DEPLOYMENT, "path: /v1/models/twin\n", "path: /healthz\n", "livenessProbe must ask /v1/models/twin"),
    (DEPLOYMENT, "PeriodSeconds: 120", "PeriodSeconds: 30", "cuts the preStop sleep of 100 s short"),
    (DEPLOYMENT, 'command: [sleep, "100"]', 'command: [sleep, "10"]', "10 s is less"),
    (DEPLOYMENT, "grpc.max_connection_age_ms=30000,", "", "clients stay with a pod until it dies"),
    (DEPLOYMENT, "claimName: twin-models", "claimName: twin-model", "no PersistentVolumeClaim is called twin-model"),
    (DEPLOYMENT, "name: twin-serving-config", "name: twin-config", "makes no ConfigMap twin-config"),
    (DEPLOYMENT, "            - name: tmp\n", "            - name: scratch\n", "are declared"),
    (DEPLOYMENT, "runAsUser: 1000", "runAsUser: 65534", "cannot read what the refresh publishes"),
    (DEPLOYMENT, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "True was expected"),
    (DEPLOYMENT, "  selector:", "  replicas: 2\n  selector:", "has an unknown key 'replicas'"),
    (DEPLOYMENT, "memory: 8Gi", "memory: 8G", "does not match"),
    (SERVICE, "targetPort: grpc", "targetPort: grcp", "is not the pod's 'grcp'"),
    (SERVICE, "clusterIP: None", "clusterIP: 10.0.0.1", "'None' was expected"),
    (
        SERVICE,
        "  selector:\n    app.kubernetes.io/name: twin-serving",
        "  selector:\n    app.kubernetes.io/name: twin-refresh",
        "service.yaml selects",
    ),
    (
        SCALING,
        "kind: Deployment\n    name: twin-serving",
        "kind: Deployment\n    name: twin",
        "scales Deployment twin,",
    ),
    (SCALING, "averageUtilization: 60", "averageUtilisation: 60", "did you mean 'averageUtilization'?"),
    (
        SCALING,
        "      app.kubernetes.io/name: twin-serving\n---",
        "      app.kubernetes.io/name: twin-refresh\n---",
        "scaling.yaml selects",
    ),
    ("kubernetes/volumes.yaml", "[ReadWriteMany]", "[ReadWriteOnce]", "was expected"),
    (REFRESH, "concurrencyPolicy: Forbid", "concurrencyPolicy: Allow", "'Forbid' was expected"),
    (REFRESH, '"*/15 * * * *"', '"every 15 minutes"', "does not match"),
    (REFRESH, "--base-path=/models/twin", "--base-path=/models", "must publish with --base-path=/models/twin"),
    (REFRESH, "image: twin-tf:0", "image: twin-tf:9", "must both say twin-tf:"),
    (REFRESH, '"*/15 * * * *"', '"*/7 * * * *"', "no even part of an hour"),
    (REFRESH, "activeDeadlineSeconds: 840", "activeDeadlineSeconds: 900", "still there when the next is due"),
    (REFRESH, "- refresh\n", "- publish\n", "must call `twin-tf refresh --run="),
    (REFRESH, "--server=twin-serving:8500", "--server=twin-serving:8501", "--server=twin-serving:8500 --json"),
    (REFRESH, "--run=/runs/current", "--run=/run/current", "mounts nothing at /run,"),
    (
        REFRESH,
        "            - name: tmp\n                  mountPath: /tmp",
        "            - name: tmp\n                  mountPath: /t",
        "/tmp must be mounted",
    ),
    (REFRESH, "memory: 6Gi", "memory: 4Gi", "requested and limited alike"),
    (DEPLOYMENT, "mountPath: /etc/twin", "mountPath: /etc/other", "must mount the configuration at /etc/twin"),
    (DEPLOYMENT, "prometheus.io/path:", "prometheus.io/route:", "'prometheus.io/path' is a required property"),
    (DEPLOYMENT, "topologyKey: kubernetes.io/hostname", "topologyKey: hostname", "is not one of"),
    (DEPLOYMENT, "app.kubernetes.io/name:", "app:", "has an unknown key 'app'"),
    (DEPLOYMENT, "emptyDir:\n            sizeLimit: 512Mi", "emptyDir: {}", "'sizeLimit' is a required property"),
    (
        DEPLOYMENT,
        "              ephemeral-storage: 1Gi\n            limits",
        "            limits",
        "'ephemeral-storage' is a",
    ),
    (DEPLOYMENT, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "False was expected"),
    (DEPLOYMENT, "runAsNonRoot: true", "runAsNonRoot: false", "True was expected"),
    (DEPLOYMENT, "type: RuntimeDefault", "type: Unconfined", "'RuntimeDefault' was expected"),
    (DEPLOYMENT, "drop: [ALL]", "drop: [NET_RAW]", "['ALL'] was expected"),
    (DEPLOYMENT, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "False was expected"),
    (REFRESH, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "True was expected"),
    (
        REFRESH,
        "  ephemeral-storage: 1Gi\n                limits",
        "  ephemeral-storage: 2Gi\n                limits",
        "alike",
    ),
    (REFRESH, 'twin-serving-client: "true"', 'twin-client: "true"', "unknown key 'twin-client'"),
    (REFRESH, '            twin-serving-client: "true"\n', "", "but the refresh's pods are"),
    (NETWORK, "name: twin-serving\n  policyTypes", "name: twin-refresh\n  policyTypes", "twin-serving selects"),
    (NETWORK, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "was expected"),
    (NETWORK, "port: 8500", "port: 8502", "not --port and --rest_api_port"),
    (NETWORK, "port: 8501", "port: 8500", "not --port and --rest_api_port"),
    (
        NETWORK,
        "          port: 8500\n    # The cluster's DNS",
        "          port: 8501\n    # The cluster's DNS",
        "must reach",
    ),
    (
        NETWORK,
        "egress: []",
        "egress: [{to: [{podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{protocol: TCP, port: 53}]}]",
        "calls nobody",
    ),
    (
        NETWORK,
        '    - from:\n        - podSelector:\n            matchLabels:\n              twin-serving-client: "true"\n',
        "    - from: []\n",
        "non-empty",
    ),
    (COMPOSE, "    read_only: true\n    tmpfs", "    tmpfs", "'read_only' is a required property"),
    (COMPOSE, "    cap_drop:\n      - ALL\n", "", "'cap_drop' is a required property"),
    (COMPOSE, "no-new-privileges:true", "no-new-privileges:false", "was expected"),
    ("kustomization.yaml", "  - kubernetes/scaling.yaml\n", "", "lists ['kubernetes/scaling.yaml'] without"),
    ("kustomization.yaml", "      - monitoring.config\n", "", "does not put monitoring.config into"),
    ("Dockerfile.dockerignore", "!export\n", "", "Dockerfile.dockerignore lets"),
    ("Dockerfile", "COPY export export", "COPY exporter exporter", "copies exporter, which does not exist"),
]


@pytest.mark.parametrize(("file", "right", "wrong", "sentence"), MISTAKES)
def test_a_mistake_is_found(tmp_path, file, right, wrong, sentence):
    folder = tmp_path / "serving_configs"
    shutil.copytree(FOLDER, folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert right in text
    (folder / file).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    found = problems(folder)
    assert any(sentence in problem for problem in found), found


def test_a_missing_file_is_named(tmp_path):
    folder = tmp_path / "serving_configs"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("check"))
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".sh":
            text = path.read_text(encoding="utf-8")
            path.unlink()
            found = problems(folder)
            path.write_text(text, encoding="utf-8")
            assert any(path.name in problem for problem in found), (path, found)


def test_the_check_as_a_command_prints_a_line_a_problem(tmp_path):
    folder = tmp_path / "serving_configs"
    shutil.copytree(FOLDER, folder)
    (folder / "monitoring.config").write_text("enabled: true", encoding="utf-8")
    command = [sys.executable, "-m", "serving_configs.check", str(folder)]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert done.stdout.startswith("monitoring.config: ")
