"""Every search strategy from prepared data to the probabilities that a server answers with."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.client.client import TwinClient
from export.client.replay import replay
from export.local_server.server import start_local_server
from export.saved_model.exporter import export_run
from tests.patience import PATIENCE_S
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.searching import SETTINGS
from tests.twin_tf.small_run import small_config, small_data
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.runs.item_embeddings import make_item_embeddings
from twin_tf.search import STRATEGIES, find_strategy
from twin_tf.search.protocol import PoolingSearch
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration


@pytest.mark.slow  # by day TWIN goes the same way in the demo, and one of each kind is served in test_searches_served
@pytest.mark.parametrize("search", sorted(STRATEGIES))
def test_every_search_is_trained_evaluated_exported_and_served(search: str, tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    settings = [f"model.searches.{search}.{name}={value}" for name, value in SETTINGS.get(search, {}).items()]
    embeddings = root / "item-embeddings"
    if find_strategy(search).needs_embeddings:
        if not embeddings.exists():
            make_item_embeddings(root / "prepared", embeddings, width=12)
        settings.append(f"training.item_embeddings={embeddings}")
    config = small_config(f"model.search={search}", "training.epochs=1", "model.short_term_length=10", *settings)
    report = train_model(root / "prepared", tmp_path / "run", config)
    assert 0.3 < report["loss"][-1] < 0.75
    metrics = evaluate_run(tmp_path / "run", root / "prepared")["metrics"]
    assert 0.4 < metrics["auc"] < 1
    export_run(tmp_path / "run", tmp_path / "model")
    gate = [
        sys.executable,
        "-m",
        "twin_tf.cli",
        "validate",
        str(tmp_path / "model"),
    ]  # it must not import TensorFlow
    assert subprocess.run(gate, check=False).returncode == 0
    base = tmp_path / "serving"
    shutil.copytree(tmp_path / "model", base / "1700000000")
    with start_local_server(base) as server, TwinClient(server.address, timeout_s=PATIENCE_S) as client:
        served = replay(client, tmp_path / "model")
    assert served["requests"] >= 50 and served["served_minus_trained_max"] <= 1e-5
    if issubclass(find_strategy(search), PoolingSearch):
        assert math.isnan(served["overlap_at_100"])
    else:
        assert served["overlap_at_100"] == 100.0
