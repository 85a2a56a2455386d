"""Public data sets to raw logs: Parquet files of events, items and (where there are any) users, and `import.json`.

    python -m beam_pipelines.import_dataset complete-journey --output raw
    python -m beam_pipelines.import_dataset movielens-1m --source ml-1m.zip --output raw

No data is bundled. `--source` is the download as its publisher ships it, or its unpacked directory. How each data set
becomes a click task is said in its module of `beam_pipelines.datasets`. `import.json` holds the rows of every log and,
for every file that was read, how many rows were read, written and dropped, and why: read = written + dropped.
"""

import argparse
import dataclasses
import json
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beam_pipelines.datasets import complete_journey, kuairand, movielens, taobao
from beam_pipelines.datasets.log_writer import RawLogs
from beam_pipelines.datasets.public_dataset import PublicDataset
from beam_pipelines.datasets.source_files import Source
from beam_pipelines.io.progress import progress_line
from twin_tf.core.code_version import code_digest
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.core.errors import UserError
from twin_tf.core.files import full_disk
from twin_tf.core.mirrors import local_path
from twin_tf.core.new_directory import new_directory

REPORT = "import.json"
DATASETS: dict[str, PublicDataset] = {
    **complete_journey.DATASETS,
    **movielens.DATASETS,
    **kuairand.DATASETS,
    **taobao.DATASETS,
}


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import wrote.

    Attributes:
        dataset: the data set's name.
        seed: of the drawn targets and negatives.
        rows: log (`events`, `items`, `users`) -> rows.
        directory: where they lie.
        reused: True if the same import had been there already and nothing was written.
        dropped: reason -> rows of the source that no log holds.
    """

    dataset: str
    seed: int
    rows: Mapping[str, int]
    directory: str = ""
    reused: bool = False
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def events(self) -> str:
        """Path of the events log; a pattern if it is in several files."""
        return self._path("events")

    def items(self) -> str:
        """Path of the items log; a pattern if it is in several files."""
        return self._path("items")

    def users(self) -> str | None:
        """Path of the users log; None if the data set says nothing of its users."""
        return self._path("users") if "users" in self.rows else None

    def _path(self, log: str) -> str:
        single = Path(self.directory) / f"{log}.parquet"
        return str(single if single.exists() else single.with_name(f"{log}-*.parquet"))


def import_dataset(
    name: str, output_dir: str | Path, seed: int = 7, source: str | Path | None = None, *, progress: bool = True
) -> ImportReport:
    """Writes the raw logs of a public data set.

    Args:
        name: one of `DATASETS`; `-` and `_` are the same.
        output_dir: a directory that does not exist, is empty, or holds the same import by the same code (which is then
            kept as it is).
        seed: of every random draw.
        source: the download, or its unpacked directory; not for a data set that comes as a Python package.
        progress: show a progress line on stderr.

    Raises:
        ConfigError: an unknown name, a source that is not there, is damaged or not of the documented format, an
            `output_dir` with something else in it.
    """
    key = name.replace("-", "_")
    if key not in DATASETS:
        spelt = [known.replace("_", "-") for known in DATASETS]
        raise ConfigError(f"no data set {name!r}{nearest(key.replace('_', '-'), spelt)}")
    opened = _source(key, source)
    same: dict[str, Any] = {"dataset": key, "seed": seed, "code": _code(DATASETS[key])}
    if opened is not None:
        same["source"] = opened.identity
    root = local_path(output_dir, "an import")
    found = _finished(root, same)
    if found is not None:
        return found
    with new_directory(root) as building:
        logs = RawLogs(building)
        with progress_line("import", enabled=progress):
            _write(DATASETS[key], logs, opened, seed)
            content = {**same, "rows": logs.close()}
        if opened is not None:
            content["drawn"] = logs.drawn
            content["files"] = {file: counts.to_plain() for file, counts in sorted(logs.files.items())}
        (building / REPORT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return _report(content, root)


def import_complete_journey(output_dir: str | Path, seed: int = 7) -> ImportReport:
    """The Complete Journey as a click task; see `beam_pipelines.datasets.complete_journey` and `import_dataset`."""
    return import_dataset("complete_journey", output_dir, seed)


def dataset_list() -> str:
    """A line for each data set: the name to give and what it needs."""
    return "\n".join(f"{name.replace('_', '-'):<24}{dataset.needs}" for name, dataset in DATASETS.items())


def _source(key: str, path: str | Path | None) -> Source | None:
    dataset, spelt = DATASETS[key], key.replace("_", "-")
    if not dataset.download:
        if path is not None:
            raise ConfigError(f"{spelt} takes no --source: it is read from {dataset.needs}")
        return None
    if path is None:
        raise ConfigError(
            f"{spelt} needs --source: download {dataset.download} from {dataset.page} and name that file "
            "or its unpacked directory"
        )
    return Source(path, dataset.files)


def _write(dataset: PublicDataset, logs: RawLogs, source: Source | None, seed: int) -> None:
    try:
        dataset.write(logs, source or (), seed)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ConfigError(f"{source.path if source else ''} is damaged ({error}); download it again") from error
    except NotImplementedError as error:  # a way of compression that zipfile does not know
        raise ConfigError(f"{source.path if source else ''}: {error}; unpack it and name the directory") from error


def _finished(root: Path, same: Mapping[str, Any]) -> ImportReport | None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        content = json.loads((root / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{root} exists and is no import; name a new directory") from None
    for key in ("dataset", "seed"):
        if content.get(key) != same[key]:
            raise ConfigError(
                f"{root} holds the import of {content.get('dataset')} with seed {content.get('seed')}, not of "
                f"{same['dataset']} with seed {same['seed']}; name a new directory"
            )
    if content.get("code") != same["code"]:
        raise ConfigError(f"{root} was imported by other code, and might be another today; remove it, or name another")
    if content.get("source") != same.get("source"):
        raise ConfigError(
            f"{root} holds the import of another source ({_named(content.get('source'))}, not "
            f"{_named(same.get('source'))}); name a new directory"
        )
    return dataclasses.replace(_report(content, root), reused=True)


def _code(dataset: PublicDataset) -> str:
    """A digest of the code that makes the logs of a data set."""
    return code_digest(dataset.write.__module__, "beam_pipelines.datasets.log_writer")


def _named(source: Any) -> str:
    return f"{source['name']} of {source['bytes']:,} bytes" if source else "none"


def _report(content: Mapping[str, Any], root: Path) -> ImportReport:
    dropped: Counter[str] = Counter()
    for counts in content.get("files", {}).values():
        dropped.update(counts["dropped"])
    return ImportReport(content["dataset"], content["seed"], content["rows"], str(root), dropped=dict(dropped))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.import_dataset",
        description=(__doc__ or "").split("\n")[0],
        epilog=f"data sets and what each needs:\n{dataset_list()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="a name of the list below")
    parser.add_argument("--source", help="the download as its publisher ships it, or its unpacked directory")
    parser.add_argument("--output", required=True, help="a new directory")
    parser.add_argument("--seed", type=int, default=7, help="of the drawn targets and negatives (default: 7)")
    options = parser.parse_args(arguments)
    try:
        report = import_dataset(options.dataset, options.output, options.seed, options.source)
    except (UserError, OSError) as error:
        print(f"error: {full_disk(error) or error}", file=sys.stderr)
        return 1
    state = "already imported" if report.reused else "imported"
    dropped = f", dropped {json.dumps(dict(report.dropped))}" if report.dropped else ""
    print(f"{state}: {report.directory} {json.dumps(dict(report.rows))}{dropped}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
