"""What every benchmark shares: runs in fresh processes, their peak memory, and the JSON that runs compare by.

`benchmarks/out/<bench>.json` holds `bench`, `commit`, `machine` (no host name, no path), `load` (what was measured on)
and `figures`: `name`, `value`, `unit`, `how`, and `runs`, every single measurement. It needs Linux's /proc. This module
stays light on purpose: a child's peak memory, as the kernel sums it up at its end, begins at its parent's size.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.core.code_version import commit

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "out"
RUNS = 3
LIBRARIES = ("apache-beam", "tensorflow", "numpy", "pyarrow", "google-crc32c", "protobuf")

_SAMPLE_SECONDS = 0.1
_POLL_SECONDS = 0.01
_SHOWN_LINES = 20
_MB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Run:
    """One command, measured from its start to its end.

    Attributes:
        seconds: wall time.
        cpu_seconds: user and system time of the command and of the children it waited for.
        tree_mb: largest sum of the resident memory of all its processes, sampled ten times a second.
        process_mb: largest resident memory of any single one of its processes, as the kernel kept it.
    """

    seconds: float
    cpu_seconds: float
    tree_mb: float
    process_mb: float


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured number; `runs` are the measurements behind it, `value` their median."""

    name: str
    value: float
    unit: str
    how: str
    runs: tuple[float, ...] = ()


class CommandFailedError(RuntimeError):
    """A measured command failed; the message holds the end of what it wrote."""


def measure(command: Sequence[str], output: Path, runs: int = RUNS) -> list[Run]:
    """Runs a command several times, each in a fresh process and into a fresh output.

    Args:
        command: the command.
        output: the directory that it writes; removed before each run, so the last run's stays.
        runs: how often.

    Raises:
        CommandFailedError: a run failed.
    """
    found = []
    for _ in range(runs):
        shutil.rmtree(output, ignore_errors=True)
        found.append(run(command))
    return found


def run(command: Sequence[str]) -> Run:
    """Runs a command once, in the root of the repository.

    Raises:
        CommandFailedError: it failed.
    """
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        tree = largest = 0
        sampled = started
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            if time.perf_counter() - sampled >= _SAMPLE_SECONDS:
                sampled = time.perf_counter()
                sizes = _memory_of_tree(process.pid)
                tree = max(tree, sum(now for now, _ in sizes))
                largest = max([largest, *(peak for _, peak in sizes)])
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").splitlines()[-_SHOWN_LINES:]
            raise CommandFailedError(f"exit {process.returncode} from {' '.join(command)}:\n" + "\n".join(lines))
    if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:  # else it may be our own, inherited
        largest = max(largest, usage.ru_maxrss * 1024)
    return Run(seconds, usage.ru_utime + usage.ru_stime, max(tree, largest) / _MB, largest / _MB)


def _memory_of_tree(root: int) -> list[tuple[int, int]]:
    """Resident bytes now, and at their peak, of a process and of all that descend from it."""
    sizes: list[tuple[int, int]] = []
    waiting = [root]
    while waiting:
        place = Path("/proc") / str(waiting.pop())
        try:
            fields = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            if "VmRSS" in fields:  # a process that has ended and waits to be collected has none
                now, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
                sizes.append((now, peak))
            for thread in (place / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return sizes


def figure(name: str, unit: str, how: str, values: Sequence[float]) -> Figure:
    """The median of several measurements; all of them stay beside it."""
    rounded = tuple(float(f"{value:.6g}") for value in values)
    return Figure(name, statistics.median(rounded), unit, how, rounded)


def ratio(name: str, unit: str, how: str, above: Figure, below: Figure) -> Figure:
    """The quotient of two figures' medians."""
    return Figure(name, float(f"{above.value / below.value:.4g}"), unit, how)


def of(runs: Sequence[Run], value: Callable[[Run], float]) -> list[float]:
    """One number of each run."""
    return [value(run) for run in runs]


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "cpu": _field_of("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": cores(),
        "memory_gb": round(int((_field_of("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / (1 << 20), 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def load_average() -> list[float]:
    """The machine's load over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


@dataclasses.dataclass(frozen=True)
class Start:
    """What is noted before the first measurement, because it may change while a benchmark runs."""

    commit: str = dataclasses.field(default_factory=lambda: commit())
    load_average: list[float] = dataclasses.field(default_factory=lambda: load_average())


def report(bench: str, load: Mapping[str, Any], figures: Sequence[Figure], start: Start) -> Path:
    """Prints the figures and writes `benchmarks/out/<bench>.json`; returns its path.

    Args:
        bench: the benchmark's name.
        load: what it was measured on.
        figures: the figures.
        start: made before the first measurement.
    """
    content = {
        "bench": bench,
        "commit": start.commit,
        "machine": {**machine(), "load_average": {"before": start.load_average, "after": load_average()}},
        "load": dict(load),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{bench}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    width = max(len(figure.name) for figure in figures)
    for shown in figures:
        print(f"{shown.name:<{width}}  {shown.value:>12,.6g} {shown.unit:<12} {shown.how}")
    print(f"written: {path.relative_to(ROOT)}")
    return path


def say(text: str) -> None:
    """A line on stderr about what runs now."""
    print(text, file=sys.stderr, flush=True)


def _field_of(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
