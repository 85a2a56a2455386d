"""Simulated logs in several files, and what a local run makes of them: the measure for every other engine."""

import dataclasses
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from beam_pipelines.simulate_logs import simulate_logs
from tests.patience import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
FILES = 4


@dataclasses.dataclass(frozen=True)
class SmallJob:
    """Raw logs below `logs`: the events in four files, the other logs in one each."""

    logs: Path

    @classmethod
    def simulate(cls, directory: Path) -> "SmallJob":
        """Writes logs of 60 users of the made-up video app."""
        simulate_logs(directory / "whole", users=60, items=3000, median_history=100)
        logs = directory / "logs"
        (logs / "events").mkdir(parents=True)
        events = pq.read_table(directory / "whole/events.parquet")
        for number in range(FILES):
            rows = list(range(number, events.num_rows, FILES))
            pq.write_table(events.take(rows), logs / f"events/part-{number}.parquet", row_group_size=2000)
        for log in ("items", "users"):
            (directory / f"whole/{log}.parquet").rename(logs / f"{log}.parquet")
        return cls(logs)

    def arguments(self, output: str | Path, logs: str | Path | None = None) -> list[str]:
        """The arguments of `build_examples`; `logs` is where the logs lie, if not here."""
        root = str(logs or self.logs)
        return [
            "--schema=simulated",
            f"--events={root}/events/*.parquet",
            f"--items={root}/items.parquet",
            f"--users={root}/users.parquet",
            "--shards=4",
            f"--output={output}",
        ]

    @functools.cached_property
    def local(self) -> dict[str, str]:
        """The digest of a local run."""
        output = self.logs.parent / "local"
        finished = build(self.arguments(output))
        assert finished.returncode == 0, finished.stderr
        return digest(output)


def build(
    arguments: list[str], environment: dict[str, str] | None = None, python: str | Path = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Runs the command line of `build_examples` in a process of its own, from the repository's root."""
    return subprocess.run(
        [str(python), "-m", "beam_pipelines.build_examples", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def digest(directory: Path) -> dict[str, str]:
    """Name -> sha256 of every file of a prepared directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
