"""A Flink cluster on this machine: a JobManager and a TaskManager, Beam's job server, and a pool of Python workers.

Each is a process of its own, on free ports of the loopback interface, as in production: only the machine is the same.
"""

import dataclasses
import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flink_jars import JobServer
from services import Services, free_ports, is_open

SLOTS = 2

# Reflection that Flink and its serialisers do since before the module system; Flink's own scripts open these too.
_OPEN = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        "java.lang",
        "java.lang.reflect",
        "java.net",
        "java.nio",
        "sun.nio.ch",
        "java.text",
        "java.time",
        "java.util",
        "java.util.concurrent",
    )
]

# A TaskManager that is not started by Flink's scripts must be told every part of its memory.
_SETTINGS = """jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: localhost
jobmanager.memory.process.size: 1024m
rest.address: localhost
rest.bind-address: localhost
rest.port: {rest}
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.numberOfTaskSlots: {slots}
taskmanager.cpu.cores: {slots}.0
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.task.off-heap.size: 0m
taskmanager.memory.managed.size: 256m
taskmanager.memory.network.min: 512m
taskmanager.memory.network.max: 512m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
classloader.resolve-order: parent-first
parallelism.default: {slots}
io.tmp.dirs: {directory}/tmp
"""


@dataclasses.dataclass
class FlinkCluster(Services):
    """A running cluster.

    Attributes:
        rest: port of the JobManager's REST interface.
        job_server: port of Beam's job service.
        worker_pool: port of the pool that starts Python workers.
    """

    rest: int
    job_server: int
    worker_pool: int

    @property
    def beam_arguments(self) -> list[str]:
        """What makes Beam run on this cluster, with as many Python workers as slots."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{self.job_server}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.worker_pool}",
            f"--sdk_worker_parallelism={SLOTS}",
            f"--parallelism={SLOTS}",
            "--environment_cache_millis=20000",  # workers stay for the next stage
        ]

    def get(self, path: str) -> Any:
        """An answer of Flink's REST interface."""
        with urllib.request.urlopen(f"http://localhost:{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def job_states(self) -> list[str]:
        """The state of every job this cluster has seen, oldest first."""
        return [job["state"] for job in sorted(self.get("/jobs/overview")["jobs"], key=lambda job: job["start-time"])]

    def workers_started(self) -> set[str]:
        """The ids of all Python worker processes that the pool was asked for."""
        return set(re.findall(r'worker_id="([^"]+)"', (self.logs / "worker_pool.log").read_text()))


@contextmanager
def flink_cluster(jars: JobServer, directory: Path) -> Iterator[FlinkCluster]:
    """Starts a cluster and stops every process of it at the end, however the block ends.

    Args:
        jars: the job server, with Flink.
        directory: a new directory for settings, logs and temporary files.

    Raises:
        RuntimeError: a process ended or did not get ready; names the logs.
    """
    rpc, rest, job, artifact, expansion, pool = free_ports(6)
    logs = directory / "logs"
    for path in (logs, directory / "tmp", directory / "conf"):
        path.mkdir(parents=True)
    settings = _SETTINGS.format(rpc=rpc, rest=rest, slots=SLOTS, directory=directory)
    (directory / "conf/flink-conf.yaml").write_text(settings)
    java = ["java", *_OPEN, "-cp", jars.class_path]
    conf = ["-c", str(directory / "conf")]
    flink = "org.apache.flink.runtime"
    cluster = FlinkCluster(logs, {}, rest, job, pool)
    try:
        manager = f"{flink}.entrypoint.StandaloneSessionClusterEntrypoint"
        cluster.start("jobmanager", [*java, "-Xmx512m", manager, *conf])
        heap = ["-Xmx512m", "-XX:MaxDirectMemorySize=640m", "-XX:MaxMetaspaceSize=256m"]
        cluster.start("taskmanager", [*java, *heap, f"{flink}.taskexecutor.TaskManagerRunner", *conf])
        server = ["--flink-master", f"localhost:{rest}", "--flink-conf-dir", str(directory / "conf")]
        server += ["--artifacts-dir", str(directory / "artifacts"), "--job-host", "localhost", "--job-port", str(job)]
        server += ["--artifact-port", str(artifact), "--expansion-port", str(expansion)]
        driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        cluster.start("job_server", [*java, "-Xmx512m", driver, *server])
        worker_pool = "apache_beam.runners.worker.worker_pool_main"
        cluster.start("worker_pool", [sys.executable, "-m", worker_pool, f"--service_port={pool}"])
        cluster.wait("its TaskManager", lambda: cluster.get("/overview")["slots-total"] == SLOTS)
        cluster.wait("the job server", lambda: is_open(job) and is_open(artifact))
        cluster.wait("the worker pool", lambda: is_open(pool))
        yield cluster
    finally:
        cluster.stop()
