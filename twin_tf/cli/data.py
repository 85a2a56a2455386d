"""Commands that make data: simulate, import, preprocess, cluster, item-embeddings."""

import json

import click

from twin_tf.cli.options import config_options, json_option, show, verify_option
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.yaml_text import parse_yaml

EVENTS = "Events: path or pattern of .jsonl, .csv, .tsv or .parquet, or bigquery://project.data.table; may be repeated."


@click.command()
@click.option("--output", required=True, help="A new directory for the logs.")
@click.option("--users", default=None, type=int, help="How many users.")
@click.option("--seed", default=None, type=int, help="Of every random choice.")
@click.option("--set", "settings", multiple=True, metavar="NAME=NUMBER", help="Another setting of the simulation.")
@json_option
def simulate(output: str, users: int | None, seed: int | None, settings: tuple[str, ...], as_json: bool) -> None:
    r"""Write raw logs of a made-up video app, with planted life-long interests.

    \b
    twin-tf simulate --output logs
    twin-tf simulate --output logs --users 5000 --set median_history=3000
    """
    from beam_pipelines.simulate_logs import simulate_logs

    chosen = {name: value for name, value in (("users", users), ("seed", seed)) if value is not None}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting!r} must read name=number")
        chosen[name] = parse_yaml(text, f"--set {name}: the value")
    counts = simulate_logs(output, **chosen)
    show(counts, as_json, f"{output}: " + ", ".join(f"{value:,} {name}" for name, value in counts.items()))


class _ImportCommand(click.Command):
    """Lists the data sets below its help; they are only looked up when somebody asks for it."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from beam_pipelines.import_dataset import DATASETS

        with formatter.section("Data sets and what each needs"):
            formatter.write_dl([(name.replace("_", "-"), dataset.needs) for name, dataset in DATASETS.items()])


@click.command("import", cls=_ImportCommand)
@click.argument("dataset")
@click.option("--source", help="The download as its publisher ships it, or its unpacked directory.")
@click.option("--output", required=True, help="A new directory for the raw logs.")
@click.option("--seed", default=7, show_default=True, help="Of the drawn targets and negatives.")
@json_option
def import_command(dataset: str, source: str | None, output: str, seed: int, as_json: bool) -> None:
    r"""Turn a public data set into raw event, item and user logs.

    \b
    twin-tf import complete-journey --output raw
    twin-tf import movielens-1m --source ml-1m.zip --output raw
    """
    from beam_pipelines.import_dataset import import_dataset

    report = import_dataset(dataset, output, seed, source)
    plain = {
        "dataset": report.dataset,
        "directory": report.directory,
        "rows": dict(report.rows),
        "dropped": dict(report.dropped),
        "reused": report.reused,
    }
    rows = ", ".join(f"{count:,} {log}" for log, count in report.rows.items())
    if report.dropped:
        rows += f"; {sum(report.dropped.values()):,} rows dropped, see import.json"
    show(plain, as_json, f"{report.directory}: {rows}" + (" (already there)" if report.reused else ""))


@click.command()
@config_options
@click.option(
    "--events",
    required=True,
    multiple=True,
    help=EVENTS,
)
@click.option("--items", multiple=True, help="Items log, likewise.")
@click.option("--users", multiple=True, help="Users log, likewise.")
@click.option("--output", required=True, help="A new directory for the prepared data.")
@click.option("--previous", help="Prepared data to continue: the logs are what came after it.")
@click.option("--workers", default=1, show_default=True, help="Worker processes of the local runner.")
@click.option("--runner", default="FnApiRunner", show_default=True, help="Beam's runner.")
@click.option("--shards", default=8, show_default=True, help="Files per split; about a million events each do well.")
@click.option(
    "--max-dead-share", default=0.005, show_default=True, help="More malformed rows than this share fail the job."
)
@click.option("--as-of", metavar="TIME", help="ISO time; later events are malformed.  [default: a day from now]")
@click.option(
    "--not-before", metavar="TIME", help="ISO time; earlier events are malformed.  [default: far ones stop the job]"
)
@click.option("--beam", "beam_arguments", multiple=True, metavar="--NAME=VALUE", help="An option for Beam itself.")
@verify_option
@json_option
def preprocess(
    config_path: str | None,
    overrides: tuple[str, ...],
    events: tuple[str, ...],
    items: tuple[str, ...],
    users: tuple[str, ...],
    output: str,
    previous: str | None,
    workers: int,
    runner: str,
    shards: int,
    max_dead_share: float,
    as_of: str | None,
    not_before: str | None,
    beam_arguments: tuple[str, ...],
    verify: bool,
    as_json: bool,
) -> None:
    r"""Turn raw logs into prepared data: vocabularies, histories, targets, splits, records, a report.

    \b
    twin-tf preprocess --config my.yaml --events 'logs/2026-*.jsonl.gz' --items items.csv --output prepared
    twin-tf preprocess --config my.yaml --events logs/monday.parquet --items items.csv --previous sunday --output monday
    """
    from beam_pipelines.build_examples import build_examples
    from beam_pipelines.io.launch import JobOnlyBuilt
    from twin_tf.config import load_config

    config = load_config(config_path, overrides)
    if config.schema is None:
        raise ConfigError("--config must name a file with a schema section: it says what the columns mean")
    try:
        manifest = build_examples(
            config.schema,
            list(events),
            output,
            list(items) or None,
            list(users) or None,
            previous=previous,
            runner=runner,
            workers=workers,
            shards=shards,
            max_dead_share=max_dead_share,
            as_of=as_of,
            not_before=not_before,
            verify=verify,
            beam_arguments=beam_arguments,
        )
    except JobOnlyBuilt as built:
        show({"built": str(built)}, as_json, str(built))
        return
    counts = manifest.counts
    targets = ", ".join(f"{count:,} {split}" for split, count in counts.targets.items())
    dead = f", {counts.events_dead:,} in {output}/dead_letters" if counts.events_dead else ""
    dead += f", {counts.events_duplicated:,} duplicates dropped" if counts.events_duplicated else ""
    read = f"{counts.events_read:,} events of {counts.users:,} users{dead}"
    sentence = f"{output}: {read}; targets: {targets}; look at {output}/report.md"
    show(json.loads(manifest.to_json()), as_json, sentence)


@click.command()
@config_options
@click.option("--prepared", required=True, help="Directory of `twin-tf preprocess`.")
@click.option("--run", "run_directory", required=True, help="A finished run: its item embeddings say what is near.")
@click.option("--output", required=True, help="A new directory for the prepared data with clustered histories.")
@click.option("--workers", default=1, show_default=True, help="Worker processes of the local runner.")
@click.option("--runner", default="FnApiRunner", show_default=True, help="Beam's runner.")
@click.option("--beam", "beam_arguments", multiple=True, metavar="--NAME=VALUE", help="An option for Beam itself.")
@verify_option
@json_option
def cluster(
    config_path: str | None,
    overrides: tuple[str, ...],
    prepared: str,
    run_directory: str,
    output: str,
    workers: int,
    runner: str,
    beam_arguments: tuple[str, ...],
    verify: bool,
    as_json: bool,
) -> None:
    r"""TWIN-V2: prepared data whose histories are clusters of near behaviours, for lives of 10^5 behaviours and more.

    \b
    twin-tf cluster --config my.yaml --prepared prepared --run run --output clustered
    twin-tf cluster --config my.yaml --set clusters.gamma=10 --prepared prepared --run run --output clustered
    twin-tf train --config my.yaml --prepared clustered --run run-v2
    """
    from beam_pipelines.cluster_histories import cluster_histories, cluster_text
    from beam_pipelines.io.launch import JobOnlyBuilt
    from twin_tf.config import load_config

    settings = load_config(config_path, overrides).clusters
    try:
        manifest = cluster_histories(
            prepared,
            run_directory,
            output,
            settings,
            runner=runner,
            workers=workers,
            verify=verify,
            beam_arguments=beam_arguments,
        )
    except JobOnlyBuilt as built:
        show({"built": str(built)}, as_json, str(built))
        return
    show(json.loads(manifest.to_json()), as_json, cluster_text(output, manifest))


@click.command("item-embeddings")
@click.option("--prepared", required=True, help="Directory of `twin-tf preprocess`.")
@click.option("--output", required=True, help="A new directory for the embeddings.")
@click.option("--width", default=64, show_default=True, help="Of an embedding.")
@click.option("--seed", default=1, show_default=True, help="Of the factorisation.")
@verify_option
@json_option
def item_embeddings(prepared: str, output: str, width: int, seed: int, verify: bool, as_json: bool) -> None:
    r"""Frozen item embeddings from the training period, for the searches that need them (SIM Soft, SIM Cluster).

    \b
    twin-tf item-embeddings --prepared prepared --output embeddings
    twin-tf train --config my.yaml --set model.search=sim_soft --set training.item_embeddings=embeddings \
        --prepared prepared --run run-sim-soft
    """
    from twin_tf.features.schema import FIRST_KNOWN
    from twin_tf.runs.item_embeddings import make_item_embeddings

    made = make_item_embeddings(prepared, output, width, seed, verify=verify)
    made["items"] -= FIRST_KNOWN  # rows of items, without those of padding and of the unknown
    sentence = f"{output}: {made['items']:,} items, {made['width']} wide, from {made['behaviours']:,} behaviours"
    show(made, as_json, sentence)
