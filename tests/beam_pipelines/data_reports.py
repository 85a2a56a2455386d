"""Contents of `report.json` for the tests of the data report: one small and round, and extreme ones."""

import datetime
from typing import Any

import numpy as np

SPLITS = ("train", "valid", "test")


def small() -> dict[str, Any]:
    """Three days, three features, round numbers."""
    return {
        "schema": "my_shop",
        "fingerprint": "0123456789abcdef",
        "unit": "s",
        "counts": {
            "events_read": 1000,
            "events_kept": 900,
            "events_filtered": 96,
            "events_duplicated": 16,
            "events_dead": 4,
            "events_late": 0,
            "users": 100,
            "items": 50,
            "behaviours": 850,
            "targets": {"train": 80, "valid": 10, "test": 10},
            "targets_in_gaps": 0,
            "items_read": 51,
            "items_dead": 1,
            "users_read": 0,
            "users_dead": 0,
        },
        "split": {"valid_from": 1704240000, "test_from": 1704283200},
        "history_lengths": {
            "users": 100,
            "mean": 8.5,
            "median": 5,
            "p90": 13,
            "p99": 40,
            "longest": 44,
            "cut": 3,
            "max_length": 30,
            "bins": [[0, 1, 4], [1, 2, 11], [2, 4, 20], [4, 8, 30], [8, 16, 25], [16, 32, 7], [32, 64, 3]],
        },
        "days": [
            {"day": "2024-01-01", "behaviours": 300, "targets": 40, "clicks": 10},
            {"day": "2024-01-02", "behaviours": 250, "targets": 40, "clicks": 8},
            {"day": "2024-01-03", "behaviours": 300, "targets": 20, "clicks": 7},
        ],
        "unknown": {
            "train": {"product": 0.0, "price": 0.02, "dwell": 0.005},
            "valid": {"product": 0.01, "price": 0.02, "dwell": 0.006},
            "test": {"product": 0.125, "price": 0.02, "dwell": None},
        },
        "coverage": {
            "events": {"user_id": 1.0, "sku": 1.0, "ts": 1.0, "clicked": 1.0, "dwell_seconds": 0.91},
            "items": {"sku": 1.0, "price": 0.9999999},
            "users": {},
        },
        "bytes": {"train": 5000, "valid": 500, "test": 500, "histories": 10000},
        "events_stored": {"train": 500, "valid": 50, "test": 50, "histories": 847},
        "warnings": [],
        "splits": {
            "train": split((60, 80, 18, 0, 0, 0), [8, 12, 20, 20, 20], (4, 12)),
            "valid": split((8, 10, 3, 2, 2, 1), [2, 0, 3, 3, 2], (4, 9)),
            "test": split((9, 10, 4, 3, 4, 2), [4, 0, 2, 2, 2], (3, 11)),
        },
        "untrained": {
            "train": {"product": 0.0, "price": 0.0},
            "valid": {"product": 0.1, "price": 0.0},
            "test": {"product": 0.2, "price": 0.0},
        },
    }


def split(counts: tuple[int, ...], lengths: list[int], seen: tuple[int, int]) -> dict[str, Any]:
    """A split: its counts in order, its targets by what they see (bins of powers of two), median and p90."""
    names = ("users", "targets", "clicks", "strangers", "stranger_targets", "new_item_targets")
    edges = [0, *(1 << n for n in range(len(lengths)))]
    bins = [list(bin_) for bin_ in zip(edges, edges[1:], lengths, strict=False)]
    return {**dict(zip(names, counts, strict=True)), "bins": bins, "median": seen[0], "p90": seen[1]}


def busy(times: int = 100) -> dict[str, Any]:
    """The small report with so many times the targets, so that each day carries a figure."""
    report = small()
    for day in report["days"]:
        day.update(targets=day["targets"] * times, clicks=day["clicks"] * times)
    return report


def long_run(days: int = 400, features: int = 40, seed: int = 1) -> dict[str, Any]:
    """More than a year, many features and columns with long and foreign names, a long tail of histories."""
    rng = np.random.default_rng(seed)
    report = small()
    names = [
        f"feature_{n:02d}" if n % 4 else f"very_long_name_of_a_feature_that_goes_on_{n:02d}" for n in range(features)
    ]
    columns = [f"{name}$x_{{raw}}$ $" for name in names]
    first = datetime.date(2023, 3, 1)
    shown = [first + datetime.timedelta(days=n) for n in range(days) if n % 50 != 17]
    targets = rng.integers(200_000, 900_000, len(shown))
    rates = 0.04 + 0.01 * np.sin(np.arange(len(shown)) / 20) + 0.004 * rng.standard_normal(len(shown))
    report["days"] = [
        {"day": day.isoformat(), "behaviours": int(n) * 9, "targets": int(n), "clicks": int(n * rate)}
        for day, n, rate in zip(shown, targets, rates, strict=True)
    ]
    last = int((shown[-1] - datetime.date(1970, 1, 1)).days + 1) * 86_400_000
    report["unit"] = "ms"
    report["split"] = {"valid_from": last - 20 * 86_400_000, "test_from": last - 10 * 86_400_000}
    bins = [[0, 1, 812_345]] + [[1 << n, 2 << n, int(3_000_000 * np.exp(-((n - 7.5) ** 2) / 9))] for n in range(20)]
    users = sum(bin_[2] for bin_ in bins)
    report["history_lengths"] = {
        "users": users, "mean": 412.25, "median": 171, "p90": 1830, "p99": 20111, "longest": 1_004_112,
        "cut": 61_234, "max_length": 10_000, "bins": bins,
    }  # fmt: skip
    base = rng.random(features) ** 4 * 0.3
    report["unknown"] = {
        split: {name: float(min(1.0, share * grown)) for name, share in zip(names, base, strict=True)}
        for split, grown in zip(SPLITS, (0.6, 1.0, 1.4), strict=True)
    }
    report["coverage"] = {
        "events": {name: float(1 - rng.random() ** 3) for name in columns[: features // 2]},
        "items": {name: float(1 - rng.random() ** 5) for name in columns[features // 2 : -3]},
        "users": dict.fromkeys(columns[-3:], 1.0),
    }
    report["counts"]["targets"] = {"train": 200_000_000, "valid": 9_000_000, "test": 8_000_000}
    report["untrained"] = {
        name: {feature: float(rng.random() ** 6) * (1 - share) for feature, share in shares.items()}
        for name, shares in report["unknown"].items()
    }
    lengths = [int(900_000 * np.exp(-((n - 6) ** 2) / 8)) for n in range(15)]
    report["splits"] = {
        "train": split((3_000_000, sum(lengths), sum(lengths) // 25, 0, 0, 0), lengths, (62, 700)),
        "valid": split(
            (300_000, sum(lengths[2:]), sum(lengths) // 30, 9_000, 15_000, 250_000), [0, 0, *lengths[2:]], (80, 900)
        ),
        "test": split(
            (280_000, sum(lengths[3:]), sum(lengths) // 28, 12_000, 20_000, 400_000), [0, 0, 0, *lengths[3:]], (90, 999)
        ),
    }
    report["warnings"] = [
        "61,234 users have more than max_length behaviours.",
        "column 'a|b' of the items log is *mostly* empty.",
    ]
    return report


def nothing() -> dict[str, Any]:
    """Everything is zero or empty."""
    report = small()
    report["counts"] = {name: dict.fromkeys(SPLITS, 0) if name == "targets" else 0 for name in report["counts"]}
    report["split"] = {"valid_from": 0, "test_from": 0}
    report["history_lengths"] = {
        **dict.fromkeys(("users", "mean", "median", "p90", "p99", "longest", "cut"), 0), "max_length": 1, "bins": []
    }  # fmt: skip
    report.update(days=[], unknown={split: {} for split in SPLITS}, coverage={"events": {}, "items": {}, "users": {}})
    report.update(bytes={}, events_stored={}, untrained={})
    report["splits"] = {name: split((0, 0, 0, 0, 0, 0), [], (0, 0)) for name in SPLITS}
    return report


def flat() -> dict[str, Any]:
    """Nobody clicks, nothing is unknown, no column has a gap, nobody has a history, valid and test are empty."""
    report = small()
    for day in report["days"]:
        day["clicks"] = 0
    report["unknown"] = {split: {"product": 0.0 if split == "train" else None} for split in SPLITS}
    report["coverage"] = {"events": {"user_id": 1.0, "sku": 1.0}, "items": {}, "users": {"user_id": 1.0}}
    report["history_lengths"].update(median=0, p90=0, p99=0, longest=0, mean=0, cut=0, bins=[[0, 1, 100]])
    report["counts"]["targets"] = {"train": 100, "valid": 0, "test": 0}
    report["untrained"] = {}
    report["splits"] = {name: split((0, 0, 0, 0, 0, 0), [], (0, 0)) for name in SPLITS}
    report["splits"]["train"] = split((100, 100, 0, 0, 0, 0), [100], (0, 0))
    report["split"] = {"valid_from": 4_000_000_000, "test_from": 4_000_000_000}
    return report


def one_day() -> dict[str, Any]:
    """One target, on one day, clicked; one feature, always unknown; one column that is empty."""
    report = small()
    report["days"] = [{"day": "1970-01-01", "behaviours": 1, "targets": 1, "clicks": 1}]
    report["split"] = {"valid_from": 30_000, "test_from": 60_000}
    report["unknown"] = {split: {"x": 1.0} for split in SPLITS}
    report["coverage"] = {"events": {"x": 0.0}}
    report["untrained"] = {}
    report["splits"] = {name: split((0, 0, 0, 0, 0, 0), [], (0, 0)) for name in SPLITS}
    report["splits"]["train"] = split((1, 1, 1, 0, 0, 0), [0, 1], (1, 1))
    report["history_lengths"].update(users=1, median=1, p90=1, p99=1, longest=1, mean=1, cut=0, max_length=10_000)
    report["history_lengths"]["bins"] = [[0, 1, 0], [1, 2, 1]]
    return report


def stray_days() -> dict[str, Any]:
    """Forty days and one wrong clock half a century earlier."""
    report = long_run(days=40, features=6)
    report["days"].insert(0, {"day": "1970-01-01", "behaviours": 5, "targets": 5, "clicks": 4})
    return report


def two_weeks() -> dict[str, Any]:
    """Two weeks, six features, short last splits."""
    report = long_run(days=14, features=6)
    last = report["split"]["test_from"] + 10 * 86_400_000
    report["split"] = {"valid_from": last - 2 * 43_200_000, "test_from": last - 43_200_000}
    return report


def earlier_code() -> dict[str, Any]:
    """What code wrote that did not yet look at splits."""
    report = small()
    del report["splits"], report["untrained"]
    return report


EXTREMES = {f.__name__: f for f in (small, busy, long_run, nothing, flat, one_day, stray_days, two_weeks, earlier_code)}
