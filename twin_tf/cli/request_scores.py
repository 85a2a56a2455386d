"""Many requests at once, without a server: a JSON request a line in, a Parquet row a candidate out.

Requests are those of `twin-tf predict` (`export.client.json_request`), scored by `Run.predict`.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from export.client.json_request import encode_request, parse_request
from export.client.request import normalise
from export.client.request_values import behaviours_seen
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import JsonDict, whole_file
from twin_tf.core.mirrors import file_at_hand
from twin_tf.core.parquet_rows import RowsWriter
from twin_tf.core.progress import progress_bar
from twin_tf.evaluation.split_scores import parquet_path
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.request_names import CANDIDATE_COUNT, CANDIDATE_ITEM, HISTORY_ITEM
from twin_tf.runs.run import Run, load_run

Arrays = dict[str, Any]

MOST_REQUESTS = 64
MOST_PAIRS = 1 << 24
"""Bounds of a batch: requests, and pairs of a behaviour and a candidate; their scores take 4 bytes a head each."""

_NAMED = 10
"""How many bad lines are named."""


@dataclasses.dataclass(frozen=True)
class _Request:
    """A line, encoded: its number from 1, its candidates as they were written, and the arrays with one user."""

    line: int
    candidates: Sequence[Any]
    arrays: Arrays


def score_requests(
    run: str | Path, requests: str | Path, output: str | Path, *, skip_bad_lines: bool = False, verify: bool = True
) -> JsonDict:
    """Writes the probability of every candidate of every request; the file is there when all of them are.

    A row is a candidate, in the order of the lines and of each line's candidates: `line` (from 1), `item` as the
    request says it, `probability`, and `behaviours_seen`, how many of the history the model may look at.

    Args:
        run: a finished run.
        requests: JSON Lines, a request a line, see `export.client.json_request`; empty lines are passed over.
        output: the file, `.parquet`; one that is there is replaced.
        skip_bad_lines: leave out lines that are no sound request, with a warning that names the first of them; else
            the first one ends it, and nothing is written.
        verify: compare the run's files with their SHA-256.

    Returns:
        `output`, `requests`, `candidates`, and `bad_lines`, how many were left out.

    Raises:
        ConfigError: not a finished run, no such file, no sound request in it, or a bad line.
    """
    path, source = parquet_path(output), file_at_hand(requests)
    total = _count_lines(source)
    loaded = load_run(run, verify=verify)
    encoder, bad, scored = FeatureEncoder.load(loaded.directory), _BadLines(str(requests), skip_bad_lines), 0
    text = loaded.schema.events.item.type != "int"
    with whole_file(path) as temporary, RowsWriter(temporary) as rows, progress_bar("score", total) as advance:
        done = 0
        for batch in batches(_encoded(source, encoder, bad)):
            rows.add(_rows(batch, loaded, text))
            scored += len(batch)
            advance(batch[-1].line - done, f"{rows.count:,} candidates")
            done = batch[-1].line
        if not scored:
            raise ConfigError(f"{requests} holds no sound request; give one JSON request a line")
    bad.warn()
    return {"output": str(path), "requests": scored, "candidates": rows.count, "bad_lines": bad.count}


def batches(requests: Iterator[_Request]) -> Iterator[list[_Request]]:
    """Consecutive requests, as many as `MOST_REQUESTS` and `MOST_PAIRS` let into a batch, one at least."""
    waiting: list[_Request] = []
    width = candidates = 0
    for request in requests:
        wider = max(width, request.arrays[HISTORY_ITEM].shape[1])
        more = max(candidates, request.arrays[CANDIDATE_ITEM].shape[1])
        if waiting and (len(waiting) == MOST_REQUESTS or (len(waiting) + 1) * wider * more > MOST_PAIRS):
            yield waiting
            waiting, wider, more = [], request.arrays[HISTORY_ITEM].shape[1], request.arrays[CANDIDATE_ITEM].shape[1]
        waiting.append(request)
        width, candidates = wider, more
    if waiting:
        yield waiting


def joined(requests: Sequence[Arrays]) -> Arrays:
    """Requests of one user each as one of several; behind their own columns narrower ones are padded with zeros."""
    found = {}
    for name, first in requests[0].items():
        parts = [request[name] for request in requests]
        if first.ndim == 2:
            width = max(part.shape[1] for part in parts)
            parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
        found[name] = np.concatenate(parts)
    return found


def _rows(batch: Sequence[_Request], run: Run, text: bool) -> dict[str, Any]:
    """The rows of a batch."""
    arrays = joined([request.arrays for request in batch])
    probability, count = run.predict(arrays), arrays[CANDIDATE_COUNT]
    real = np.arange(probability.shape[1]) < count[:, None]
    items: Any = arrays[CANDIDATE_ITEM][real]
    if text:
        column = run.schema.events.item.column
        items = pa.array([_id_text(one, column) for request in batch for one in request.candidates], pa.string())
    return {
        "line": np.repeat([request.line for request in batch], count),
        "item": items,
        "probability": probability[real],
        "behaviours_seen": np.repeat(behaviours_seen(arrays), count),
    }


def _id_text(candidate: Any, column: str) -> str:
    """The text id of a candidate, which is the id or an object that holds it."""
    return str(candidate[column] if isinstance(candidate, Mapping) else candidate)


class _BadLines:
    """What becomes of lines that are no sound request."""

    def __init__(self, path: str, skip: bool) -> None:
        self.count = 0
        self._path, self._skip = path, skip
        self._named: list[str] = []

    def add(self, line: int, reason: str) -> None:
        """Counts a bad line; raises unless bad lines are to be left out."""
        if not self._skip:
            raise ConfigError(
                f"{self._path}, line {line}: {reason}; mend the line, or leave bad lines out with --skip-bad-lines"
            )
        self.count += 1
        if len(self._named) < _NAMED:
            self._named.append(f"line {line}: {reason}")

    def warn(self) -> None:
        """Says what was left out."""
        for sentence in self._named:
            print(f"warning: {self._path}, {sentence}; left out", file=sys.stderr)
        if self.count > len(self._named):
            print(
                f"warning: {self.count - len(self._named):,} more lines of {self._path} are left out", file=sys.stderr
            )


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError as error:
        raise ConfigError(f"cannot read the requests {path}: {error.strerror}") from error


def _encoded(path: Path, encoder: FeatureEncoder, bad: _BadLines) -> Iterator[_Request]:
    """The requests of a file's sound lines."""
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                data = parse_request(text)
                arrays = normalise(encode_request(encoder, data), encoder.schema)
            except ValueError as error:  # a ConfigError is one
                bad.add(number, str(error))
            else:
                yield _Request(number, data["candidates"], arrays)
