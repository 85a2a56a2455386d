"""TWIN-V2's offline clustering: prepared data with histories of clusters, as an Apache Beam pipeline.

    python -m beam_pipelines.cluster_histories --prepared=prepared --run=run --config=my.yaml --output=clustered
    twin-tf cluster --prepared prepared --run run --config my.yaml --output clustered

reads prepared data and the item embeddings of a trained run, and writes prepared data of the same users, targets and
splits, in which the histories hold clusters (`beam_pipelines.clustering.cluster_user`): train, evaluate, export and
serve from it as from any other. The same input gives the same bytes, whatever the runner and its workers. Workers need
no TensorFlow.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, TestOptions
from apache_beam.pvalue import AsList

from beam_pipelines.clustering.cluster_inputs import check_schema, item_embeddings, read_metadata
from beam_pipelines.clustering.cluster_records import RecordClusterer, clustered_widths, clustering_moments
from beam_pipelines.clustering.cluster_report import ClusterStatistics, write_figures, write_page
from beam_pipelines.clustering.cluster_user import Floats, HistoryClusterer, unit_vectors
from beam_pipelines.io.launch import (
    LOCAL_RUNNER,
    JobOnlyBuilt,
    add_runner_options,
    add_verify_option,
    beam_options,
    exit_code,
    quiet_failures,
)
from beam_pipelines.io.output_directory import OutputDirectory
from beam_pipelines.io.progress import progress_line, report_progress
from beam_pipelines.io.record_writer import (
    HashingReader,
    ShardWriter,
    example,
    open_file,
    parse_example,
    read_file,
    stop_job,
    write_file,
)
from twin_tf.config import ClusterConfig, load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.mirrors import at_hand, named
from twin_tf.core.tfrecord import CorruptRecordError, read_records
from twin_tf.core.yaml_text import dump_yaml
from twin_tf.features.contract import CONTRACT
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FeatureSchema
from twin_tf.records import format as keys
from twin_tf.records.cluster_source import ClusterSource
from twin_tf.records.format import Manifest, Shard, SplitName

VECTORS = "item_vectors.npy"
"""The items' embeddings while the job runs; gone from the result."""

_LOADING = threading.Lock()

SplitShard = tuple[SplitName, Shard, ClusterStatistics]


@dataclasses.dataclass(frozen=True)
class ClusterJob:
    """What every worker needs to know.

    Attributes:
        prepared: the raw prepared data, on any of Beam's file systems.
        manifest: theirs.
        schema: theirs.
        fitted: feature -> boundaries, of those whose values are kept; for all others nothing.
        settings: how to cluster.
        root: where to write.
    """

    prepared: str
    manifest: Manifest
    schema: FeatureSchema
    fitted: Mapping[str, list[Any]]
    settings: ClusterConfig
    root: str


def _vectors(root: str, sha256: str) -> Floats:
    """One copy a process, however many of its threads cluster."""
    with _LOADING:
        return _loaded(root, sha256)


@functools.lru_cache(maxsize=1)
def _loaded(root: str, sha256: str) -> Floats:
    content = read_file(root, VECTORS)
    if content is None or hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(f"{root}/{VECTORS} is not what this job wrote")
    vectors: Floats = np.load(io.BytesIO(content), allow_pickle=False)
    return vectors


class ClusterShard(beam.DoFn):
    """A file of records -> the file of clustered ones that was written of it.

    Args:
        job: what to do.
        sha256: of the items' embeddings.
    """

    def __init__(self, job: ClusterJob, sha256: str) -> None:
        self._job = job
        self._sha256 = sha256

    def process(self, element: tuple[SplitName, Shard]) -> Iterator[SplitShard]:
        """Yields the split, the file and what clustering did."""
        job, (split, raw) = self._job, element
        name, found = raw.name, 0
        encoder = FeatureEncoder(job.schema, job.fitted)
        clusterer = HistoryClusterer(_vectors(job.root, self._sha256), encoder, job.settings)
        records = RecordClusterer(job.schema, job.manifest, clusterer, job.settings)
        writer, statistics = ShardWriter(job.root, name), ClusterStatistics()
        width = clustered_widths(job.manifest, job.settings)[keys.HISTORY_COUNT]
        path = FileSystems.join(job.prepared, *name.split("/"))
        with open_file(path) as file:
            stream = HashingReader(file)
            try:
                for serialized in read_records(stream, path):
                    found += 1
                    for record, entries, targets, behaviours in records.compress(parse_example(serialized)):
                        writer.write(example(record), entries, targets)
                        statistics.add(record, entries, behaviours, width)
                        report_progress("records written", 1)
            except CorruptRecordError as error:
                stop_job(job.root, f"the prepared data cannot be read: {error}; preprocess again")
        if found != raw.records:
            stop_job(job.root, f"{path} holds {found} records, the manifest says {raw.records}; preprocess again")
        if stream.sha256 != raw.sha256:
            stop_job(job.root, f"{path} is not the file that the manifest lists under this name; preprocess again")
        shard = writer.close()
        if shard is not None:
            yield split, shard, statistics


class Finish(beam.DoFn):
    """All files -> `clusters.json`, `manifest.json`, then `_SUCCESS`.

    Args:
        job: what was done.
        source: what `manifest.json` says of it.
        files: what was written before -> sha256.
    """

    def __init__(self, job: ClusterJob, source: ClusterSource, files: Mapping[str, str]) -> None:
        self._job = job
        self._source = source
        self._files = files

    def process(self, _: None, results: list[SplitShard]) -> Iterator[str]:
        """Yields the manifest's text."""
        job, before = self._job, self._job.manifest
        splits: dict[str, tuple[Shard, ...]] = {
            name: tuple(sorted((s for split, s, _ in results if split == name), key=lambda shard: shard.name))
            for name in before.splits
        }
        by_split = {
            split: ClusterStatistics.merge([part for name, _, part in results if name == split]) for split in splits
        }
        figures = write_figures(job.root, self._source, by_split)
        manifest = dataclasses.replace(
            before,
            schema_fingerprint=job.schema.clustered(True).fingerprint,
            splits=splits,
            widths=clustered_widths(before, job.settings),
            files=dict(sorted({**self._files, **figures}.items())),
            clusters=self._source,
        )
        write_file(job.root, keys.MANIFEST, manifest.to_json().encode("utf-8"))
        vectors = FileSystems.join(job.root, VECTORS)
        if FileSystems.exists(vectors):
            FileSystems.delete([vectors])
        write_file(job.root, keys.SUCCESS, manifest.sha256.encode("ascii"))
        yield manifest.to_json()


class ClusterHistories(beam.PTransform):
    """Pipeline start -> clustered data below `job.root`; the output holds the manifest's text."""

    def __init__(self, job: ClusterJob, source: ClusterSource, files: Mapping[str, str]) -> None:
        super().__init__()
        self._job = job
        self._source = source
        self._files = files

    def expand(self, begin: Any) -> Any:
        """Builds the graph."""
        names = [(split, shard) for split, shards in self._job.manifest.splits.items() for shard in shards]
        shards = (
            begin.pipeline
            | "Files" >> beam.Create(names)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ClusterShard" >> beam.ParDo(ClusterShard(self._job, self._source.embeddings_sha256))
        )
        once = begin.pipeline | "Once" >> beam.Create([None])
        return once | "Finish" >> beam.ParDo(Finish(self._job, self._source, self._files), AsList(shards))


def cluster_histories(
    prepared: str | Path,
    run: str | Path,
    output: str | Path,
    settings: ClusterConfig,
    *,
    runner: str = LOCAL_RUNNER,
    workers: int = 1,
    progress: bool = True,
    verify: bool = True,
    beam_arguments: Sequence[str] = (),
) -> Manifest:
    """Clusters the histories of prepared data.

    Args:
        prepared: finished prepared data with raw histories; local, or on any of Beam's file systems.
        run: a finished run on these data, or on earlier ones of the same chain; its item embeddings say what is near.
        output: a directory that does not exist yet, or is empty.
        settings: how to cluster.
        runner: Beam's runner.
        workers: worker processes of the local runner.
        progress: show a progress line on stderr (local runs).
        verify: compare the files of data and run that hold no records with their SHA-256; records are always checked.
        beam_arguments: more of Beam's own options, `--name=value` each.

    Returns:
        The manifest of the finished directory.

    Raises:
        ConfigError: unfinished or already clustered data, a run that does not go with them or was trained on what
            validation is to show, a `completion` whose values the records do not keep, an `output` with something in
            it, a template. Nothing is left in a local `output` then.
        JobOnlyBuilt: with --dry_run, once the job is built.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    directory = OutputDirectory(str(output))
    source_root = str(prepared) if "://" in str(prepared) else str(Path(prepared).absolute())
    with tempfile.TemporaryDirectory(prefix="twin-clusters-") as scratch:
        copied, manifest = read_metadata(source_root, Path(scratch), verify)
        schema = manifest.schema
        check_schema(schema, settings, source_root)
        try:
            info, embeddings = item_embeddings(at_hand(run), manifest, verify)
        except ConfigError as error:  # it has seen the copy
            raise ConfigError(named(str(error).replace(scratch, source_root))) from None
        kept = {feature.name for feature in schema.kept_values}
        whole = FeatureEncoder.load(scratch).fitted
    fitted = {name: values if name in kept else [] for name, values in whole.items()}
    copied[keys.SCHEMA] = _schema_yaml(schema.clustered(True))
    copied[CONTRACT] = FeatureEncoder(schema.clustered(True), whole).contract.to_json().encode("utf-8")
    vectors, without = unit_vectors(embeddings)
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    content = buffer.getvalue()
    source = ClusterSource(
        manifest_sha256=manifest.sha256,
        embeddings_sha256=hashlib.sha256(content).hexdigest(),
        settings=dataclasses.asdict(settings),
        moments=clustering_moments(manifest, settings),
        items_without_embedding=without,
        **info,
    )
    options = beam_options(runner, workers, beam_arguments)
    if options.view_as(GoogleCloudOptions).template_location:
        raise ConfigError("no template of a clustering can be made: it holds the embeddings of one run")
    note = "starting" if workers == 1 else f"{workers} worker processes"
    with directory.building() as root, quiet_failures(root):
        write_file(root, VECTORS, content)
        files = {name: write_file(root, name, content) for name, content in copied.items()}
        job = ClusterJob(source_root, manifest, schema, fitted, settings, root)
        shown = progress_line("cluster", enabled=progress and runner == LOCAL_RUNNER, note=note)
        with shown, _one_thread_a_worker(workers):
            pipeline = beam.Pipeline(options=options)
            pipeline | ClusterHistories(job, source, files)
            pipeline.run().wait_until_finish()
        if options.view_as(TestOptions).dry_run:
            raise JobOnlyBuilt("the job was built and not run")
        write_page(root, schema.name)
    return directory.manifest()


@contextlib.contextmanager
def _one_thread_a_worker(workers: int) -> Iterator[None]:
    """What worker processes of this machine inherit: each has a core, and its products are small."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if workers > 1:
        os.environ.update({name: value or "1" for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _schema_yaml(schema: FeatureSchema) -> bytes:
    return dump_yaml(schema.to_plain()).encode("utf-8")


def cluster_text(output: str, manifest: Manifest) -> str:
    """What the command says when it is done."""
    report = json.loads((Path(output) / "clusters.json").read_text()) if "://" not in output else None
    where = f"look at {output}/report.md"
    if report is None:
        return f"{output}: histories of clusters; {where}"
    whole = report["splits"]["histories"]
    return (
        f"{output}: {whole['behaviours']:,} behaviours in {whole['entries']:,} entries "
        f"({whole['entries'] / max(whole['behaviours'], 1):.1%}) of {manifest.counts.users:,} users; {where}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    description = "Clusters the histories of prepared data. Other options go to Beam."
    parser = argparse.ArgumentParser(prog="python -m beam_pipelines.cluster_histories", description=description)
    parser.add_argument("--prepared", required=True, help="prepared data with raw histories")
    parser.add_argument("--run", required=True, help="a finished run, whose item embeddings say what is near")
    parser.add_argument("--output", required=True, help="a new directory")
    parser.add_argument("--config", help="a configuration with a section 'clusters', or the name of a shipped one")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="clusters.gamma=10")
    add_verify_option(parser)
    add_runner_options(parser)
    options, beam_arguments = parser.parse_known_args(arguments)

    def job() -> str:
        settings = load_config(options.config, options.set).clusters
        runs_on: dict[str, Any] = {
            "runner": options.runner,
            "workers": options.workers,
            "verify": not options.no_verify,
        }
        given = (options.prepared, options.run, options.output, settings)
        manifest = cluster_histories(*given, **runs_on, beam_arguments=beam_arguments)
        return cluster_text(options.output, manifest)

    return exit_code(job)


if __name__ == "__main__":
    sys.exit(main())
