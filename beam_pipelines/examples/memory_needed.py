"""What memory a run needs, about, said before it starts; docs/dataflow.md has the same formula for people."""

from beam_pipelines.raw_logs.log_blocks import LogFile
from beam_pipelines.raw_logs.log_size import estimated_rows

EVENTS_A_SHARD = 1_000_000
"""That do well."""
MOST_EVENTS_A_SHARD = 5_000_000
"""Beyond this a run says that its shards are large."""
BYTES_HELD = 340
"""Of an event, in the worker thread that writes its shard, with three stored cross features: measured."""


def large_shards(files: list[LogFile], shards: int) -> str | None:
    """The sentence that says what a worker will hold, and what to do, where shards are large; None where they are not.

    Args:
        files: of the events log.
        shards: of the run.
    """
    rows = estimated_rows(files)
    if rows is None or rows <= MOST_EVENTS_A_SHARD * shards:
        return None
    held = rows / shards
    return (
        f"the events log has about {rows:,} rows, so one worker thread holds about {held:,.0f} events of a shard, some "
        f"{held * BYTES_HELD / 2**30:,.1f} GB, while it writes them; --shards={-(-rows // EVENTS_A_SHARD)} needs "
        f"{EVENTS_A_SHARD * BYTES_HELD / 2**30:,.1f} GB a thread"
    )
