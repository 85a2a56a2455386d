"""A trained run to a model directory that stock TensorFlow Serving loads."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from export.probes import write_probes
from export.servable import Servable
from export.warmup import write_warmup
from twin_tf.encoders import FeatureEncoder
from twin_tf.growth import check_same_encoding
from twin_tf.keras_api import tf
from twin_tf.records import Manifest
from twin_tf.runs import Run, load_run
from twin_tf.strict_yaml import ConfigError

EXTRA = "assets.extra"
EXPORT = "export.json"


def export_run(run: str | Path, output: str | Path, prepared: str | Path | None = None) -> dict[str, Any]:
    """Writes the served model of a run into a new directory.

    Args:
        run: a finished run.
        output: the version directory to write; it must not exist. `export.publisher` moves it under a base path.
        prepared: prepared data for the probes and warm-up requests, of the run's day or a later one; where the run was
            trained if left out. The catalogue served is the run's: what came later is unknown to the model.

    Returns:
        The content of `assets.extra/export.json`.

    Raises:
        ConfigError: not a finished run, `output` exists, or prepared data of another schema or without test targets;
            nothing is written then.
    """
    target = Path(output)
    if target.exists():
        raise ConfigError(f"the model directory {target} exists; name a new one, or remove it first")
    loaded = load_run(run)
    manifest = Manifest.load(prepared if prepared is not None else loaded.info.prepared)
    check_same_encoding(loaded.directory, manifest)
    staging = target.with_name(f".{target.name}.writing-{time.time_ns()}")
    try:
        description = _write(loaded, manifest, staging)
        staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return description


def _write(loaded: Run, manifest: Manifest, staging: Path) -> dict[str, Any]:
    """Writes the whole model directory; returns the content of `export.json`."""
    servable = Servable(
        loaded.model, loaded.schema, loaded.item_ids, loaded.info.weights_version, loaded.info.weights_version
    )
    tf.saved_model.save(servable, str(staging), signatures=servable.signatures)
    extra = staging / EXTRA
    extra.mkdir()
    FeatureEncoder.load(loaded.directory).save(extra)
    requests = write_probes(loaded, manifest, extra / "probes.npz")
    write_warmup(loaded.schema, loaded.config.serving, requests, extra / "tf_serving_warmup_requests")
    table = servable.projection.table
    description = {
        "run": loaded.directory.resolve().name,
        "search": loaded.config.model.search,
        "schema_fingerprint": loaded.info.schema_fingerprint,
        "weights_version": loaded.info.weights_version,
        "table_version": loaded.info.weights_version,
        "items": int(table.shape[0]),
        "projection_width": int(table.shape[1]),
        "signatures": sorted(servable.signatures),
        "probes": len(requests["request_time"]),
        "bytes": sum(path.stat().st_size for path in staging.rglob("*") if path.is_file()),
    }
    (extra / EXPORT).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return description
