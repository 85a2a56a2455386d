"""A trained run to a model directory that stock TensorFlow Serving loads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contract.catalogue_file import catalogue_of, save_catalogue
from export.contract.file_manifest import EXPORT, EXTRA, assets_digest, write_manifest
from export.contract.probe_file import PROBES_FILE, load_probe_file
from export.contract.signatures import expected_signatures
from export.contract.sweep_file import load_sweep, save_sweep
from export.saved_model.probes import Request, make_scorer, rescore_probes, write_probes
from export.saved_model.servable import Servable
from export.saved_model.sweep import make_sweep
from export.saved_model.table_report import table_report
from export.saved_model.warmup import write_warmup
from twin_tf.core.dataclass_yaml import to_plain
from twin_tf.core.keras_api import tf
from twin_tf.core.new_directory import check_new, new_directory
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.request_names import REQUEST_TIME
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest
from twin_tf.runs.compatibility import check_same_encoding, run_encoder
from twin_tf.runs.run import Run, load_run


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
        output: the version directory to write, a new one. `export.publishing.publisher` moves it under a
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
    check_new(output)
    loaded = load_run(run, verify=verify)
    manifest = Manifest.load(prepared if prepared is not None else loaded.info.prepared, verify=verify)
    check_same_encoding(loaded.directory, manifest)
    with new_directory(output) as building:
        servable = make_servable(loaded, table)
        requests = write_assets(loaded, manifest, servable, building)
        tf.saved_model.save(servable, str(building), signatures=servable.signatures)
        return write_description(loaded, servable, requests, building)


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


def write_assets(
    run: Run, source: Manifest | Path, servable: Servable, version_dir: Path, earlier: Sequence[str] = ()
) -> Request:
    """Writes `assets.extra/` of a model directory and ties the weights to it, which must be written after it.

    Schema, vocabularies and their contract, the catalogue's digests, probes, sweep, warm-up requests.

    Args:
        run: the run that `servable` was made of.
        source: of the probes: prepared data with a test split, or an earlier model, whose requests are scored anew.
        servable: what the directory will hold.
        version_dir: has no `assets.extra` yet.
        earlier: digests of contracts that the run's is known to have grown from, beside those that it says itself.

    Returns:
        The probes' requests, by input name.
    """
    extra = version_dir / EXTRA
    extra.mkdir(parents=True)
    encoder = run_encoder(run.directory)
    own = encoder.contract.digest
    grown_from = tuple(digest for digest in dict.fromkeys((*encoder.earlier, *earlier)) if digest != own)
    FeatureEncoder(encoder.schema, encoder.fitted, grown_from).save(extra)
    save_catalogue(version_dir, catalogue_of(run.item_ids, run.model.item_embedding.item_features.numpy()))
    table = servable.projection.table
    rounded = None if table.dtype == tf.float32 else tf.convert_to_tensor(table)
    path, scorer = version_dir / PROBES_FILE, make_scorer(run, servable, rounded)
    if isinstance(source, Path):
        requests = rescore_probes(scorer, load_probe_file(source), path)
        before = load_sweep(source)
        users = np.zeros(0, np.int64) if before is None else before.users
    else:
        with corrupt_records_named(source):
            requests, users = write_probes(run, source, path, rounded)
    save_sweep(version_dir, make_sweep(run, servable, scorer, requests, users))
    write_warmup(run.schema, run.config.serving, requests, extra / "tf_serving_warmup_requests")
    servable.digests.sign(encoder.contract, grown_from, assets_digest(version_dir))
    return requests


def write_description(run: Run, servable: Servable, requests: Request, version_dir: Path) -> dict[str, Any]:
    """Writes `export.json` and the list of all files, once everything else is there.

    Args:
        run: the run that `servable` was made of.
        servable: what the directory holds.
        requests: of its probes.
        version_dir: complete but for the two.

    Returns:
        The content of `export.json`.
    """
    table = servable.projection.table
    description = {
        "run": run.directory.resolve().name,
        "search": run.config.model.search,
        "model": to_plain(run.config.model, defaults=True),
        "seed": run.config.training.seed,
        "schema_fingerprint": run.info.schema_fingerprint,
        "contract": run_encoder(run.directory).contract.digest,
        "weights_version": int(servable.weights_version),
        "table_version": int(servable.table_version),
        "items": int(tf.shape(table)[0]) - FIRST_KNOWN,
        "projection_width": int(table.shape[1]),
        "signatures": sorted(expected_signatures(run.schema)),
        "probes": len(requests[REQUEST_TIME]),
        **({} if servable.max_candidates is None else {"max_candidates": servable.max_candidates}),
        **({} if run.info.label_of_all is None else {"label_of_all": run.info.label_of_all}),
        **table_report(run, servable, requests),
        "bytes": sum(path.stat().st_size for path in version_dir.rglob("*") if path.is_file()),
    }
    (version_dir / EXPORT).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    write_manifest(version_dir)
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
