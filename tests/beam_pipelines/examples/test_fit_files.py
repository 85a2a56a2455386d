"""Pieces merge into one order whatever their lengths, and mapped files hold what was written."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.examples import fit_files, previous_snapshot
from beam_pipelines.examples.catalogue import ItemRows
from beam_pipelines.examples.previous_snapshot import texts_of_json
from beam_pipelines.io import record_writer
from beam_pipelines.io.record_writer import write_parquet

pytestmark = pytest.mark.integration


def pieces(root: Path, keys: list[str] | list[int], parts: int, rows: int) -> list[str]:
    """Writes sorted pieces of every `parts`-th key, in batches of a few rows."""
    names = []
    for part in range(parts):
        mine = sorted(keys[part::parts])
        if mine:
            table = pa.table({"key": mine, "twice": [key * 2 for key in mine]})
            batches = [table.slice(start, rows) for start in range(0, len(table), rows)]
            fit_files.write_blocks(str(root), f"piece-{part}", table.schema, batches)
            names.append(f"piece-{part}")
    return names


@given(st.sets(st.integers(-50, 50)) | st.sets(st.text(max_size=3)), st.integers(1, 4), st.integers(1, 5))
def test_pieces_merge_to_the_rising_order_of_all_keys(
    tmp_path_factory: pytest.TempPathFactory, found: set[int] | set[str], parts: int, rows: int
) -> None:
    root = tmp_path_factory.mktemp("pieces")
    keys = sorted(found, key=hash)
    blocks = list(fit_files.merged(str(root), pieces(root, keys, parts, rows), "key"))
    merged = [row for block in blocks for row in block.to_pylist()]
    assert [row["key"] for row in merged] == sorted(found)
    assert all(row["twice"] == row["key"] * 2 for row in merged)
    again = list(fit_files.regrouped(iter(blocks), 3))
    assert [len(block) for block in again[:-1]] == [3] * (len(again) - 1)
    assert [row for block in again for row in block.to_pylist()] == merged


def test_mapped_files_hold_what_was_written_until_they_are_removed(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int64).reshape(6, 2)
    fit_files.write_array(str(tmp_path), "a/b.npy", array)
    table = pa.table({"value": ["x", "", "é"]})
    fit_files.write_blocks(str(tmp_path), "words", table.schema, [table, table], mapped=True)
    mapped = fit_files.mapped_array(str(tmp_path), "a/b.npy", "run-1")
    assert mapped.tolist() == array.tolist()
    assert fit_files.mapped_table(str(tmp_path), "words", "run-1")["value"].to_pylist() == ["x", "", "é"] * 2
    fit_files.remove_fit(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert mapped.tolist() == array.tolist()  # a process that has mapped it keeps it


@pytest.mark.parametrize("values", [[], ['a"b', "\\", 'x\\", "y', "é\n", "", ", ", "]}"] * 7])
def test_a_vocabulary_file_is_read_in_blocks_of_any_size(values: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps({"kind": "vocabulary", "values": values}, ensure_ascii=False).encode()
    for size in (1, 2, 3, 17, len(content)):
        monkeypatch.setattr(previous_snapshot, "_JSON_BYTES", size)
        assert [text for block in texts_of_json(io.BytesIO(content)) for text in block.to_pylist()] == values


def test_a_parquet_file_is_the_same_in_row_groups_and_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"id": range(5), "text": ["a", "b", None, "a", "c"], "many": [[1], [], [2, 3], None, [4]]})
    monkeypatch.setattr(record_writer, "ROW_GROUP", 2)
    write_parquet(str(tmp_path), "ours.parquet", table)
    pq.write_table(table, tmp_path / "theirs.parquet", row_group_size=2)
    assert (tmp_path / "ours.parquet").read_bytes() == (tmp_path / "theirs.parquet").read_bytes()


def test_items_are_found_by_rising_ids_whatever_their_rows() -> None:
    rows = ItemRows(np.array([-5, 3, 9]), np.array([4, 2, 3], np.int32))
    assert rows.of(np.array([9, -5, 0, 3, 10, -9])).tolist() == [3, 4, 1, 2, 1, 1]
    assert ItemRows(np.zeros(0, np.int64), np.zeros(0, np.int32)).of(np.array([1])).tolist() == [1]
