"""A trained run to a model directory that stock TensorFlow Serving loads."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.contract.probe_file import Probes
from export.contract.signatures import expected_signatures
from export.saved_model.probes import rescore_probes, write_probes
from export.saved_model.servable import Servable
from export.saved_model.table_report import table_report
from export.saved_model.warmup import write_warmup
from twin_tf.core.dataclass_yaml import ConfigError, to_plain
from twin_tf.core.keras_api import tf
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.request_names import REQUEST_TIME
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest
from twin_tf.runs.compatibility import check_same_encoding
from twin_tf.runs.run import Run, load_run

EXTRA = "assets.extra"
EXPORT = "export.json"


def export_run(
    run: str | Path,
    output: str | Path,
    prepared: str | Path | None = None,
    table: str | None = None,
    *,
    verify: bool = True,
) -> dict[str, Any]:
    """Writes the served model of a run into a new directory.

    Args:
        run: a finished run.
        output: the version directory to write; it must not exist. `export.publishing.publisher` moves it under a
            base path.
        prepared: prepared data for the probes and warm-up requests, of the run's day or a later one; where the run was
            trained if left out. The catalogue served is the run's: what came later is unknown to the model.
        table: type of the projection table, in place of the run's `serving.table`.
        verify: compare the files of run and data that hold no records with their SHA-256; records are always checked.

    Returns:
        The content of `assets.extra/export.json`.

    Raises:
        ConfigError: not a finished run, `output` exists, prepared data of another schema or without test targets, or
            projections that the table's type cannot hold; nothing is written then.
    """
    target = Path(output)
    if target.exists():
        raise ConfigError(f"the model directory {target} exists; name a new one, or remove it first")
    loaded = load_run(run, verify=verify)
    manifest = Manifest.load(prepared if prepared is not None else loaded.info.prepared, verify=verify)
    check_same_encoding(loaded.directory, manifest)
    staging = target.with_name(f".{target.name}.writing-{time.time_ns()}")
    try:
        servable = make_servable(loaded, table)
        tf.saved_model.save(servable, str(staging), signatures=servable.signatures)
        description = write_extra(loaded, manifest, servable, staging)
        staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return description


def make_servable(run: Run, table: str | None = None) -> Servable:
    """What is saved of a run, with the projection table as of now.

    Args:
        run: trained.
        table: type of the projection table, in place of the run's `serving.table`.

    Raises:
        ConfigError: projections that the type cannot hold.
    """
    version = run.info.weights_version
    serving = run.config.serving
    return Servable(
        run.model,
        run.schema,
        run.item_ids,
        version,
        version,
        table or serving.table,
        max_candidates=serving.max_candidates,
    )


def write_extra(run: Run, source: Manifest | Probes, servable: Servable, version_dir: Path) -> dict[str, Any]:
    """Writes `assets.extra/` of a model directory: schema and vocabularies, probes, warm-up requests, `export.json`.

    Args:
        run: the run that `servable` was made of.
        source: of the probes: prepared data with a test split, or earlier probes, whose requests are scored anew.
        servable: what the directory holds, or will hold.
        version_dir: has no `assets.extra` yet.

    Returns:
        The content of `export.json`.
    """
    extra = version_dir / EXTRA
    extra.mkdir()
    FeatureEncoder.load(run.directory).save(extra)
    table = servable.projection.table
    rounded = None if table.dtype == tf.float32 else tf.convert_to_tensor(table)
    path = extra / "probes.npz"
    if isinstance(source, Probes):
        requests = rescore_probes(run, servable, source, path, rounded)
    else:
        with corrupt_records_named(source):
            requests = write_probes(run, source, path, rounded)
    write_warmup(run.schema, run.config.serving, requests, extra / "tf_serving_warmup_requests")
    description = {
        "run": run.directory.resolve().name,
        "search": run.config.model.search,
        "model": to_plain(run.config.model, defaults=True),
        "seed": run.config.training.seed,
        "schema_fingerprint": run.info.schema_fingerprint,
        "weights_version": int(servable.weights_version),
        "table_version": int(servable.table_version),
        "items": int(tf.shape(table)[0]),
        "projection_width": int(table.shape[1]),
        "signatures": sorted(expected_signatures(run.schema)),
        "probes": len(requests[REQUEST_TIME]),
        **({} if servable.max_candidates is None else {"max_candidates": servable.max_candidates}),
        **table_report(run, servable, requests),
        "bytes": sum(path.stat().st_size for path in version_dir.rglob("*") if path.is_file()),
    }
    (extra / EXPORT).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return description


def export_text(output: str | Path, description: Mapping[str, Any]) -> str:
    """The content of `export.json` for people."""
    said = (
        "{output}: {items:,} items, {megabytes:.1f} MB, {probes:,} probes\n"
        "table: {table_dtype}, {table_megabytes:.1f} MB; knows {coverage:.2%} of the probes' items, saves "
        "{projection_saved_rows:.2%} of the projected rows, {projection_saved_flops:.2%} of their multiply-adds"
    )
    if description["table_dtype"] != "float32":
        said += (
            "\nrounding: misses {table_overlap_loss:.3%} of the exact top-K, moves a probability by at most "
            "{table_score_change:.2g}"
        )
    sizes = {"megabytes": description["bytes"] / 1e6, "table_megabytes": description["table_bytes"] / 1e6}
    return said.format(output=output, **sizes, **description)
