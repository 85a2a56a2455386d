"""Commands between a model directory and answers: validate, publish, refresh, rollback, serve, predict."""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twin_tf.cli.extras import require
from twin_tf.cli.options import json_option, show, verify_option
from twin_tf.cli.tls import tls_options
from twin_tf.core.buckets import BucketPath, is_url
from twin_tf.core.files import write_whole
from twin_tf.core.mirrors import at_hand, local_path

if TYPE_CHECKING:
    from export.gate.limits import Limits
    from export.publishing.publisher import ServerCheck

KEEP = "Versions that stay, the new one included."
TIMEOUT_S, REPLAY_TIMEOUT_S = 5.0, 300.0
"""Deadlines of a call: of somebody who waits for an answer, and of a batch job, whose machine may be busy."""

NEW_CONTRACT = "Let a model of another schema or other vocabularies take the place of the published one."
UNCHECKED = "Let a check pass that cannot be made: auc, contract or server."

SERVER = "host:port of a server on this base path: wait until it serves the version, take it back if it refuses."


class CommandFailedError(click.ClickException):
    """What was asked for did not work out; exit code 1."""

    exit_code = 1


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what the gate tolerates; the command gets it as `limits`. What is left out has the gate's default."""

    @functools.wraps(command)
    def with_limits(*args: Any, **options: Any) -> Any:
        from export.gate.limits import Limits

        given = {field.name: options.pop(field.name) for field in dataclasses.fields(Limits)}
        return command(*args, limits=Limits(**{k: v for k, v in given.items() if v is not None}), **options)

    wrapped: Callable[..., Any] = with_limits
    for name, kind, text in (
        ("--auc-epsilon", float, "How far the AUC may fall below the published version's.  [default: 0.002]"),
        ("--max-bytes", int, "Size budget of the directory.  [default: 64 GiB]"),
        ("--tolerance", float, "Largest difference from the trainer's scores.  [default: 1e-5]"),
        ("--server-version", str, "Release of TensorFlow that serves it.  [default: 2.20.0]"),
        ("--evaluation", str, "Refuse what this file of `twin-tf evaluate --against` shows to be worse."),
    ):
        wrapped = click.option(name, type=kind, help=text)(wrapped)
    new = click.option("--allow-new-contract", is_flag=True, help=NEW_CONTRACT)
    one = click.option("--allow-one-class", is_flag=True, help="Let a model pass whose targets all had one label.")
    return one(new(click.option("--allow-unchecked", multiple=True, metavar="CHECK", help=UNCHECKED)(wrapped)))


def watcher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the server that is to be watched; the command gets it as `watcher`, None without `--server`."""

    @functools.wraps(command)
    def with_watcher(
        *args: Any, server: str | None, model_name: str, timeout_s: float, credentials: Any, **options: Any
    ) -> Any:
        from export.publishing.publisher import ServerCheck

        if credentials is not None and not server:
            raise click.UsageError("--tls-ca goes with --server")
        watcher = ServerCheck(server, model_name, timeout_s, credentials) if server else None
        return command(*args, watcher=watcher, **options)

    wrapped = click.option("--timeout", "timeout_s", default=300.0, show_default=True, help="Seconds to wait.")(
        tls_options(with_watcher)
    )
    name = click.option("--model-name", default="twin", show_default=True, help="Its name at the server.")
    return click.option("--server", help=SERVER)(name(wrapped))


@click.command()
@click.argument("model")
@click.option("--base-path", help="Compare the AUC with the version published here last.")
@limit_options
@json_option
def validate(
    model: str,
    base_path: str | None,
    limits: "Limits",
    as_json: bool,
) -> None:
    r"""Say whether a model directory is fit to be published; TensorFlow's Python is never imported.

    \b
    twin-tf validate model
    twin-tf validate model --base-path serving/twin
    """
    from export.gate.validate import as_lines
    from export.gate.validate import validate as validate_model

    require("tensorflow")
    report = validate_model(model, base_path=base_path, limits=limits)
    show(report.to_plain(), as_json, as_lines(report))
    if not report.ok:
        raise CommandFailedError(f"{model} is not fit to be published: {report.reason()}")


@click.command()
@click.argument("model")
@click.option("--base-path", required=True, help="The directory that the server watches, local or in a bucket.")
@click.option("--keep", default=3, show_default=True, help=KEEP)
@limit_options
@watcher_options
@json_option
def publish(
    model: str,
    base_path: str,
    keep: int,
    limits: "Limits",
    watcher: "ServerCheck | None",
    as_json: bool,
) -> None:
    r"""Validate a model directory and publish it atomically as the newest version.

    \b
    twin-tf publish model --base-path serving/twin
    twin-tf publish model --base-path serving/twin --server ranker:8500

    The model's run, and every earlier one, no longer counts as rolled back then.
    """
    from export.publishing.publisher import publish as publish_model

    require("tensorflow")
    version = publish_model(model, base_path, keep=keep, limits=limits, watcher=watcher)
    show({"version": int(version.name), "path": str(version)}, as_json, f"published {version}")


@click.command()
@click.option("--base-path", required=True, help="The directory that the server watches.")
@click.option("--run", "run_directory", required=True, help="A finished run of the same schema and settings.")
@click.option("--prepared", help="Prepared data of a later day: its items are served, its test split gives the probes.")
@click.option("--projections", help="What beam_pipelines.project_items wrote; projected here if left out.")
@click.option("--model", help="The version to refresh; the newest under the base path if left out.")
@click.option("--keep", default=3, show_default=True, help=KEEP)
@click.option("--allow-rolled-back", is_flag=True, help="Refresh from a run even if it was rolled back.")
@limit_options
@watcher_options
@verify_option
@json_option
def refresh(
    base_path: str,
    run_directory: str,
    prepared: str | None,
    projections: str | None,
    model: str | None,
    keep: int,
    allow_rolled_back: bool,
    limits: "Limits",
    watcher: "ServerCheck | None",
    verify: bool,
    as_json: bool,
) -> None:
    r"""Publish new weights or new items under the graph that is served already; nothing is traced.

    \b
    twin-tf refresh --base-path serving/twin --run tuesday-run
    twin-tf refresh --base-path serving/twin --run run --prepared tuesday
    twin-tf refresh --base-path serving/twin --run run --projections projections

    A run that was rolled back is refused until a newer one is published.
    """
    from export.publishing.refresh import refresh as refresh_version

    result = refresh_version(
        base_path,
        run_directory,
        prepared=prepared,
        projections=projections,
        model=model,
        keep=keep,
        limits=limits,
        watcher=watcher,
        allow_rolled_back=allow_rolled_back,
        verify=verify,
    )
    total = sum(result["seconds"].values())
    sentence = f"published {result['path']}: {result['items']:,} items, {result['new_items']:,} new, in {total:.0f} s"
    show(result, as_json, sentence)


@click.command()
@click.option("--base-path", required=True, help="The directory that the server watches.")
@click.option("--to", type=int, metavar="VERSION", help="An earlier version.  [default: the one before the newest]")
@watcher_options
@json_option
def rollback(base_path: str, to: int | None, watcher: "ServerCheck | None", as_json: bool) -> None:
    r"""Make an earlier version the newest again; what stood above it is hidden, not removed.

    \b
    twin-tf rollback --base-path serving/twin
    twin-tf rollback --base-path serving/twin --to 1700000000 --server ranker:8500

    `twin-tf refresh` refuses the runs of the hidden versions until a newer run, or one of them by `twin-tf publish`,
    is published.
    """
    from export.publishing.publisher import roll_back

    version = roll_back(base_path, to=to, watcher=watcher)
    show({"version": int(version.name), "path": str(version)}, as_json, f"the newest version is {version} again")


@click.command()
@click.option("--base-path", required=True, help="The directory that holds the versions.")
@click.option("--port", default=8500, show_default=True, help="gRPC port; 0 takes a free one and prints it.")
@click.option("--rest-port", type=int, help="REST port; 0 takes a free one.  [default: no REST]")
@click.option("--model-name", default="twin", show_default=True, help="The name requests must carry.")
def serve(base_path: str, port: int, rest_port: int | None, model_name: str) -> None:
    r"""Serve the newest version: a stand-in for tensorflow_model_server, for development and tests.

    \b
    twin-tf serve --base-path serving/twin --port 8500
    twin-tf serve --base-path serving/twin --port 8500 --rest-port 8501
    """
    local_path(base_path, "what this stand-in serves")
    require("grpc", "tensorflow")
    arguments = ["--model_name", model_name, "--model_base_path", base_path, "--port", str(port)]
    if rest_port is not None:
        arguments += ["--rest_api_port", str(rest_port)]
    os.execv(sys.executable, [sys.executable, "-m", "export.local_server", *arguments])


@click.command()
@click.option(
    "--server",
    "servers",
    multiple=True,
    default=("127.0.0.1:8500",),
    show_default=True,
    help="host:port; several are called in turn.",
)
@click.option("--version", type=int, help="Ask for this version.  [default: the newest]")
@click.option("--label", help="Ask for the version with this label.")
@click.option("--model", required=True, help="The model directory, for its schema and vocabularies.")
@click.option("--request", "request_path", help="JSON file of raw values, - for standard input.")
@click.option(
    "--replay", "replays", is_flag=True, help="Send the model's probes and compare with the trainer's scores."
)
@click.option("--latencies", help="With --replay: a CSV file for the milliseconds of each call.")
@click.option("--model-name", default="twin", show_default=True, help="The name that the server serves it under.")
@click.option(
    "--timeout", "timeout_s", type=float, help="Deadline of a call in seconds.  [default: 5, with --replay 300]"
)
@tls_options
@json_option
def predict(
    servers: tuple[str, ...],
    version: int | None,
    label: str | None,
    model: str,
    request_path: str | None,
    replays: bool,
    latencies: str | None,
    model_name: str,
    timeout_s: float | None,
    credentials: Any,
    as_json: bool,
) -> None:
    r"""Ask a server for click probabilities; TensorFlow is never imported.

    \b
    twin-tf predict --model model --request request.json
    twin-tf predict --model model --replay
    twin-tf predict --server a:8500 --server b:8500 --version 1700000000 --model model --request request.json
    """
    from export.client.client import TwinClient
    from export.client.contract_check import check_answer
    from export.client.json_request import answer_as_json, encode_request, load_encoder, read_request
    from export.client.replay import replay

    if bool(request_path) == replays:
        raise click.UsageError("give either --request FILE or --replay")
    if latencies is not None and not replays:
        raise click.UsageError("--latencies goes with --replay")
    if version is not None and label is not None:
        raise click.UsageError("give --version or --label, not both")
    if is_url(model):
        listed = BucketPath.of(model).indexed()
        model = str(at_hand(model, [name for name in listed if name.startswith("assets.extra/")]))
    deadline = (REPLAY_TIMEOUT_S if replays else TIMEOUT_S) if timeout_s is None else timeout_s
    encoder = None if replays else load_encoder(model)
    schema = None if encoder is None else encoder.schema
    settings: dict[str, Any] = {"version": version, "label": label, "timeout_s": deadline, "schema": schema}
    with TwinClient(servers, model_name, credentials=credentials, **settings) as client:
        if encoder is None:
            figures = replay(client, Path(model))
            if latencies is not None:
                write_whole(Path(latencies), "ms\n" + "".join(f"{taken}\n" for taken in figures["latencies_ms"]))
            summary = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
            show(summary, as_json, "\n".join(f"{name}: {value:.6g}" for name, value in summary.items()))
            return
        data = read_request(request_path or "-")
        answer = client.predict(encode_request(encoder, data))
        check_answer(client, answer, encoder.contract)
        click.echo(json.dumps(answer_as_json(data, answer), indent=1))
