"""The command `twin-tf score`."""

from typing import Any

import click

from twin_tf.cli.options import json_option, show, verify_option


@click.command()
@click.option("--run", "run_directory", required=True, help="A finished run.")
@click.option("--requests", help="JSON Lines: a request of raw values a line, as `twin-tf predict` takes them.")
@click.option("--prepared", help="In place of --requests, prepared data of the run's day or a later one.")
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test"]),
    help="With --prepared: whose targets are scored.  [default: test]",
)
@click.option("--output", required=True, help="The Parquet file; one that is there is replaced when all is scored.")
@click.option("--skip-bad-lines", is_flag=True, help="Leave out lines that are no sound request, and name them.")
@verify_option
@json_option
def score(
    run_directory: str,
    requests: str | None,
    prepared: str | None,
    split: Any,
    output: str,
    skip_bad_lines: bool,
    verify: bool,
    as_json: bool,
) -> None:
    r"""Write click probabilities of many requests, or of a split's targets, to a Parquet file; no server is needed.

    \b
    twin-tf score --run run --requests requests.jsonl --output scores.parquet
    twin-tf score --run run --prepared prepared --split test --output scores.parquet

    A line that is no sound request ends it, with the line's number, and nothing is written; --skip-bad-lines goes on.
    """
    if (requests is None) == (prepared is None):
        raise click.UsageError("give either --requests or --prepared")
    if requests is None:
        if skip_bad_lines:
            raise click.UsageError("--skip-bad-lines goes with --requests")
        from twin_tf.evaluation.split_scores import score_split

        result = score_split(run_directory, str(prepared), output, split or "test", verify=verify)
        show(result, as_json, f"{output}: {result['targets']:,} targets of {result['split']}")
        return
    if split is not None:
        raise click.UsageError("--split goes with --prepared")
    from twin_tf.cli.request_scores import score_requests

    result = score_requests(run_directory, requests, output, skip_bad_lines=skip_bad_lines, verify=verify)
    left = f"; bad lines left out: {result['bad_lines']:,}" if result["bad_lines"] else ""
    show(result, as_json, f"{output}: {result['candidates']:,} candidates of {result['requests']:,} requests{left}")
