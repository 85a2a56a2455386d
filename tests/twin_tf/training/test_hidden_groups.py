"""Hidden groups of items are found by tables that learn; a search of the whole life is then worth more than the latest.

Which of the searches of a whole life comes first is decided by little here: all are near the optimum of .90.
"""

import functools

import pytest
from sklearn.metrics import roc_auc_score

from tests.twin_tf.hidden_groups import group_similarity, make_trainer, make_users, scores, train
from twin_tf.config import ModelConfig, TrainingConfig
from twin_tf.training.train_step import TrainStep

USERS, TEST_USERS, EPOCHS = 4000, 500, 2
NETWORK = {"history_length": 200, "top_k": 20, "short_term_length": 0, "relevance_statistics": True}


@functools.cache
def trained(search: str, epochs: int, form: str = "sum") -> TrainStep:
    """The shipped defaults, but for the sizes of a toy and small batches, on the task."""
    config = TrainingConfig(batch_records=4, epochs=epochs, table_gradient=form)
    trainer = make_trainer(ModelConfig(search=search, **NETWORK), config)
    train(trainer, make_users(USERS, seed=1))
    return trainer


@functools.cache
def auc(search: str, epochs: int, form: str = "sum") -> float:
    """Of unseen users."""
    test = make_users(TEST_USERS, seed=2)
    return roc_auc_score(test.label.numpy().ravel(), scores(trained(search, epochs, form), test).ravel())


def test_twin_finds_the_groups():
    assert auc("twin", EPOCHS) > 0.85
    same, other = group_similarity(trained("twin", EPOCHS))
    assert same > 0.05 > 0.02 > abs(other)


@pytest.mark.slow
def test_the_gradient_of_a_mean_does_not_find_them():
    assert auc("twin", EPOCHS, "mean") < 0.7
    same, _ = group_similarity(trained("twin", EPOCHS, "mean"))
    assert same < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("search", ["twin", "eta", "sdim"])
def test_a_search_of_the_whole_life_is_ahead_of_the_latest(search):
    assert auc(search, EPOCHS) > auc("din", EPOCHS) + 0.03
