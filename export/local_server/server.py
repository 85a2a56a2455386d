"""A stand-in for `tensorflow_model_server`, for development and tests: the same services and errors.

It runs TensorFlow's C++ session as the real server does (no TensorFlow Python in the process), serves the newest
version under a base path (or others, by policy), replays its warm-up requests and swaps in newer versions while
requests flow. It is not for production: no batching, no TLS, no monitoring.

    python -m export.local_server --model_name twin --model_base_path models/twin --port 8500 --rest_api_port 8501
    python -m export.local_server --model_config_file serving_configs/models.config --rest_api_port 8501

With `--port 0` it takes a free port; either way the line `serving on HOST:PORT` on stdout says that it is ready.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import FrameType

import click
import grpc

from export.contract.errors import ServingError
from export.contract.version_layout import look, version_numbers
from export.local_server.grpc_services import GrpcServices
from export.local_server.limits import Limits
from export.local_server.rest_server import RestServer
from export.local_server.served_models import ServedModels, read_model_config, single_model
from export.local_server.stall_watch import StallWatch
from export.protos import config_pb2
from export.session.child_process import child_environment
from twin_tf.core.end_with_parent import ending_with_this_process
from twin_tf.core.errors import UserError

_log = logging.getLogger("twin local_server (stand-in for tensorflow_model_server)")
_READY, _REST_READY = "serving on ", "REST on "
_STOP_POLL_SECONDS = 0.2
_LOADING_NICENESS = 19


class LocalServer:
    """The server in this process: load, `start`, `stop`.

    Args:
        config: the models; `export.local_server.served_models.single_model` makes one of a name and a directory.
        host: the address to listen on.
        port: of gRPC; 0 takes a free one.
        rest_port: of REST; 0 takes a free one, None leaves REST out.
        poll_seconds: how often to look for new versions.
        workers: requests answered at once.
        intra_op_threads: as in `CppSession`.
        inter_op_threads: as in `CppSession`.
        labels_before_load: let a new label name a version that is not available yet.
        limits: of requests and connections; the defaults of `Limits` if None.

    Attributes:
        address: `host:port` of gRPC.
        rest_address: `host:port` of REST, or None.

    Raises:
        ValueError: no such directory, no version in it, a newest version that does not load, a port in use.
    """

    def __init__(
        self,
        config: config_pb2.ModelServerConfig,
        *,
        host: str = "127.0.0.1",
        port: int = 8500,
        rest_port: int | None = None,
        poll_seconds: float = 1.0,
        workers: int = 16,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
        labels_before_load: bool = False,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        for model in config.model_config_list.config:
            _check_directory(Path(model.base_path))
        self._models = ServedModels(
            intra_op_threads=intra_op_threads,
            inter_op_threads=inter_op_threads,
            labels_before_load=labels_before_load,
        )
        self._rest: RestServer | None = None
        try:
            self._load(config)
            self._server = grpc.server(
                futures.ThreadPoolExecutor(workers, thread_name_prefix="request"),
                handlers=GrpcServices(self._models).handlers(),
                options=_grpc_options(limits),
            )
            self.address = f"{host}:{self._bind(host, port)}"
            if rest_port is not None:
                self._rest = RestServer(self._models, host, rest_port, limits)
        except ValueError:
            self._models.close()
            raise
        self.rest_address = self._rest.address if self._rest is not None else None
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="versions", daemon=True)

    def start(self) -> None:
        """Answers requests and looks for new versions from now on."""
        self._server.start()
        if self._rest is not None:
            self._rest.start()
        self._poller.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Takes no new requests, lets running ones finish (at most `grace_seconds`), unloads the model."""
        self._stopping.set()
        self._server.stop(grace_seconds).wait()
        if self._rest is not None:
            self._rest.stop()
        self._poller.join()
        self._models.close()

    def _load(self, config: config_pb2.ModelServerConfig) -> None:
        try:
            self._models.configure(config)
        except ServingError as error:
            for model in config.model_config_list.config:
                manager = self._models.managers.get(model.name)
                if manager is not None and manager.failure() is error:
                    number = version_numbers(manager.base_path)[-1]
                    raise ValueError(
                        f"version {number} in {manager.base_path} cannot be served: {error.sentence}"
                    ) from error
            raise ValueError(error.sentence) from error

    def _bind(self, host: str, port: int) -> int:
        try:
            bound: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            raise ValueError(f"cannot listen on {host}:{port}; choose a free port, or --port 0 to be given one")
        return bound

    def _poll(self) -> None:
        # Loading is seconds of work in this one thread (graphs are optimised in the caller's): requests go first.
        with contextlib.suppress(OSError, AttributeError):  # a thread has a priority of its own on Linux alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADING_NICENESS)
        while not self._stopping.wait(self._poll_seconds):
            self._models.refresh()


def _grpc_options(limits: Limits) -> list[tuple[str, int]]:
    idle_ms = int(limits.idle_seconds * 1000)
    return [
        ("grpc.max_receive_message_length", limits.request_bytes),  # beyond it, gRPC says RESOURCE_EXHAUSTED
        ("grpc.max_connection_idle_ms", idle_ms),
        ("grpc.server_handshake_timeout_ms", idle_ms),  # who connects and says nothing
        ("grpc.so_reuseport", 0),
    ]


def _check_directory(base: Path) -> None:
    if not base.is_dir():
        raise ValueError(f"model_base_path {base} is no directory; give the one that holds the version directories")
    found = look(base)
    if not found.versions:
        foreign = f"; {base.name} holds {found.foreign_sentence()}" if found.foreign else ""
        raise ValueError(
            f"{base} holds no version: a version is a directory named by a number, for example 1/{foreign}"
        )


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A local server in a process of its own.

    Attributes:
        address: `host:port`, for `TwinClient`.
        rest_address: `host:port` of REST.
        process: the process.
        log: the file with its log.
    """

    address: str
    rest_address: str
    process: "subprocess.Popen[str]"
    log: Path


@contextlib.contextmanager
def start_local_server(
    base_path: str | Path | None,
    model_name: str = "twin",
    *,
    port: int = 0,
    config: str | Path | None = None,
    poll_seconds: float = 1.0,
    stalled_s: float = 120.0,
    log: str | Path | None = None,
) -> Iterator[ServerProcess]:
    """Runs the local server in a process of its own, from when it is ready until the block ends.

    Args:
        base_path: holds the version directories; None with a `config`.
        model_name: the name requests must carry.
        port: of gRPC; 0 takes a free one. REST always takes a free one.
        config: a `--model_config_file` instead of a base path and a name.
        poll_seconds: how often the server looks for new versions.
        stalled_s: a server that is not ready and has used no processor for so long is given up. There is no other
            limit: on a busy machine loading takes what it takes.
        log: file for the server's log; a temporary one if None.

    Raises:
        ValueError: the server says why it cannot start.
        TimeoutError: it has stopped working before it was ready.
    """
    with contextlib.ExitStack() as cleanup:
        if log is None:
            log = Path(cleanup.enter_context(tempfile.TemporaryDirectory())) / "server.log"
        log = Path(log)
        sink = cleanup.enter_context(log.open("w", encoding="utf-8"))
        command = [sys.executable, "-m", "export.local_server", f"--port={port}", "--rest_api_port=0"]
        if base_path is not None:
            command += [f"--model_name={model_name}", f"--model_base_path={Path(base_path).resolve()}"]
        if config is not None:
            command += [f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models"]
        command += [f"--file_system_poll_wait_seconds={poll_seconds}"]
        command = ending_with_this_process(command)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True, env=child_environment())
        cleanup.callback(_end, process)
        watch = StallWatch(process, stalled_s)
        watch.start()
        line, second = (process.stdout.readline() if process.stdout is not None else "" for _ in range(2))
        watch.stop()
        if not line.startswith(_READY):
            process.wait()
            if watch.stalled:
                lines = log.read_text(encoding="utf-8").strip().splitlines() or ["nothing"]
                raise TimeoutError(
                    f"the local server has used no processor for {stalled_s:g} s and is not ready; its log ends with: "
                    f"{lines[-1]}"
                )
            lines = log.read_text(encoding="utf-8").strip().splitlines() or ["no reason given"]
            raise ValueError(lines[-1].removeprefix("Error: "))
        rest_address = second.strip().removeprefix(_REST_READY)
        yield ServerProcess(line.strip().removeprefix(_READY), rest_address, process, log)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@click.command(
    help="A stand-in for tensorflow_model_server, for development and tests only: its gRPC services and its REST paths,"
    " its errors, version policies, labels and hot swaps; no batching, no TLS, no monitoring."
)
@click.option("--model_name", default="twin", show_default=True, help="The name requests must carry.")
@click.option("--model_base_path", help="The directory that holds the version directories.")
@click.option("--model_config_file", help="Several models, policies and labels: a ModelServerConfig in text form.")
@click.option("--port", default=8500, show_default=True, help="The gRPC port; 0 takes a free one and prints it.")
@click.option("--rest_api_port", type=int, help="The REST port, for example 8501; 0 takes a free one; off if left out.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--file_system_poll_wait_seconds", "poll", default=1.0, show_default=True, help="Between looks for versions."
)
@click.option("--num_versions", default=1, show_default=True, help="Serve so many of the newest; 0: all.")
@click.option("--versions", multiple=True, type=int, help="Serve this version and no newer one; may be repeated.")
@click.option(
    "--allow_version_labels_for_unavailable_models",
    "labels_before_load",
    is_flag=True,
    help="Let a configuration label a version that is not loaded yet, as it must at the start.",
)
@click.option("--tensorflow_intra_op_parallelism", "intra", default=0, help="Threads of one operation; 0: every core.")
@click.option("--tensorflow_inter_op_parallelism", "inter", default=0, help="Operations side by side; 0: automatic.")
def main(
    model_name: str,
    model_base_path: str | None,
    model_config_file: str | None,
    port: int,
    rest_api_port: int | None,
    host: str,
    poll: float,
    num_versions: int,
    versions: tuple[int, ...],
    labels_before_load: bool,
    intra: int,
    inter: int,
) -> None:
    """Serves until SIGTERM or Ctrl-C; exit 1 with one sentence if there is nothing to serve."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if (model_base_path is None) == (model_config_file is None):
        raise click.UsageError("give either --model_base_path or --model_config_file")
    asked: list[int] = []  # an Event would be locked for good by a signal that comes while it is waited for

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    try:
        if model_config_file is not None:
            config = read_model_config(model_config_file)
        else:
            config = single_model(model_name, str(model_base_path), _policy(num_versions, versions))
        server = LocalServer(
            config,
            host=host,
            port=port,
            rest_port=rest_api_port,
            poll_seconds=poll,
            intra_op_threads=intra,
            inter_op_threads=inter,
            labels_before_load=labels_before_load,
        )
    except (UserError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    server.start()
    names = ", ".join(model.name for model in config.model_config_list.config)
    _log.info("serving %s on %s, for development and tests only", names, server.address)
    click.echo(f"{_READY}{server.address}")
    if server.rest_address is not None:
        click.echo(f"{_REST_READY}{server.rest_address}")
    sys.stdout.flush()
    while not asked:
        time.sleep(_STOP_POLL_SECONDS)
    _log.info("stopping")
    server.stop()


def _policy(num_versions: int, versions: tuple[int, ...]) -> config_pb2.VersionPolicy:
    policy = config_pb2.VersionPolicy()
    if versions:
        policy.specific.versions.extend(versions)
    elif num_versions:
        policy.latest.num_versions = num_versions
    else:
        policy.all.SetInParent()
    return policy
