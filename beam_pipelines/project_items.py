"""The inherent feature projector: K_h W^h of every item of the pool, as an Apache Beam pipeline.

    python -m beam_pipelines.project_items --run=run --output=projections
    python -m beam_pipelines.project_items --run=run --prepared=tuesday --output=projections --workers=2

reads a trained run and, with `--prepared`, the catalogue of a later day, and writes the projections in shards
(`twin_tf.runs.projections`), for `twin-tf refresh --projections`. The same run and catalogue give the same bytes,
whatever the runner and its workers. Workers load the run's weights, so they need TensorFlow and the run's directory
under the same path or URL.
"""

import argparse
import functools
import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList

from beam_pipelines.io.launch import (
    LOCAL_RUNNER,
    add_runner_options,
    add_verify_option,
    beam_options,
    exit_code,
    quiet_failures,
)
from beam_pipelines.io.output_directory import OutputDirectory
from beam_pipelines.io.record_writer import write_file
from twin_tf.core.buckets import BucketPath, is_url
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.core.mirrors import at_hand
from twin_tf.models.twin import PROJECTION_BLOCK
from twin_tf.records.format import MANIFEST, SUCCESS, Manifest
from twin_tf.records.input_pipeline import load_item_ids
from twin_tf.runs.projections import ProjectionManifest, ProjectionShard, catalogue_digest, run_with_catalogue
from twin_tf.runs.run import Run, finished_checkpoint


@functools.lru_cache(maxsize=1)
def _loaded(run: str, prepared: str | None) -> Run:
    """One copy of the weights a process, however many of its threads project."""
    return run_with_catalogue(run, prepared, verify=False)  # the launcher has checked both


class ProjectBlock(beam.DoFn):
    """First row of a block of `PROJECTION_BLOCK` items -> the shard that was written of it.

    Args:
        run: the run's directory.
        prepared: of the catalogue; None is the run's own.
        root: where to write.
    """

    def __init__(self, run: str, prepared: str | None, root: str) -> None:
        self._run = run
        self._prepared = prepared
        self._root = root

    def process(self, first: int) -> Iterator[ProjectionShard]:
        """Projects and writes one block."""
        run = _loaded(self._run, self._prepared)
        rows = tf.range(first, min(first + PROJECTION_BLOCK, len(run.item_ids)))
        buffer = io.BytesIO()
        np.save(buffer, run.model.project_items(rows).numpy().astype(np.float32), allow_pickle=False)
        content, name = buffer.getvalue(), f"projections/{first:012d}.npy"
        write_file(self._root, name, content)
        yield ProjectionShard(name, first, int(rows.shape[0]), hashlib.sha256(content).hexdigest())


class Finish(beam.DoFn):
    """All shards -> the manifest, then `_SUCCESS`. Arguments as those of `ProjectBlock`."""

    def __init__(self, run: str, prepared: str | None, root: str) -> None:
        self._run = run
        self._prepared = prepared
        self._root = root

    def process(self, _: None, shards: list[ProjectionShard]) -> Iterator[str]:
        """Yields the manifest's text."""
        run = _loaded(self._run, self._prepared)
        width = run.config.model.heads * run.config.model.head_size
        ordered = tuple(sorted(shards, key=lambda shard: shard.first_row))
        items = sum(shard.rows for shard in ordered)
        manifest = ProjectionManifest(run.info.weights_version, catalogue_digest(run), items, width, ordered)
        text = manifest.to_json()
        write_file(self._root, MANIFEST, text.encode("utf-8"))
        write_file(self._root, SUCCESS, b"")
        yield text


class ProjectItems(beam.PTransform):
    """Pipeline start -> the projections below `root`; the output holds the manifest's text.

    Args:
        run: the run's directory.
        prepared: of the catalogue; None is the run's own.
        items: how many rows it has.
        root: where to write.
    """

    def __init__(self, run: str, prepared: str | None, items: int, root: str) -> None:
        super().__init__()
        self._arguments = (run, prepared, root)
        self._items = items

    def expand(self, begin: Any) -> Any:
        """Builds the graph."""
        shards = (
            begin.pipeline
            | "Blocks" >> beam.Create(range(0, self._items, PROJECTION_BLOCK))
            | "SpreadBlocks" >> beam.Reshuffle()
            | "ProjectBlock" >> beam.ParDo(ProjectBlock(*self._arguments))
        )
        once = begin.pipeline | "Once" >> beam.Create([None])
        return once | "Finish" >> beam.ParDo(Finish(*self._arguments), AsList(shards))


def project_items(
    run: str | Path,
    output: str | Path,
    prepared: str | Path | None = None,
    *,
    runner: str = LOCAL_RUNNER,
    workers: int = 1,
    verify: bool = True,
    beam_arguments: Sequence[str] = (),
) -> Path | BucketPath:
    """Projects all items.

    Args:
        run: a finished run.
        output: a directory that does not exist yet, or is empty.
        prepared: prepared data of a later day, whose catalogue is projected; the run's own if left out.
        runner: Beam's runner.
        workers: worker processes of the local runner.
        verify: compare the files of run and data with their SHA-256, before the job begins.
        beam_arguments: more of Beam's own options, `--name=value` each.

    Returns:
        The output directory.

    Raises:
        ConfigError: not a finished run, an `output` with something in it, prepared data that do not fit the run.
            Nothing is left in a local `output` then.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    directory = OutputDirectory(str(output))
    trained, later = at_hand(run), None if prepared is None else Manifest.load(prepared, verify=verify)
    finished_checkpoint(trained, verify=verify)
    catalogues = [trained] if later is None else [trained, Path(later.directory)]
    items = max(len(load_item_ids(place)) for place in catalogues)
    source, pool = _absolute(run), None if prepared is None else _absolute(prepared)
    options = beam_options(runner, workers, beam_arguments, model=True)
    _loaded.cache_clear()  # a directory of the same name may hold another run by now
    with directory.building() as root, quiet_failures(root):
        pipeline = beam.Pipeline(options=options)
        pipeline | ProjectItems(source, pool, items, root)
        pipeline.run().wait_until_finish()
    return BucketPath.of(output) if is_url(output) else Path(output)


def _absolute(place: str | Path) -> str:
    """A place by the name under which workers find it."""
    return str(place) if is_url(place) else str(Path(place).absolute())


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    description = "The projections of all items. Other options go to Beam, for example --direct_num_workers=2."
    parser = argparse.ArgumentParser(prog="python -m beam_pipelines.project_items", description=description)
    parser.add_argument("--run", required=True, help="a finished run")
    parser.add_argument("--prepared", help="prepared data of a later day, whose catalogue is projected")
    parser.add_argument("--output", required=True, help="a new directory")
    add_verify_option(parser)
    add_runner_options(parser)
    options, beam_arguments = parser.parse_known_args(arguments)

    def job() -> str:
        given = (options.run, options.output, options.prepared)
        runs_on: dict[str, Any] = {
            "runner": options.runner,
            "workers": options.workers,
            "verify": not options.no_verify,
        }
        return f"{project_items(*given, **runs_on, beam_arguments=beam_arguments)}: projections of all items"

    return exit_code(job)


if __name__ == "__main__":
    sys.exit(main())
