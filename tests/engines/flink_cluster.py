"""A Flink cluster on this machine: a JobManager and a TaskManager, Beam's job server, and a pool of Python workers.

Each is a process of its own, on free ports of the loopback interface, as in production: only the machine is the same.
"""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flink_jars import JobServer

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
class FlinkCluster:
    """A running cluster.

    Attributes:
        logs: the directory of every process's log.
        rest: port of the JobManager's REST interface.
        job_server: port of Beam's job service.
        worker_pool: port of the pool that starts Python workers.
        processes: name -> process.
    """

    logs: Path
    rest: int
    job_server: int
    worker_pool: int
    processes: dict[str, subprocess.Popen[bytes]]

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
    rpc, rest, job, artifact, expansion, pool = _free_ports(6)
    logs = directory / "logs"
    for path in (logs, directory / "tmp", directory / "conf"):
        path.mkdir(parents=True)
    settings = _SETTINGS.format(rpc=rpc, rest=rest, slots=SLOTS, directory=directory)
    (directory / "conf/flink-conf.yaml").write_text(settings)
    java = ["java", *_OPEN, "-cp", jars.class_path]
    conf = ["-c", str(directory / "conf")]
    flink = "org.apache.flink.runtime"
    cluster = FlinkCluster(logs, rest, job, pool, {})
    try:
        manager = f"{flink}.entrypoint.StandaloneSessionClusterEntrypoint"
        _start(cluster, "jobmanager", [*java, "-Xmx512m", manager, *conf])
        heap = ["-Xmx512m", "-XX:MaxDirectMemorySize=640m", "-XX:MaxMetaspaceSize=256m"]
        _start(cluster, "taskmanager", [*java, *heap, f"{flink}.taskexecutor.TaskManagerRunner", *conf])
        server = ["--flink-master", f"localhost:{rest}", "--flink-conf-dir", str(directory / "conf")]
        server += ["--artifacts-dir", str(directory / "artifacts"), "--job-host", "localhost", "--job-port", str(job)]
        server += ["--artifact-port", str(artifact), "--expansion-port", str(expansion)]
        driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        _start(cluster, "job_server", [*java, "-Xmx512m", driver, *server])
        worker_pool = "apache_beam.runners.worker.worker_pool_main"
        _start(cluster, "worker_pool", [sys.executable, "-m", worker_pool, f"--service_port={pool}"])
        _wait(cluster, "its TaskManager", lambda: cluster.get("/overview")["slots-total"] == SLOTS)
        _wait(cluster, "the job server", lambda: _open(job) and _open(artifact))
        _wait(cluster, "the worker pool", lambda: _open(pool))
        yield cluster
    finally:
        _stop(cluster)


def _start(cluster: FlinkCluster, name: str, command: list[str]) -> None:
    # The pool starts `python`, and workers import this project from where it stands.
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (cluster.logs / f"{name}.log").open("wb") as log:
        cluster.processes[name] = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a worker pool is stopped with its workers
        )


def _stop(cluster: FlinkCluster) -> None:
    running = list(cluster.processes.values())
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            # A session's leader may be gone and its members not.
            try:
                os.killpg(process.pid, signal_)
            except ProcessLookupError:
                continue
        for process in running:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                continue


def _wait(cluster: FlinkCluster, what: str, ready: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, process in cluster.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}; see {cluster.logs}/{name}.log")
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"Flink waited {seconds:.0f} s for {what}; see {cluster.logs}")


def _open(port: int) -> bool:
    with socket.create_connection(("localhost", port), timeout=1):
        return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
