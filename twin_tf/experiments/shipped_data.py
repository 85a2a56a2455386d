"""The data sets that need no download: how their raw logs and prepared data are made, kept by what made them."""

from pathlib import Path
from typing import NamedTuple

from twin_tf.config import load_config
from twin_tf.core.code_version import code_digest
from twin_tf.core.dataclass_yaml import ConfigError, nearest, to_plain
from twin_tf.core.files import digest_of_files
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.core.workdir import RESULTS
from twin_tf.experiments.subprocess_runner import Steps


class ShippedData(NamedTuple):
    """One data set.

    Attributes:
        title: in reports.
        config: its configuration, a shipped name or a file.
        source: the command that makes its raw logs, without `--output`.
        maker: the module that does.
        category: the inherent feature that counting goes by.
        truth: what the raw logs hold of planted interests: a directory in them, or empty.
    """

    title: str
    config: str
    source: tuple[str, ...]
    maker: str
    category: str
    truth: str = ""


SHIPPED = {
    "complete-journey": ShippedData(
        "The Complete Journey",
        "complete_journey",
        ("import", "complete-journey"),
        "beam_pipelines.import_dataset",
        "category",
    ),
    "simulated": ShippedData(
        "simulated logs", "simulated", ("simulate",), "beam_pipelines.simulate_logs", "topic", "truth"
    ),
}


def prepare_shipped(name: str, workdir: Path, config: str | None, truth: str | None) -> tuple[str, str, str | None]:
    """Configuration, prepared data and truth of a data set, for a command that compares systems on it.

    Args:
        name: a key of `SHIPPED`.
        workdir: where the data are made.
        config: in place of the data set's own configuration.
        truth: in place of its own truth.

    Raises:
        ConfigError: no such data set.
        StepFailedError: a step failed.
    """
    if name not in SHIPPED:
        raise ConfigError(f"--data {name!r}: no such data set{nearest(name, SHIPPED)}")
    data = SHIPPED[name]
    data = data if config is None else data._replace(config=config)
    steps = Steps(cache=ResultCache(workdir / RESULTS))
    prepared = make_prepared(data, steps, workdir)
    own = str(workdir / "raw" / data.truth) if data.truth else None
    return data.config, str(prepared), own if truth is None else truth


def make_prepared(data: ShippedData, steps: Steps, workdir: Path) -> Path:
    """Raw logs in `workdir/raw` and prepared data in `workdir/prepared`, made unless they lie there already.

    Raises:
        ConfigError: the configuration has no schema.
        StepFailedError: a step failed.
    """
    raw, prepared = workdir / "raw", workdir / "prepared"
    schema = load_config(data.config).schema
    if schema is None:
        raise ConfigError(f"{data.config} has no schema section: it says what the columns mean")
    made = Provenance({"command": list(data.source)}, "", code_digest(data.maker))
    name = data.source[0]
    steps.once(name, made, lambda: steps.run(name, *data.source, "--output", str(raw)), [raw], stem="raw")
    logs = [part for log in ("events", "items", "users") for part in (f"--{log}", f"{raw}/{log}*.parquet")]
    of_raw = digest_of_files(path for path in raw.glob("*.parquet"))
    provenance = Provenance(to_plain(schema, defaults=True), of_raw, code_digest("beam_pipelines.build_examples"))
    asked = ("--config", data.config, *logs, "--output", str(prepared))
    steps.once("preprocess", provenance, lambda: steps.run("preprocess", "preprocess", *asked), [prepared])
    return prepared
