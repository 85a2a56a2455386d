"""The data report says what `report.json` holds, in words and in figures that open, whatever the data look like."""

import builtins
import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from data_reports import EXTREMES, flat, long_run, nothing, one_day, small, stray_days
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_logs import schema

from beam_pipelines.data_report import figures
from beam_pipelines.data_report.report import main, page, write_report
from beam_pipelines.data_report.summary import (
    DataSummary,
    parse,
    percent,
    reading_of_coverage,
    reading_of_history_lengths,
    reading_of_label_rate,
    reading_of_unknown,
)
from twin_tf.core.dataclass_yaml import ConfigError

pytestmark = pytest.mark.integration

FIGURES = ["history_lengths.png", "label_rate.png", "unknown_rate.png", "coverage.png"]

PAGE = """\
# Data report: my_shop

## Summary

| what | how much |
|---|---|
| events read | 1,000 |
| events kept | 900 (90.0 %) |
| events filtered out | 96 (9.6 %), 16 of them duplicates |
| events malformed | 4 (0.40 %) |
| rows of the items log | 51, 1 of them malformed |
| users with events | 100 |
| items in the catalogue | 50 |
| behaviours in these logs | 850 |
| behaviours a user ever, on average | 8.5 |
| days | 2024-01-01 to 2024-01-03, 3 with events |
| targets in train | 80 (80.0 %) |
| targets in valid | 10 (10.0 %) |
| targets in test | 10 (10.0 %) |
| valid begins (UTC) | 2024-01-03 00:00:00 |
| test begins (UTC) | 2024-01-03 12:00:00 |
| bytes of train | 5,000, 10.0 a stored behaviour |
| bytes of valid | 500, 10.0 a stored behaviour |
| bytes of test | 500, 10.0 a stored behaviour |
| bytes of histories | 10,000, 11.8 a stored behaviour |
| schema | my_shop, fingerprint 0123456789abcdef |

## History lengths

![Users by the number of their behaviours](history_lengths.png)

Half of the users have at most 5 behaviours, nine in ten at most 13, and the longest history has 44; 3 of 100 users \
(3.0 %) have more than max_length = 30, so their targets see the latest ones only.

## Label rate a day

![Share of clicked targets a day](label_rate.png)

25.0 % of the 100 targets of 3 days are clicked: least on 2024-01-02 (20.0 % of 40), most on 2024-01-03 (35.0 % of 20).

## Unknown values

![Share of unknown values by feature](unknown_rate.png)

`product` is unknown most often: 12.5 % of its values in test, against 0 % in train.

| feature | unknown in train | unknown in valid | unknown in test |
|---|---|---|---|
| product | 0 % | 1.0 % | 12.5 % |
| price | 2.0 % | 2.0 % | 2.0 % |
| dwell | 0.50 % | 0.60 % | - |

## Coverage

![Share of rows with a value by column](coverage.png)

`dwell_seconds` of the events log is the emptiest column, with a value in 91.0 % of the rows; 5 of 7 columns have one \
in every row.

| log | column | rows with a value |
|---|---|---|
| events | dwell_seconds | 91.0 % |
| events | clicked | 100 % |
| events | sku | 100 % |
| events | ts | 100 % |
| events | user_id | 100 % |
| items | price | > 99.99 % |
| items | sku | 100 % |
"""


def summary(report: dict[str, Any]) -> DataSummary:
    return parse(json.dumps(report), "report.json")


def prepared(directory: Path, report: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(json.dumps(report))
    return directory


def test_the_page_of_a_small_report() -> None:
    assert page(summary(small())) == PAGE


def test_warnings_come_first_and_names_mean_themselves() -> None:
    lines = page(summary(long_run())).splitlines()
    assert lines[:6] == [
        "# Data report: my_shop",
        "",
        "## Warnings",
        "",
        "* 61,234 users have more than max_length behaviours.",
        "* column 'a\\|b' of the items log is \\*mostly\\* empty.",
    ]


@pytest.mark.parametrize("name", EXTREMES)
def test_every_figure_is_a_picture_of_the_size_of_a_slide(name: str, tmp_path: Path) -> None:
    directory = prepared(tmp_path / name, EXTREMES[name]())
    written = write_report(str(directory))
    assert written == [str(directory / file) for file in ["report.md", *FIGURES]]
    for figure in FIGURES:
        content = (directory / figure).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", content[16:24]) == (1056, 594)
        assert b"tEXt" not in content  # neither date nor version: equal reports are equal bytes


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (prepared(tmp_path / name, long_run()) for name in ("one", "two"))
    write_report(str(one))
    write_report(str(two))
    write_report(str(two))  # over what is there
    for name in ["report.md", *FIGURES]:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_what_is_all_zero_or_empty_is_said_so() -> None:
    empty, even, single = summary(nothing()), summary(flat()), summary(one_day())
    assert reading_of_history_lengths(empty) == "There are no users, so there are no histories."
    assert reading_of_label_rate(empty) == "There are no targets, so there is no label rate."
    assert reading_of_unknown(empty) == "There are no values to encode."
    assert reading_of_coverage(empty) == "There are no columns."
    assert reading_of_history_lengths(even).endswith("nobody has more than max_length = 30, so every history is whole.")
    assert reading_of_label_rate(even) == ("0 % of the 100 targets of 3 days are clicked, the same share every day.")
    assert reading_of_unknown(even) == "Every value of every feature is known in every split."
    assert reading_of_coverage(even) == "Every one of the 3 columns has a value in every row."
    assert reading_of_label_rate(single) == ("100 % of the 1 targets of 1 day are clicked, all on 1970-01-01.")
    assert reading_of_unknown(single) == "`x` is unknown most often: 100 % of its values in train."


def test_a_share_that_is_not_zero_or_one_is_never_shown_as_such() -> None:
    shares = [0.0, 1e-9, 0.0001, 0.00994, 0.0126, 0.5, 0.9949, 0.99951, 1 - 1e-9, 1.0]
    assert [percent(share) for share in shares] == [
        "0 %", "< 0.01 %", "0.01 %", "0.99 %", "1.3 %", "50.0 %", "99.5 %", "99.95 %", "> 99.99 %", "100 %"
    ]  # fmt: skip


def texts(figure: Any) -> list[str]:
    """Every text of a figure that a reader can see: titles, labels, ticks, legends, annotations."""
    figure.canvas.draw()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [label.get_text() for axes in figure.axes for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [*found, *(axes.get_title("left") for axes in figure.axes)]


def test_the_marks_of_the_history_lengths_lie_in_their_bins() -> None:
    figure = figures.history_lengths(summary(small()).history_lengths)
    places = {line.get_label(): line.get_xdata()[0] for line in figure.axes[0].lines}
    # [4, 8) is the fourth bar, [8, 16) the fifth, [16, 32) the sixth
    assert places == {"median 5": 3 + 1.5 / 4, "p90 13": 4 + 5.5 / 8, "max_length 30": 5 + 14.5 / 16}
    beyond = figures.history_lengths(summary(one_day()).history_lengths)
    assert "max_length 10,000 (beyond the right end)" in texts(beyond)


def split_lines(report: dict[str, Any], offset_hours: float) -> list[float]:
    figure = figures.label_rate(summary(report), offset_hours)
    return sorted({float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_linestyle() == "--"})


def test_the_split_moments_stand_where_the_local_days_say() -> None:
    third = 19_725.0  # 2024-01-03 in days since 1970
    assert split_lines(small(), 0) == [third, third + 0.5]
    assert split_lines(small(), -6) == [third - 0.25, third + 0.25]
    in_ms = small()
    in_ms.update(unit="ms", split={"valid_from": 1704240000000, "test_from": 1704283200000})
    assert split_lines(in_ms, 0) == [third, third + 0.5]
    shown = texts(figures.label_rate(summary(small()), 0))
    assert {"train", "valid", "test", "40", "20"} <= set(shown)
    out_of_sight = texts(figures.label_rate(summary(flat()), 0))
    assert "train" in out_of_sight
    assert not {"valid", "test"} & set(out_of_sight)


def test_the_offset_comes_from_the_schema_beside_the_report(tmp_path: Path) -> None:
    plain = schema().to_plain()
    plain["events"]["time"]["utc_offset_hours"] = 8.0
    without, with_offset = (prepared(tmp_path / name, small()) for name in ("without", "with"))
    (with_offset / "schema.yaml").write_text(yaml.safe_dump(plain))
    write_report(str(without))
    write_report(str(with_offset))
    assert (with_offset / "label_rate.png").read_bytes() == _png(figures.label_rate(summary(small()), 8.0))
    assert (without / "label_rate.png").read_bytes() == _png(figures.label_rate(summary(small()), 0.0))


def _png(figure: Any) -> bytes:
    from twin_tf.core.plots import png

    return png(figure)


def test_a_wrong_clock_does_not_crush_the_other_days() -> None:
    figure = figures.label_rate(summary(stray_days()), 0)
    left, right = figure.axes[0].get_xlim()
    assert right - left < 45
    assert "Share of clicked targets a day (not shown: 1 day(s) far away, with 5 targets)" in texts(figure)


def test_what_does_not_fit_is_left_out_and_said_so() -> None:
    many = summary(long_run(features=40))
    unknown = texts(figures.unknown_rate(many))
    assert "Share of values that are unknown (10 of 40 features, most first; all are in report.md)" in unknown
    assert many.features[0] == max(many.unknown["test"], key=lambda name: many.unknown["test"][name] or 0)
    coverage = texts(figures.coverage(many))
    assert "Rows with a value (22 of 40 columns, the emptiest; all are in report.md)" in coverage
    text = page(many)
    assert sum(line.startswith("| events | ") or line.startswith("| items | ") for line in text.splitlines()) == 37
    assert all(f"| {name} | " in text for name in many.features)


def test_without_matplotlib_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_find, real_import = importlib.util.find_spec, builtins.__import__

    def imported(name: str, *rest: Any, **more: Any) -> Any:
        assert not name.startswith("matplotlib")
        return real_import(name, *rest, **more)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real_find(name))
    monkeypatch.setattr(builtins, "__import__", imported)
    directory = prepared(tmp_path / "prepared", small())
    assert write_report(str(directory)) == [str(directory / "report.md")]
    text = (directory / "report.md").read_text()
    assert "There are no figures, because matplotlib is not installed" in text
    assert ".png" not in text
    assert "Half of the users have at most 5 behaviours" in text


def test_the_page_needs_neither_matplotlib_nor_tensorflow() -> None:
    found = "print([m for m in ('matplotlib', 'tensorflow') if m in sys.modules])"
    code = f"import sys, beam_pipelines.data_report.report; {found}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_command_line_renders_again_and_fails_with_one_line(tmp_path: Path, capsys: Any) -> None:
    directory = prepared(tmp_path / "prepared", small())
    assert main([str(directory)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(directory / name) for name in ["report.md", *FIGURES]]
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path} has no report.json, which `twin-tf preprocess` writes; preprocess again\n"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unit": "h"}, "report.json.unit must be one of s, ms, not 'h'"),
        ({"unknwon": {}}, "report.json has an unknown key 'unknwon'; did you mean 'unknown'?"),
        ({"days": [{"day": "1/2/24", "behaviours": 1, "targets": 1, "clicks": 1}]}, "day must be a date such as"),
        ({"bytes": {"train": "many"}}, "report.json.bytes.train must be int, not 'many'"),
    ],
)
def test_a_broken_report_is_refused_with_its_place(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        summary({**small(), **change})
    assert sentence in str(refused.value)


def test_a_bin_that_is_none_is_refused() -> None:
    report = small()
    report["history_lengths"]["bins"][2] = [4, 2, 1]
    with pytest.raises(ConfigError, match=r"bins\[2\] must be low, high, users, not \[4, 2, 1\]"):
        summary(report)


counts = st.integers(0, 10**12)
names = st.text(min_size=1, max_size=60)
shares = st.floats(0, 1)


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    report = small()
    days = sorted(draw(st.sets(st.dates(), max_size=8)))
    report["days"] = [
        {"day": day.isoformat(), "behaviours": draw(counts), "targets": (n := draw(counts)), "clicks": n // 3}
        for day in days
    ]
    report["split"] = dict(
        zip(("valid_from", "test_from"), sorted(draw(st.tuples(st.integers(), st.integers()))), strict=True)
    )
    report["unit"] = draw(st.sampled_from(["s", "ms"]))
    report["unknown"] = {
        split: draw(st.dictionaries(names, st.none() | shares, max_size=15)) for split in ("train", "valid", "test")
    }
    report["coverage"] = {
        log: draw(st.dictionaries(names, shares, max_size=15)) for log in ("events", "items", "users")
    }
    edges = [0, *(1 << n for n in range(draw(st.integers(0, 40)) + 1))]
    users = [draw(counts) for _ in edges[1:]]
    report["history_lengths"].update(
        users=sum(users), median=draw(shares) * edges[-1], p90=draw(counts), max_length=1 + draw(counts),
        bins=[list(bin_) for bin_ in zip(edges, edges[1:], users, strict=False)],
    )  # fmt: skip
    report["warnings"] = draw(st.lists(names, max_size=2))
    return report


# Drawing takes time: a failing report is shown as it was found, not made smaller for minutes.
@settings(
    max_examples=15,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(report=reports())
@pytest.mark.filterwarnings("ignore:Glyph")  # the font lacks some writing systems; the page has the names
def test_any_valid_report_renders(report: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        written = write_report(str(prepared(Path(directory) / "prepared", report)))
        assert [Path(path).name for path in written] == ["report.md", *FIGURES]
        assert all(Path(path).stat().st_size > 500 for path in written)
