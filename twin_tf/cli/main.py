"""The command line: `twin-tf COMMAND`. Stands above all packages and imports each only when its command runs.

Exit codes: 0 done, 1 failed, 2 bad usage or input (the message says what to change).
"""

import contextlib
import json
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from twin_tf import __version__
from twin_tf.cli.data import cluster, import_command, item_embeddings, preprocess, simulate
from twin_tf.cli.extras import missing_extra
from twin_tf.cli.options import config_options, json_option, named, show, verify_option
from twin_tf.cli.score import score
from twin_tf.cli.serving import CommandFailedError, predict, publish, refresh, rollback, serve, validate
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.errors import UserError, is_users
from twin_tf.core.files import full_disk
from twin_tf.core.mirrors import at_hand, local_path
from twin_tf.core.mirrors import named as named_places
from twin_tf.core.quiet_logs import quiet_processes

quiet_processes()  # what matters comes as an exception

_AS_JSON = "twin_tf.cli.main.as_json"
_GOES_ON = ("train", "compare")
"""Commands that keep what they have done; run again, the others that write begin anew."""
STRATEGY = "single, mirrored (all devices here), multi_worker or parameter_server (a cluster, by TF_CONFIG)."


@contextlib.contextmanager
def _one_sentence(context: click.Context) -> Iterator[None]:
    """Turns what a user can fix into one sentence and an exit code; a fault of ours shows whole."""
    try:
        yield
    except KeyboardInterrupt:
        name = context.invoked_subcommand or ""
        again = "go on" if name in _GOES_ON else "begin anew"
        raise CommandFailedError(f"twin-tf {name} was stopped; run it again to {again}") from None
    except ModuleNotFoundError as error:
        sentence = missing_extra(context.invoked_subcommand, error)
        if sentence is None:
            raise
        raise click.UsageError(sentence) from error
    except Exception as error:
        if isinstance(error, UserError) and error.exit_code == click.UsageError.exit_code:
            raise click.UsageError(named_places(str(error))) from error
        full = full_disk(error)
        if not full and not is_users(error):
            raise
        raise CommandFailedError(full or named_places(str(error))) from error


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Shows warnings that are for users as one line, without the place in the code."""
    whole = warnings.formatwarning

    def one_line(message: Any, category: Any, *where: Any, **more: Any) -> str:
        if category.__module__.partition(".")[0] in ("twin_tf", "export", "beam_pipelines"):
            return f"warning: {named_places(str(message))}\n"
        return whole(message, category, *where, **more)

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = whole


class _Group(click.Group):
    """Says every failure in one sentence, with `--json` on standard output too."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta[_AS_JSON] = "--json" in args
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            with _one_line_warnings(), _one_sentence(context):
                return super().invoke(context)
        except click.ClickException as error:
            if context.meta[_AS_JSON]:
                click.echo(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}))
            raise


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
@config_options
@click.option("--prepared", required=True, help="Directory of `twin-tf preprocess`, local or in a bucket (gs://...).")
@click.option("--run", "run_directory", required=True, help="A new directory, or that of a killed run; or in a bucket.")
@click.option("--init-from", metavar="RUN", help="An earlier run to start from: what it knows keeps its weights.")
@click.option("--strategy", default="single", show_default=True, help=STRATEGY)
@verify_option
@json_option
def train(
    config_path: str | None,
    overrides: tuple[str, ...],
    prepared: str,
    run_directory: str,
    init_from: str | None,
    strategy: Any,
    verify: bool,
    as_json: bool,
) -> None:
    r"""Train TWIN, or with another search one of its baselines.

    \b
    twin-tf train --config complete_journey --prepared prepared --run run
    twin-tf train --config complete_journey --set model.search=din --prepared prepared --run run-din
    twin-tf train --config complete_journey --init-from monday-run --prepared tuesday --run tuesday-run
    TF_CONFIG='{"cluster": ..., "task": ...}' twin-tf train --strategy parameter_server --prepared prepared --run run
    twin-tf train --config my.yaml --set training.epochs=9 --set training.patience=2 --prepared prepared --run run

    Killed, it goes on from its last checkpoint when the same command is run again. report.md in the run says how it
    went.
    """
    from twin_tf.config import load_config
    from twin_tf.training.tf_config import read_task

    task = read_task(strategy)
    if task is not None and task.serves(strategy):
        from twin_tf.training.parameter_server import serve

        serve(task)
        return
    config = load_config(config_path, overrides)
    from twin_tf.training.run_page import write_run_page
    from twin_tf.training.strategies import is_chief, make_strategy
    from twin_tf.training.train import train_model

    where = make_strategy(strategy, task)
    report = train_model(prepared, run_directory, config, strategy=where, init_from=init_from, verify=verify)
    kept = report["kept"]
    quality = f"; valid {named(kept['valid'], 'auc', 'gauc')}" if kept["valid"] else ""
    quality += f" after {kept['steps']:,} steps, the best" if kept["which"] == "best" else ""
    sentence = f"{run_directory}: {report['steps']:,} steps, {report['examples_per_s']:,.0f} examples/s{quality}"
    yardsticks = report.get("yardsticks", {}) if kept["valid"] else {}
    for found in yardsticks.values():
        sentence += f"\n{found['label']}, without a network: valid {named(found, 'auc', 'gauc')}"
    if is_chief(where):
        report["page"] = str(write_run_page(run_directory))
        sentence = "\n".join([sentence, *report["findings"], report["page"]])
    show(report, as_json, sentence)


@main.command()
@click.option("--run", "run_directory", required=True, help="A finished run.")
@click.option("--prepared", required=True, help="Prepared data, of the run's day or a later one.")
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["train", "valid", "test"]),
    help="Whose targets are scored.",
)
@click.option("--against", metavar="RUN", help="Another run: is the difference on the same targets more than noise?")
@click.option(
    "--slice", "slices", multiple=True, metavar="FEATURE", help="Slice by this feature too: context, candidate or user."
)
@click.option(
    "--cut-history",
    default="",
    metavar="10,50,200,1000",
    help="Score the same targets with their histories cut to so many behaviours; one more pass each.",
)
@click.option("--yardsticks/--no-yardsticks", default=True, help="Set what needs no network beside the run.")
@click.option("--users", default=3, show_default=True, help="Show what the search retrieves for so many users.")
@verify_option
@json_option
def evaluate(
    run_directory: str,
    prepared: str,
    split: Any,
    against: str | None,
    slices: tuple[str, ...],
    cut_history: str,
    yardsticks: bool,
    users: int,
    verify: bool,
    as_json: bool,
) -> None:
    r"""Score every target of a split: AUC, GAUC, log loss, calibration, by request and by slice, with 95 % intervals.

    \b
    twin-tf evaluate --run run --prepared prepared --split test
    twin-tf evaluate --run tuesday-run --against monday-run --prepared prepared
    twin-tf evaluate --run run --prepared prepared --slice device --cut-history 10,50,200,1000

    Beside the table it writes the page evaluation-SPLIT.md with figures into the run, and all of it as
    evaluation-SPLIT.json, its slices and its reliability as CSV too. retrieved-SPLIT.md shows what the
    search retrieves for some users.
    """
    from twin_tf.evaluation.evaluate import evaluate_run
    from twin_tf.evaluation.evaluation_page import write_evaluation_page
    from twin_tf.evaluation.evaluation_text import evaluation_text

    histories = [part.strip() for part in cut_history.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in histories):
        raise click.UsageError(f"--cut-history {cut_history}: give whole numbers from 1 on with commas between")
    result = evaluate_run(
        run_directory,
        prepared,
        split,
        verify=verify,
        against=against,
        slices=slices,
        histories=[int(part) for part in histories],
        yardsticks=yardsticks,
        users=users,
    )
    result["page"] = str(write_evaluation_page(run_directory, split))
    show(result, as_json, f"{evaluation_text(result)}\n{result['page']}")


@main.command()
@config_options
@click.option("--prepared", help="Directory of `twin-tf preprocess`.")
@click.option("--data", help="In place of --prepared, data that are made first: complete-journey or simulated.")
@click.option("--output", required=True, help="A new directory, or that of the same comparison to go on.")
@click.option("--systems", default="all", show_default=True, help="all, main (no ablations), or names with commas.")
@click.option(
    "--also", multiple=True, help="A system of your own, 'label: setting=value ...': TWIN but for these model settings."
)
@click.option("--seeds", default=2, show_default=True, help="How many seeds; ablations have the first alone.")
@click.option(
    "--rates",
    default="1",
    show_default=True,
    help="Factors of the learning rates, such as 0.5,1,2, or 0.3,1/0.5,1,2 for those of the tables and of the dense "
    "weights: every system tries each pair and keeps what is best on the validation records. Or the rates.json of an "
    "earlier comparison.",
)
@click.option("--jobs", default=1, show_default=True, help="Trainings at once, each with its share of the processors.")
@click.option("--truth", help="The directory truth of simulated logs: which planted behaviours does each search find?")
@click.option("--fresh", is_flag=True, help="Begin with nothing: remove what earlier calls kept in --output.")
@verify_option
@json_option
def compare(
    config_path: str | None,
    overrides: tuple[str, ...],
    prepared: str | None,
    data: str | None,
    output: str,
    systems: str,
    also: tuple[str, ...],
    seeds: int,
    rates: str,
    truth: str | None,
    jobs: int,
    fresh: bool,
    verify: bool,
    as_json: bool,
) -> None:
    r"""Train every system of the papers on the same records, and draw the papers' tables and figures.

    \b
    twin-tf compare --data complete-journey --output comparison
    twin-tf compare --config complete_journey --prepared prepared --output comparison
    twin-tf compare --config my.yaml --prepared prepared --output comparison --systems twin,din,sim_hard --seeds 3
    twin-tf compare --config my.yaml --prepared prepared --output comparison --rates 0.5,1,2

    Killed, it goes on where it was when the same command is run again. What it kept is used by the same settings, data
    and code alone.
    """
    from twin_tf.config import load_config
    from twin_tf.core.workdir import claimed_workdir
    from twin_tf.experiments.comparison.page import findings
    from twin_tf.experiments.comparison.rates import read_rates
    from twin_tf.experiments.comparison.run import OWN, Comparison
    from twin_tf.experiments.comparison.systems import chosen_systems
    from twin_tf.experiments.shipped_data import prepare_shipped

    if seeds < 1 or jobs < 1:
        raise ConfigError(f"--seeds {seeds} and --jobs {jobs} must be at least 1")
    if (prepared is None) == (data is None):
        raise click.UsageError("give either --prepared or --data")
    local_path(prepared or "", "the data of a comparison")
    chosen, tried, root = chosen_systems(systems, also), read_rates(rates), local_path(output, "a comparison")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it began ends with it
    with claimed_workdir(root, "comparison", OWN, fresh):
        if data is not None:
            config_path, prepared, truth = prepare_shipped(data, root, config_path, truth)
        config = load_config(config_path, overrides)
        Comparison(root, config, str(prepared), chosen, range(1, seeds + 1), tried, truth, jobs, verify=verify).run()
    report = json.loads((root / "report.json").read_text(encoding="utf-8"))
    show(report, as_json, "\n".join([*findings(report), f"{output}/report.md"]))


@main.command()
@click.option("--run", "run_directory", required=True, help="A finished run.")
@click.option("--output", required=True, help="A new model directory.")
@click.option("--prepared", help="Prepared data for probes and warm-up; where the run was trained if left out.")
@click.option(
    "--table",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Type of the projection table; the run's serving.table if left out.",
)
@verify_option
@json_option
def export(
    run_directory: str, output: str, prepared: str | None, table: str | None, verify: bool, as_json: bool
) -> None:
    r"""Turn a run into a model directory that TensorFlow Serving loads.

    \b
    twin-tf export --run run --output model
    twin-tf export --run run --output model --table bfloat16

    It says what the table is worth on the probes' requests: the share of their items that it knows, the share of the
    projections that it saves, and what a rounded one loses.
    """
    from export.saved_model.exporter import export_run, export_text
    from export.saved_model.needs import check_room, export_needs

    run = at_hand(run_directory)
    needs = export_needs(run, table)
    click.echo("\n".join(line for line in (str(needs), check_room(needs, output)) if line), err=True)
    result = export_run(run, output, prepared, table, verify=verify)
    show(result, as_json, export_text(output, result))


@main.command()
@click.option("--run", "run_directory", required=True, help="A finished run.")
@click.option("--prepared", help="Its data; where the run was trained if left out.")
@click.option("--items", default=6, show_default=True, help="How many well-known items.")
@click.option("--nearest", default=4, show_default=True, help="How many near ones each.")
@verify_option
@json_option
def inspect(run_directory: str, prepared: str | None, items: int, nearest: int, verify: bool, as_json: bool) -> None:
    r"""Show what a run has learned about items: the nearest of some well-known ones, by name.

    \b
    twin-tf inspect --run run
    twin-tf inspect --run run --items 20 --nearest 5 --json
    """
    from twin_tf.evaluation.nearest_items import nearest_items, nearest_text

    found = nearest_items(run_directory, prepared, items, nearest, verify=verify)
    show(found, as_json, nearest_text(found))


for command in (
    simulate,
    import_command,
    preprocess,
    cluster,
    item_embeddings,
    score,
    validate,
    publish,
    refresh,
    rollback,
    serve,
    predict,
):
    main.add_command(command)

for _command in (
    main,
    *main.commands.values(),
):  # raw docstrings spell click's mark for "do not wrap" in two characters
    _command.help = (_command.help or "").replace("\\b", "\b")
