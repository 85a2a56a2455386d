"""The refresh (the paper's job of every 15 minutes): new weights or new items under the graph that is served already.

    twin-tf refresh --base-path serving/twin --run tuesday-run                        # new weights
    twin-tf refresh --base-path serving/twin --run run --prepared tuesday             # new items, probes of that day
    twin-tf refresh --base-path serving/twin --run run --projections projections      # of beam_pipelines.project_items

The newest version's graph is taken as it is: nothing is traced, only its variables are written anew, with the
projections of the whole pool by the run's weights. Without `--prepared` the version's own probes are asked again, so a
refresh needs the model directory and the run alone. What comes out passes the gate and is published like any other
version. Clients go on with the vocabularies that they have, so indices in requests must keep their meaning. A run that
was rolled back is refused until a newer one is published, or with `allow_rolled_back`.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.contract.base_image import fill
from export.contract.file_manifest import EXPORT, EXTRA, fault, read_description
from export.contract.version_layout import version_numbers
from export.gate.limits import Limits
from export.publishing.bucket_base import PublishError, base_at_hand, warn
from export.publishing.publisher import ServerCheck, publish_written
from export.publishing.rollbacks import rolled_back
from export.publishing.version_store import KEPT
from export.saved_model.exporter import write_assets, write_description
from export.saved_model.servable import VARIABLES, Servable
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.core.mirrors import at_hand, place_of
from twin_tf.features.contract import difference
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.records.format import Manifest
from twin_tf.runs.compatibility import run_encoder
from twin_tf.runs.projections import load_projections, run_with_catalogue
from twin_tf.runs.recorded_settings import load_run_config, recorded_model
from twin_tf.runs.run import Run, finished_checkpoint, load_info
from twin_tf.search import find_strategy

START_SETTINGS = ("projection_init", "relevance_init_scale", "embedding_scale")
"""Settings of `model` that say how training began and leave no trace in the graph."""

_IDS = "lookup/ids/.ATTRIBUTES/VARIABLE_VALUE"


def refresh(
    base_path: str | Path,
    run: str | Path,
    *,
    prepared: str | Path | None = None,
    projections: str | Path | None = None,
    model: str | Path | None = None,
    keep: int = KEPT,
    limits: Limits | None = None,
    watcher: ServerCheck | None = None,
    allow_rolled_back: bool = False,
    verify: bool = True,
) -> dict[str, Any]:
    """Publishes a version with the graph of an earlier one and the weights and items of now.

    Args:
        base_path: the directory a server watches, local or in a bucket; so may be all others.
        run: a finished run of the same schema and settings: the one that is served, or a later one.
        prepared: prepared data of a later day of the run's chain: its catalogue is served, its test split gives the
            probes. If left out, the run's catalogue and the earlier version's probes.
        projections: what `beam_pipelines.project_items` wrote of this run and catalogue; projected here if left out.
        model: the earlier version's directory; the newest sound one under `base_path` if left out.
        keep: see `publisher.publish`; as are `limits` and `watcher`.
        limits: see `keep`.
        watcher: see `keep`.
        allow_rolled_back: refresh a run even if it was rolled back; it is no longer remembered as such then.
        verify: compare the files of run and data that hold no records with their SHA-256; records are always checked.

    Returns:
        The new version's `path` and `version`, `refreshed` (the earlier one's directory), `items` and `new_items`,
        `weights_version`, `table_version`, and `seconds` by phase.

    Raises:
        ConfigError: the run or the prepared data do not fit the earlier version; nothing is published.
        PublishError: there is no earlier version, the run was rolled back, or the new version is unfit.
    """
    with base_at_hand(base_path, "refresh") as base:
        run = at_hand(run)
        source = _newest(base) if model is None else _whole(at_hand(model))
        description = _check_same_graph(source, run, verify)
        if not allow_rolled_back:
            _check_not_rolled_back(base, run)
        earlier = _check_same_contract(source, run)
        seconds: dict[str, float] = {}
        with _timed(seconds, "load"):
            loaded = run_with_catalogue(run, prepared, verify=verify)
            new_items = _check_catalogue(source, loaded)
        with _timed(seconds, "project"):
            ready = None if projections is None else load_projections(projections, loaded)
            # Rises even if the clock goes back.
            version, now = loaded.info.weights_version, max(int(time.time()), description.get("table_version", 0) + 1)
            dtype = description.get("table_dtype", "float32")
            bound = description.get("max_candidates")  # the graph stays, and with it what it checks
            servable = Servable(loaded.model, loaded.schema, loaded.item_ids, version, now, dtype, ready, bound)

        def write(directory: Path) -> None:
            if not allow_rolled_back:  # by a rollback since this began
                _check_not_rolled_back(base, run)
            with _timed(seconds, "write"):
                _copy_graph(source, directory)
            with _timed(seconds, "probes"):  # before the weights, which say what lies beside them
                probes = source if prepared is None else Manifest.load(prepared, verify=False)
                requests = write_assets(loaded, probes, servable, directory, earlier)
            with _timed(seconds, "write"):
                servable.write_variables(directory)
                write_description(loaded, servable, requests, directory)

        with _timed(seconds, "publish"):
            name = f"the refresh of {source}"
            published = publish_written(write, name, base, keep=keep, limits=limits, watcher=watcher, job="refresh")
        seconds["publish"] -= seconds["write"] + seconds["probes"]
        return {
            "version": int(published.name),
            "path": place_of(str(published)),
            "refreshed": place_of(source),
            "items": len(loaded.item_ids) - FIRST_KNOWN,
            "new_items": new_items,
            "weights_version": version,
            "table_version": now,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        }


def _newest(base: Path) -> Path:
    """The newest version that is as it was published; newer ones that are not are named.

    A later check compares it with run and contract, so an older graph is not taken in silence where it is another.
    """
    numbers = version_numbers(base) if base.is_dir() else []
    faults: list[str] = []
    for number in reversed(numbers):
        fill(base / str(number))
        reason = fault(base / str(number))
        if not reason:
            for sentence in faults:
                warn(f"{base}: {sentence}; version {number} is refreshed in its place")
            return base / str(number)
        faults.append(f"version {number} is passed over: {reason}")
    why = f" ({'; '.join(faults)})" if faults else ""
    raise PublishError(f"{base} holds no version to refresh; export one and publish it first{why}")


def _whole(source: Path) -> Path:
    """A version of which every byte is as `files.json` says, for its graph and its probes are taken over."""
    if wrong := fault(source):
        raise ConfigError(f"{source} is no exported model: {wrong}")
    return source


def _check_not_rolled_back(base: Path, run: Path) -> None:
    weights = load_info(run).weights_version
    for entry in rolled_back(base) if base.is_dir() else []:
        if entry.weights_version == weights:
            raise PublishError(
                f"the run {run} was rolled back with version {entry.version} of {base}; refresh from a newer run, or "
                "with --allow-rolled-back"
            )


def _check_same_graph(source: Path, run: Path, verify: bool) -> dict[str, Any]:
    """The earlier version's `export.json`, if a run of these settings would be exported as the very same graph.

    Done before any weight is loaded; shapes are compared when the variables are written.
    """
    path = source / EXPORT
    if not path.is_file():
        raise ConfigError(f"{source} is no exported model: it has no {path.name}")
    finished_checkpoint(run, verify=verify)
    description = read_description(source)
    config = load_run_config(run)
    served = description.get("model")
    if served is None:
        raise ConfigError(f"{path} does not say which settings its graph was made with; export the run as a whole")
    graph = recorded_model(served, str(path))
    now, then = config.model.in_use(), graph.in_use()
    for name in {**now, **then}:
        here, there = now.get(name), then.get(name)
        if name not in START_SETTINGS and here != there:
            raise ConfigError(
                f"model.{name} is {here} in the run {run}, but {there} in {source}: its graph is another; export "
                "the run as a whole"
            )
    seed, random = config.training.seed, find_strategy(config.model.search).uses_random_projection
    if random and description.get("seed", seed) != seed:
        raise ConfigError(
            f"training.seed is {seed} in the run {run}, but {description['seed']} in {source}: the search "
            f"{config.model.search!r} draws its graph's hyperplanes by it; export the run as a whole"
        )
    return description


def _check_same_contract(source: Path, run: Path) -> tuple[str, ...]:
    """The contracts of the earlier version that the run's grew from; raises if its indices mean something else."""
    served, now = FeatureEncoder.load(source / EXTRA), run_encoder(run)
    if clause := difference(now, served):
        raise ConfigError(
            f"the run {run} cannot take the place of {source}: {clause}; clients encode by the contract that is "
            "served; preprocess with --previous, which keeps it, or export the run as a whole"
        )
    grown = all(len(now.fitted[name]) >= len(values) for name, values in served.fitted.items())
    return (*served.earlier, served.contract.digest) if grown else ()


def _check_catalogue(source: Path, run: Run) -> int:
    """How many items are new; raises if the catalogue lost any that is served."""
    served = tf.train.load_checkpoint(str(source / VARIABLES)).get_tensor(_IDS)
    lost = np.setdiff1d(served, run.item_ids)
    if len(lost):
        raise ConfigError(
            f"the catalogue lacks {len(lost):,} items that {source} serves, for example {lost[0]}; give prepared data "
            "that continue it with --prepared, or export the run as a whole"
        )
    return len(np.setdiff1d(run.item_ids[run.item_ids >= 0], served))


def _copy_graph(source: Path, directory: Path) -> None:
    """The earlier version without what is written anew; its variables, which say what the graph reads, are linked."""

    def take(path: str, target: str) -> None:
        if Path(path).parent.name == VARIABLES.parent.name:
            with contextlib.suppress(OSError):  # another file system
                os.link(path, target)
                return
        shutil.copy2(path, target)

    shutil.copytree(source, directory, ignore=shutil.ignore_patterns(EXTRA), copy_function=take)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - started
