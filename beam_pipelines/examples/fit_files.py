"""Files that the steps of one run hand to each other, below `FIT` of the output; the last step removes them.

*Pieces* are tables sorted by a column, one a part, which one worker merges as streams: it holds a block of each piece,
whatever their length. *Mapped files* are what every worker looks things up in: vocabularies and rows of items. A worker
maps them into memory, so all processes of a machine share one copy, and only what is touched is read. From an object
store they are first copied to the worker's disk, once a machine.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.io.record_writer import open_file

FIT = "fit"
BLOCK_ROWS = 1 << 16


def write_blocks(root: str, name: str, schema: pa.Schema, blocks: Iterable[pa.Table], *, mapped: bool = False) -> None:
    """Writes tables one after another.

    Args:
        root: the prepared directory.
        name: below `FIT`.
        schema: of the tables.
        blocks: the tables.
        mapped: for `mapped_table`; else for `merged`.
    """
    new = pa.ipc.new_file if mapped else pa.ipc.new_stream
    with _create(root, name) as stream, new(stream, schema) as writer:
        for block in blocks:
            writer.write_table(block, max_chunksize=BLOCK_ROWS)


def merged(root: str, names: Sequence[str], key: str) -> Iterator[pa.Table]:
    """The rows of all pieces, rising by `key`; each piece already is, and none has a key of another.

    Args:
        root: the prepared directory.
        names: of the pieces, below `FIT`.
        key: a column without null.

    Yields:
        Tables of about `BLOCK_ROWS` rows a piece.
    """
    with contextlib.ExitStack() as stack:
        streams = [pa.ipc.open_stream(stack.enter_context(open_file(_path(root, name)))) for name in names]
        waiting: list[pa.Table | None] = [_next(stream) for stream in streams]
        while any(block is not None for block in waiting):
            ends = [block[key][-1].as_py() for block in waiting if block is not None]
            cut, taken = min(ends), []
            for place, block in enumerate(waiting):
                if block is None:
                    continue
                rows = pc.sum(pc.less_equal(block[key], cut)).as_py()
                if rows:
                    taken.append(block.slice(0, rows))
                waiting[place] = block.slice(rows) if rows < len(block) else _next(streams[place])
            table = pa.concat_tables(taken).combine_chunks()
            yield table if len(taken) == 1 else table.take(pc.array_sort_indices(table[key].combine_chunks()))


def _next(stream: Any) -> pa.Table | None:
    for batch in stream:
        if batch.num_rows:
            return pa.Table.from_batches([batch])
    return None


def regrouped(blocks: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows, each column in one piece; the last one is shorter."""
    waiting: list[pa.Table] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held >= rows:
            table = pa.concat_tables(waiting)
            yield table.slice(0, rows).combine_chunks()
            waiting, held = [table.slice(rows)], held - rows
    if held:
        yield pa.concat_tables(waiting).combine_chunks()


def write_array(root: str, name: str, array: npt.NDArray[Any]) -> None:
    """Writes an array for `mapped_array`."""
    with _create(root, name) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(array), BLOCK_ROWS):
            stream.write(np.ascontiguousarray(array[start : start + BLOCK_ROWS]).data)


def mapped_array(root: str, name: str, run: str) -> npt.NDArray[Any]:
    """What `write_array` wrote; its pages are shared with all processes of the machine. `run`: see `local_copy`."""
    found: npt.NDArray[Any] = np.load(local_copy(root, name, run), mmap_mode="r")
    return found


def mapped_table(root: str, name: str, run: str) -> pa.Table:
    """What `write_blocks` wrote with `mapped`, likewise."""
    return pa.ipc.open_file(pa.memory_map(str(local_copy(root, name, run)))).read_all()


def local_copy(root: str, name: str, run: str) -> Path:
    """The file itself if it lies on this machine; else a copy that all processes of the machine share.

    Args:
        root: the prepared directory.
        name: below `FIT`.
        run: distinct for each run; copies of an earlier run into the same output are removed.
    """
    path = _path(root, name)
    if "://" not in path:
        return Path(path)
    cache = Path(tempfile.gettempdir()) / f"twin-fit-{hashlib.sha256(path.encode()).hexdigest()[:24]}"
    copy = cache / run
    if not copy.exists():
        cache.mkdir(exist_ok=True)
        for earlier in cache.glob("run-*"):
            if earlier != copy:
                earlier.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as writing, open_file(path) as stream:
            shutil.copyfileobj(stream, writing, 1 << 22)
        Path(writing.name).replace(copy)
    return copy


def remove_fit(root: str) -> None:
    """Removes all of these files."""
    found = FileSystems.match([FileSystems.join(root, FIT, "**")])[0].metadata_list
    if "://" not in root:
        shutil.rmtree(Path(root) / FIT, ignore_errors=True)
    elif found:
        FileSystems.delete([metadata.path for metadata in found])


def _create(root: str, name: str) -> BinaryIO:
    stream: BinaryIO = FileSystems.create(_path(root, name), compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def _path(root: str, name: str) -> str:
    return str(FileSystems.join(root, FIT, *name.split("/")))
