"""An open-loop load on a served model, in a process of its own: requests leave at fixed moments, come what may.

A closed loop waits for an answer before it asks again, so a server that stalls is asked less and looks fast. Here every
request has its intended moment, `start + i / rate`, and its latency counts from that moment, also where it left late.

    python -m benchmarks.load_generator --target 127.0.0.1:8500 --requests model/assets.extra/probes.npz \
        --rate 100 --seconds 10 --output load.npz

It writes one row per request: intended moment (the machine's monotonic clock, so rows can be laid beside what another
process did), latency, canonical code, answering version. `running_load` starts it from another benchmark.
"""

import argparse
import contextlib
import dataclasses
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from export.client.client import TwinClient
from export.client.replay import one_request
from export.client.request import normalise
from export.contract.errors import ServingError
from export.contract.tensors import encode
from export.protos import serving_pb2

_READY = "sending"
_LEAD_SECONDS = 0.2
_MOST_OPEN = 512


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """What became of every request, in the order of their intended moments.

    Attributes:
        intended: monotonic seconds.
        latency: seconds from the intended moment to the answer or the error.
        code: the canonical code; 0 is an answer.
        version: the version that answered; 0 for an error.
        sent_late: seconds between the intended moment and the sending: the generator's own trouble.
    """

    intended: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]
    code: npt.NDArray[np.int32]
    version: npt.NDArray[np.int64]
    sent_late: npt.NDArray[np.float64]

    @property
    def failures(self) -> int:
        """Requests without an answer."""
        return int(np.count_nonzero(self.code))

    @property
    def success(self) -> float:
        """Share of the requests that were answered, in percent."""
        return 100.0 * (1 - self.failures / len(self.code)) if len(self.code) else float("nan")

    def part(self, spans: Sequence[tuple[float, float]], inside: bool = True) -> "LoadResult":
        """The requests whose intended moment lies in one of the spans (monotonic seconds), or in none of them."""
        within = np.zeros(len(self.intended), bool)
        for begin, end in spans:
            within |= (self.intended >= begin) & (self.intended < end)
        chosen = within if inside else ~within
        return LoadResult(**{name: values[chosen] for name, values in dataclasses.asdict(self).items()})

    def percentile_ms(self, percent: float) -> float:
        """Latency of the answered requests in milliseconds: exact, every single one is kept."""
        answered = self.latency[self.code == 0]
        return float(np.percentile(answered, percent) * 1e3) if len(answered) else float("nan")

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "LoadResult":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def requests_of(path: Path, model_name: str) -> list[bytes]:
    """Serialised Predict requests, one per user of an .npz of inputs (`<name>` or, as probes are, `input/<name>`)."""
    with np.load(path, allow_pickle=False) as arrays:
        bare = not any(name.startswith("input/") for name in arrays.files)
        inputs = {n.removeprefix("input/"): arrays[n] for n in arrays.files if bare or n.startswith("input/")}
    messages = []
    for row in range(len(inputs["candidate_item"])):
        message = serving_pb2.PredictRequest()
        message.model_spec.name = model_name
        message.model_spec.signature_name = "serving_default"
        for name, array in normalise(one_request(inputs, row)).items():
            encode(array, message.inputs[name])
        messages.append(message.SerializeToString())
    return messages


class _BytesClient(TwinClient):
    """The client with requests and answers as bytes, so that the generator costs the machine as little as it can."""

    def _method(self, path: str, request: Any, response: Any) -> list[Any]:
        del request, response
        return [channel.unary_unary(path) for channel in self._channels]

    def send(self, message: bytes) -> bytes:
        """The answer to a serialised Predict request, with the client's own round robin and retries."""
        answer: bytes = self._call(self._predict, message, None)
        return answer

    def connect(self) -> None:
        """Waits until a server is connected."""
        grpc.channel_ready_future(self._channels[0]).result(self.timeout_s)


class OpenLoop:
    """Sends requests at a fixed rate over several connections.

    Args:
        targets: the servers; every connection goes to all of them in turn, with the client's own retries.
        requests: serialised Predict requests, sent in turn.
        rate: requests a second.
        connections: channels, each with sockets of its own.
        timeout_s: deadline of a call.
    """

    def __init__(
        self,
        targets: Sequence[str],
        requests: Sequence[bytes],
        rate: float,
        connections: int = 4,
        timeout_s: float = 5.0,
    ) -> None:
        self._requests = requests
        self._rate = rate
        self._clients = [_BytesClient(targets, timeout_s=timeout_s) for _ in range(connections)]
        self._pool = futures.ThreadPoolExecutor(_MOST_OPEN, thread_name_prefix="call")
        self._rows: list[tuple[float, float, int, int, float]] = []

    def run(self, seconds: float, stop: threading.Event) -> LoadResult:
        """Sends until the time is over or `stop` is set, then waits for every answer."""
        for client in self._clients:
            client.connect()
        start = time.monotonic() + _LEAD_SECONDS
        for count in range(int(seconds * self._rate)):
            intended = start + count / self._rate
            if stop.wait(max(0.0, intended - time.monotonic())):
                break
            self._pool.submit(self._send, count, intended)
        self._pool.shutdown()
        for client in self._clients:
            client.close()
        columns = [np.array(column) for column in zip(*sorted(self._rows), strict=True)] or [np.empty(0)] * 5
        return LoadResult(columns[0], columns[1], columns[2].astype(np.int32), columns[3].astype(np.int64), columns[4])

    def _send(self, number: int, intended: float) -> None:
        sent_late = time.monotonic() - intended
        code = version = 0
        try:
            answer = self._clients[number % len(self._clients)].send(self._requests[number % len(self._requests)])
        except ServingError as error:
            code = error.code
        latency = time.monotonic() - intended
        if not code:
            version = serving_pb2.PredictResponse.FromString(answer).model_spec.version.value
        self._rows.append((intended, latency, code, version, sent_late))


class RunningLoad:
    """A load generator in a process of its own; `finish` stops it and reads what became of the requests."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path) -> None:
        self.process = process
        self._output = output

    def finish(self) -> LoadResult:
        """Stops sending, waits for the last answers."""
        if self.process.stdin is not None:
            self.process.stdin.close()  # its sign to stop
        if self.process.wait():
            raise RuntimeError(f"the load generator failed with exit code {self.process.returncode}")
        return LoadResult.load(self._output)


@contextlib.contextmanager
def running_load(
    targets: Sequence[str],
    requests: Path,
    rate: float,
    seconds: float = 3600.0,
    connections: int = 4,
    model_name: str = "twin",
    timeout_s: float = 5.0,
) -> Iterator[RunningLoad]:
    """Starts a load and yields once it is being sent.

    Args:
        targets: `host:port` of the servers.
        requests: .npz of requests, as for `requests_of`; a model's `assets.extra/probes.npz` is one.
        rate: requests a second.
        seconds: at most so long; `finish` ends it earlier.
        connections: channels.
        model_name: the served model.
        timeout_s: deadline of a call.
    """
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "load.npz"
        command = [sys.executable, "-m", "benchmarks.load_generator", f"--requests={requests}", f"--output={output}"]
        command += [f"--rate={rate}", f"--seconds={seconds}", f"--connections={connections}"]
        command += [f"--model-name={model_name}", f"--timeout={timeout_s}", "--until-stdin-closes"]
        command += [f"--target={target}" for target in targets]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if line.strip() != _READY:
                raise RuntimeError(f"the load generator did not start: exit code {process.wait()}")
            yield RunningLoad(process, output)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def main() -> None:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", required=True, help="host:port; may be repeated")
    parser.add_argument("--requests", type=Path, required=True, help=".npz of serving_default's inputs")
    parser.add_argument("--output", type=Path, required=True, help=".npz to write")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--model-name", default="twin")
    parser.add_argument("--timeout", type=float, default=5.0, help="deadline of a call in seconds")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop early when standard input is closed")
    options = parser.parse_args()
    stop = threading.Event()
    if options.until_stdin_closes:
        threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    requests = requests_of(options.requests, options.model_name)
    loop = OpenLoop(options.target, requests, options.rate, options.connections, options.timeout)
    print(_READY, flush=True)
    result = loop.run(options.seconds, stop)
    result.save(options.output)
    print(
        f"{len(result.code)} requests, {result.failures} failed, p50 {result.percentile_ms(50):.2f} ms,"
        f" p99 {result.percentile_ms(99):.2f} ms, p99.9 {result.percentile_ms(99.9):.2f} ms"
    )


if __name__ == "__main__":
    main()
