"""What happens to requests while something goes wrong: hot swaps, a killed server, a corrupt version, many versions.

    python -m benchmarks.serving_faults                          # a model of simulated logs, trained for the purpose
    python -m benchmarks.serving_faults --model model --rate 20 --swaps 100

Needs no stock server: it measures the local stand-in, which runs the same C++ session, and the client. Writes
`benchmarks/out/serving_faults.json`; `benchmarks.bench_serving` may take the figures in by calling `measure`.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.harness import Figure, Start, figure, report, say
from benchmarks.load_generator import LoadResult, running_load
from export.client.client import TwinClient
from export.contract.errors import ServingError
from export.local_server.server import ServerProcess, start_local_server

SWAPS = 100
RATE = 20.0
_PATIENCE_SECONDS = 300.0
_STEADY_SECONDS = 20.0
_WINDOW_SECONDS = 0.25
_GOOD_WINDOWS = 4
_EARLY_SWAP = 5
_POLL_SECONDS = 0.1
_SERVERS = 2
_PROBES = Path("assets.extra") / "probes.npz"


def publish(model: Path, base: Path, version: int) -> None:
    """Puts a copy of a model under a base path the way the publisher does: written elsewhere, renamed in."""
    hidden = base / f".{version}"
    shutil.copytree(model, hidden)
    hidden.rename(base / str(version))


def resident_mb(process: "subprocess.Popen[str]") -> float:
    """Resident memory of a process now."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def cpu_seconds(process: "subprocess.Popen[str]") -> float:
    """User and system time of a process so far."""
    times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / 100  # Linux counts hundredths of a second for user space


def swap(server: ServerProcess, model: Path, base: Path, version: int) -> tuple[float, float]:
    """Publishes a version and waits until it is the only one served.

    Returns:
        When it was published and when the version before it was gone, in monotonic seconds.
    """
    started = time.monotonic()
    publish(model, base, version)
    with TwinClient(server.address) as client:
        wait_until(
            lambda: (
                client.model_status() == {version: "AVAILABLE"}
                or client.model_status().get(version) == "AVAILABLE"
                and client.model_status().get(version - 1) in (None, "END")
            )
        )
    shutil.rmtree(base / str(version - 1))
    return started, time.monotonic()


def wait_until(condition: Callable[[], bool]) -> None:
    """Asks again and again; raises TimeoutError after five minutes."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_PATIENCE_SECONDS:g} s in vain")
        time.sleep(0.05)


def hot_swaps(model: Path, rate: float, swaps: int, steady_seconds: float = _STEADY_SECONDS) -> list[Figure]:
    """Swaps a model for copies of itself while requests flow: failures, p99 beside the steady one, memory."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        publish(model, base, 1)
        spans, resident = [], []
        with (
            start_local_server(base, poll_seconds=_POLL_SECONDS) as server,
            running_load([server.address], model / _PROBES, rate) as load,
        ):
            time.sleep(steady_seconds)
            for version in range(2, swaps + 2):
                spans.append(swap(server, model, base, version))
                resident.append(resident_mb(server.process))
                say(f"swap {version - 1}: {spans[-1][1] - spans[-1][0]:.1f} s, {resident[-1]:.0f} MB")
            time.sleep(steady_seconds)
            result = load.finish()
    during, steady = result.part(spans), result.part(spans, inside=False)
    how = f"{len(result.code):,} requests at {rate:g} a second, open loop, from the intended moment"
    ratio = during.percentile_ms(99) / steady.percentile_ms(99)
    return [
        figure("swaps", "", "versions swapped in under load", [swaps]),
        figure("swap_failures", "requests", how, [result.failures]),
        figure("swap_p99_ratio", "", "p99 of the requests sent while a version loads over p99 of the others", [ratio]),
        figure("swap_p99_ms", "ms", "while a version loads", [during.percentile_ms(99)]),
        figure("steady_p99_ms", "ms", "while none does", [steady.percentile_ms(99)]),
        figure("steady_p50_ms", "ms", "while none does", [steady.percentile_ms(50)]),
        figure("swap_seconds", "s", "from publishing to the old version's end", [end - begin for begin, end in spans]),
        figure(
            "load_late_p99_ms", "ms", "the generator's own lateness", [1e3 * float(np.percentile(result.sent_late, 99))]
        ),
        figure(
            f"rss_ratio_{swaps}_swaps",
            "",
            f"resident memory of the server after {swaps} swaps over that after {_EARLY_SWAP}",
            [resident[-1] / resident[min(_EARLY_SWAP, swaps) - 1]],
        ),
    ]


def one_of_two_killed(model: Path, rate: float, steady_seconds: float = _STEADY_SECONDS) -> list[Figure]:
    """Two servers, one killed -9 under load and started again on its port."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        publish(model, base, 1)
        with start_local_server(base) as staying, start_local_server(base) as doomed:
            addresses = [staying.address, doomed.address]
            with running_load(addresses, model / _PROBES, rate) as load:
                time.sleep(steady_seconds)
                killed = time.monotonic()
                doomed.process.kill()
                doomed.process.wait()
                time.sleep(steady_seconds)
                port = int(doomed.address.rpartition(":")[2])
                with start_local_server(base, port=port):
                    time.sleep(steady_seconds)
                    result = load.finish()
    after = result.part([(killed, float("inf"))])
    return [
        figure("success_one_of_two_killed", "%", f"of {len(result.code):,} requests", [result.success]),
        figure(
            "recovered_seconds", "s", "from the kill to the last failed or slow request", [recovery(result, killed)]
        ),
        figure("killed_p99_ms", "ms", "p99 from the kill on", [after.percentile_ms(99)]),
    ]


def recovery(result: LoadResult, fault: float) -> float:
    """Seconds from a fault until quarters of a second are again without failures and within 3 times p99 before it."""
    before = result.part([(0.0, fault)])
    limit = 3 * before.percentile_ms(99) / 1e3
    bad = (result.intended >= fault - _WINDOW_SECONDS) & ((result.code != 0) | (result.latency > limit))
    windows = sorted({int((moment - fault) // _WINDOW_SECONDS) for moment in result.intended[bad]})
    if not windows:
        return 0.0
    # What is slow a second or more after a good spell is the machine's; the outage is the run of bad ones at the fault.
    last = next(a for a, b in itertools.pairwise([*windows, 1 << 30]) if b - a > _GOOD_WINDOWS)
    return (last + 1) * _WINDOW_SECONDS


def corrupt_newest(model: Path, rate: float) -> list[Figure]:
    """A newest version with half its weights missing: refused, and the old one serves on."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        publish(model, base, 1)
        broken = base / "broken" / "model"
        shutil.copytree(model, broken)
        data = next((broken / "variables").glob("variables.data-*"))
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
        with start_local_server(base, poll_seconds=_POLL_SECONDS) as server, TwinClient(server.address) as client:
            with running_load([server.address], model / _PROBES, rate) as load:
                time.sleep(2)
                publish(broken, base, 2)
                wait_until(lambda: client.model_status().get(2, "").startswith("END"))
                time.sleep(2)
                result = load.finish()
            served = float({int(version) for version in result.version} == {1})
    return [
        figure("corrupt_failures", "requests", f"of {len(result.code):,} around a corrupt version", [result.failures]),
        figure("corrupt_old_serves_on", "", "1: every request was answered by the old version", [served]),
    ]


def client_start(runs: int = 5) -> list[Figure]:
    """Time and memory of importing the client in a fresh Python."""
    code = (  # VmHWM, not ru_maxrss: that one begins at the size of the process that started this one
        "import time; s = time.perf_counter(); import export.client.client; s = time.perf_counter() - s;"
        " peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        " print(s, int(peak.split()[1]) / 1024)"
    )
    found = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=harness.ROOT, capture_output=True, text=True, check=True
        )
        found.append(tuple(map(float, done.stdout.split())))
    return [
        figure(
            "client_import_seconds",
            "s",
            "import export.client.client in a fresh Python",
            [seconds for seconds, _ in found],
        ),
        figure("client_import_rss_mb", "MB", "peak memory of that process", [mb for _, mb in found]),
    ]


def measure(model: Path, rate: float = RATE, swaps: int = SWAPS) -> list[Figure]:
    """Every figure of this module, on a model directory."""
    figures = client_start()
    say("a corrupt newest version")
    figures += corrupt_newest(model, rate)
    say("one of two servers killed")
    figures += one_of_two_killed(model, rate)
    say(f"{swaps} hot swaps")
    figures += hot_swaps(model, rate, swaps)
    return figures


def small_model(place: Path) -> Path:
    """A model of simulated logs: simulate, preprocess, train, export, each by its command."""
    twin = [sys.executable, "-m", "twin_tf.cli"]
    raw, prepared, run, model = (str(place / name) for name in ("raw", "prepared", "run", "model"))
    simulate = ["simulate", "--users", "100", "--set", "items=4000", "--set", "targets=4000", "--output", raw]
    build = ["preprocess", "--config", "simulated", "--output", prepared]
    build += [f"--{log}={raw}/{log}*.parquet" for log in ("events", "items", "users")]
    train = ["train", "--config", "simulated", "--prepared", prepared, "--run", run, "--set", "training.epochs=1"]
    for command in (simulate, build, train, ["export", "--run", run, "--output", model]):
        say(" ".join(["twin-tf", *command]))
        harness.run([*twin, *command])
    return Path(model)


def main() -> None:
    """The commands of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an exported model directory; one is made if left out")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--swaps", type=int, default=SWAPS)
    options = parser.parse_args()
    start = Start()
    with tempfile.TemporaryDirectory() as place:
        try:
            model = options.model or small_model(Path(place))
            figures = measure(model, options.rate, options.swaps)
        except (ServingError, harness.CommandFailedError, TimeoutError, ValueError) as error:
            sys.exit(f"serving_faults: {error}")
        size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6
    load = {"rate": options.rate, "swaps": options.swaps, "model_mb": round(size, 1), "servers": _SERVERS}
    report("serving_faults", load, figures, start)


if __name__ == "__main__":
    main()
