"""An exported run gives the trainer's numbers in the C++ runtime, and its self-check finds every stale table."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from export.contract.signatures import request_contract
from export.saved_model.exporter import export_run, export_text
from export.session.child_process import child_environment
from tests.export.toy_servable import in_cpp
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from twin_tf.core.dataclass_yaml import ConfigError, to_plain
from twin_tf.core.keras_api import tf
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.records.format import Manifest
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration

UNKNOWN_IDS = (0, -1, 7, 2**62, -(2**63))


@pytest.fixture(scope="module")
def model():
    return small_run.small_model(shared_root())


@pytest.fixture(scope="module")
def run(model):
    return load_run(shared_root() / "run")


@pytest.fixture(scope="module")
def prepared(model):
    return shared_root() / "prepared"


def random_requests(run, users, columns, candidates, seed=1):
    """Requests by the contract alone: known and unknown ids, every index and some out of range, no or full history."""
    generator = np.random.default_rng(seed)

    def ids(shape):
        known = generator.choice(run.item_ids[2:], shape)
        return np.where(generator.random(shape) < 0.1, generator.choice(UNKNOWN_IDS, shape), known)

    def indices(name, shape):
        return generator.integers(-1, run.info.cardinalities[name] + 2, shape).astype(np.int32)

    times = np.sort(1_704_067_200_000 + generator.integers(0, 30 * 86_400_000, (users, columns)), axis=1)
    length = generator.integers(0, columns + 1, users).astype(np.int32)
    length[:2] = [0, columns]
    count = generator.integers(0, candidates + 1, users).astype(np.int32)
    count[:3] = [candidates, 1, 0]
    request = {
        "history_item": ids((users, columns)),
        "history_length": length,
        "history_time": times,
        "request_time": times[:, -1] + generator.integers(0, 10 * 86_400_000, users),
        "candidate_item": ids((users, candidates)),
        "candidate_count": count,
    }
    request |= {f"history_{f.name}": indices(f.name, (users, columns)) for f in run.schema.stored_cross}
    request |= {f"user_{f.name}": indices(f.name, users) for f in run.schema.user}
    request |= {f"candidate_{f.name}": indices(f.name, (users, candidates)) for f in run.schema.requested_candidate}
    return request | {f"context_{f.name}": indices(f.name, users) for f in run.schema.stored_context}


def training_batch(run, request):
    """The same requests as the trainer sees them: rows by dictionary, a time and an end for each target."""
    row = {int(one): number for number, one in enumerate(run.item_ids) if number >= 2}
    schema, shape = run.schema, request["candidate_item"].shape

    row_numbers = np.vectorize(lambda one: row.get(int(one), 1), otypes=[np.int32])
    catalogue, given = run.model.item_embedding.item_features.numpy()[:, -1], request["candidate_click_rate"]

    def rows(ids):
        return tf.constant(row_numbers(ids))

    def spread(values, dtype):
        return tf.constant(np.repeat(values[:, None], shape[1], axis=1), dtype)

    history = History(
        item=rows(request["history_item"]),
        time=tf.constant(request["history_time"]),
        cross={f.name: tf.constant(request[f"history_{f.name}"]) for f in schema.stored_cross},
        length=tf.constant(request["history_length"]),
        count=tf.ones_like(request["history_item"], tf.int32),
    )
    targets = Targets(
        item=rows(request["candidate_item"]),
        time=spread(request["request_time"], tf.int64),
        end=spread(request["history_length"], tf.int32),
        context={
            **{f.name: spread(request[f"context_{f.name}"], tf.int32) for f in schema.stored_context},
            "slot": tf.constant(request["candidate_slot"]),
            "click_rate": tf.constant(np.where(given == 0, catalogue[row_numbers(request["candidate_item"])], given)),
            "place": tf.fill(shape, 4),  # served as 2
        },
        count=tf.constant(request["candidate_count"]),
    )
    user = {f.name: tf.constant(request[f"user_{f.name}"]) for f in schema.user}
    return Batch(history, targets, user, tf.zeros([len(shape)], tf.int64), tf.zeros(shape), tf.zeros(shape))


def unknown_in(run, request):
    known = set(run.item_ids[2:].tolist())
    counts = []
    for user, (length, count) in enumerate(zip(request["history_length"], request["candidate_count"], strict=True)):
        real = [*request["history_item"][user, :length], *request["candidate_item"][user, :count]]
        counts.append(sum(int(one) not in known for one in real))
    return counts


@pytest.fixture(scope="module")
def served(model, run, tmp_path_factory):
    """Requests of several shapes, and what the C++ runtime says to each by `serving_default` and `retrieve`."""
    shapes = [(7, 40, 6), (5, 350, 3), (4, 1, 1), (3, 12, 30)]
    requests = [random_requests(run, *shape, seed=seed) for seed, shape in enumerate(shapes)]
    calls = [(model, name, request) for request in requests for name in ("serving_default", "retrieve")]
    answers = in_cpp(tmp_path_factory.mktemp("served"), calls)
    return list(zip(requests, answers[::2], answers[1::2], strict=True))


def test_a_run_answers_requests_as_the_served_model_does(run, served):
    for request, answer, _ in served:
        np.testing.assert_allclose(run.predict(request), answer["probability"], atol=1e-5)
    whole = served[0][0]
    full = {"history_length": np.full(7, 40, np.int32), "candidate_count": np.full(7, 6, np.int32)}
    few = {name: value for name, value in whole.items() if name not in full}
    np.testing.assert_array_equal(run.predict(few), run.predict(whole | full))
    with pytest.raises(ValueError, match="the request lacks history_time, request_time"):
        run.predict({name: v for name, v in whole.items() if name not in ("request_time", "history_time")})


def test_served_probabilities_are_the_trainer_s(run, served):
    for request, answer, _ in served:
        expected = tf.sigmoid(run.model(training_batch(run, request))).numpy()
        real = np.arange(expected.shape[1]) < request["candidate_count"][:, None]
        np.testing.assert_allclose(answer["probability"][real], expected[real], atol=1e-5)
        assert np.ptp(expected[real]) > 0.01
        assert not answer["probability"][~real].any()
        assert answer["probability"].dtype == np.float32


def test_unknown_ids_are_counted_among_the_real_ones(run, served):
    total = 0
    for request, answer, _ in served:
        assert answer["unknown_items"].tolist() == unknown_in(run, request)
        total += answer["unknown_items"].sum()
    assert total > 20


def test_answers_carry_the_versions(run, served):
    for request, *answers in served:
        for answer in answers:
            for name in ("weights_version", "table_version"):
                assert answer[name].tolist() == [run.info.weights_version] * len(request["request_time"])


def test_retrieve_returns_the_trainer_s_retrieved(run, served):
    for request, _, answer in served:
        found = run.model.score(training_batch(run, request)).long_term.retrieved
        real = np.arange(answer["valid"].shape[1]) < request["candidate_count"][:, None]
        valid = answer["valid"]
        assert not valid[~real].any()
        for user, candidate in zip(*np.nonzero(real), strict=True):
            positions = answer["position"][user, candidate][valid[user, candidate]]
            trained = found.position[user, candidate].numpy()[found.valid[user, candidate].numpy()]
            assert sorted(positions) == sorted(trained)
            length = int(request["history_length"][user])
            assert len(positions) == min(40, length, 300)
            assert ((positions >= max(0, length - 300)) & (positions < length)).all()
            items = answer["item"][user, candidate][valid[user, candidate]]
            assert items.tolist() == request["history_item"][user, positions].tolist()
        assert (answer["position"][~valid] == -1).all()
        assert (answer["item"][~valid] == -1).all()
        assert not answer["score"][~valid].any()


def test_what_happened_at_the_moment_of_the_request_or_after_it_is_not_seen(model, run, tmp_path):
    request = random_requests(run, 4, 10, 3)
    request["history_length"][:] = [10, 10, 6, 3]
    request["request_time"] = request["history_time"][:, 5] + np.array([0, 1, 0, 10**9])
    cut = request | {"history_length": np.array([5, 6, 5, 3], np.int32)}
    fresh, past = in_cpp(tmp_path, [(model, "serving_default", given) for given in (request, cut)])
    np.testing.assert_allclose(fresh["probability"], past["probability"], atol=2e-6)


def test_a_request_scores_the_same_alone_in_company_and_wider(model, served, tmp_path):
    request, answer, _ = served[0]
    calls = [(model, "serving_default", {name: value[[3]] for name, value in request.items()})]
    wide = {
        name: np.pad(value, [(0, 0), (0, 9)], constant_values=3) if value.ndim == 2 else value
        for name, value in request.items()
    }
    alone, padded = in_cpp(tmp_path, [*calls, (model, "serving_default", wide)])
    np.testing.assert_allclose(alone["probability"][0], answer["probability"][3], atol=2e-6)
    np.testing.assert_allclose(padded["probability"][:, :6], answer["probability"], atol=2e-6)
    assert not padded["probability"][:, 6:].any()


def test_shapes_that_do_not_fit_are_refused_with_the_rule(model, run, tmp_path):
    request = random_requests(run, 3, 10, 4)
    empty = {name: value[:, :0] for name, value in request.items() if name.startswith("history_") and value.ndim == 2}
    faults = {
        "history_time must have the shape of history_item": {"history_time": request["history_time"][:, :9]},
        "history_play_time must have the shape of history_item": {"history_play_time": np.ones((3, 11), np.int32)},
        "candidate_item must have as many users as history_item": {"candidate_item": request["candidate_item"][:2]},
        "history_length must have as many users as history_item": {"history_length": np.ones(4, np.int32)},
        "user_device must have as many users as history_item": {"user_device": np.ones(2, np.int32)},
        "context_shown_at must have as many users as history_item": {"context_shown_at": np.ones(1, np.int32)},
        "candidate_slot must have the shape of candidate_item": {"candidate_slot": np.ones((3, 5), np.int32)},
        "history_item must have 2 dimensions (users, behaviours)": {"history_item": request["history_item"][0]},
        "candidate_item must have 2 dimensions (users, candidates)": {"candidate_item": np.ones((3, 4, 1), np.int64)},
        "user_device must have one dimension (users)": {"user_device": np.array(1, np.int32)},
        "a user without history sends one column and history_length 0": empty,
    }
    names = ("serving_default", "retrieve")
    calls = [(model, name, {**request, **fault}) for fault in faults.values() for name in names]
    item = run.item_ids[None, 2:5]
    features = {f"item_{name}": np.ones((1, 3), np.int32) for name in run.schema.inherent_slices}
    video = next(iter(features))
    others = {
        "item must have 2 dimensions (users, items)": ("item_projection", {"item": item[0]}),
        "probe must have one dimension (users)": ("self_check", {"probe": np.array([[1]], np.int32)}),
        f"{video} must have the shape of item": (
            "live_projection", {"item": item, **features, video: np.ones((1, 2), np.int32)},
        ),
        f"{video} must have 2 dimensions (users, items)": (
            "live_projection", {"item": item, **features, video: np.ones((1, 3, 1), np.int32)},
        ),
    }  # fmt: skip
    answers = in_cpp(tmp_path, [*calls, *((model, *call) for call in others.values())])
    rules = [rule for rule in faults for _ in names] + list(others)
    assert len(rules) == len(answers)
    for rule, (status, sentence) in zip(rules, answers, strict=True):
        assert status == "INVALID_ARGUMENT"
        assert rule in sentence


def test_indices_out_of_their_tables_are_unknown(model, run, tmp_path):
    request = random_requests(run, 4, 30, 5)
    names = [name for name, contract in request_contract(run.schema).items() if contract.dtype == "int32"]
    names = [name for name in names if name not in ("history_length", "candidate_count")]
    assert {name.split("_")[0] for name in names} == {"history", "user", "context", "candidate"}
    far = {name: np.resize(np.array([-(2**31), 2**31 - 1, -1, 10**6], np.int32), request[name].shape) for name in names}
    unknown = {name: np.ones_like(request[name]) for name in names}
    one, other, as_it_was = in_cpp(
        tmp_path, [(model, "serving_default", {**request, **given}) for given in (far, unknown, {})]
    )
    np.testing.assert_array_equal(one["probability"], other["probability"])
    assert (one["probability"] != as_it_was["probability"]).any()


def test_item_projection_is_k_h_w_h_of_known_items_alone(model, run, tmp_path):
    item = np.stack([run.item_ids[[2, 5, -1]], [UNKNOWN_IDS[0], run.item_ids[9], UNKNOWN_IDS[4]]])
    (answer,) = in_cpp(tmp_path, [(model, "item_projection", {"item": item})])
    assert answer["found"].tolist() == [[True, True, True], [False, True, False]]
    rows = [[2, 5, len(run.item_ids) - 1], [1, 9, 1]]
    items = np.concatenate(
        [table.numpy()[run.model.item_embedding.item_features.numpy()[rows][..., i]] for i, table in
         enumerate(run.model.item_embedding.tables)], axis=-1
    )  # fmt: skip
    kernel = run.model.long_term.relevance.item_kernel.numpy()
    np.testing.assert_allclose(answer["projection"], items @ kernel, atol=1e-5)


def test_the_gate_lets_the_export_through(model):
    command = [sys.executable, "-m", "export.gate.validate", str(model), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    report = json.loads(done.stdout)
    assert report["ok"], done.stderr
    figures = {check["name"]: check["figures"] for check in report["checks"]}
    assert 50 <= figures["parity"]["requests"] <= 60
    assert figures["parity"]["served_minus_trained_max"] <= 1e-5
    assert figures["self_check"]["rows"] == 802
    assert figures["warm_up"]["requests"] == 3 + 2 * 2 + 1


def test_the_catalogue_is_data_not_graph(model):
    """No constant of the graph grows with the items: a refresh of the variables renews everything."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = (model / "saved_model.pb").read_bytes()
    assert len(content) < 5_000_000
    saved = saved_model_pb2.SavedModel.FromString(content)
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    constants = [node.attr["value"].tensor for node in nodes if node.op == "Const"]
    sizes = [constant.ByteSize() for constant in constants if constant.dtype != tf.string.as_datatype_enum]
    assert len(sizes) > 100
    assert max(sizes) < 802


def test_the_inputs_are_the_contract_s(model, run):
    loaded = tf.saved_model.load(str(model))
    for name in ("serving_default", "retrieve"):
        _, inputs = loaded.signatures[name].structured_input_signature
        assert {key: (spec.dtype.name, spec.shape.rank) for key, spec in inputs.items()} == {
            key: (contract.dtype, contract.rank) for key, contract in request_contract(run.schema).items()
        }


def test_the_description_says_what_was_exported(model, run):
    description = json.loads((model / "assets.extra/export.json").read_text())
    assert description["items"] == 800  # without the rows of padding and of the unknown
    assert description["projection_width"] == 32
    assert description["weights_version"] == description["table_version"] == run.info.weights_version
    assert description["schema_fingerprint"] == run.schema.fingerprint
    assert 50 <= description["probes"] <= 60
    assert description["run"] == "run"
    assert description["max_candidates"] == 2000
    assert description["model"] == to_plain(run.config.model, defaults=True)
    assert description["signatures"] == [
        "item_projection", "live_projection", "retrieve", "self_check", "serving_default",
    ]  # fmt: skip


def test_the_description_says_what_the_table_is_worth(model, run):
    description = json.loads((model / "assets.extra/export.json").read_text())
    assert description["table_dtype"] == "float32"
    assert description["table_bytes"] == 802 * 32 * 4
    assert description["table_overlap_loss"] == description["table_score_change"] == 0
    with np.load(model / "assets.extra/probes.npz", allow_pickle=False) as file:
        requests = {name.removeprefix("input/"): file[name] for name in file.files if name.startswith("input/")}
    known = set(run.item_ids[2:].tolist())
    items, rows, left = [], 0, 0
    for user, (length, count) in enumerate(zip(requests["history_length"], requests["candidate_count"], strict=True)):
        behaviours = requests["history_item"][user, :length].tolist()
        shown = requests["candidate_item"][user, :count].tolist()
        items += behaviours + shown
        rows += len(set(behaviours)) + len(shown)
        left += len(set(behaviours) - known) + len(shown)
    assert description["coverage"] == pytest.approx(np.mean([item in known for item in items]))
    assert description["projection_saved_rows"] == pytest.approx(1 - left / rows)
    assert 0.5 < description["projection_saved_flops"] < description["projection_saved_rows"] < 1
    text = export_text(model, description)
    assert text.startswith(f"{model}: 800 items, ")
    assert f"knows {description['coverage']:.2%} of the probes' items" in text
    assert "rounding" not in text


def test_probes_are_real_moments_with_real_candidates(model, run):
    with np.load(model / "assets.extra/probes.npz", allow_pickle=False) as file:
        probes = dict(file)
    assert {name.removeprefix("input/") for name in probes if name.startswith("input/")} == set(
        request_contract(run.schema)
    )
    assert probes["input/history_length"].max() > 100
    assert len(np.unique(probes["input/history_length"])) > 20
    length = probes["input/history_length"]
    for row, (count, end) in enumerate(zip(probes["input/candidate_count"], length, strict=True)):
        assert count >= 1
        assert not probes["expected/probability"][row, count:].any()
        assert (probes["expected/probability"][row, :count] > 0).all()
        assert (probes["input/history_time"][row, :end] < probes["input/request_time"][row]).all()


def test_an_existing_output_is_left_alone(run, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine").touch()
    with pytest.raises(ConfigError, match=r"\S+ exists and is not empty; name a new directory or remove it"):
        export_run(run.directory, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


def test_what_is_no_finished_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a run: it has no run\.json"):
        export_run(tmp_path, tmp_path / "model")


def test_prepared_data_that_do_not_fit_leave_nothing_behind(run, prepared, tmp_path):
    with pytest.raises(ConfigError, match="no prepared data"):
        export_run(run.directory, tmp_path / "model", tmp_path / "nowhere")
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    small_run.sign_prepared(small_run.with_splits(Manifest.load(copy), test=()))
    with pytest.raises(ConfigError, match="the test split of .* has no records"):
        export_run(run.directory, tmp_path / "model", copy)
    other = small_run.of_another_schema(prepared, tmp_path / "other")
    with pytest.raises(
        ConfigError, match="was prepared with another contract than the run .*: its name is 'another', not"
    ):
        export_run(run.directory, tmp_path / "model", other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "prepared"]
