"""The learning rates that a comparison tries, and which it keeps."""

import pytest

from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.experiments.comparison.rates import Rates, at_the_edge, further, read_rates, untried
from twin_tf.experiments.comparison.systems import SYSTEMS, Factors


def test_the_two_rates_are_two_knobs() -> None:
    rates = read_rates("0.5,1/1,2,4")
    assert [str(factors) for factors in rates.grid] == ["0.5/1", "0.5/2", "0.5/4", "1/1", "1/2", "1/4"]
    assert read_rates("1,2").grid == [Factors(1, 1), Factors(1, 2), Factors(2, 1), Factors(2, 2)]
    din, base = SYSTEMS["din"], load_config("simulated").training
    assert untried(rates, [din]) == [(din, factors) for factors in rates.grid]
    (changed,) = [s for s in din.variant("", base, Factors(1, 2)).overrides if "rate" in s]
    assert changed == f"training.dense_learning_rate={base.dense_learning_rate * 2:.6g}"


def test_a_best_rate_at_the_edge_is_looked_beyond_once() -> None:
    din, twin = SYSTEMS["din"], SYSTEMS["twin"]
    rates = Rates((1.0, 2.0), (1.0,))
    for system, one, two in ((din, 0.7, 0.6), (twin, 0.6, 0.7)):
        rates = rates.having(system, Factors(1, 1), one).having(system, Factors(2, 1), two)
    assert not untried(rates, [din, twin])
    assert further(rates, [din, twin, SYSTEMS["twin_raw"]]) == [(din, Factors(0.5, 1)), (twin, Factors(4, 1))]
    rates = rates.having(din, Factors(0.5, 1), 0.8).having(twin, Factors(4, 1), 0.65)
    assert not further(rates, [din, twin])
    assert (rates.of(din), rates.of(twin)) == (Factors(0.5, 1), Factors(2, 1))
    assert at_the_edge(rates.to_plain()) == ["din"]
    both = Rates((1.0, 2.0), (1.0, 4.0))
    for factors in both.grid:
        both = both.having(din, factors, 0.8 if factors == (2, 1) else 0.7)
    assert further(both, [din]) == [(din, Factors(4, 1)), (din, Factors(2, 0.25))]
    assert at_the_edge(both.to_plain()) == ["din"]
    assert not further(Rates(), [twin])


@pytest.mark.parametrize("text", ["", "0.5,", "1,1", "-1", "nan", "fast", "nothing.json", "0.5;1", "1/", "/1", "1/2/3"])
def test_rates_are_factors_or_what_was_found(text: str) -> None:
    with pytest.raises(ConfigError, match="--rates"):
        read_rates(text)
