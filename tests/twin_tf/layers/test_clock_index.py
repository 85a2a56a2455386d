"""Hour and day of a time on a local clock, as the graph computes them."""

import datetime
import zoneinfo

import numpy as np
import pytest

from twin_tf.core.keras_api import tf
from twin_tf.features.event_times import PER_SECOND, TimeColumn
from twin_tf.features.feature import Feature
from twin_tf.layers.embeddings import clock_index

HOUR = Feature("hour", "context", derived="hour_of_day")
DAY = Feature("day", "context", derived="day_of_week")


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("unit", ["s", "us"])
def test_a_named_zone_has_its_summer_time_in_the_graph(name, unit):
    column = TimeColumn("t", unit, timezone=name)
    seconds = np.random.default_rng(1).integers(0, 4_000_000_000, (40, 5))
    seconds[0, :2] = 1_679_792_399, 1_679_792_400  # Berlin's clocks go from 02:00 to 03:00 between the two

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int64)])
    def indices(time):
        return clock_index(HOUR, time, column), clock_index(DAY, time, column)

    hour, day = indices(seconds * PER_SECOND[unit])
    zone = zoneinfo.ZoneInfo(name)
    shown = [datetime.datetime.fromtimestamp(moment, zone) for moment in seconds.ravel().tolist()]
    assert hour.shape == seconds.shape and hour.dtype == tf.int32
    assert (hour.numpy().ravel() - 2).tolist() == [clock.hour for clock in shown]
    assert (day.numpy().ravel() - 2).tolist() == [clock.weekday() for clock in shown]
    if name == "Europe/Berlin":
        assert (hour.numpy()[0, :2] - 2).tolist() == [1, 3]


def test_a_fixed_offset_needs_no_table():
    column = TimeColumn("t", utc_offset_hours=-3.5)

    @tf.function
    def hour(time):
        return clock_index(HOUR, time, column)

    graph = hour.get_concrete_function(tf.TensorSpec((None,), tf.int64)).graph
    assert "UpperBound" not in {operation.type for operation in graph.get_operations()}
    assert hour(np.array([0, 1800, 12_600])).numpy().tolist() == [22, 23, 2]
