"""Times as logs write them: ISO 8601, formats, zones with summer time, and the one table that says their offsets."""

import datetime
import zoneinfo
from typing import Any

import numpy as np
import pytest

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.event_times import TimeColumn, parse_times
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.features.time_zones import utc_offsets

NOON = 1_699_963_200  # 2023-11-14 12:00 UTC

ISO = [
    ("s", None, "2023-11-14T12:00:00Z", NOON),
    ("s", None, "2023-11-14 12:00:00", NOON),
    ("s", None, "2023-11-14 12:00:00 UTC", NOON),
    ("s", None, " 2023-11-14t12:00z ", NOON),
    ("s", None, "2023-11-14T13:30:00+01:30", NOON),
    ("s", None, "2023-11-14T07:00:00.999-0500", NOON),
    ("s", None, "2023-11-14T14:00:00+02", NOON),
    ("s", None, "2023-11-14", NOON - 12 * 3600),
    ("ms", None, "2023-11-14T12:00:00.25Z", NOON * 1000 + 250),
    ("ms", None, "2023-11-14T12:00:00,123999Z", NOON * 1000 + 123),
    ("us", None, "2023-11-14T12:00:00.1234567Z", NOON * 10**6 + 123_456),
    ("ns", None, "2023-11-14T12:00:00.1234567891Z", NOON * 10**9 + 123_456_789),
    ("s", "Europe/Berlin", "2023-11-14 13:00:00", NOON),
    ("s", "Europe/Berlin", "2023-11-14 12:00:00Z", NOON),
    ("s", "Europe/Berlin", "2023-07-14 14:00:00", NOON - 123 * 86_400),
    ("s", "Europe/Berlin", "2023-07-14", NOON - 123 * 86_400 - 14 * 3600),
    ("s", None, "1969-12-31T23:59:59Z", -1),
    ("s", None, "9999-12-31T23:59:59Z", 253_402_300_799),
    ("ns", None, "9999-12-31T23:59:59Z", None),
    *(
        ("s", None, text, None)
        for text in ("", "noon", "1700000000", "2023-02-30T12:00:00", "2023-11-14T24:00:00Z", "2023-11-14T12:00:61Z",
                     "14/11/2023", "2023-11-14T12:00:00+01:60", "2023-11-14Z", "2023-11-14T12:00:00 CET", "20231114",
                     "\u0662\u0660\u0662\u0663-11-14")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("unit", "timezone", "text", "expected"), ISO)
def test_iso_8601_becomes_a_whole_number(unit: Any, timezone: str | None, text: str, expected: int | None) -> None:
    times, bad = parse_times(TimeColumn("t", unit, format="iso8601", timezone=timezone), [text, text])
    assert (times.tolist(), bad.tolist()) == ([expected or 0] * 2, [expected is None] * 2)


@pytest.mark.parametrize(
    ("format_", "timezone", "text", "expected"),
    [
        ("%d/%m/%Y %H:%M:%S", None, "14/11/2023 12:00:00", NOON),
        ("%d/%m/%Y %H:%M:%S.%f", None, "14/11/2023 12:00:00.75", NOON),
        ("%d/%m/%Y %H:%M", "America/New_York", "14/11/2023 07:00", NOON),
        ("%d/%b/%Y:%H:%M:%S %z", "America/New_York", "14/Nov/2023:12:00:00 +0000", NOON),
        ("%Y%m%d", None, "20231114", NOON - 12 * 3600),
        ("%d/%m/%Y", None, "2023-11-14", None),
        ("%d/%m/%Y", None, "31/02/2023", None),
    ],
)
def test_a_format_of_strptime_is_read(format_: str, timezone: str | None, text: str, expected: int | None) -> None:
    times, bad = parse_times(TimeColumn("t", "s", format=format_, timezone=timezone), [text])
    assert (times.tolist(), bad.tolist()) == ([expected or 0], [expected is None])


def test_no_text_gives_no_time() -> None:
    assert [part.tolist() for part in parse_times(TimeColumn("t", format="iso8601"), [])] == [[], []]


ZONES = ["Europe/Berlin", "America/New_York", "Africa/Casablanca", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC",
         "America/Sao_Paulo", "Africa/Monrovia"]  # fmt: skip


@pytest.mark.parametrize("name", ZONES)
def test_the_table_of_a_zone_says_what_zoneinfo_says(name: str) -> None:
    zone, table = zoneinfo.ZoneInfo(name), utc_offsets(name)
    edges = (table.starts[:, None] + [-1, 0, 1]).ravel()
    seconds = np.concatenate([np.random.default_rng(1).integers(0, 4_000_000_000, 2_000), edges])
    for moment, offset in zip(seconds.tolist(), table.at(seconds).tolist(), strict=True):
        assert datetime.timedelta(seconds=offset) == datetime.datetime.fromtimestamp(moment, zone).utcoffset()
    local = np.concatenate([seconds, *(edges + step for step in table.offsets[:3])])
    for shown, moment in zip(local.tolist(), table.to_utc(local).tolist(), strict=True):
        clock = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=shown)
        assert moment == int(clock.replace(tzinfo=zone).timestamp())  # fold=0: of a repeated hour the first


def test_the_local_clock_has_summer_time() -> None:
    berlin = TimeColumn("t", "ms", timezone="Europe/Berlin")
    switch = 1_679_792_400  # 2023-03-26 01:00 UTC: 02:00 becomes 03:00
    times = np.array([[switch - 1], [switch]]) * 1000
    assert (berlin.local_seconds(times) - times // 1000).tolist() == [[3600], [7200]]
    assert TimeColumn("t", utc_offset_hours=-3.5).local_seconds(np.array([0])).tolist() == [-12_600]


def schema(**time: Any) -> FeatureSchema:
    plain = {"column": "t", **time}
    label = {"column": "y"}
    events = {"user": {"column": "u"}, "item": {"column": "i"}, "time": plain, "label": label}
    feature = {"name": "i", "role": "inherent", "encoding": {"kind": "hash", "buckets": 9}, "type": "int"}
    return schema_from_mapping({"name": "s", "events": events, "features": [feature]})


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ({"timezone": "Europe/Berlin", "utc_offset_hours": 1}, "utc_offset_hours does not go with timezone: name the"),
        ({"format": "iso8601", "utc_offset_hours": 1}, "utc_offset_hours does not go with format: name the zone in"),
        ({"timezone": "Europe/Berlim"}, "'Europe/Berlim' is no IANA time zone; did you mean 'Europe/Berlin'"),
        ({"timezone": "CEST"}, "timezone 'CEST' is no IANA time zone"),
        ({"timezone": "../etc/passwd"}, "timezone '../etc/passwd' is no IANA time zone"),
        ({"timezone": "Europe"}, "timezone 'Europe' is no IANA time zone"),
        ({"format": "%H:%M"}, "format '%H:%M' does not say year, month and day"),
        ({"format": "%Y-%m-%d %Z"}, "the name of a zone is not read; use %z, or name it in 'timezone'"),
        ({"format": "%Y-%m-%d %Q"}, "format '%Y-%m-%d %Q' is neither iso8601 nor one of strptime: "),
        ({"format": "ISO"}, "format 'ISO' does not say year, month and day"),
        ({"unit": "h"}, "schema.events.time.unit must be one of s, ms, us, ns, not 'h'"),
    ],
)
def test_a_wrong_time_section_is_refused(time: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema(**time)
    assert message in str(caught.value)


def test_the_section_survives_its_plain_form() -> None:
    time = {"unit": "us", "format": "iso8601", "timezone": "Asia/Tokyo"}
    assert schema(**time).to_plain()["events"]["time"] == {"column": "t", **time}
    assert schema().to_plain()["events"]["time"] == {"column": "t"}
    assert schema(**time).event_columns()["t"] == "string"
