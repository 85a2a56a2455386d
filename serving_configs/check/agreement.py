"""What the server's files must say alike. Each check yields a sentence for what does not agree."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from export.client.client import TwinClient
from serving_configs.check.configs import SERVER, Configs
from twin_tf import __version__

REPOSITORY = Path(__file__).parents[2]
_FILES = "/etc/twin"
_ASKED_FOR = inspect.signature(TwinClient).parameters["model_name"].default


def models_are_where_the_server_looks(configs: Configs) -> Iterator[str]:
    """Name and base path: models.config, mounts, probes, the refresh, the client's default."""
    (model, *others) = configs.protos["models.config"].model_config_list.config
    if others or model.model_platform != "tensorflow":
        yield "models.config: one model on the platform tensorflow is what the other files serve"
    if model.name != _ASKED_FOR:
        yield f"models.config names the model {model.name!r}, the client asks for {_ASKED_FOR!r}"
    parent = str(Path(model.base_path).parent)
    binds = [volume for volume in configs.compose_server["volumes"] if isinstance(volume, dict)]
    if parent not in [bind["target"] for bind in binds]:
        yield f"docker-compose.yaml mounts nothing at {parent}, where models.config's base_path lies"
    for where, pod in (("deployment", configs.server_pod), ("refresh", configs.refresh_pod)):
        mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        if parent not in mounts:
            yield f"kubernetes/{where}.yaml mounts nothing at {parent}, where models.config's base_path lies"
        elif mounts[parent].get("readOnly", False) != (where == "deployment"):
            yield f"kubernetes/{where}.yaml: the refresh writes {parent}, the server only reads it"
    argument = f"--base-path={model.base_path}"
    if argument not in configs.refresh_pod["containers"][0]["args"]:
        yield f"kubernetes/refresh.yaml must publish with {argument}, models.config's base_path"
    for name in ("startupProbe", "readinessProbe"):
        if configs.server_pod["containers"][0][name]["httpGet"]["path"] != f"/v1/models/{model.name}/metadata":
            path = f"/v1/models/{model.name}/metadata"
            yield f"kubernetes/deployment.yaml: {name} must ask {path}, which answers 200 only while it serves"
    if configs.server_pod["containers"][0]["livenessProbe"]["httpGet"]["path"] != f"/v1/models/{model.name}":
        yield f"kubernetes/deployment.yaml: livenessProbe must ask /v1/models/{model.name}"
    health = configs.compose_server["healthcheck"]["test"][-1]
    port = configs.flags["docker-compose.yaml"].get("rest_api_port")
    if f"GET /v1/models/{model.name}/metadata " not in health or f"/dev/tcp/127.0.0.1/{port}" not in health:
        yield f"docker-compose.yaml: the healthcheck must ask port {port} for /v1/models/{model.name}/metadata"


def flags_agree_with_files_and_ports(configs: Configs) -> Iterator[str]:
    """Files that flags name exist where they are mounted; ports are the flags'; both deployments run alike."""
    compose, cluster = (configs.flags[where] for where in ("docker-compose.yaml", "kubernetes/deployment.yaml"))
    program = ["tensorflow_model_server"]
    for where, started in zip(
        configs.flags,
        (configs.compose_server["entrypoint"], configs.server_pod["containers"][0]["command"]),
        strict=True,
    ):
        if started != program:
            yield f"{where} must start {program}, not {started}"
    for name, value in compose.items():
        if cluster.get(name) != value:
            yield f"--{name}={value} of docker-compose.yaml is {cluster.get(name)} in kubernetes/deployment.yaml"
    given = {one["name"]: one["value"] for one in configs.server_pod["containers"][0]["env"]}
    if given != configs.compose_server["environment"]:
        yield f"docker-compose.yaml gives the server {configs.compose_server['environment']}, Kubernetes {given}"
    generator = configs.objects["Kustomization", "kustomization.yaml"]["configMapGenerator"][0]
    if not [bind for bind in configs.compose_server["volumes"] if (bind["source"], bind["target"]) == (".", _FILES)]:
        yield f"docker-compose.yaml must mount this folder at {_FILES}, where the flags look"
    if _FILES not in [mount["mountPath"] for mount in configs.server_pod["containers"][0]["volumeMounts"]]:
        yield f"kubernetes/deployment.yaml must mount the configuration at {_FILES}, where the flags look"
    for where, flags in configs.flags.items():
        for name in [flag for flag in flags if flag.endswith("_file")]:
            folder, _, file = flags[name].rpartition("/")
            if folder != _FILES:
                yield f"{where}: --{name}={flags[name]} lies outside the mounted {_FILES}"
            elif not (configs.folder / file).is_file():
                yield f"{where}: --{name} names {file}, which is not in serving_configs/"
            elif where.startswith("kubernetes") and file not in generator["files"]:
                yield f"kustomization.yaml does not put {file} into {generator['name']}, but --{name} reads it"
    published = {port.split(":")[2] for port in configs.compose_server["ports"]}
    if published != {compose.get("port"), compose.get("rest_api_port")}:
        yield f"docker-compose.yaml publishes ports {sorted(published)}, the flags open others"
    container = configs.server_pod["containers"][0]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    if ports != {"grpc": cluster.get("port"), "rest": cluster.get("rest_api_port")}:
        yield f"kubernetes/deployment.yaml: ports {ports} are not those of --port and --rest_api_port"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container[name]["httpGet"]["port"] != "rest":
            yield f"kubernetes/deployment.yaml: {name} asks port {container[name]['httpGet']['port']!r}, not rest"
    for port in configs.objects["Service", SERVER]["spec"]["ports"]:
        if ports.get(port["targetPort"]) != str(port["port"]):
            yield f"kubernetes/service.yaml: port {port['port']} is not the pod's {port['targetPort']!r}"


def threads_follow_the_cpu_request(configs: Configs) -> Iterator[str]:
    """Parallelism and batch threads are the CPU request; batch sizes are what the server takes."""
    cpu = configs.server_pod["containers"][0]["resources"]["requests"]["cpu"]
    for name in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
        value = configs.flags["kubernetes/deployment.yaml"].get(name)
        if value != cpu:
            yield f"kubernetes/deployment.yaml: --{name}={value}, but the pod asks for {cpu} CPUs"
    batching = configs.protos["batching.config"]
    if str(batching.num_batch_threads.value) != cpu:
        yield f"batching.config: num_batch_threads is {batching.num_batch_threads.value}, the pod asks for {cpu} CPUs"
    inside = batching.num_batch_threads.value * batching.max_batch_size.value
    for where, flags in configs.flags.items():
        if int(flags.get("grpc_max_threads", 0)) < inside:
            yield f"{where}: --grpc_max_threads must be {inside} at least, or the batches of batching.config never fill"
    sizes = list(batching.allowed_batch_sizes)
    if sizes != sorted(set(sizes)) or not sizes or sizes[-1] != batching.max_batch_size.value:
        largest = batching.max_batch_size.value
        yield f"batching.config: allowed_batch_sizes {sizes} must rise to max_batch_size {largest}"
    elif sizes[0] != 1:
        yield "batching.config: without 1 among allowed_batch_sizes a lone user pays for two"
    if not batching.pad_variable_length_inputs:
        yield "batching.config: without pad_variable_length_inputs different history lengths cannot share a batch"


def versions_agree(configs: Configs) -> Iterator[str]:
    """The server is of the locked TensorFlow's line; the refresh image is this package's version."""
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    line = re.findall(r"^tensorflow==(\d+\.\d+)\.", lock, flags=re.MULTILINE)[0]
    images = (configs.compose_server["image"], configs.server_pod["containers"][0]["image"])
    for where, image in zip(configs.flags, images, strict=True):
        if not re.fullmatch(rf"tensorflow/serving:{re.escape(line)}\.\d+", image):
            yield f"{where}: {image} is not of TensorFlow {line}, which requirements.lock exports with"
    if images[0] != images[1]:
        yield f"docker-compose.yaml runs {images[0]}, kubernetes/deployment.yaml {images[1]}"
    image = configs.refresh_pod["containers"][0]["image"]
    path = configs.folder / "Dockerfile"
    dockerfile = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not image.endswith(f"twin-tf:{__version__}") or f"-t {image} " not in dockerfile:
        yield f"kubernetes/refresh.yaml and Dockerfile must both say twin-tf:{__version__}, this version, not {image}"
    ignore = path.with_name("Dockerfile.dockerignore")
    kept = re.findall(r"^!(\S+)$", ignore.read_text(encoding="utf-8"), re.MULTILINE) if ignore.is_file() else []
    sources = " ".join(re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)).split()
    if sorted(sources) != sorted(kept):
        yield f"Dockerfile copies {sources}, Dockerfile.dockerignore lets {kept} through"
    for name in sources:
        if not (REPOSITORY / name).exists():
            yield f"Dockerfile copies {name}, which does not exist"


def kubernetes_names_resolve(configs: Configs) -> Iterator[str]:
    """Selectors find the pod, claims and volumes exist, every file is listed."""
    deployment = configs.objects["Deployment", SERVER]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = {
        "deployment.yaml": deployment["selector"]["matchLabels"],
        "deployment.yaml's spread": configs.server_pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        "service.yaml": configs.objects["Service", SERVER]["spec"]["selector"],
        "scaling.yaml": configs.objects["PodDisruptionBudget", SERVER]["spec"]["selector"]["matchLabels"],
    }
    for where, selector in selectors.items():
        if not selector.items() <= labels.items():
            yield f"kubernetes/{where} selects {selector}, but the server's pods are {labels}"
    target = configs.objects["HorizontalPodAutoscaler", SERVER]["spec"]["scaleTargetRef"]
    if (target["kind"], target["name"]) not in configs.objects:
        yield f"kubernetes/scaling.yaml scales {target['kind']} {target['name']}, which does not exist"
    kustomization = configs.objects["Kustomization", "kustomization.yaml"]
    config_maps = {entry["name"] for entry in kustomization["configMapGenerator"]}
    for where, pod in (("deployment", configs.server_pod), ("refresh", configs.refresh_pod)):
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        declared = {volume["name"] for volume in pod["volumes"]}
        if mounted != declared:
            yield f"kubernetes/{where}.yaml: volumes {sorted(declared)} are declared, {sorted(mounted)} mounted"
        if "/tmp" not in [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]:
            yield f"kubernetes/{where}.yaml: the root is read-only, so /tmp must be mounted"
        resources = pod["containers"][0]["resources"]
        for what in ("memory", "ephemeral-storage"):
            if len({limits[what] for limits in resources.values()}) > 1:
                yield f"kubernetes/{where}.yaml: {what} is requested and limited alike, or a neighbour ends the pod"
        for volume in pod["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and ("PersistentVolumeClaim", claim) not in configs.objects:
                yield f"kubernetes/{where}.yaml: no PersistentVolumeClaim is called {claim}"
            if "configMap" in volume and volume["configMap"]["name"] not in config_maps:
                yield f"kubernetes/{where}.yaml: kustomization.yaml makes no ConfigMap {volume['configMap']['name']}"
    listed = set(kustomization["resources"])
    present = {path.relative_to(configs.folder).as_posix() for path in (configs.folder / "kubernetes").glob("*.yaml")}
    if listed != present:
        yield f"kustomization.yaml lists {sorted(listed ^ present)} without the file, or not at all"
    contexts = [pod["securityContext"] for pod in (configs.server_pod, configs.refresh_pod)]
    users = {(context["runAsUser"], context["runAsGroup"]) for context in contexts}
    if len(users) > 1:
        yield f"kubernetes/: the server cannot read what the refresh publishes as another user: {sorted(users)}"


def the_network_lets_in_who_must_call(configs: Configs) -> Iterator[str]:
    """Policies select the pods, open the flags' ports, and let the refresh through to the server."""
    where, flags = "kubernetes/network.yaml", configs.flags["kubernetes/deployment.yaml"]
    pods = {
        SERVER: configs.objects["Deployment", SERVER]["spec"]["template"]["metadata"]["labels"],
        "twin-refresh": configs.refresh_labels,
    }
    for name, labels in pods.items():
        selector = configs.objects["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"]
        if not selector.items() <= labels.items():
            yield f"{where}: {name} selects {selector}, but its pods are {labels}"
    server, refresh = (configs.objects["NetworkPolicy", name]["spec"] for name in pods)
    opened = [str(port["port"]) for rule in server["ingress"] for port in rule["ports"]]
    if sorted(opened) != sorted([flags.get("port", ""), flags.get("rest_api_port", "")]):
        yield f"{where}: {SERVER} opens {opened}, not --port and --rest_api_port, each once"
    for rule in server["ingress"]:
        calls = [str(port["port"]) for port in rule["ports"]] == [flags.get("port")]
        callers = [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
        if calls and not any(labels.items() <= configs.refresh_labels.items() for labels in callers):
            yield f"{where}: {SERVER} lets {callers} in, but the refresh's pods are {configs.refresh_labels}"
    if server["egress"]:
        yield f"{where}: the server calls nobody, so its egress is []"
    reached = [
        [str(port["port"]) for port in rule["ports"]]
        for rule in refresh["egress"]
        if any(peer["podSelector"]["matchLabels"].items() <= pods[SERVER].items() for peer in rule["to"])
    ]
    if reached != [[flags.get("port")]]:
        yield f"{where}: the refresh must reach {SERVER} on port {flags.get('port')}, not on {reached}"


def the_refresh_fits_into_its_schedule(configs: Configs) -> Iterator[str]:
    """It runs `twin-tf refresh` on a mounted run, and is over before the next one starts."""
    job = configs.objects["CronJob", "twin-refresh"]["spec"]
    container = configs.refresh_pod["containers"][0]
    every = re.fullmatch(r"\*/(\d+) \* \* \* \*", job["schedule"])
    if every is None or 60 % int(every.group(1)):
        yield f"kubernetes/refresh.yaml: {job['schedule']!r} is no even part of an hour, so it starts unevenly"
    elif job["jobTemplate"]["spec"]["activeDeadlineSeconds"] >= 60 * int(every.group(1)):
        yield "kubernetes/refresh.yaml: a refresh that hangs is still there when the next is due"
    call = " ".join([*container["command"], *container["args"]])
    server = f"{SERVER}:{configs.flags['kubernetes/deployment.yaml'].get('port')}"
    match = re.fullmatch(rf"twin-tf refresh --run=(/\w+)/\S+ --base-path=\S+ --server={server} --json", call)
    if match is None:
        yield f"kubernetes/refresh.yaml must call `twin-tf refresh --run= --base-path= --server={server} --json`"
    elif match.group(1) not in [mount["mountPath"] for mount in container["volumeMounts"]]:
        yield f"kubernetes/refresh.yaml mounts nothing at {match.group(1)}, where the run is read"


def a_pod_drains_before_it_dies(configs: Configs) -> Iterator[str]:
    """The preStop sleep outlasts DNS caches and connections, and fits into the grace period."""
    command = configs.server_pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    sleep = int(command[1]) if len(command) == 2 and command[0] == "sleep" else 0
    grace = configs.server_pod["terminationGracePeriodSeconds"]
    if grace <= sleep:
        yield f"kubernetes/deployment.yaml: the grace period of {grace} s cuts the preStop sleep of {sleep} s short"
    arguments = configs.flags["kubernetes/deployment.yaml"].get("grpc_channel_arguments", "")
    age = re.search(r"grpc\.max_connection_age_ms=(\d+)", arguments)
    if age is None:
        yield "kubernetes/deployment.yaml: without grpc.max_connection_age_ms clients stay with a pod until it dies"
    elif sleep < 60 + 1.1 * int(age.group(1)) / 1000:
        yield f"kubernetes/deployment.yaml: clients may stay for 60 s of DNS and one connection age; {sleep} s is less"


def the_tls_example_holds_no_secret(configs: Configs) -> Iterator[str]:
    """ssl.config shows the form and no key."""
    ssl = configs.protos["ssl.config"]
    for field in ("server_key", "server_cert", "custom_ca"):
        text = getattr(ssl, field)
        if not re.fullmatch(r"-----BEGIN [A-Z ]+-----\nreplace me\n-----END [A-Z ]+-----\n", text):
            yield f"ssl.config: {field} must hold a PEM form and `replace me`, never a key"


CHECKS: tuple[Callable[[Configs], Iterator[str]], ...] = (
    models_are_where_the_server_looks,
    flags_agree_with_files_and_ports,
    threads_follow_the_cpu_request,
    versions_agree,
    kubernetes_names_resolve,
    the_network_lets_in_who_must_call,
    the_refresh_fits_into_its_schedule,
    a_pod_drains_before_it_dies,
    the_tls_example_holds_no_secret,
)
