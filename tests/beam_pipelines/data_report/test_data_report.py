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
from data_reports import EXTREMES, busy, earlier_code, flat, long_run, nothing, one_day, small
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from beam_pipelines.data_report.rate_bins import interval, rate_bins
from beam_pipelines.data_report.readings import (
    reading_of_coverage,
    reading_of_history_lengths,
    reading_of_label_rate,
    reading_of_new,
    readings_of_split,
)
from beam_pipelines.data_report.report import main, page, write_report
from beam_pipelines.data_report.summary import DataSummary, Day, parse, percent
from beam_pipelines.data_report.tables import csv_text, tables
from twin_tf.core.dataclass_yaml import ConfigError

pytestmark = pytest.mark.integration

FIGURES = ["history_lengths.png", "label_rate.png", "never_trained.png", "coverage.png"]
CSVS = ["splits.csv", "history_lengths.csv", "label_rate.csv", "never_trained.csv", "coverage.csv"]
NOT_DRAWN = {
    "small": {"label_rate.png"},
    "nothing": set(FIGURES),
    "flat": {"history_lengths.png", "label_rate.png", "never_trained.png"},
    "one_day": {"label_rate.png"},
    "earlier_code": {"history_lengths.png", "label_rate.png"},
}
"""Extreme report -> the figures that would be empty."""

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

## Splits

* Splits are by time: whatever is shown before validation begins trains.
* **Leaks:** Nothing that happens later reaches training, but names: vocabularies from the items log or the users log \
list what comes later too.
* **Cannot tell:** How the model does in another season than that of the last days, or on users who were active in the \
training part alone.

|  | train | valid | test |
|---|---|---|---|
| users | 60 | 8 | 9 |
| targets | 80 | 10 | 10 |
| clicked targets (95 % interval) | 22.5 % (14.7 % to 32.8 %) | 30.0 % (10.8 % to 60.3 %) | 40.0 % (16.8 % to 68.7 %) |
| users that training never sees | 0 (0 %) | 2 (25.0 %) | 3 (33.3 %) |
| targets of such users | 0 (0 %) | 2 (20.0 %) | 4 (40.0 %) |
| targets of items that training never sees | 0 (0 %) | 1 (10.0 %) | 2 (20.0 %) |
| behaviours that a target sees, median | 4 | 4 | 3 |
| behaviours that a target sees, p90 | 12 | 9 | 11 |

## History lengths

![Targets by the number of behaviours that they see](history_lengths.png)

A target sees a median of 4 behaviours in train (p90 12), 4 behaviours in valid (p90 9), 3 behaviours in test \
(p90 11). Over their whole lives half of the users have at most 5 behaviours, nine in ten at most 13, the longest \
history has 44; 3 of 100 users (3.0 %) have more than max_length = 30, so their targets see the latest ones only.

## Label rate

25.0 % of the 100 targets of 3 days are clicked (95 % interval: 17.5 % to 34.3 %); they are too few for a course over \
time.

## Unknown or never trained

![Share of users, items and values that training never sees](never_trained.png)

Of the targets in valid 20.0 % are of users and 10.0 % of items that training never sees. Of the targets in test \
40.0 % are of users and 20.0 % of items that training never sees. `product` is unknown or untrained most often: 32.5 \
% of its values in test (12.5 % unknown, 20.0 % in the vocabulary but never trained), against 0 % in train.

| feature: values unknown + known but never trained | train | valid | test |
|---|---|---|---|
| product | 0 % | 1.0 % + 10.0 % | 12.5 % + 20.0 % |
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

The same as tables: [splits.csv](splits.csv), [history_lengths.csv](history_lengths.csv), \
[label_rate.csv](label_rate.csv), [never_trained.csv](never_trained.csv), [coverage.csv](coverage.csv); all of it: \
[report.json](report.json).
"""


def summary(report: dict[str, Any]) -> DataSummary:
    return parse(json.dumps(report), "report.json")


def prepared(directory: Path, report: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(json.dumps(report))
    return directory


def test_the_page_of_a_small_report() -> None:
    assert page(summary(small()), set(FIGURES) - NOT_DRAWN["small"]) == PAGE


def test_warnings_come_first_and_names_mean_themselves() -> None:
    lines = page(summary(long_run()), FIGURES).splitlines()
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
    drawn = [figure for figure in FIGURES if figure not in NOT_DRAWN.get(name, ())]
    assert written == [str(directory / file) for file in ["report.md", *drawn, *CSVS]]
    text = (directory / "report.md").read_text()
    assert [figure for figure in FIGURES if figure in text] == drawn
    for figure in drawn:
        content = (directory / figure).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", content[16:24]) == (1056, 594)
        assert b"tEXt" not in content  # neither date nor version: equal reports are equal bytes


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (prepared(tmp_path / name, long_run()) for name in ("one", "two"))
    write_report(str(one))
    write_report(str(two))
    write_report(str(two))  # over what is there
    for name in ["report.md", *FIGURES, *CSVS]:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_what_is_all_zero_or_empty_is_said_so() -> None:
    empty, even, single = summary(nothing()), summary(flat()), summary(one_day())
    assert reading_of_history_lengths(empty) == "There are no users, so there are no histories."
    assert reading_of_label_rate(empty) == "There are no targets, so there is no label rate."
    assert reading_of_new(empty) == "There are no values to encode."
    assert reading_of_coverage(empty) == "There are no columns."
    assert reading_of_history_lengths(even).endswith("nobody has more than max_length = 30, so every history is whole.")
    assert reading_of_label_rate(even) == (
        "0 % of the 100 targets of 3 days are clicked (95 % interval: 0 % to 3.7 %); they are too few for a course "
        "over time."
    )
    assert reading_of_new(even) == "Every value of every feature is known in every split."
    assert reading_of_coverage(even) == "Every one of the 3 columns has a value in every row."
    assert reading_of_label_rate(single) == (
        "100 % of the 1 targets of 1 day are clicked (95 % interval: 20.7 % to 100 %); all are of one day."
    )
    assert reading_of_new(single) == "`x` is unknown most often: 100 % of its values in train."
    assert reading_of_history_lengths(summary(earlier_code())).startswith(
        "These data were prepared by earlier code, which did not count this. Over their whole lives half"
    )


def test_days_are_put_together_until_they_carry_a_figure() -> None:
    def days(*targets: tuple[int, int]) -> list[Day]:
        return [Day(f"2024-01-{n:02d}", 1, shown, clicks) for n, (shown, clicks) in enumerate(targets, 1)]

    # 30 of the rarer label at 10 %: 300 targets; a day without targets is none, what is left over joins the last
    bins = rate_bins(days((200, 20), (0, 0), (150, 15), (400, 40), (10, 9), (50, 5)))
    assert [(part.name, part.targets, part.clicks) for part in bins] == [
        ("2024-01-01 to 2024-01-03", 350, 35),
        ("2024-01-04 to 2024-01-06", 460, 54),
    ]
    assert bins[1].span == (bins[0].span[1], bins[0].span[1] + 3)
    assert [part.targets for part in rate_bins(days((99, 0), (1, 0), (100, 0)))] == [100, 100]  # one class alone
    assert rate_bins([]) == rate_bins(days((0, 0))) == []
    assert len(rate_bins(summary(long_run()).days)) <= 60
    low, high = interval(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)  # Wilson's, by hand
    assert interval(0, 0) == (0.0, 1.0)


def test_rates_that_spread_by_chance_are_called_so() -> None:
    assert "no more than chance alone would" not in reading_of_label_rate(summary(busy()))
    report = small()
    for day, (targets, clicks) in zip(report["days"], ((160, 40), (160, 38), (160, 46)), strict=True):
        day.update(targets=targets, clicks=clicks)
    assert reading_of_label_rate(summary(report)) == (
        "25.8 % of the 480 targets of 3 days are clicked (95 % interval: 22.1 % to 29.9 %): from 23.8 % of 160 "
        "(2024-01-02) to 28.7 % of 160 (2024-01-03), days put together until they carry a figure, no more than chance "
        "alone would spread them."
    )


@pytest.mark.parametrize("by", ["time", "user_time", "user", "column"])
def test_every_split_says_what_it_leaks_and_cannot_tell(by: str) -> None:
    report = small()
    report["split"]["by"] = by
    how, leaks, silent = readings_of_split(summary(report))
    assert how.startswith("Splits are ") and leaks.startswith("**Leaks:** ") and silent.startswith("**Cannot tell:** ")
    assert ("valid begins" in page(summary(report), None)) == (by == "time")


def test_the_tables_are_what_the_figures_draw() -> None:
    found = tables(summary(busy()))
    assert csv_text(found["splits.csv"]).splitlines()[2] == ("valid,8,10,3,0.3,0.107791,0.603222,0.25,0.2,0.1,4,9")
    assert found["label_rate.csv"].rows[0][:5] == ("2024-01-01", "2024-01-01", 4000, 1000, 0.25)
    assert ("product", "test", 0.125, 0.2) in found["never_trained.csv"].rows
    assert found["history_lengths.csv"].rows[0] == ("train", 0, 1, 8)
    assert csv_text(tables(summary(nothing()))["splits.csv"]).splitlines()[1] == "train,0,0,0,,0.0,1.0,,,,,"


def test_a_share_that_is_not_zero_or_one_is_never_shown_as_such() -> None:
    shares = [0.0, 1e-9, 0.0001, 0.00994, 0.0126, 0.5, 0.9949, 0.99951, 1 - 1e-9, 1.0]
    assert [percent(share) for share in shares] == [
        "0 %", "< 0.01 %", "0.01 %", "0.99 %", "1.3 %", "50.0 %", "99.5 %", "99.95 %", "> 99.99 %", "100 %"
    ]  # fmt: skip


def test_without_matplotlib_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_find, real_import = importlib.util.find_spec, builtins.__import__

    def imported(name: str, *rest: Any, **more: Any) -> Any:
        assert not name.startswith("matplotlib")
        return real_import(name, *rest, **more)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real_find(name))
    monkeypatch.setattr(builtins, "__import__", imported)
    directory = prepared(tmp_path / "prepared", small())
    assert write_report(str(directory)) == [str(directory / name) for name in ["report.md", *CSVS]]
    text = (directory / "report.md").read_text()
    assert "There are no figures, because matplotlib is not installed" in text
    assert ".png" not in text
    assert "half of the users have at most 5 behaviours" in text


def test_the_page_needs_neither_matplotlib_nor_tensorflow() -> None:
    found = "print([m for m in ('matplotlib', 'tensorflow') if m in sys.modules])"
    code = f"import sys, beam_pipelines.data_report.report; {found}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_command_line_renders_again_and_fails_with_one_line(tmp_path: Path, capsys: Any) -> None:
    directory = prepared(tmp_path / "prepared", small())
    assert main([str(directory)]) == 0
    drawn = [name for name in FIGURES if name not in NOT_DRAWN["small"]]
    assert capsys.readouterr().out.splitlines() == [str(directory / name) for name in ["report.md", *drawn, *CSVS]]
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path} has no report.json, which `twin-tf preprocess` writes; preprocess again\n"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unit": "h"}, "report.json.unit must be one of s, ms, us, ns, not 'h'"),
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
    with pytest.raises(ConfigError, match=r"bins\[2\] must be low, high, count, not \[4, 2, 1\]"):
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
        assert {"report.md", *CSVS} <= {Path(path).name for path in written} <= {"report.md", *CSVS, *FIGURES}
        assert all(Path(path).stat().st_size > 500 for path in written if path.endswith((".md", ".png")))
