"""Models of every kind are served as they score, with tables of every type, and one graph serves every catalogue."""

import shutil

import numpy as np
import pytest

from export.saved_model.exporter import make_servable
from export.saved_model.projection_table import ProjectionTable
from export.saved_model.servable import Servable
from tests.export.toy_servable import as_trained, in_cpp, make_requests, make_toy
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
BEYOND_PAPER = {"null_key": True, "graded_counts": (1.0, 0.5), "equality_bias": True}
EVERYTHING = {
    **BEYOND_PAPER,
    "topics": True,
    "decoupled_embeddings": True,
    "decoupled_dim": 3,
    "consistency": "auxiliary",
    "short_term_length": 0,
}
KINDS = {"float16": EVERYTHING, "bfloat16": {**BEYOND_PAPER, "search": "din"}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Type of the table -> (toy, servable, model directory), each exported when it is first asked for."""
    made, root = {}, tmp_path_factory.mktemp("kinds")

    def give(table):
        if table not in made:
            toy = make_toy(**KINDS[table])
            servable = Servable(toy.model, toy.schema, toy.item_ids, 11, 12, table)
            tf.saved_model.save(servable, str(root / table), signatures=servable.signatures)
            made[table] = toy, servable, root / table
        return made[table]

    return give


def features_of(toy, rows):
    """The inputs `item_<feature>` of `live_projection` for items of the catalogue."""
    found = toy.features[rows]
    return {
        f"item_{name}": found[..., columns.start]
        if toy.schema.feature(name).multi_valued is None
        else found[..., columns]
        for name, columns in toy.schema.inherent_slices.items()
    }


def retrieved_of(position, valid):
    return [sorted(p[v].tolist()) for p, v in zip(position.reshape(-1, 8), valid.reshape(-1, 8), strict=True)]


@pytest.mark.parametrize(
    "table", [kind if kind == "bfloat16" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_every_kind_of_model_is_served_as_it_scores_with_the_rounded_table(exported, table, tmp_path):
    toy, servable, model = exported(table)
    request = make_requests(toy)
    served, retrieved, check = in_cpp(
        tmp_path,
        [
            (model, "serving_default", request),
            (model, "retrieve", request),
            (model, "self_check", {"probe": np.array([-1, 5], np.int32)}),
        ],
    )
    scores = toy.model.score(as_trained(toy, request), tf.convert_to_tensor(servable.projection.table))
    np.testing.assert_allclose(served["probability"], tf.sigmoid(scores.logit), atol=1e-5)
    assert np.ptp(served["probability"]) > 0.1
    true = scores.long_term.retrieved
    shape = retrieved["valid"].shape
    position, valid = (np.broadcast_to(one, shape) for one in (true.position, true.valid))
    assert retrieved_of(retrieved["position"], retrieved["valid"]) == retrieved_of(position, valid)
    assert retrieved["unknown_items"].tolist() == served["unknown_items"].tolist()
    assert served["unknown_items"].sum() > 5
    assert check["disagreement"].max() < 1e-5
    assert check["checked"].tolist() == [62, 62]
    for answer in (served, retrieved, check):
        assert set(answer["weights_version"].tolist()) == {11}
        assert set(answer["table_version"].tolist()) == {12}


@pytest.mark.parametrize("table", KINDS)
def test_the_features_of_an_unknown_item_project_to_the_row_that_the_table_would_hold(exported, table, tmp_path):
    toy, servable, model = exported(table)
    rows = np.stack([np.arange(2, 12), np.arange(52, 62)])
    item = 3 + np.arange(20).reshape(2, 10)  # nobody's ids
    given = features_of(toy, rows)
    mixed = {name: value.copy() for name, value in given.items()}
    for value in mixed.values():
        value[0, :3] = 0  # three items without a feature: unknown, as in item_projection
    mixed["item_video"][1, 4] = 0  # one of unknown video and known author
    expected = features_of(toy, rows)
    expected["item_video"][1, 4] = 1
    held, live, some, other = in_cpp(
        tmp_path,
        [
            (model, "item_projection", {"item": toy.item_ids[rows]}),
            (model, "live_projection", {"item": item, **given}),
            (model, "live_projection", {"item": np.where(np.arange(10) < 6, item, toy.item_ids[rows]), **mixed}),
            (model, "live_projection", {"item": item, **expected}),
        ],
    )
    assert held["found"].all() and not live["found"].any() and live["live"].all()
    exact = toy.model.project_items(tf.constant(rows.ravel())).numpy().reshape(held["projection"].shape)
    np.testing.assert_array_equal(held["projection"], servable.projection.rounded(exact))
    np.testing.assert_allclose(live["projection"], held["projection"], rtol=EPSILON[table], atol=1e-6)
    assert (live["projection"] == held["projection"]).mean() > 0.9
    assert some["found"].tolist() == [[False] * 6 + [True] * 4] * 2
    assert some["live"].tolist() == [[False] * 3 + [True] * 3 + [False] * 4, [True] * 6 + [False] * 4]
    assert (some["projection"][0, :3] == servable.projection.rows(tf.constant(1)).numpy()).all()
    for place in ((0, 5), (1, 0), (1, 3)):
        np.testing.assert_array_equal(some["projection"][place], live["projection"][place])
    np.testing.assert_array_equal(some["projection"][1, 4], other["projection"][1, 4])
    assert (some["projection"][1, 4] != live["projection"][1, 4]).any()
    np.testing.assert_array_equal(some["projection"][:, 6:], held["projection"][:, 6:])


def test_one_graph_serves_new_weights_over_another_catalogue(exported, tmp_path):
    _, servable, model = exported("float16")
    copy = shutil.copytree(model, tmp_path / "refreshed")
    grown = make_toy(items=85, videos=75, seed=2, **EVERYTHING)
    request = make_requests(grown, seed=4)
    fresh = Servable(grown.model, grown.schema, grown.item_ids, 21, 22, "float16")
    fresh.write_variables(copy)
    assert (copy / "saved_model.pb").read_bytes() == (model / "saved_model.pb").read_bytes()
    assert not (copy / "fingerprint.pb").exists()
    assert sorted(path.name for path in (copy / "variables").iterdir()) == [
        "variables.data-00000-of-00001",
        "variables.index",
    ]
    served, before, check, known = in_cpp(
        tmp_path / "calls",
        [
            (copy, "serving_default", request),
            (model, "serving_default", request),
            (copy, "self_check", {"probe": np.array([-1], np.int32)}),
            (copy, "item_projection", {"item": grown.item_ids[None, 2:]}),
        ],
    )
    scores = grown.model.score(as_trained(grown, request), tf.convert_to_tensor(fresh.projection.table))
    np.testing.assert_allclose(served["probability"], tf.sigmoid(scores.logit), atol=1e-5)
    assert served["weights_version"].tolist() == [21] * 6 and served["table_version"].tolist() == [22] * 6
    assert (before["unknown_items"] > served["unknown_items"]).any()
    assert check["checked"].tolist() == [87] and check["disagreement"][0] < 1e-5
    assert known["found"].all()
    np.testing.assert_array_equal(known["projection"][0], fresh.projection.rows(tf.range(2, 87)))


def test_variables_of_another_network_are_refused_and_nothing_is_written(exported, tmp_path):
    _, _, model = exported("bfloat16")
    copy = shutil.copytree(model, tmp_path / "model")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    others = {
        r"projection/table is bfloat16 .*, here it is float32": (make_toy(search="din"), "float32"),
        r"its variable \S+ is .*; export the run as a whole": (make_toy(search="din", head_size=5), "bfloat16"),
        r"its variable weights/\S*kernel is float32 ": (make_toy(search="din", short_term_length=0), "bfloat16"),
    }
    for sentence, (toy, table) in others.items():
        servable = Servable(toy.model, toy.schema, toy.item_ids, 1, 1, table)
        with pytest.raises(ConfigError, match=f"is a graph of another network: .*{sentence}"):
            servable.write_variables(copy)
        assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("table", ["float32", "float16", "bfloat16"])
def test_the_self_check_allows_the_rounding_and_no_more(table):
    toy = make_toy(seed=3)
    projection = ProjectionTable(toy.model, table)
    probe = tf.constant([-1])

    def disagreement():
        return float(projection.disagreement(toy.model, probe)[0])

    sound, kernel = projection.table.numpy(), toy.model.long_term.relevance.item_kernel
    assert disagreement() < 1e-6
    if table != "float32":
        largest = np.abs(toy.model.projection_table().numpy() - sound.astype(np.float32)).max()
        assert largest > 1e-4  # the rounding itself is beyond the tolerance
    two_steps = np.nextafter(np.float16(sound[9, 4]), np.float16(9)) if table == "float16" else sound[9, 4]
    changed = sound.copy()
    changed[9, 4] = two_steps + (2 * abs(float(sound[9, 4])) + 1) * EPSILON.get(table, 1e-3)
    projection.table.assign(changed)
    assert disagreement() > 1e-4
    changed[9, 4] = np.nan
    projection.table.assign(changed)
    assert disagreement() == np.inf
    projection.table.assign(sound)
    before = kernel.numpy()
    kernel.assign(before + 1e-3)  # less than a bfloat16 table can tell in one number, but not in all
    assert disagreement() > 1e-4
    kernel.assign(before)
    assert disagreement() < 1e-6


def test_projections_that_the_type_cannot_hold_are_refused():
    toy = make_toy()
    kernel = toy.model.long_term.relevance.item_kernel
    kernel.assign(kernel * 1e5)
    with pytest.raises(
        ConfigError, match=r"does not fit into a float16 table, whose largest number is 65504; set serving"
    ):
        ProjectionTable(toy.model, "float16")
    ProjectionTable(toy.model, "bfloat16")


def test_a_bfloat16_table_loses_nothing_where_the_model_multiplies_in_bfloat16():
    toy = make_toy(precision="bfloat16")
    batch = as_trained(toy, make_requests(toy))
    exact = toy.model.projection_table()
    rounded = tf.cast(exact, tf.bfloat16)
    np.testing.assert_array_equal(toy.model.score(batch, rounded).logit, toy.model.score(batch, exact).logit)
    other = make_toy()
    exact = other.model.projection_table()
    rounded = tf.cast(exact, tf.bfloat16)
    assert (other.model.score(batch, rounded).logit.numpy() != other.model.score(batch, exact).logit.numpy()).any()


def test_no_large_variable_is_both_gathered_from_and_read_whole():
    """The server copies such a variable at each read: with a table of 512 MB, 512 MB a request."""
    run = load_run(small_run.small_run(shared_root()))
    servable = make_servable(run)
    kinds = {"ResourceGather": set(), "ReadVariableOp": set()}
    for function in servable.signatures.values():
        captured = {inside.name: outside for outside, inside in function.graph.captures}
        for operation in function.graph.get_operations():
            if operation.type in kinds:
                handle = captured[operation.inputs[0].name]
                kinds[operation.type] |= {place for place, v in enumerate(servable.variables) if v.handle is handle}
    catalogue = {place for place, v in enumerate(servable.variables) if v.shape.rank and v.shape[0] is None}
    gathered, read = (places & catalogue for places in kinds.values())
    assert gathered and read
    assert [servable.variables[place].shape for place in gathered & read] == []
