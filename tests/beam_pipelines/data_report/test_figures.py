"""What the figures of the data report show, and which are not drawn at all."""

from pathlib import Path
from typing import Any

import yaml
from data_reports import busy, long_run, small, stray_days
from small_logs import schema

from beam_pipelines.data_report import figures
from beam_pipelines.data_report.report import page, write_report
from tests.beam_pipelines.data_report.test_data_report import FIGURES, prepared, summary
from twin_tf.core.plots import png
from twin_tf.features.time_zones import UtcOffsets, fixed_offset


def texts(figure: Any) -> list[str]:
    """Every text of a figure that a reader can see: titles, labels, ticks, legends, annotations."""
    figure.canvas.draw()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [label.get_text() for axes in figure.axes for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [*found, *(axes.get_title("left") for axes in figure.axes)]


def test_bars_of_the_history_lengths_are_shares_of_their_split() -> None:
    figure = figures.history_lengths(summary(small()))
    assert figure is not None
    heights = [[bar.get_height() for bar in bars] for bars in figure.axes[0].containers]
    assert heights == [[0.1, 0.15, 0.25, 0.25, 0.25], [0.2, 0.0, 0.3, 0.3, 0.2], [0.4, 0.0, 0.2, 0.2, 0.2]]
    assert {"train: median 4, p90 12", "0", "1", "8", "16"} <= set(texts(figure))


def test_what_training_never_sees_is_shown_for_users_items_and_values() -> None:
    figure = figures.never_trained(summary(small()))
    assert figure is not None
    shown = texts(figure)
    assert {"targets of new users", "targets of new items", "values of product", "40.0 %", "32.5 %"} <= set(shown)
    assert "hatched: has a row of its own, never trained" in shown
    report = small()
    report["untrained"] = {}
    for split in report["splits"].values():
        split.update(stranger_targets=0, new_item_targets=0)
    plain = figures.never_trained(summary(report))
    assert plain is not None and "hatched: has a row of its own, never trained" not in texts(plain)
    report["unknown"] = {name: dict.fromkeys(shares, 0.0) for name, shares in report["unknown"].items()}
    assert figures.never_trained(summary(report)) is None


UTC = fixed_offset(0)


def split_lines(report: dict[str, Any], offsets: UtcOffsets) -> list[float]:
    figure = figures.label_rate(summary(report), offsets)
    return sorted({float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_linestyle() == "--"})


def test_the_split_moments_stand_where_the_local_days_say() -> None:
    third = 19_725.0  # 2024-01-03 in days since 1970
    assert split_lines(busy(), UTC) == [third, third + 0.5]
    assert split_lines(busy(), fixed_offset(-6 * 3600)) == [third - 0.25, third + 0.25]
    in_ms = busy()
    in_ms.update(unit="ms", split={"valid_from": 1704240000000, "test_from": 1704283200000})
    assert split_lines(in_ms, UTC) == [third, third + 0.5]
    shown = texts(figures.label_rate(summary(busy()), UTC))
    assert {"train", "valid", "test", "rate of a day"} <= set(shown)
    elsewhere = busy()
    elsewhere["split"] = {"valid_from": 4_000_000_000, "test_from": 4_000_000_000}
    out_of_sight = texts(figures.label_rate(summary(elsewhere), UTC))
    assert "train" in out_of_sight
    assert not {"valid", "test"} & set(out_of_sight)
    elsewhere["split"]["by"] = "user"
    assert "train" not in texts(figures.label_rate(summary(elsewhere), UTC))


def test_the_offset_comes_from_the_schema_beside_the_report(tmp_path: Path) -> None:
    plain = schema().to_plain()
    plain["events"]["time"]["utc_offset_hours"] = 8.0
    without, with_offset = (prepared(tmp_path / name, busy()) for name in ("without", "with"))
    (with_offset / "schema.yaml").write_text(yaml.safe_dump(plain))
    write_report(str(without))
    write_report(str(with_offset))
    assert (with_offset / "label_rate.png").read_bytes() == png(
        figures.label_rate(summary(busy()), fixed_offset(8 * 3600))
    )
    assert (without / "label_rate.png").read_bytes() == png(figures.label_rate(summary(busy()), UTC))


def test_a_wrong_clock_does_not_crush_the_other_days() -> None:
    figure = figures.label_rate(summary(stray_days()), UTC)
    left, right = figure.axes[0].get_xlim()
    assert right - left < 45
    assert "Share of clicked targets (not shown: 1 day(s) far away, with 5 targets)" in texts(figure)


def test_what_does_not_fit_is_left_out_and_said_so() -> None:
    many = summary(long_run(features=40))
    new = texts(figures.never_trained(many))
    assert "New users and items; values unknown or never trained (6 of 40 features; all are in report.md)" in new
    assert many.features[0] == max(many.features, key=lambda name: many.most_often_new(name)[1])
    coverage = texts(figures.coverage(many))
    assert "Rows with a value (22 of 40 columns, the emptiest; all are in report.md)" in coverage
    text = page(many, FIGURES)
    assert sum(line.startswith("| events | ") or line.startswith("| items | ") for line in text.splitlines()) == 37
    assert all(f"| {name} | " in text for name in many.features)
