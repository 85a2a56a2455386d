"""A stand-in for `tensorflow_model_server`, for development and tests: the same gRPC services and errors.

It runs TensorFlow's C++ session as the real server does (no TensorFlow Python in the process), serves the newest
version under a base path, replays its warm-up requests and swaps in newer versions while requests flow. It is not for
production: one model, no batching, no REST.

    python -m export.local_server --model_name twin --model_base_path models/twin --port 8500

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
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
import grpc

from export.errors import InvalidArgumentError, ServingError
from export.protos import serving_pb2
from export.version_manager import VersionManager, version_numbers

_log = logging.getLogger("twin local_server (stand-in for tensorflow_model_server)")
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 1024  # as TensorFlow Serving: an error travels in the HTTP/2 trailers, which have a limit
_READY = "serving on "
_SIGNATURES = "signature_def"
_STOP_POLL_SECONDS = 0.2
_LOADING_NICENESS = 19
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class _Services:
    """PredictionService, ModelService and health over one `VersionManager`."""

    def __init__(self, manager: VersionManager) -> None:
        self._manager = manager

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        pb = serving_pb2
        methods: dict[str, dict[str, tuple[Callable[..., Any], Any]]] = {
            "tensorflow.serving.PredictionService": {
                "Predict": (self.predict, pb.PredictRequest),
                "GetModelMetadata": (self.metadata, pb.GetModelMetadataRequest),
            },
            "tensorflow.serving.ModelService": {"GetModelStatus": (self.status, pb.GetModelStatusRequest)},
            "grpc.health.v1.Health": {"Check": (self.health, pb.HealthCheckRequest)},
        }
        return [
            grpc.method_handlers_generic_handler(
                service,
                {
                    name: grpc.unary_unary_rpc_method_handler(
                        _aborting(method),
                        request_deserializer=request.FromString,
                        response_serializer=lambda response: response.SerializeToString(),
                    )
                    for name, (method, request) in served.items()
                },
            )
            for service, served in methods.items()
        ]

    def predict(self, request: serving_pb2.PredictRequest) -> serving_pb2.PredictResponse:
        with self._manager.acquire(request.model_spec) as servable:
            return servable.predict(request)

    def metadata(self, request: serving_pb2.GetModelMetadataRequest) -> serving_pb2.GetModelMetadataResponse:
        if not request.metadata_field:
            raise InvalidArgumentError("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise InvalidArgumentError(f"Metadata field {field} is not supported")
        response = serving_pb2.GetModelMetadataResponse()
        with self._manager.acquire(request.model_spec) as servable:
            signatures = serving_pb2.SignatureDefMap(signature_def=servable.session.signature_defs)
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = servable.version or 0
        packed = response.metadata[_SIGNATURES]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = signatures.SerializeToString()
        return response

    def status(self, request: serving_pb2.GetModelStatusRequest) -> serving_pb2.GetModelStatusResponse:
        return serving_pb2.GetModelStatusResponse(model_version_status=self._manager.status(request.model_spec))

    def health(self, request: serving_pb2.HealthCheckRequest) -> serving_pb2.HealthCheckResponse:
        del request  # one model: every service is as healthy as the whole
        serving = self._manager.failure() is None
        return serving_pb2.HealthCheckResponse(status="SERVING" if serving else "NOT_SERVING")


def _aborting(method: Callable[[_Request], _Response]) -> Callable[[_Request, grpc.ServicerContext], _Response]:
    def handle(request: _Request, context: grpc.ServicerContext) -> _Response:
        try:
            return method(request)
        except ServingError as error:
            context.abort(_CODES[error.code], error.message[:_LONGEST_MESSAGE])
            raise

    return handle


class LocalServer:
    """The server in this process: load, `start`, `stop`.

    Args:
        model_name: the name requests must carry.
        base_path: holds the version directories.
        host: the address to listen on.
        port: 0 takes a free one.
        poll_seconds: how often to look for new versions.
        workers: requests answered at once.
        intra_op_threads: as in `CppSession`.
        inter_op_threads: as in `CppSession`.

    Raises:
        ValueError: no such directory, no version in it, a newest version that does not load, a port in use.
    """

    def __init__(
        self,
        model_name: str,
        base_path: str | Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8500,
        poll_seconds: float = 1.0,
        workers: int = 16,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        base = Path(base_path)
        if not base.is_dir():
            raise ValueError(f"model_base_path {base} is no directory; give the one that holds the version directories")
        if not version_numbers(base):
            raise ValueError(f"{base} holds no version: a version is a directory named by a number, for example 1/")
        self._manager = VersionManager(
            model_name, base, intra_op_threads=intra_op_threads, inter_op_threads=inter_op_threads
        )
        self._manager.refresh()
        failure = self._manager.failure()
        if failure is not None:
            raise ValueError(f"version {version_numbers(base)[-1]} in {base} cannot be served: {failure.sentence}")
        self._server = grpc.server(
            futures.ThreadPoolExecutor(workers, thread_name_prefix="request"),
            handlers=_Services(self._manager).handlers(),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            self._manager.close()
            raise ValueError(f"cannot listen on {host}:{port}; choose a free port, or --port 0 to be given one")
        self.address = f"{host}:{bound}"
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="versions", daemon=True)

    def start(self) -> None:
        """Answers requests and looks for new versions from now on."""
        self._server.start()
        self._poller.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Takes no new requests, lets running ones finish (at most `grace_seconds`), unloads the model."""
        self._stopping.set()
        self._server.stop(grace_seconds).wait()
        self._poller.join()
        self._manager.close()

    def _poll(self) -> None:
        # Loading is seconds of work in this one thread (graphs are optimised in the caller's): requests go first.
        with contextlib.suppress(OSError, AttributeError):  # a thread has a priority of its own on Linux alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADING_NICENESS)
        while not self._stopping.wait(self._poll_seconds):
            self._manager.refresh()


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A local server in a process of its own.

    Attributes:
        address: `host:port`, for `TwinClient`.
        process: the process.
        log: the file with its log.
    """

    address: str
    process: "subprocess.Popen[str]"
    log: Path


@contextlib.contextmanager
def start_local_server(
    base_path: str | Path,
    model_name: str = "twin",
    *,
    port: int = 0,
    poll_seconds: float = 1.0,
    start_timeout_s: float = 120.0,
    log: str | Path | None = None,
) -> Iterator[ServerProcess]:
    """Runs the local server in a process of its own, from when it is ready until the block ends.

    Args:
        base_path: holds the version directories.
        model_name: the name requests must carry.
        port: 0 takes a free one.
        poll_seconds: how often the server looks for new versions.
        start_timeout_s: how long loading may take.
        log: file for the server's log; a temporary one if None.

    Raises:
        ValueError: the server says why it cannot start.
        TimeoutError: it was not ready in time.
    """
    with contextlib.ExitStack() as cleanup:
        if log is None:
            log = Path(cleanup.enter_context(tempfile.TemporaryDirectory())) / "server.log"
        log = Path(log)
        sink = cleanup.enter_context(log.open("w", encoding="utf-8"))
        command = [sys.executable, "-m", "export.local_server", f"--model_name={model_name}", f"--port={port}"]
        command += [f"--model_base_path={Path(base_path).resolve()}"]
        command += [f"--file_system_poll_wait_seconds={poll_seconds}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True, env=child_environment())
        cleanup.callback(_end, process)
        watchdog = threading.Timer(start_timeout_s, process.kill)
        watchdog.start()
        line = process.stdout.readline() if process.stdout is not None else ""
        watchdog.cancel()
        if not line.startswith(_READY):
            code = process.wait()
            if code < 0:
                raise TimeoutError(f"the local server was not ready within {start_timeout_s:g} s; see its log:\n{log}")
            lines = log.read_text(encoding="utf-8").strip().splitlines() or ["no reason given"]
            raise ValueError(lines[-1].removeprefix("Error: "))
        yield ServerProcess(line[len(_READY) :].strip(), process, log)


def child_environment() -> dict[str, str]:
    """This process's environment with the project importable, for `python -m export...` from any directory."""
    root = str(Path(__file__).resolve().parent.parent)
    existing = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{existing}" if existing else root}


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
    help="A stand-in for tensorflow_model_server, for development and tests only: one model, gRPC, the newest version."
)
@click.option("--model_name", default="twin", show_default=True, help="The name requests must carry.")
@click.option("--model_base_path", required=True, help="The directory that holds the version directories.")
@click.option("--port", default=8500, show_default=True, help="The gRPC port; 0 takes a free one and prints it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--file_system_poll_wait_seconds", "poll", default=1.0, show_default=True, help="Between looks for versions."
)
@click.option("--tensorflow_intra_op_parallelism", "intra", default=0, help="Threads of one operation; 0: every core.")
@click.option("--tensorflow_inter_op_parallelism", "inter", default=0, help="Operations side by side; 0: automatic.")
def main(model_name: str, model_base_path: str, port: int, host: str, poll: float, intra: int, inter: int) -> None:
    """Serves until SIGTERM or Ctrl-C; exit 1 with one sentence if there is nothing to serve."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    asked: list[int] = []  # an Event would be locked for good by a signal that comes while it is waited for

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    try:
        server = LocalServer(
            model_name,
            model_base_path,
            host=host,
            port=port,
            poll_seconds=poll,
            intra_op_threads=intra,
            inter_op_threads=inter,
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    server.start()
    _log.info("serving %s from %s on %s, for development and tests only", model_name, model_base_path, server.address)
    click.echo(f"{_READY}{server.address}")
    sys.stdout.flush()
    while not asked:
        time.sleep(_STOP_POLL_SECONDS)
    _log.info("stopping")
    server.stop()


if __name__ == "__main__":
    main()
