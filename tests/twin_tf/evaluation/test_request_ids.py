"""Requests that the log names, in evaluation: by a run that was trained without their column."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from beam_pipelines.build_examples import build_examples
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.evaluation.test_evaluate import all_scores
from tests.twin_tf.small_run import decode, read_json, small_config, small_logs
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.evaluation.evaluation_text import evaluation_text
from twin_tf.features.encoders import hash_id
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.records.record_reader import read_targets

pytestmark = pytest.mark.integration

NAMES = ["first", "second", "third", None]


@pytest.fixture(scope="module")
def named(manifest, tmp_path_factory):
    """The small data, from a log that says in which of three requests of its user each event was shown, or in none."""
    root = tmp_path_factory.mktemp("named")
    logs = small_logs(shared_root())
    events = pq.read_table(logs["events"].replace("*", ""))
    chosen = np.random.default_rng(4).integers(0, len(NAMES), len(events))
    pq.write_table(
        events.append_column("shown_in", pa.array([NAMES[number] for number in chosen])), root / "events.parquet"
    )
    schema = small_config("schema.events.request={column: shown_in, type: string}").schema
    arguments = {**logs, "events": str(root / "events.parquet")}
    return build_examples(schema, **arguments, output=root / "prepared", shards=2, progress=False)


def test_batches_are_the_same_and_ids_come_beside_them_where_asked_for(named, manifest):
    plain, found = ([*make_dataset(one, "test", 300, 4).as_numpy_iterator()] for one in (manifest, named))
    pairs = [*make_dataset(named, "test", 300, 4, requests=True).as_numpy_iterator()]
    for one, other, (batch, request) in zip(plain, found, pairs, strict=True):
        assert repr(one) == repr(other) == repr(batch)
        assert request.shape == batch.label.shape and request.dtype == np.int64
        real = np.arange(request.shape[1]) < batch.targets.count[:, None]
        assert not request[~real].any()


def test_the_ids_of_targets_are_read_in_the_order_of_the_files(named, manifest):
    ids = np.concatenate([record["target/request"] for record in decode(named, "test")])
    assert set(ids) == {0, *(hash_id(name) for name in NAMES if name)}
    targets = read_targets(named, ("valid", "test"))
    np.testing.assert_array_equal(targets.request[targets.of("test")], ids)
    assert len(read_targets(manifest, ("test",)).request) == 0


def test_targets_are_grouped_by_their_user_and_request(run, named):
    scored = all_scores(run, named, "test")
    rows = [
        row
        for record in decode(named, "test")
        for row in zip(
            np.full(len(record["target/item"]), record["user/id"]).tolist(),
            *(record[f"target/{name}"].tolist() for name in ("item", "time", "request")),
            strict=True,
        )
    ]
    columns = (scored.user, scored.item, scored.time, scored.request)
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(rows)
    groups = defaultdict(list)
    for place, (user, request) in enumerate(zip(scored.user.tolist(), scored.request.tolist(), strict=True)):
        if request:
            groups[user, request].append(place)
    judged = [places for places in groups.values() if len(set(scored.label[places])) == 2]
    result = evaluate_run(run, named.directory, "test")
    found = result["requests"]
    assert read_json(run / "evaluation-test.json")["requests"] == found
    assert found["grouped_by"] == "user and request id" and found["requests"] == len(judged) > 20
    assert found["without_id"] == int((scored.request == 0).sum()) > 0
    aucs = [roc_auc_score(scored.label[places], scored.probability[places]) for places in judged]
    assert found["auc"] == pytest.approx(np.mean(aucs))
    for yardstick in result["yardsticks"].values():
        assert (yardstick["requests"]["requests"], yardstick["requests"]["targets"]) == (len(judged), found["targets"])
        gap = yardstick["behind"]["request_auc"]["difference"]
        assert gap == pytest.approx(found["auc"] - yardstick["requests"]["auc"])
    assert f"targets without a request id, left out: {found['without_id']:,}" in evaluation_text(result)
