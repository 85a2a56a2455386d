"""How long a refresh of a million items takes: from the command to the published version, and where the time goes.

    python -m benchmarks.bench_refresh           # 1,000,000 items, projections 4 x 32 wide
    python -m benchmarks.bench_refresh --quick   # 50,000 items, once, for a look

The load: simulated logs with a catalogue of a million videos, embeddings 64 wide for videos and authors and 8 for the
rest (the paper's widths), trained for one epoch on few targets, exported and published. Measured is the whole command
with the same run, the gate included: Python starts, weights are loaded, every item is projected, the variables are
written, the probes are asked again, the gate judges, the version appears. The issue's limit is 60 s.

| figure | meaning |
|---|---|
| `refresh_seconds_1e6` | wall time of the command |
| `refresh_<phase>_seconds_1e6` | of it: `load`, `project`, `write`, `probes`, `publish` (gate, checksums, rename) |
| `refresh_peak_rss_mb_1e6` | largest memory of all its processes together |
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import RUNS, Figure, Start, figure, of, report, run, say
from twin_tf.config import load_config

ITEMS, FEW_ITEMS = 1_000_000, 50_000
LOGS = {"users": 200, "days": 40, "median_history": 200, "max_history": 400, "targets": 4_000, "topics": 300}
DIMS = {"video": 64, "author": 64, "topic": 8, "category": 8, "duration": 8}
PHASES = ("load", "project", "write", "probes", "publish")

_SIMULATE = "import sys, json; from beam_pipelines.simulate_logs import simulate_logs"
_REFRESH = "import sys, json; from export.publishing.refresh import refresh; from pathlib import Path"


def configuration(path: Path) -> None:
    """Writes the `simulated` configuration with the paper's widths."""
    plain: dict[str, Any] = load_config("simulated").to_plain()
    for feature in plain["schema"]["features"]:
        feature["dim"] = DIMS.get(feature["name"], feature.get("dim", 8))
    plain["schema"]["history"]["max_length"] = 400
    plain["model"] |= {"history_length": 400, "heads": 4, "head_size": 32}
    plain["training"] |= {"epochs": 1, "batch_records": 16}
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")


def prepare(root: Path, items: int) -> None:
    """Makes `root/run` and publishes its model below `root/base`."""
    config = root / "config.yaml"
    configuration(config)
    twin = [sys.executable, "-m", "twin_tf.cli"]
    settings = json.dumps({**LOGS, "items": items})
    say(f"logs with a catalogue of {items:,} items")
    run([sys.executable, "-c", f"{_SIMULATE}; simulate_logs(sys.argv[1], **json.loads(sys.argv[2]))",
         str(root / "raw"), settings])  # fmt: skip
    logs = [f"--{log}={root}/raw/{log}*.parquet" for log in ("events", "items", "users")]
    run([*twin, "preprocess", "--config", str(config), *logs, "--output", str(root / "prepared")])
    say("a run, exported and published")
    run([*twin, "train", "--config", str(config), "--prepared", str(root / "prepared"), "--run", str(root / "run")])
    run([*twin, "export", "--run", str(root / "run"), "--output", str(root / "model")])
    run([*twin, "publish", str(root / "model"), "--base-path", str(root / "base")])


def measure(root: Path, runs: int, name: str) -> tuple[list[Figure], dict[str, Any]]:
    """The figures, and what the last refresh said of itself."""
    call = f"{_REFRESH}; Path(sys.argv[3]).write_text(json.dumps(refresh(sys.argv[1], sys.argv[2])))"
    said, measured = [], []
    for number in range(runs):
        say(f"refresh {number + 1} of {runs}")
        result = root / f"refresh-{number}.json"
        measured.append(run([sys.executable, "-c", call, str(root / "base"), str(root / "run"), str(result)]))
        said.append(json.loads(result.read_text(encoding="utf-8")))
    how = "the whole command, gate and publishing included"
    figures = [figure(f"refresh_seconds_{name}", "s", how, of(measured, lambda one: one.seconds))]
    for phase in PHASES:
        seconds = [one["seconds"][phase] for one in said]
        figures.append(figure(f"refresh_{phase}_seconds_{name}", "s", f"of it: {phase}", seconds))
    memory = of(measured, lambda one: one.tree_mb)
    figures.append(figure(f"refresh_peak_rss_mb_{name}", "MB", "the command and its gate together", memory))
    return figures, said[-1]


def main() -> None:
    """Measures and writes `benchmarks/out/refresh.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 items, one run")
    options = parser.parse_args()
    items, runs, name = (FEW_ITEMS, 1, "5e4") if options.quick else (ITEMS, RUNS, "1e6")
    start = Start()
    with tempfile.TemporaryDirectory(prefix="twin-bench-") as directory:
        prepare(Path(directory), items)
        figures, last = measure(Path(directory), runs, name)
        version = Path(last["path"])
        size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    load = {"items": last["items"], "projection_width": 128, "dims": DIMS, "version_mb": round(size / 1e6, 1)}
    report("refresh", load, figures, start)


if __name__ == "__main__":
    main()
