"""What the project exists for: with clicks that follow life-long interests, the latest 100 behaviours are not enough.

TWIN and DIN differ in `model.search` alone (both have `relevance_statistics`); the logs are simulated, where most of a
user's interests are not among the latest 100 behaviours.
"""

import pytest

from beam_pipelines.build_examples import build_examples
from beam_pipelines.simulate_logs import simulate_logs
from twin_tf.config import load_config
from twin_tf.evaluation.counting_baseline import count_behaviours
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration

SMALL = {
    "users": 150, "days": 60, "items": 1500, "topics": 60, "median_history": 400, "max_history": 1500,
    "targets": 20_000, "explore": 0.2, "target_share": 0.4,
}  # fmt: skip
LARGER = {
    "users": 200, "items": 3000, "topics": 100, "median_history": 500, "max_history": 3000, "targets": 24_000,
    "explore": 0.15, "target_share": 0.4,
}  # fmt: skip
SETTINGS = (
    "model.mixer=[32]", "training.epochs=2", "training.batch_records=2", "training.embedding_learning_rate=0.1",
    "schema.targets.per_record=32",
)  # fmt: skip


def auc_on_test(root, logs, rate):
    """AUC on the test split of TWIN, DIN and counting over the latest 100 and over all behaviours."""
    settings = (*SETTINGS, f"training.dense_learning_rate={rate}")
    simulate_logs(root / "raw", **logs)
    schema = load_config("simulated", settings).schema
    files = {log: str(root / "raw" / f"{log}*.parquet") for log in ("events", "items", "users")}
    manifest = build_examples(schema, **files, output=root / "prepared", shards=2, progress=False)
    counted = count_behaviours(manifest, "test", "topic", (100, 12_000))
    auc = {f"counting {window}": found.metrics.auc for window, found in counted.items()}
    for search in ("twin", "din"):
        config = load_config("simulated", (*settings, f"model.search={search}"))
        assert config.model.relevance_statistics
        assert config.model.top_k == 100
        train_model(root / "prepared", root / search, config)
        auc[search] = evaluate_run(root / search, root / "prepared")["metrics"]["auc"]
    print(auc)
    return auc


@pytest.mark.slow
def test_twin_finds_what_the_latest_100_behaviours_cannot_show(tmp_path):
    auc = auc_on_test(tmp_path, {**SMALL, "seed": 2}, 0.004)
    assert auc["twin"] > auc["din"] + 0.06
    assert auc["twin"] > 0.66
    assert auc["counting 12000"] > auc["counting 100"] + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twin_finds_more_for_every_seed(tmp_path, seed):
    auc = auc_on_test(tmp_path, {**LARGER, "seed": seed}, 0.003)
    assert auc["twin"] > auc["din"] + 0.055
    assert auc["twin"] > 0.67
