"""The command line: `twin-tf COMMAND`. Stands above all packages and imports each only when its command runs.

Exit codes: 0 done, 1 failed, 2 bad usage or input (the message says what to change).
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from twin_tf import __version__
from twin_tf.strict_yaml import ConfigError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reports what matters as exceptions

Command = TypeVar("Command", bound=Callable[..., Any])

EVENTS = "Events: path or pattern of .jsonl, .csv or .parquet files, or bigquery://project.data.table; may be repeated."
SETTING = "Change a setting, for example --set training.epochs=2; may be repeated."


class _Failed(click.ClickException):
    exit_code = 1


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Turns what a user can mend into one sentence and an exit code; a fault of ours shows whole."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except (ValueError, FloatingPointError, OSError, TimeoutError) as error:
        if type(error).__module__ not in ("builtins", "export.publisher") or isinstance(error, UnicodeError):
            raise
        raise _Failed(str(error)) from error
    except RuntimeError as error:
        if type(error).__module__ != "export.errors":
            raise
        raise _Failed(str(error)) from error


class _Group(click.Group):
    def invoke(self, context: click.Context) -> Any:
        with _one_sentence():
            return super().invoke(context)


def _show(result: dict[str, Any], as_json: bool, sentence: str) -> None:
    click.echo(json.dumps(result, indent=1) if as_json else sentence)


def _named(figures: dict[str, Any], *names: str) -> str:
    """The figures by name; `none` where one means nothing, for example the AUC of a single class."""
    values = ((name, figures[name]) for name in names)
    return ", ".join(f"{name} none" if value is None else f"{name} {value:.4f}" for name, value in values)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def _config_options(command: Command) -> Command:
    command = click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help=SETTING)(command)
    return click.option(
        "--config",
        "config_path",
        help="Configuration YAML, or the name of a shipped one, for example complete_journey.",
    )(command)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="twin-tf")
def main() -> None:
    r"""TWIN: click-through rates from a user's whole life of behaviours.

    \b
    twin-tf import complete-journey --output raw
    twin-tf preprocess --config complete_journey --events raw/events.parquet --items raw/items.parquet \
        --users raw/users.parquet --output prepared
    twin-tf train --config complete_journey --prepared prepared --run run
    twin-tf evaluate --run run --prepared prepared
    twin-tf export --run run --output model
    twin-tf publish model --base-path serving/twin
    twin-tf serve --base-path serving/twin --port 8500
    """


@main.command()
@click.option("--output", required=True, help="A new directory for the logs.")
@click.option("--users", default=None, type=int, help="How many users.")
@click.option("--seed", default=None, type=int, help="Of every random choice.")
@click.option("--set", "settings", multiple=True, metavar="NAME=NUMBER", help="Another setting of the simulation.")
@_json_option
def simulate(output: str, users: int | None, seed: int | None, settings: tuple[str, ...], as_json: bool) -> None:
    r"""Write raw logs of a made-up video app, with planted life-long interests.

    \b
    twin-tf simulate --output logs
    twin-tf simulate --output logs --users 5000 --set median_history=3000
    """
    import yaml

    from beam_pipelines.simulate_logs import simulate_logs

    chosen = {name: value for name, value in (("users", users), ("seed", seed)) if value is not None}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting!r} must read name=number")
        chosen[name] = yaml.safe_load(text)
    counts = simulate_logs(output, **chosen)
    _show(counts, as_json, f"{output}: " + ", ".join(f"{value:,} {name}" for name, value in counts.items()))


class _ImportCommand(click.Command):
    """Lists the data sets below its help; they are only looked up when somebody asks for it."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from beam_pipelines.import_dataset import DATASETS

        with formatter.section("Data sets and what each needs"):
            formatter.write_dl([(name.replace("_", "-"), dataset.needs) for name, dataset in DATASETS.items()])


@main.command("import", cls=_ImportCommand)
@click.argument("dataset")
@click.option("--source", help="The download as its publisher ships it, or its unpacked directory.")
@click.option("--output", required=True, help="A new directory for the raw logs.")
@click.option("--seed", default=7, show_default=True, help="Of the drawn targets and negatives.")
@_json_option
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
    _show(plain, as_json, f"{report.directory}: {rows}" + (" (already there)" if report.reused else ""))


@main.command()
@_config_options
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
@click.option("--beam", "beam_arguments", multiple=True, metavar="--NAME=VALUE", help="An option for Beam itself.")
@_json_option
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
    beam_arguments: tuple[str, ...],
    as_json: bool,
) -> None:
    r"""Turn raw logs into prepared data: vocabularies, histories, targets, splits, records, a report.

    \b
    twin-tf preprocess --config my.yaml --events 'logs/2026-*.jsonl.gz' --items items.csv --output prepared
    twin-tf preprocess --config my.yaml --events logs/monday.parquet --items items.csv --previous sunday --output monday
    """
    from beam_pipelines.build_examples import JobOnlyBuilt, build_examples
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
            beam_arguments=beam_arguments,
        )
    except JobOnlyBuilt as built:
        _show({"built": str(built)}, as_json, str(built))
        return
    counts = manifest.counts
    targets = ", ".join(f"{count:,} {split}" for split, count in counts.targets.items())
    dead = f", {counts.events_dead:,} in {output}/dead_letters" if counts.events_dead else ""
    dead += f", {counts.events_duplicated:,} duplicates dropped" if counts.events_duplicated else ""
    read = f"{counts.events_read:,} events of {counts.users:,} users{dead}"
    sentence = f"{output}: {read}; targets: {targets}; look at {output}/report.md"
    _show(json.loads(manifest.to_json()), as_json, sentence)


@main.command()
@_config_options
@click.option("--prepared", required=True, help="Directory of `twin-tf preprocess`.")
@click.option("--run", "run_directory", required=True, help="A new directory, or that of a killed run to resume.")
@_json_option
def train(
    config_path: str | None, overrides: tuple[str, ...], prepared: str, run_directory: str, as_json: bool
) -> None:
    r"""Train TWIN, or with another search one of its baselines.

    \b
    twin-tf train --config complete_journey --prepared prepared --run run
    twin-tf train --config complete_journey --set model.search=recent --prepared prepared --run run-din
    twin-tf train --config my.yaml --set training.epochs=9 --set training.patience=2 --prepared prepared --run run

    Killed, it goes on from its last checkpoint when the same command is run again.
    """
    from twin_tf.config import load_config
    from twin_tf.train import train as train_run

    report = train_run(prepared, run_directory, load_config(config_path, overrides))
    kept = report["kept"]
    quality = f"; valid {_named(kept['valid'], 'auc', 'gauc')}" if kept["valid"] else ""
    quality += f" after {kept['steps']:,} steps, the best" if kept["which"] == "best" else ""
    sentence = f"{run_directory}: {report['steps']:,} steps, {report['examples_per_s']:,.0f} examples/s{quality}"
    _show(report, as_json, sentence)


@main.command()
@click.option("--run", "run_directory", required=True, help="A finished run.")
@click.option("--prepared", required=True, help="Prepared data with the schema of the run.")
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["train", "valid", "test"]),
    help="Whose targets are scored.",
)
@_json_option
def evaluate(run_directory: str, prepared: str, split: Any, as_json: bool) -> None:
    r"""Score every target of a split: AUC, GAUC, log loss, calibration, by history length.

    \b
    twin-tf evaluate --run run --prepared prepared --split test
    """
    from twin_tf.evaluate import evaluate as evaluate_run

    result = evaluate_run(run_directory, prepared, split)
    figures = result["metrics"]
    named = _named(figures, "auc", "gauc", "logloss", "calibration")
    _show(result, as_json, f"{split}: {named} ({figures['targets']:,} targets of {figures['users']:,} users)")


@main.command()
@click.option("--run", "run_directory", required=True, help="A finished run.")
@click.option("--output", required=True, help="A new model directory.")
@click.option("--prepared", help="Prepared data for probes and warm-up; where the run was trained if left out.")
@_json_option
def export(run_directory: str, output: str, prepared: str | None, as_json: bool) -> None:
    r"""Turn a run into a model directory that TensorFlow Serving loads.

    \b
    twin-tf export --run run --output model
    """
    from export.exporter import export_run

    result = export_run(run_directory, output, prepared)
    sentence = f"{output}: {result['items']:,} items, {result['bytes'] / 1e6:.1f} MB, {result['probes']:,} probes"
    _show(result, as_json, sentence)


@main.command()
@click.argument("model")
@_json_option
def validate(model: str, as_json: bool) -> None:
    r"""Say whether a model directory is fit to be published; TensorFlow's Python is never imported.

    \b
    twin-tf validate model
    """
    from export.validate import validate as validate_model

    report = validate_model(model)
    lines = [f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}{check.detail}" for check in report.checks]
    _show(report.to_plain(), as_json, "\n".join(lines))
    if not report.ok:
        raise _Failed(f"{model} is not fit to be published: {report.reason()}")


@main.command()
@click.argument("model")
@click.option("--base-path", required=True, help="The directory that the server watches.")
@click.option("--keep", default=3, show_default=True, help="Versions that stay.")
@_json_option
def publish(model: str, base_path: str, keep: int, as_json: bool) -> None:
    r"""Validate a model directory and publish it atomically as the newest version.

    \b
    twin-tf publish model --base-path serving/twin
    """
    from export.publisher import publish as publish_model

    version = publish_model(model, base_path, keep=keep)
    _show({"version": int(version.name), "path": str(version)}, as_json, f"published {version}")


@main.command()
@click.option("--base-path", required=True, help="The directory that holds the versions.")
@click.option("--port", default=8500, show_default=True, help="gRPC port; 0 takes a free one and prints it.")
@click.option("--model-name", default="twin", show_default=True, help="The name requests must carry.")
def serve(base_path: str, port: int, model_name: str) -> None:
    r"""Serve the newest version over gRPC: a stand-in for tensorflow_model_server, for development and tests.

    \b
    twin-tf serve --base-path serving/twin --port 8500
    """
    arguments = ["--model_name", model_name, "--model_base_path", base_path, "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "export.local_server", *arguments])


@main.command()
@click.option("--server", default="127.0.0.1:8500", show_default=True, help="host:port of the server.")
@click.option("--model", required=True, help="The model directory, for its schema and vocabularies.")
@click.option("--request", "request_path", help="JSON file of raw values, - for standard input.")
@click.option(
    "--replay", "replays", is_flag=True, help="Send the model's probes and compare with the trainer's scores."
)
@click.option("--model-name", default="twin", show_default=True, help="The name that the server serves it under.")
@click.option("--timeout", "timeout_s", default=5.0, show_default=True, help="Deadline of a call in seconds.")
@_json_option
def predict(
    server: str, model: str, request_path: str | None, replays: bool, model_name: str, timeout_s: float, as_json: bool
) -> None:
    r"""Ask a server for click probabilities; TensorFlow is never imported.

    \b
    twin-tf predict --model model --request request.json
    twin-tf predict --model model --replay
    """
    from export.client import TwinClient
    from export.json_request import answer_as_json, encode_request, load_encoder, read_request
    from export.replay import replay

    if bool(request_path) == replays:
        raise click.UsageError("give either --request FILE or --replay")
    with TwinClient(server, model_name, timeout_s=timeout_s) as client:
        if replays:
            figures = replay(client, Path(model))
            lines = [f"{name}: {value:.6g}" for name, value in figures.items() if isinstance(value, (int, float))]
            _show(figures, as_json, "\n".join(lines))
            return
        data = read_request(request_path or "-")
        answer = client.predict(encode_request(load_encoder(model), data))
        click.echo(json.dumps(answer_as_json(data, answer), indent=1))


for _command in (
    main,
    *main.commands.values(),
):  # raw docstrings spell click's mark for "do not wrap" in two characters
    _command.help = (_command.help or "").replace("\\b", "\b")

if __name__ == "__main__":
    main()
