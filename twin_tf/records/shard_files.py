"""The shards of a split by the names that TensorFlow opens: local paths, or URLs of a bucket that it reads itself."""

import os
import sys
from pathlib import Path

from twin_tf.core.buckets import BucketPath, in_parallel
from twin_tf.core.digests import check_files
from twin_tf.core.keras_api import tf
from twin_tf.records.format import MANIFEST, PREPARE_AGAIN, Manifest, Shard


def shard_files(manifest: Manifest, split: str) -> list[str]:
    """What to give `tf.data.TFRecordDataset`, in the order of the manifest.

    Shards in a bucket are streamed where this TensorFlow knows the scheme (`gs`, and what a plug-in adds). Those of
    another, `s3` for example, are copied first, once for a `Manifest`, with one line that says how much.

    Args:
        manifest: of the prepared data.
        split: whose shards.

    Raises:
        ConfigError: see `Manifest.shard_paths`; or a shard that was copied has another SHA-256.
        BucketError: a shard cannot be read.
    """
    paths = manifest.shard_paths(split)
    if not manifest.origin or _streams(BucketPath(manifest.origin).scheme):
        return [str(path) for path in paths]
    root, shards = Path(manifest.directory), manifest.shards(split)
    missing = [shard for shard in shards if not (root / shard.name).is_file()]
    if missing:
        size, origin = sum(shard.bytes for shard in missing) / 1e6, BucketPath(manifest.origin)
        said = f"TensorFlow does not read {origin.scheme}:// here, so {len(missing)} shards of {split} are copied"
        print(f"{said} to {root}: {size:,.0f} MB", file=sys.stderr)
        in_parallel(lambda shard: _copy(origin, root, shard), missing)
    return [str(root / shard.name) for shard in shards]


def _streams(scheme: str) -> bool:
    """Whether TensorFlow reads such URLs; an emulator of Cloud Storage it does not know."""
    emulated = scheme == "gs" and bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    return scheme in tf.io.gfile.get_registered_schemes() and not emulated


def _copy(origin: BucketPath, root: Path, shard: Shard) -> None:
    origin.fetch(root, [shard.name])
    check_files(root, {shard.name: shard.sha256}, MANIFEST, PREPARE_AGAIN)
