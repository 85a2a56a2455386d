"""Earlier names of settings, values and searches: taken with one warning, read in old runs and exports without one."""

import dataclasses
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import small_config, small_data
from twin_tf.config import ModelConfig, config_from_mapping, load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.experiments.comparison.rates import check_origin, read_rates, shared_settings
from twin_tf.experiments.comparison.systems import own_system
from twin_tf.renamed_settings import SETTINGS, VALUES, RenamedSettingWarning
from twin_tf.runs.recorded_settings import load_run_config, recorded_model
from twin_tf.runs.run import RunInfo
from twin_tf.runs.run_lock import claimed_run

pytestmark = pytest.mark.integration

SEARCHES = {
    "average": "avg_pooling", "bm25": "ubr4ctr", "category": "sim_hard", "consistent": "twin", "hash_rounds": "sdim",
    "inner_product": "sim_soft", "item_clusters": "sim_cluster", "learned_inner_product": "sim_soft_learned",
    "memory": "mimn", "recent": "din", "simhash": "eta",
}  # fmt: skip
RENAMED = [
    ("model.relevance_scale=3", ["model.relevance_init_scale=3"]),
    ("model.projection_start=per_feature", ["model.projection_init=per_feature"]),
    ("model.projection_init=unrelated", ["model.projection_init=independent"]),
    ("model.projection_init=equal", ["model.projection_init=tied"]),
    ("model.projection_start=unrelated", ["model.projection_init=independent"]),
    ("model.retrieved=7", ["model.top_k=7"]),
    ("model.evidence=true", ["model.relevance_statistics=true"]),
    ("model.cluster_size=search", ["model.cluster_size_bias=search"]),
    ("model.category=topic", ["model.searches.sim_hard.category=topic"]),
    ("model.item_clusters=9", ["model.searches.sim_cluster.clusters=9"]),
    ("model.hash_bits=32", ["model.searches.eta.bits=32", "model.searches.sdim.bits=32"]),
    ("model.hash_round_bits=4", ["model.searches.sdim.round_bits=4"]),
    ("model.memory_slots=2", ["model.searches.mimn.slots=2"]),
    *((f"model.search={old}", [f"model.search={new}"]) for old, new in SEARCHES.items()),
]

OLD_MODEL = {
    "search": "simhash", "retrieved": 40, "projection_start": "unrelated", "relevance_scale": 30.0, "evidence": False,
    "cluster_size": "both", "category": None, "item_clusters": 1000, "hash_bits": 32, "hash_round_bits": 3,
    "memory_slots": 8, "embedding_scale": 0.2,
}  # fmt: skip
NEW_KEYS = {
    "searches", "top_k", "projection_init", "relevance_init_scale", "relevance_statistics", "cluster_size_bias",
}  # fmt: skip
NEW_NAMES = (
    "model.search=eta", "model.searches.eta.bits=32", "model.top_k=40", "model.projection_init=independent",
    "model.relevance_init_scale=30", "model.relevance_statistics=false",
)  # fmt: skip


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RenamedSettingWarning)
        yield


def nested(override: str) -> dict[str, Any]:
    name, text = override.split("=")
    section, key = name.split(".")
    return {section: {key: yaml.safe_load(text)}}


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_an_earlier_name_is_taken_with_one_warning(old: str, new: list[str], tmp_path: Path) -> None:
    wanted, path = load_config(None, new), tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(nested(old)))
    reads = (lambda: load_config(None, [old]), lambda: load_config(path), lambda: config_from_mapping(nested(old)))
    for read in reads:
        with pytest.warns(RenamedSettingWarning) as caught:
            assert read() == wanted
        assert len(caught) == 1 and caught[0].filename == __file__
        for name in new:
            key, value = name.split("=")
            assert key in str(caught[0].message) and (key != "model.search" or value in str(caught[0].message))


def test_every_earlier_name_is_tried_above() -> None:
    tried = [old.split("=") for old, _ in RENAMED]
    assert set(SETTINGS) <= {name for name, _ in tried}
    for name, values in VALUES.items():
        assert set(values) <= {value for tried_name, value in tried if tried_name == name}


def test_several_earlier_names_make_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("model: {retrieved: 7, search: recent}\n")
    with pytest.warns(RenamedSettingWarning) as caught:
        config = load_config(path, ["model.retrieved=9", "model.evidence=true"])
    assert (config.model.top_k, config.model.search, config.model.relevance_statistics) == (9, "din", True)
    assert [str(warning.message) for warning in caught] == [
        "settings have new names: model.retrieved is now model.top_k; model.search: recent is now din; "
        "model.evidence is now model.relevance_statistics"
    ]


def test_a_setting_under_both_names_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^model\.retrieved is now model\.top_k, .* both; leave model\.retrieved out"
    ):
        config_from_mapping({"model": {"retrieved": 3, "top_k": 3}})


def test_the_command_line_warns_in_one_line() -> None:
    command = (sys.executable, "-m", "twin_tf.cli", "train", "--set", "model.search=consistent", "--json")
    done = subprocess.run(
        [*command, "--prepared", "none", "--run", "none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "none is not a directory" in json.loads(done.stdout)["error"]
    lines = [line for line in done.stderr.splitlines() if "new names" in line]
    assert lines == ["warning: settings have new names: model.search: consistent is now twin"]


def test_a_system_of_ones_own_may_have_earlier_names(no_warning: None) -> None:
    now = own_system("A: search=sim_hard searches.sim_hard.category=brand")
    with pytest.warns(RenamedSettingWarning, match=r"category is now sim_hard; model\.category is now model\.searches"):
        assert own_system("A: search=category category=brand") == now


def test_a_run_of_earlier_names_is_resumed_under_the_new_ones(tmp_path: Path, no_warning: None) -> None:
    manifest = small_data(shared_root())
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, "prepared", commit="today")
    config = dataclasses.replace(small_config(*NEW_NAMES), schema=manifest.schema)
    with claimed_run(tmp_path / "run", manifest, config, info):
        pass
    path = tmp_path / "run" / "config.yaml"
    plain = yaml.safe_load(path.read_text())
    recorded = {name: value for name, value in plain["model"].items() if name not in NEW_KEYS}
    path.write_text(yaml.safe_dump({**plain, "model": {**recorded, **OLD_MODEL}}))
    assert load_run_config(tmp_path / "run").model.in_use() == config.model.in_use()
    with claimed_run(tmp_path / "run", manifest, config, info):
        pass
    assert load_config(path) == config, "recorded under the new names now"
    other = dataclasses.replace(small_config(*NEW_NAMES, "model.searches.eta.bits=16"), schema=manifest.schema)
    with (
        pytest.raises(ConfigError, match=r"other settings, model\.searches\.eta\.bits 32, not 16"),
        claimed_run(tmp_path / "run", manifest, other, info),
    ):
        pass


def test_an_export_of_earlier_names_is_read(no_warning: None) -> None:
    model = recorded_model(OLD_MODEL, "export.json")
    assert model.in_use() == load_config(None, NEW_NAMES).model.in_use()
    absent = recorded_model({"retrieved": 3}, "export.json")
    assert (absent.top_k, absent.relevance_init_scale, absent.embedding_scale) == (3, 1.0, 2.0)


def test_rates_of_earlier_names_are_read(tmp_path: Path, no_warning: None) -> None:
    config = small_config(*NEW_NAMES, "model.searches.sdim.bits=32", "model.searches.sim_hard.category=null")
    settings = shared_settings(config)
    recorded = {name: value for name, value in settings["model"].items() if name not in NEW_KEYS}
    origin = {"data": "", "manifest_sha256": "of these data", "seed": 1, "code": "", "commit": ""}
    content = {"embedding": [1, 2], "dense": [1], "valid_gauc": {}, **origin}
    content["settings"] = {**settings, "model": {**recorded, **OLD_MODEL}}
    (tmp_path / "rates.json").write_text(json.dumps(content))
    check_origin(read_rates(str(tmp_path / "rates.json")), "of these data", settings)


def test_settings_of_a_search_are_given_by_its_name() -> None:
    changed = load_config("simulated", ["model.searches.sim_hard.category=topic"]).model
    assert (changed.search, changed.searches.sim_hard.category, changed.searches.eta.bits) == ("twin", "topic", 48)
    model = config_from_mapping({"model": {"search": "twin", "searches": {"eta": {"bits": 32}}}}).model
    assert model.searches.eta.bits == 32
    assert "searches.eta.bits" not in model.in_use()
    assert dataclasses.replace(model, search="eta").in_use()["searches.eta.bits"] == 32


@pytest.mark.parametrize(
    ("searches", "said"),
    [
        ({"sim_hrd": {}}, r"^model\.searches has an unknown key 'sim_hrd'; did you mean 'sim_hard'\?$"),
        ({"eta": {"bit": 3}}, r"^model\.searches\.eta has an unknown key 'bit'; did you mean 'bits'\?$"),
        ({"eta": {"bits": 0}}, r"^model\.searches\.eta: bits must be at least 1, not 0$"),
        ({"mimn": {"slots": "many"}}, r"^model\.searches\.mimn\.slots must be int, not 'many'$"),
        ({"din": {"bits": 3}}, r"^model\.searches\.din: the search din has no settings; leave it out$"),
        ({"sdim": 3}, r"^model\.searches\.sdim must be a mapping, not 3$"),
        (3, r"^model\.searches must be a mapping, not 3$"),
    ],
)
def test_settings_of_a_search_that_is_not_chosen_are_checked_too(searches: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_from_mapping({"model": {"searches": searches}})


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^search 'sim_hrd' is not known; did you mean 'sim_hard'\?$"):
        ModelConfig(search="sim_hrd")
