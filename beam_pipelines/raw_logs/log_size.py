"""How many rows a log has, about, before anything is read: from the sizes of its files and the beginning of one."""

import zlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.raw_logs.log_blocks import LogFile
from beam_pipelines.raw_logs.read_logs import format_of, open_raw

_SAMPLE_BYTES = 1 << 16


def estimated_rows(files: Sequence[LogFile]) -> int | None:
    """Rows of all files if all are like the largest; None where that cannot be told, as of a BigQuery table.

    Of a Parquet file its own count, else by the lines in its first 64 kB. Rows that hold lists of events count once.
    """
    largest = max(files, key=lambda file: file.size, default=None)
    if largest is None or not largest.size or format_of(largest.path)[0] == "bigquery":
        return None
    try:
        rows_a_byte = _rows_a_byte(largest)
    except (OSError, pa.ArrowException, zlib.error):  # reading it will say what is wrong
        return None
    return round(rows_a_byte * sum(file.size for file in files))


def _rows_a_byte(file: LogFile) -> float:
    format_, zipped = format_of(file.path)
    with open_raw(file.path) as stream:
        if format_ == "parquet":
            return float(pq.ParquetFile(stream).metadata.num_rows / file.size)
        sample = stream.read(_SAMPLE_BYTES)
    text = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(sample) if zipped else sample
    return text.count(b"\n") / len(sample)
