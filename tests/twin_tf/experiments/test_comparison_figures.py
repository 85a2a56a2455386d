"""Each figure and table of a comparison, on much and on little."""

import csv
import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.twin_tf.core.test_plots import texts
from twin_tf.core.plots import png
from twin_tf.experiments.comparison import figures
from twin_tf.experiments.comparison.rates import Rates
from twin_tf.experiments.comparison.report import FIGURES, TABLES, write_comparison
from twin_tf.experiments.comparison.summaries import beyond_noise, noise_text, summary
from twin_tf.experiments.comparison.systems import SYSTEMS
from twin_tf.experiments.comparison.tables import csv_tables

LABELS = {key: system.label for key, system in SYSTEMS.items()}


def lead(mean: float, low: float | None, high: float | None, *by_seed: float) -> dict[str, Any]:
    seeds = by_seed or (mean,)
    found = {"mean": mean, "std": None, "n": len(seeds), "by_seed": list(seeds), "low": low, "high": high}
    return {**found, "beyond_noise": beyond_noise(seeds, low, high)}


def result(key: str, seed: int, gauc: float) -> dict[str, Any]:
    lengths = [{"from": 0, "to": None, "targets": 50, "auc": gauc, "gauc": gauc, "gauc_error": 0.01}]
    return {
        "key": key, "seed": seed, "auc": gauc + 0.01, "gauc": gauc, "logloss": 0.6, "by_history_length": lengths,
        "intervals": {"auc": [gauc, gauc + 0.02], "gauc": [gauc - 0.01, gauc + 0.01], "logloss": None},
        "train_seconds": 10.0, "examples_per_s": 1000.0, "train_peak_rss_mb": None,
    }  # fmt: skip


def report_of(results: dict[str, list[dict[str, Any]]], extras: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "data": "toy", "trainings": 2, "targets": {"test": 5}, "seeds": [1], "labels": {k: LABELS[k] for k in results},
        "ablations": [], "results": results, "yardsticks": {}, "extras": extras, "history_length": 100, "records": 40,
        "epochs": 1, "seconds": 90.0, "commit": "abc", "machine": {"cpus": 2}, "rates": Rates().to_plain(), **changes,
    }  # fmt: skip


def test_a_difference_is_more_than_noise_if_seeds_agree_and_its_interval_leaves_out_0() -> None:
    assert beyond_noise([0.01, 0.02], 0.001, 0.03) is True and beyond_noise([-0.01], -0.02, -0.001) is True
    assert beyond_noise([0.01], -0.001, 0.03) is False
    assert beyond_noise([0.01, -0.002], 0.001, 0.03) is False
    assert beyond_noise([0.01], None, None) is None and beyond_noise([0.0], None, None) is False
    assert noise_text(lead(0.01, 0.001, 0.02)) == "95 % over users +0.0010 to +0.0200, more than noise"
    assert noise_text(lead(0.01, -0.001, 0.02), " ({})") == " (95 % over users -0.0010 to +0.0200, no more than noise)"
    assert noise_text(lead(0.01, None, None)) == "" == noise_text(None)


def test_ends_of_a_system_are_the_means_of_its_seeds() -> None:
    found = summary([result("din", 1, 0.6), result("din", 2, 0.7)])
    assert (found["gauc_low"], found["gauc_high"]) == (pytest.approx(0.64), pytest.approx(0.66))
    assert found["logloss_low"] is None
    assert summary([result("din", 1, 0.6), {**result("din", 2, 0.7), "intervals": None}])["gauc_low"] is None


def test_leads_are_sorted_and_those_of_noise_are_hollow() -> None:
    leads = {
        "din": lead(0.09, 0.08, 0.1),
        "eta": lead(0.001, -0.001, 0.003, 0.0005, 0.0015),
        "sim_hard": lead(-0.005, -0.007, -0.003),
        "sdim": lead(0.002, None, None),
    }
    figure = figures.paired(leads, LABELS)
    assert figure is not None
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SIM Hard", "ETA", "SDIM", "DIN"]
    assert axes.get_xlim()[1] < 0.02, "one large lead does not squash the others"
    shown = texts(figure)
    assert {"-0.0050  (1 seed)", "+0.0010  (2 seeds)", "+0.0900  (1 seed)"} <= set(shown)
    assert {"more than noise", "no more than noise", "noise not known", "off the axis, more than noise"} <= set(shown)
    hollow = [line.get_ydata()[0] for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert hollow == [-1]


@pytest.mark.parametrize("mean", [0.0, 0.01, -0.3])
def test_one_lead_is_a_figure_and_none_is_not(mean: float) -> None:
    figure = figures.paired({"din": lead(mean, None, None)}, LABELS)
    assert figure is not None and "95 %" not in figure.get_suptitle() and png(figure)
    assert figures.paired({}, LABELS) is None


def test_systems_are_told_apart_by_more_than_colour() -> None:
    keys = [*(key for key, system in SYSTEMS.items() if not system.ablation), "own", "second_own"]
    looks = {key: figures.look_of(key, keys) for key in keys}
    marks = {(look.marker, look.line) for look in looks.values()}
    assert len(marks) == len(keys), "each has a marker or a line of its own"
    assert figures.look_of("own", ["own", "din"]) == looks["own"]


def test_the_legend_of_consistency_is_in_the_order_of_the_curves() -> None:
    sizes = (10, 100, 1000)
    curves = {
        key: [{"size": size, "share": share} for size, share in zip(sizes, shares, strict=True)]
        for key, shares in (("din", (0.01, 0.1, 1.0)), ("twin", (0.1, 1.0, 1.0)), ("eta", (0.05, 0.5, 1.0)))
    }
    figure = figures.consistency(curves, LABELS)
    assert figure is not None
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["TWIN: 100 %", "ETA: 50 %", "DIN: 10 %"]
    assert figures.consistency({}, LABELS) is None
    short = figures.consistency({"din": [{"size": 20, "share": 1.0}]}, LABELS)
    assert short is not None and short.legends[0].get_texts()[0].get_text() == "DIN: 100 %"


def test_the_axis_of_an_ageing_table_says_where_it_begins() -> None:
    rows = [{"age": age, "share": share, "moved": age / 1e4} for age, share in ((0, 1.0), (25, 0.99), (400, 0.97))]
    figure = figures.table_age(rows)
    assert figure is not None
    assert figure.axes[0].get_ylabel().endswith("(axis from 90 %)") and figure.axes[0].get_ylim()[0] == 90
    assert {"100.0", "97.0", "400\n4.0 %"} <= set(texts(figure))
    deep = figures.table_age([{"age": 0, "share": 1.0}, {"age": 9, "share": 0.02}])
    assert deep is not None and deep.axes[0].get_ylim()[0] == 0 and "axis" not in deep.axes[0].get_ylabel()
    assert "moved" not in deep.axes[0].get_xlabel()
    one = figures.table_age(rows[:1])
    assert one is not None and png(one)
    assert figures.table_age([]) is None


def test_planted_interests_of_one_system_and_of_none() -> None:
    shares = {"din": {"targets": 5, "recall": 0.1}}
    figure = figures.ground_truth(shares, {"din": [result("din", 1, 0.6)]}, LABELS)
    assert figure is not None and "DIN: 0.6000" in texts(figure)
    assert figures.ground_truth({}, {}, LABELS) is None


def test_ablations_without_intervals() -> None:
    extras = {key: {"latency": {"p50_ms": 12.0}} for key in ("twin", "twin_raw")}
    results = {key: [{**result(key, 1, 0.7), "intervals": None}] for key in extras}
    figure = figures.ablations(list(extras), results, extras, LABELS)
    assert figure.axes[0].get_xlabel() == "GAUC, first seed" and png(figure)


def test_every_figure_is_there_as_data_too(tmp_path: Path) -> None:
    extra = {"latency": {"p50_ms": 12.0, "p99_ms": 15.0, "parameters": 10}, "by_size": [{"size": 10, "share": 0.1}]}
    extra["ground_truth"] = {"targets": 3, "recall": 0.5, "precision": 0.4, "guessed": 0.1}
    extras = dict.fromkeys(("din", "twin", "twin_raw"), extra) | {
        "twin": {**extra, "by_age": [{"age": 0, "share": 1.0, "moved": 0.0}]}
    }
    results = {key: [result(key, 1, 0.7 + place / 100)] for place, key in enumerate(extras)}
    rates = {**Rates().to_plain(), "valid_gauc": {"din": {"0.5/1": 0.6, "1/1": 0.7}}}
    yardsticks = {"item_rate": {"label": "item rate", "auc": 0.6, "gauc": None, "logloss": 0.5}}
    report = report_of(results, extras, ablations=["twin_raw"], rates=rates, yardsticks=yardsticks)
    write_comparison(tmp_path, report)
    assert {path.stem for path in tmp_path.glob("*.png")} == set(FIGURES)
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(TABLES) > set(FIGURES)
    for path in tmp_path.glob("*.png"):
        assert struct.unpack(">I", path.read_bytes()[16:20]) == (880,), path
    rows = list(csv.DictReader(io.StringIO((tmp_path / "quality.csv").read_text())))
    assert [(row["system"], row["kind"], row["gauc_mean"]) for row in rows] == [
        ("din", "system", "0.7"), ("twin", "system", "0.71"), ("twin_raw", "ablation", "0.72"),
        ("item_rate", "yardstick", ""),
    ]  # fmt: skip
    tuned = list(csv.DictReader(io.StringIO((tmp_path / "tuning.csv").read_text())))
    assert tuned[0]["embedding_factor"] == "0.5" and tuned[0]["valid_gauc"] == "0.6"
    page = (tmp_path / "report.md").read_text()
    assert page.count("Shows: ") == page.count("Does not show: ") == len(FIGURES)
    write_comparison(tmp_path, report_of({"twin": results["twin"]}, {}))
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.json", "report.md", "quality.png", "quality.csv", "seeds.csv", "history_length.png",
        "history_length.csv",
    }  # fmt: skip
    assert csv_tables(json.loads((tmp_path / "report.json").read_text()))["seeds"].startswith("system,label,seed,auc,")


def test_nothing_done_yet_is_no_figure(tmp_path: Path) -> None:
    write_comparison(tmp_path, report_of({}, {}))
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md"}
