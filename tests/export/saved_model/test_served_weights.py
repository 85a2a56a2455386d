"""The names of served weights are those of the network, whatever else a process has built."""

import re

import pytest

from export.saved_model.served_weights import ServedWeights
from tests.export.toy_servable import make_toy
from twin_tf.core.keras_api import tf

pytestmark = pytest.mark.integration


def weights():
    return ServedWeights(make_toy(crosses=2, short_term_length=8).model)


def test_the_names_do_not_count_the_layers_of_the_process():
    first, second = weights(), weights()
    assert list(first.dense) == list(second.dense)
    assert list(first.tables) == list(second.tables)
    assert "long_term-relevance-query_kernel" in first.dense
    assert not [name for name in (*first.dense, *first.tables) if "/" in name or re.match(r"\d", name)]


def earlier(variables):
    """The names that exports had before: the place, and what Keras calls the variable in some process."""
    return [
        f"{place:03d}_{re.sub('dense(_[0-9]+)?', f'dense_{place}', variable.name.split(':')[0]).replace('/', '_')}"
        for place, variable in enumerate(variables)
    ]


def test_an_earlier_graph_gets_the_names_that_it_reads(tmp_path):
    held = weights()
    variables = list(held.dense.values())
    names = {holder: earlier(getattr(held, holder).values()) for holder in ("dense", "tables")}
    today = list(held.tables)
    held.take_earlier_names([f"weights/{holder}/{name}" for holder, listed in names.items() for name in listed])
    assert list(held.dense) == names["dense"]
    assert all(one is other for one, other in zip(held.dense.values(), variables, strict=True))
    tf.train.Checkpoint(weights=held).write(str(tmp_path / "variables"))
    written = tf.train.load_checkpoint(str(tmp_path / "variables")).get_variable_to_shape_map()
    assert f"weights/dense/{names['dense'][3]}/.ATTRIBUTES/VARIABLE_VALUE" in written
    other = weights()
    other.take_earlier_names([f"weights/tables/{name}" for name in names["tables"][1:]])
    assert list(other.tables) == today  # another network, which the comparison of shapes then names
