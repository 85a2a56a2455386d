"""Trained once over data with planted logits, the shipped defaults come within .01 of the best possible scores."""

import functools

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from tests.twin_tf.planted_roles import ROLES, found_logit, make_trainer, plant, train
from twin_tf.training_settings import TrainingConfig

pytestmark = pytest.mark.integration

RECORDS, TEST_RECORDS = 3000, 800
WITHIN = 0.01


@functools.cache
def shortfall(role: str, batch_records: int, form: str = "sum") -> tuple[float, float]:
    """How far AUC and log loss of unseen records stay behind those of the planted logits."""
    trainer = make_trainer(role, TrainingConfig(batch_records=batch_records, table_gradient=form))
    train(trainer, plant(role, RECORDS, seed=1))
    test = plant(role, TEST_RECORDS, seed=2)
    label, best, found = (x.ravel() for x in (test.batch.label.numpy(), test.logit, found_logit(trainer, test)))
    auc = roc_auc_score(label, best) - roc_auc_score(label, found)
    return auc, log_loss(label, expit(found)) - log_loss(label, expit(best))


def assert_optimal(role: str, batch_records: int) -> None:
    auc, loss = shortfall(role, batch_records)
    assert auc < WITHIN and loss < WITHIN


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reaches_the_optimum(role):
    assert_optimal(role, 8)


@pytest.mark.slow
@pytest.mark.parametrize("batch_records", [2, 32])
@pytest.mark.parametrize("role", ROLES)
def test_every_role_reaches_the_optimum_whatever_the_batch(role, batch_records):
    assert_optimal(role, batch_records)


@pytest.mark.parametrize("role", ["inherent", "user"])
def test_the_gradient_of_a_mean_does_not_reach_it(role):
    auc, loss = shortfall(role, 32, "mean")
    assert auc > 10 * WITHIN and loss > 10 * WITHIN


def test_dare_learns_its_second_table_there():
    trainer = make_trainer("relevance", TrainingConfig(batch_records=8))
    table = trainer.model.relevance_embedding.tables[0]
    start = table.numpy()
    data = plant("relevance", 400, seed=1)
    train(trainer, data)
    before = found_logit(trainer, data)
    table.assign(start)
    after = found_logit(trainer, data)
    assert np.abs(after - before).mean() > 0.1
