"""A corrupt record is one sentence that names its file, whoever reads it."""

import contextlib
from collections.abc import Iterator

from twin_tf.core.keras_api import tf
from twin_tf.core.tfrecord import CorruptRecordError, read_records
from twin_tf.records.format import COPY_ANEW, Manifest


@contextlib.contextmanager
def corrupt_records_named(manifest: Manifest) -> Iterator[None]:
    """Finds the shard that TensorFlow could not read: it checks every record's CRC, but does not name the file.

    Only then are the shards read once more, until the first corrupt one.

    Args:
        manifest: of the data that are read within.

    Raises:
        CorruptRecordError: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        for split in manifest.splits:
            for path in manifest.shard_paths(split):
                try:
                    with path.open("rb") as stream:
                        for _ in read_records(stream, str(path)):
                            pass
                except CorruptRecordError as corrupt:
                    raise CorruptRecordError(f"{corrupt}; {COPY_ANEW}") from error
        raise
