"""Hidden groups of items through the commands: raw logs in, the test split's AUC of TWIN, ETA, SDIM and DIN out.

Of the settings, `hidden_groups.write_logs` writes the sizes of a toy, small batches and two epochs; the rest are the
shipped defaults.
"""

import pytest

from tests.e2e.commands import run_module, twin_tf
from tests.twin_tf.hidden_groups import SEARCHES, group_similarity, write_logs
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration

USERS = {"train": 6000, "valid": 500, "test": 500}
TIMEOUT = 3600


@pytest.mark.slow
def test_hidden_groups_end_to_end(tmp_path):
    write_logs(tmp_path, USERS)
    logs = ("--events", "./events-*.parquet", "--items", "items.parquet")
    run_module(
        tmp_path, "beam_pipelines.build_examples", "--schema", "config.yaml", *logs, "--output", "prepared",
        timeout=TIMEOUT,
    )  # fmt: skip
    auc = {}
    for name, search in SEARCHES.items():
        settings = ("--config", "config.yaml", "--set", f"model.search={search}")
        twin_tf(tmp_path, "train", *settings, "--prepared", "prepared", "--run", name, "--json", timeout=TIMEOUT)
        found, _ = twin_tf(tmp_path, "evaluate", "--run", name, "--prepared", "prepared", "--json", timeout=TIMEOUT)
        auc[name] = found["metrics"]["auc"]
        same, other = group_similarity(load_run(tmp_path / name).model)
        print(f"{name}: AUC {auc[name]:.4f}, cosine of rows {same:.3f} in a group, {other:.3f} of two groups")
        assert same > other + 0.03
    assert auc["TWIN"] > max(auc["ETA"], auc["SDIM"])
    assert min(auc["ETA"], auc["SDIM"]) > auc["DIN"] + 0.03
