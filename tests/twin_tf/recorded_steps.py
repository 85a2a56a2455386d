"""Commands that are only recorded: what they would leave behind, and what was asked."""

import json
from pathlib import Path
from typing import Any

from twin_tf.core.code_version import code_digest
from twin_tf.core.result_cache import ResultCache
from twin_tf.experiments.experiment import TRAINING
from twin_tf.experiments.subprocess_runner import Steps

HALVED, UNCHANGED = "training.embedding_learning_rate=0.05", "training.embedding_learning_rate=0.1"


class Recorded(Steps):
    """Writes what the commands would leave behind, and what was asked."""

    def __init__(self, cache: ResultCache | None = None, stop_at: str = "") -> None:
        super().__init__(cache=cache)
        self.asked: list[str] = []
        self.settings: list[str] = []
        self._stop_at = stop_at

    def run(self, name: str, *arguments: str) -> dict[str, Any]:
        self.asked.append(arguments[0])
        self.settings.append(" ".join(arguments))
        run = Path(arguments[arguments.index("--run") + 1])
        if arguments[0] == self._stop_at:
            raise KeyboardInterrupt
        self.add(name, 1.0, 500.0)
        if arguments[0] == "train":
            run.mkdir(parents=True, exist_ok=True)
            rates = [part for part in arguments if part.startswith("training.embedding_learning_rate=")]
            rate, best = (rates or [UNCHANGED])[0], HALVED if "model.search=din" in arguments else UNCHANGED
            valid = {"gauc": 0.8 if rate == best else 0.6 if "0.2" in rate else 0.7}
            valid |= {"gauc_error": 0.0123, "targets": 50, "users": 5}
            trained = {
                "peak_rss_mb": 500.0,
                "at_once": 2,
                "train_seconds": 1.0,
                "examples_per_s": 5.0,
                "epochs": 1,
                "valid": [],
                "kept": {"valid": valid},
            }
            (run / "run.json").write_text(json.dumps({"weights_version": 7, "code": [code_digest(TRAINING)]}))
            (run / "report.json").write_text(json.dumps(trained))
            return trained
        return {"metrics": {"auc": 0.7, "gauc": 0.6, "logloss": 0.5}, "by_history_length": []}
