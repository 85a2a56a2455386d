"""What a run records of its settings, and what it means when it lacks one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.twin_tf.small_run import sign_run, small_config
from twin_tf.config import Config, load_config
from twin_tf.core.dataclass_yaml import ConfigError, to_plain
from twin_tf.core.files import read_json
from twin_tf.renamed_settings import current_names, put
from twin_tf.runs import recorded_settings
from twin_tf.runs.recorded_settings import load_run_config, recorded_model
from twin_tf.runs.run import RunInfo
from twin_tf.runs.run_lock import claimed_run
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration

SECTIONS = ("model", "clusters", "training", "serving")


def flat(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names to values; lists are values."""
    if not isinstance(plain, dict):
        return {prefix: plain}
    found = {}
    for key, value in plain.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else key)
    return found


def first_recorded() -> dict[str, Any]:
    """Every setting and its default when runs began to record all of them, 2026-11-29, in the form of config.yaml."""
    plain: dict[str, Any] = {}
    text = (Path(__file__).parents[1] / "first_recorded_defaults.yaml").read_text(encoding="utf-8")
    for name, value in yaml.safe_load(text).items():
        put(plain, name, value)
    return plain


FIRST = flat(current_names(first_recorded())[0])
"""Under today's names."""


def test_a_setting_that_a_run_lacks_means_what_it_meant_then() -> None:
    """Whoever adds a setting, or changes a default, says in EARLIER_DEFAULTS what runs until then were trained with."""
    now = flat({section: Config().to_plain(defaults=True)[section] for section in SECTIONS})
    for name, value in now.items():
        earlier = recorded_settings.EARLIER_DEFAULTS.get(name, value)
        if name in FIRST:
            assert earlier == FIRST[name], f"the default of {name} has changed: enter the earlier one"
        else:
            assert name in recorded_settings.EARLIER_DEFAULTS, f"{name} is new: enter what its absence means"
    assert set(recorded_settings.EARLIER_DEFAULTS) <= set(now), "entries of settings that are gone"


def test_a_run_records_every_setting(tmp_path: Path) -> None:
    config = small_config()
    config.save(tmp_path / "config.yaml")
    recorded = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for section in SECTIONS:
        assert set(recorded[section]) == {f.name for f in dataclasses.fields(getattr(config, section))}
    assert load_run_config(tmp_path) == config == load_config(tmp_path / "config.yaml")


@pytest.fixture
def younger(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `model.heads` were younger than some runs, and these had had one head."""
    monkeypatch.setattr(recorded_settings, "EARLIER_DEFAULTS", {"model.heads": 1})


def without_heads(run: Path) -> None:
    plain = yaml.safe_load((run / "config.yaml").read_text())
    plain["model"].pop("heads", None)
    (run / "config.yaml").write_text(yaml.safe_dump(plain))


def test_a_run_never_takes_a_default_that_is_younger_than_it(tmp_path: Path, younger: None) -> None:
    small_config().save(tmp_path / "config.yaml")
    assert load_run_config(tmp_path).model.heads == 4, "it is recorded"
    without_heads(tmp_path)
    assert load_run_config(tmp_path).model.heads == 1
    assert load_config(tmp_path / "config.yaml").model.heads == 4
    model = to_plain(small_config().model)
    assert recorded_model(model, "export.json").heads == 1
    assert recorded_model({**model, "heads": 2}, "export.json").heads == 2
    with pytest.raises(ConfigError, match=r"export\.json has an unknown key 'haeds'; did you mean 'heads'"):
        recorded_model({"haeds": 2}, "export.json")


def test_a_run_of_an_earlier_form_is_refused_or_keeps_its_form(
    tmp_path: Path, manifest: Any, capsys: pytest.CaptureFixture[str], younger: None
) -> None:
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, "prepared", commit="today", code=("new",))
    one_head = dataclasses.replace(small_config("model.heads=1"), schema=manifest.schema)
    with claimed_run(
        tmp_path / "run", manifest, one_head, dataclasses.replace(info, commit="yesterday", code=("old",))
    ):
        pass
    without_heads(tmp_path / "run")
    four = dataclasses.replace(small_config(), schema=manifest.schema)
    said = r"model\.heads 1, not 4; only the same command resumes it, here with --set model\.heads=1"
    with pytest.raises(ConfigError, match=said), claimed_run(tmp_path / "run", manifest, four, info):
        pass
    capsys.readouterr()
    with claimed_run(tmp_path / "run", manifest, one_head, info) as begun:
        assert begun.commit == "yesterday" and begun.code == ("old", "new")
    said = capsys.readouterr().err
    assert "does not record model.heads: it keeps 1, as it was begun" in said
    assert "was begun by code yesterday and goes on with today" in said
    assert load_config(tmp_path / "run" / "config.yaml").model.heads == 1, "now it is recorded"


def test_a_finished_run_says_which_code_began_it(run: Path) -> None:
    assert read_json(run / "run.json")["commit"]


def test_a_run_whose_network_is_of_an_earlier_form_is_loaded_in_it(
    tmp_path: Path, prepared: Path, younger: None
) -> None:
    from twin_tf.runs.run import load_run

    config = small_config("model.heads=1", "training.epochs=1", "model.search=din", "training.validation_records=1")
    train_model(prepared, tmp_path / "run", config)
    without_heads(tmp_path / "run")
    sign_run(tmp_path / "run")
    assert load_run(tmp_path / "run").model.config.heads == 1
