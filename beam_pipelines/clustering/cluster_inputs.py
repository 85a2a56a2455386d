"""What a clustering job starts from, read and checked by its launcher: prepared data and a run's item embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.clustering.cluster_user import Floats
from beam_pipelines.io.record_writer import read_file
from twin_tf.config import ClusterConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.contract import CONTRACT
from twin_tf.features.schema import FeatureSchema
from twin_tf.records import format as keys
from twin_tf.records.format import Manifest, check_manifest


def read_metadata(prepared: str, scratch: Path, verify: bool = True) -> tuple[dict[str, bytes], Manifest]:
    """Copies what is not a record beside the manifest; returns the contents by name, and the manifest.

    Args:
        prepared: on any of Beam's file systems.
        scratch: where to copy to.
        verify: whether to compare SHA-256.

    Raises:
        ConfigError: no finished prepared data, or a file is missing or damaged.
    """
    text, success = read_file(prepared, keys.MANIFEST), read_file(prepared, keys.SUCCESS)
    if text is None or success is None:
        raise ConfigError(f"{prepared} is not finished prepared data: it lacks {keys.MANIFEST} or {keys.SUCCESS}")
    if verify:
        check_manifest(text, success, prepared)
    manifest = Manifest.from_json(text, str(scratch))
    kept = [name for name in manifest.files if name.startswith(("vocabularies/", "items/", CONTRACT))]
    copied = {name: read_file(prepared, name) for name in (*kept, keys.SCHEMA)}
    for name, content in copied.items():
        if content is None:
            raise ConfigError(f"{prepared} lacks {name}; preprocess again")
        if verify:
            manifest.check_content(name, content, prepared)
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        found = FileSystems.match([FileSystems.join(prepared, *shard.name.split("/"))])[0].metadata_list
        if not found or found[0].size_in_bytes != shard.bytes:
            what = "is another size than the manifest says" if found else "is missing, but the manifest lists it"
            raise ConfigError(f"{prepared}: {shard.name} {what}; preprocess again")
    whole = {name: content for name, content in copied.items() if content is not None}
    for name, content in {**whole, keys.MANIFEST: text, keys.SUCCESS: success}.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(content)
    return whole, manifest


def check_schema(schema: FeatureSchema, settings: ClusterConfig, prepared: str) -> None:
    """Whether histories can be clustered so.

    Raises:
        ConfigError: they are clusters already, or the records lack the completion ratio.
    """
    if schema.history.clustered:
        raise ConfigError(f"{prepared} holds clusters already; cluster the prepared data that they were made of")
    name = settings.completion
    if name is not None and name not in {feature.name for feature in schema.kept_values}:
        schema.feature(name)
        raise ConfigError(
            f"clusters.completion: the records of {prepared} keep no values of {name!r}; give the feature "
            "'keep_value: true' and preprocess again, or leave clusters.completion out"
        )


def item_embeddings(run: Path, manifest: Manifest, verify: bool = True) -> tuple[dict[str, Any], Floats]:
    """What `ClusterSource` says of a run, and the embeddings of all items by row.

    Raises:
        ConfigError: the run does not go with the data, or was trained on what validation is to show.
    """
    from twin_tf.core.keras_api import tf  # here, not above: workers do without
    from twin_tf.models.twin import PROJECTION_BLOCK
    from twin_tf.runs.projections import run_with_catalogue
    from twin_tf.runs.run import finished_checkpoint

    checkpoint = Path(finished_checkpoint(run, verify=verify)).name
    loaded = run_with_catalogue(run, manifest.directory, items_alone=True, verify=False)
    if not loaded.info.trained_until:
        raise ConfigError(f"the run {run} does not say until when its data trained it; train again")
    if loaded.info.trained_until > manifest.split.valid_from:
        raise ConfigError(
            f"the run {run} was trained on targets until {loaded.info.trained_until}, but validation begins at "
            f"{manifest.split.valid_from}: its embeddings know what validation is to show; take an earlier run"
        )
    items = len(loaded.item_ids)
    embedding = loaded.model.relevance_embedding
    blocks = [
        embedding(tf.range(first, min(first + PROJECTION_BLOCK, items))).numpy()
        for first in range(0, items, PROJECTION_BLOCK)
    ]
    info = {"weights_version": loaded.info.weights_version, "checkpoint": checkpoint}
    return info, np.concatenate(blocks).astype(np.float32)
