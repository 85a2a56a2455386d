"""The three tiers of tests: `make test-unit`, `make test`, `make test-slow`."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HEAVY = re.compile(
    r"\bsubprocess\b|small_run|two_days|start_local_server|\btoys\b|toy_servable|build_examples|train_model\(|run_python|"
    r"local_cluster|\btrain\("
)
"""What a unit test does without: processes, servers, pipelines, trainings."""

FILES = sorted(path for path in TESTS.rglob("test_*.py") if path != Path(__file__))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_is_heavy_is_marked_as_integration(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "pytest.mark.integration" in text or not HEAVY.search(text)
