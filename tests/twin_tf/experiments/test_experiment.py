"""Results of trainings are kept, and found again by the same settings, data and code alone."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.twin_tf.recorded_steps import Recorded
from twin_tf.core.result_cache import ResultCache, unused_section
from twin_tf.experiments import experiment as arms_module
from twin_tf.experiments.experiment import ExperimentRunner, Variant
from twin_tf.training_settings import TrainingConfig

pytestmark = pytest.mark.integration


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    prepared = prepared_of(tmp_path, "{}")
    variant = Variant("din", "DIN", ("model.search=din",))
    stopped, first = asked(tmp_path, stop_at="evaluate")
    with pytest.raises(KeyboardInterrupt):
        first((1, 2)).run(variant, prepared)
    assert stopped.asked == ["train", "evaluate"]
    steps, second = asked(tmp_path)
    found = second((1, 2)).run(variant, prepared)
    assert steps.asked == ["evaluate", "train", "evaluate"]
    assert [one["seed"] for one in found] == [1, 2] and found[0]["run"] != found[1]["run"]
    idle, third = asked(tmp_path)
    assert third((1, 2)).run(variant, prepared) == found == third((1, 2)).cached(variant, prepared)
    assert idle.asked == [] and [step["reused"] for step in idle.taken] == [True] * 4
    assert [step["seconds"] for step in idle.taken] == [1.0] * 4
    for path in (tmp_path / "results").glob("din-seed1*.json"):
        path.unlink()
    run = Path(found[0]["run"])
    info = json.loads((run / "run.json").read_text())
    finished, fourth = asked(tmp_path)
    fourth((1,)).run(variant, prepared)
    assert finished.asked == ["evaluate"]  # trained to its end, killed before that was noted
    for path in (tmp_path / "results").glob("din-seed1*.json"):
        path.unlink()
    (run / "run.json").write_text(json.dumps({"code": info["code"]}))  # killed before it had trained to the end
    killed, fifth = asked(tmp_path)
    fifth((1,)).run(variant, prepared)
    assert killed.asked == ["train", "evaluate"]


@pytest.mark.parametrize("code", [["edited"], ["edited", "as now"], ["as now", "edited"], [], None])
def test_a_run_that_other_code_has_trained_into_is_trained_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: list[str] | None
) -> None:
    prepared, variant = prepared_of(tmp_path, "{}"), Variant("din", "DIN", ("model.search=din",))
    stopped, first = asked(tmp_path, stop_at="evaluate")
    with pytest.raises(KeyboardInterrupt):
        first((1,)).run(variant, prepared)
    for path in (tmp_path / "results").glob("*.json"):  # the files were changed while it ran: its result was not kept
        path.unlink()
    (info,) = tmp_path.glob("runs/*/run.json")
    written = json.loads(info.read_text())
    codes = None if code is None else [written["code"][0] if one == "as now" else one for one in code]
    info.write_text(json.dumps({**written, "code": codes} if code is not None else {"weights_version": 7}))
    (info.parent / "checkpoint of other code").touch()
    steps, again = asked(tmp_path)
    again((1,)).run(variant, prepared)
    assert steps.asked == ["train", "evaluate"] and not (info.parent / "checkpoint of other code").exists()
    assert "trained by other code, wholly or in part" in capsys.readouterr().err


def prepared_of(root: Path, manifest: str) -> Path:
    prepared = root / "prepared"
    prepared.mkdir(exist_ok=True)
    (prepared / arms_module.MANIFEST).write_text(manifest)
    return prepared


def asked(workdir: Path, **given: Any) -> tuple[Recorded, Callable[[Sequence[int]], ExperimentRunner]]:
    """Commands that are only recorded, and who asks for them with some seeds."""
    cache = ResultCache(workdir / "results")
    steps = Recorded(cache, **given)
    return steps, lambda seeds: ExperimentRunner(workdir, "simulated", seeds, steps, cache)


@pytest.mark.parametrize("changed", ["settings", "a new default", "data", "code"])
def test_results_of_other_settings_data_or_code_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    variant, prepared = Variant("din", "DIN", ("model.search=din",)), prepared_of(tmp_path, "{}")
    _, first = asked(tmp_path)
    (before,) = first((1,)).run(variant, prepared)
    if changed == "settings":
        variant = variant._replace(overrides=(*variant.overrides, "model.heads=2"))
    elif changed == "a new default":
        monkeypatch.setattr(TrainingConfig, "clip_norm", 5.0)
        monkeypatch.setattr(TrainingConfig.__init__, "__defaults__", defaults_with(TrainingConfig, clip_norm=5.0))
    elif changed == "data":
        prepared_of(tmp_path, '{"of": "another day"}')
    else:
        monkeypatch.setattr(arms_module, "code_digest", lambda *_: "of another commit")
    steps, again = asked(tmp_path)
    (after,) = again((1,)).run(variant, prepared)
    assert steps.asked == ["train", "evaluate"] and after["run"] != before["run"]
    (unused,) = [found for found in steps.unused() if "auc" in found.result]
    assert unused.why == ("other settings" if changed == "a new default" else f"other {changed}")
    assert unused.result["gauc"] == before["gauc"]
    page = "\n".join(unused_section([unused._asdict()]))
    assert "No table above holds them" in page and f"| din-seed1 | {unused.why} | " in page
    _, third = asked(tmp_path)
    assert third((1,)).cached(variant, prepared) == [after]


def defaults_with(kind: type, **changes: Any) -> tuple[Any, ...]:
    """The defaults of a dataclass's arguments, some of them changed."""
    fields = [field for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING]
    return tuple(changes.get(field.name, field.default) for field in fields)
