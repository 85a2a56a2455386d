"""BigQuery tables through Google's real client, against a Storage Read API that runs in this process.

Without google-cloud-bigquery-storage (the extra `gcp`) the tests that need it are skipped, and say so.
"""

import datetime
import decimal
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from small_logs import schema

from beam_pipelines.raw_logs import bigquery_log, read_logs
from beam_pipelines.raw_logs.log_blocks import LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns, log_columns
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.events import LabelColumn

ADDRESS = "bigquery://shop.logs.events"
WANTED = LogColumns(
    "events",
    {"u": "int", "i": "string", "t": "int", "y": "int", "p": "float"},
    ("u", "i", "t", "y"),
    "t",
    "ms",
    LabelColumn("y"),
)
NOON = datetime.datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=datetime.timezone.utc)


def batch(*rows: tuple[int | None, str, int]) -> pa.RecordBatch:
    """Rows as BigQuery sends them: INT64, STRING, TIMESTAMP, BOOL, NUMERIC."""
    users, items, seconds = zip(*rows, strict=True)
    return pa.record_batch(
        {
            "u": pa.array(users, pa.int64()),
            "i": pa.array(items, pa.string()),
            "t": pa.array([NOON + datetime.timedelta(seconds=s) for s in seconds], pa.timestamp("us", tz="UTC")),
            "y": pa.array([s % 2 == 1 for s in seconds], pa.bool_()),
            "p": pa.array([decimal.Decimal(s) / 4 for s in seconds], pa.decimal128(38, 9)),
        }
    )


class ReadApi:
    """The two calls of the service; streams break off once after every `break_after` messages."""

    def __init__(self, streams: list[list[pa.RecordBatch]], break_after: int = 0) -> None:
        self.streams = {f"projects/p/locations/l/sessions/s/streams/{n}": batches for n, batches in enumerate(streams)}
        self.break_after = break_after
        self.sessions: list[Any] = []
        self.offsets: list[int] = []
        self.refusal: tuple[Any, str] | None = None

    def create_session(self, request: Any, context: Any) -> Any:
        from google.cloud.bigquery_storage_v1 import types

        if self.refusal:
            context.abort(*self.refusal)
        self.sessions.append(request)
        return types.ReadSession(name="s", streams=[types.ReadStream(name=name) for name in self.streams])

    def read_rows(self, request: Any, context: Any) -> Iterator[Any]:
        import grpc
        from google.cloud.bigquery_storage_v1 import types

        self.offsets.append(request.offset)
        done = sent = 0
        for record_batch in self.streams[request.read_stream]:
            done += record_batch.num_rows
            if done <= request.offset:
                continue
            if self.break_after and sent == self.break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
            arrow_schema = record_batch.schema.serialize().to_pybytes() if not sent else b""
            sent += 1
            yield types.ReadRowsResponse(
                row_count=record_batch.num_rows,
                arrow_schema=types.ArrowSchema(serialized_schema=arrow_schema),
                arrow_record_batch=types.ArrowRecordBatch(
                    serialized_record_batch=record_batch.serialize().to_pybytes()
                ),
            )


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    storage = pytest.importorskip(
        "google.cloud.bigquery_storage_v1",
        reason="NOT CHECKED: reading BigQuery needs google-cloud-bigquery-storage (pip install 'twin-tf[gcp]')",
    )
    import grpc
    from google.cloud.bigquery_storage_v1 import types
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    started: list[Any] = []

    def start(api: ReadApi) -> ReadApi:
        calls = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                api.create_session, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                api.read_rows, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
            ),
        }
        server = grpc.server(futures.ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("google.cloud.bigquery.storage.v1.BigQueryRead", calls),)
        )
        channel = grpc.insecure_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        started.extend((server, channel))
        client = storage.BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
        monkeypatch.setattr(bigquery_log, "_client", lambda: client)
        return api

    yield start
    for server, channel in zip(started[::2], started[1::2], strict=True):
        channel.close()
        server.stop(None)


def read(pattern: str = ADDRESS) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]], LogReport]:
    report = LogReport()
    found, dead = [], []
    (file,) = read_logs.match_files("events", [pattern])
    for chunk in read_logs.plan_chunks(file, WANTED):
        for block in read_logs.read_chunk(WANTED, chunk):
            report.add_block(chunk, block)
            found += block.table.to_pylist()
            dead += [(report.line_of(0, chunk.number, d.line), d.reason, d.payload) for d in block.dead]
    return found, dead, report


def test_a_session_asks_for_the_wanted_columns_and_rows_once(serve: Any) -> None:
    from google.cloud.bigquery_storage_v1 import types

    api = serve(ReadApi([[batch((1, "a", 0))], [batch((2, "b", 1))], []]))
    where = "day >= DATE '2024-05-01' AND y IN (0, 1)"
    found, _, _ = read(f"{ADDRESS}?where={quote(where)}&project=payer")
    assert sorted(row["u"] for row in found) == [1, 2]
    (request,) = api.sessions
    assert request.parent == "projects/payer"
    session = request.read_session
    assert session.table == "projects/shop/datasets/logs/tables/events"
    assert session.data_format == types.DataFormat.ARROW
    assert list(session.read_options.selected_fields) == ["u", "i", "t", "y", "p"]
    assert session.read_options.row_restriction == where
    assert request.max_stream_count == 0


def test_rows_take_the_types_of_the_schema_and_bad_ones_are_named(serve: Any) -> None:
    serve(ReadApi([[batch((1, "a", 0), (None, "b", 1))], [batch((3, "c", 2)), batch((4, "", 3), (5, "e", 5))]]))
    found, dead, report = read()
    noon = 1_714_564_800_123
    assert found == [
        {"u": 1, "i": "a", "t": noon, "y": 0, "p": 0.0},
        {"u": 3, "i": "c", "t": noon + 2000, "y": 0, "p": 0.5},
        {"u": 5, "i": "e", "t": noon + 5000, "y": 1, "p": 1.25},
    ]
    assert [(line, reason) for line, reason, _ in dead] == [(2, "no u"), (4, "no i")]
    assert '"i": "b"' in dead[0][2]
    assert (report.read, report.dead, report.earliest, report.latest) == (5, 2, noon, noon + 5000)
    assert report.columns_seen == {"u", "i", "t", "y", "p"}


def test_a_connection_that_breaks_goes_on_at_its_row(serve: Any) -> None:
    stream = [batch(*((n, "x", n) for n in range(start, start + 10))) for start in range(0, 50, 10)]
    api = serve(ReadApi([stream], break_after=2))
    found, dead, _ = read()
    assert [row["u"] for row in found] == list(range(50))
    assert dead == []
    assert api.offsets == [0, 20, 40]


def test_small_batches_are_read_together_and_large_streams_in_blocks(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_pipelines.raw_logs.parquet_log.BATCH_ROWS", 25)
    serve(ReadApi([[batch((n, "x", n)) for n in range(60)]]))
    (file,) = read_logs.match_files("events", [ADDRESS])
    (chunk,) = read_logs.plan_chunks(file, WANTED)
    assert [block.read for block in read_logs.read_chunk(WANTED, chunk)] == [25, 25, 10]


def test_what_bigquery_refuses_is_one_sentence(serve: Any) -> None:
    api = serve(ReadApi([]))
    import grpc

    message = "request failed: The following selected fields do not exist in the table schema: p"
    api.refusal = (grpc.StatusCode.INVALID_ARGUMENT, message)
    assert read()[2].fault(WANTED, 1.0) == f"the events log cannot be used: {ADDRESS}: {message}"
    api.refusal = (grpc.StatusCode.INTERNAL, "later")
    with pytest.raises(Exception, match="later"):
        read()


def test_an_empty_table_is_an_empty_log(serve: Any) -> None:
    serve(ReadApi([[]]))
    assert read()[2].fault(WANTED, 1.0) == "the events log is empty: its files hold no rows"


def test_tables_stand_beside_files(serve: Any, tmp_path: Path) -> None:
    serve(ReadApi([]))
    (tmp_path / "e.csv").write_text("u\n1\n")
    files = read_logs.match_files("events", [ADDRESS, f"{tmp_path}/*.csv", ADDRESS])
    assert files == [LogFile(0, f"{tmp_path}/e.csv", 4), LogFile(1, ADDRESS, 0)]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("bigquery://shop.events", "a BigQuery table is written bigquery://project.dataset.table"),
        ("bigquery://shop.logs.events/x", "a BigQuery table is written bigquery://project.dataset.table"),
        ("bigquery://shop.logs.events?were=x", "unknown option 'were'; did you mean 'where'?"),
        ("bigquery://shop.logs.events?where", "what follows the '\\?' must be where=... or project=..., joined by '&'"),
        ("bigquery://shop.logs.events?where=a&where=b", "an option is there twice; join row restrictions with AND"),
    ],
)
def test_an_address_that_is_none_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("...", "[.]{3}")):
        read_logs.match_files("events", [pattern])


def test_projects_of_a_domain_are_known() -> None:
    found = bigquery_log.parse_address("bigquery://example.com:shop.logs.2024 events")
    assert (found.project, found.dataset, found.table) == ("example.com:shop", "logs", "2024 events")
    assert (found.where, found.payer) == ("", "example.com:shop")


def test_a_missing_client_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "google.cloud.bigquery_storage_v1", None)
    with pytest.raises(ConfigError, match=r"pip install 'twin-tf\[gcp\]'"):
        read_logs.match_files("events", [ADDRESS])


def test_streams_need_to_know_the_columns() -> None:
    with pytest.raises(ConfigError, match="which columns to read must be known"):
        read_logs.plan_chunks(LogFile(0, ADDRESS, 0))
    assert log_columns(schema(), "events").types
