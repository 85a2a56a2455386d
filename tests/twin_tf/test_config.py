"""The strict YAML reader and the configuration: every rule has its sentence, and what is written reads back."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from twin_tf.config import Config, ModelConfig, ServingConfig, config_from_mapping, load_config
from twin_tf.core.dataclass_yaml import ConfigError, build, nearest, to_plain
from twin_tf.core.yaml_text import parse_yaml, read_yaml
from twin_tf.training_settings import TrainingConfig

pytestmark = pytest.mark.integration

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "twin_tf" / "configs").glob("*.yaml"))


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"size must be at least 1, not {self.size}")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    kind: Literal["a", "b"] = "a"
    flags: tuple[bool, ...] = ()
    parts: tuple[Inner, ...] = ()
    limit: int | None = None
    where: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)


def sentence_of(data: Any, cls: type = Outer) -> str:
    with pytest.raises(ConfigError) as caught:
        build(cls, data, "outer")
    return str(caught.value)


def test_build_reads_every_kind_of_field() -> None:
    data = {
        "name": "x",
        "inner": {"size": 2, "rate": 1},
        "kind": "b",
        "flags": [True, False],
        "parts": [{"size": 1}, {"size": 3}],
        "limit": None,
        "where": {"click": [1, "yes"]},
    }
    assert build(Outer, data, "outer") == Outer(
        "x", Inner(2, 1.0), "b", (True, False), (Inner(1), Inner(3)), None, {"click": (1, "yes")}
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nmae": "x"}, "outer has an unknown key 'nmae'; did you mean 'name'?"),
        ({"zzz": 1}, "outer has an unknown key 'zzz'; known: flags, inner, kind, limit, name, parts, where"),
        ({7: 1}, "outer has an unknown key 7; known: flags, inner, kind, limit, name, parts, where"),
        ({"inner": {"size": 1, "rat": 1}}, "outer.inner has an unknown key 'rat'; did you mean 'rate'?"),
        ({"inner": 3}, "outer.inner must be a mapping, not 3"),
        ({"inner": {"rate": 1.0}}, "outer.inner needs the key 'size'"),
        ({"inner": {"size": 0}}, "outer.inner: size must be at least 1, not 0"),
        ({"inner": {"size": True}}, "outer.inner.size must be int, not True"),
        ({"inner": {"size": 1.0}}, "outer.inner.size must be int, not 1.0"),
        ({"inner": {"size": 1, "rate": "fast"}}, "outer.inner.rate must be float, not 'fast'"),
        ({"name": 3}, "outer.name must be str, not 3"),
        ({"name": None}, "outer.name must be str, not None"),
        ({"kind": "c"}, "outer.kind must be one of a, b, not 'c'"),
        ({"flags": "yes"}, "outer.flags must be a list, not 'yes'"),
        ({"flags": [True, "no"]}, "outer.flags[1] must be bool, not 'no'"),
        ({"parts": [{"size": 1}, {"size": -1}]}, "outer.parts[1]: size must be at least 1, not -1"),
        ({"limit": "ten"}, "outer.limit must be int, not 'ten'"),
        ({"where": [1]}, "outer.where must be a mapping, not [1]"),
        ({"where": {"click": 1}}, "outer.where.click must be a list, not 1"),
    ],
)
def test_build_names_the_place_the_rule_and_the_value(change: dict[Any, Any], sentence: str) -> None:
    assert sentence_of({"name": "x", "inner": {"size": 1}} | change) == sentence


def test_build_refuses_what_is_no_mapping() -> None:
    assert sentence_of([1]) == "outer must be a mapping, not [1]"
    assert sentence_of({"inner": {"size": 1}}) == "outer needs the key 'name'"


def test_a_float_may_be_written_as_yaml_1_1_reads_as_text() -> None:
    assert build(Inner, parse_yaml("{size: 1, rate: 5e-6}", "inner"), "inner").rate == 5e-6


def test_to_plain_leaves_defaults_out_and_reads_back() -> None:
    outer = Outer("x", Inner(2), flags=(True,), parts=(Inner(3, 0.25),), where={"click": (1,)})
    plain = to_plain(outer)
    assert plain == {
        "name": "x",
        "inner": {"size": 2},
        "flags": [True],
        "parts": [{"size": 3, "rate": 0.25}],
        "where": {"click": [1]},
    }
    assert build(Outer, yaml.safe_load(yaml.safe_dump(plain)), "outer") == outer


def test_nearest_names_one_or_all() -> None:
    assert nearest("head", ["heads", "mixer"]) == "; did you mean 'heads'?"
    assert nearest("q", ["heads", "mixer"]) == "; known: heads, mixer"


def test_read_yaml_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    broken, listed = tmp_path / "broken.yaml", tmp_path / "list.yaml"
    broken.write_text("a: 1\nb: [1\nc: 2\n")
    listed.write_text("- 1\n")
    for path, sentence in (
        (tmp_path / "none.yaml", f"cannot read {tmp_path / 'none.yaml'}: No such file or directory"),
        (broken, f"{broken} is not valid YAML in line 3: expected ',' or ']', but got ':'"),
        (listed, f"{listed} must hold a mapping of keys, not list"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert str(caught.value) == sentence


def test_defaults_are_the_papers() -> None:
    config = load_config(None)
    assert config == Config()
    assert (config.model.top_k, config.model.heads, config.model.short_term_length) == (100, 4, 50)
    assert (config.model.history_length, config.training.embedding_learning_rate) == (10_000, 0.05)
    assert config.model.search == "twin"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_load_by_name_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert config.schema is not None
    assert config.schema.name == name
    assert config.model.history_length <= config.schema.history.max_length
    config.save(tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    assert config_from_mapping(config.to_plain()) == config


def test_a_file_beats_a_shipped_configuration_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("simulated").write_text("training: {epochs: 9}\n")
    assert load_config("simulated") == Config(training=TrainingConfig(epochs=9))


def test_overrides_change_single_values_and_are_read_as_yaml() -> None:
    config = load_config(None, ["model.heads=2", "model.mixer=[8, 4]", "model.bias=false", "training.epochs=3"])
    assert config == Config(model=ModelConfig(heads=2, mixer=(8, 4), bias=False), training=TrainingConfig(epochs=3))
    deep = load_config("simulated", ["schema.history.max_length=5", "serving.probes=7", "training.epochs=1"])
    assert deep.schema is not None
    assert deep.schema.history.max_length == 5
    assert deep.serving == ServingConfig(probes=7)


def test_a_value_of_an_override_may_hold_an_equals_sign() -> None:
    with pytest.raises(ConfigError, match=r"^model.projection_init must be one of .*, not 'a=b'$"):
        load_config(None, ["model.projection_init=a=b"])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epochs=2", "--set 'epochs=2' must read section.key=value, for example training.epochs=2"),
        ("model.heads", "--set 'model.heads' must read section.key=value, for example training.epochs=2"),
        ("model.heads.x=2", "--set 'model.heads.x=2': 'heads' is not a section"),
        ("model.head=2", "model has an unknown key 'head'; did you mean 'heads'?"),
        ("modle.heads=2", "the configuration has an unknown section 'modle'; did you mean 'model'?"),
        (
            "model.heads=[",
            "--set model.heads: the value is not valid YAML: expected the node content, but found '<stream end>'",
        ),
    ],
)
def test_wrong_overrides_are_refused_in_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("simulated" if override == "model.heads.x=2" else None, [override])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("model", "history_length", 0, "model: history_length must be at least 1, not 0"),
        ("model", "top_k", 0, "model: top_k must be at least 1, not 0"),
        ("model", "heads", -1, "model: heads must be at least 1, not -1"),
        ("model", "head_size", 0, "model: head_size must be at least 1, not 0"),
        ("model", "short_term_length", -1, "model: short_term_length must not be negative, not -1"),
        ("model", "bias", 1, "model.bias must be bool, not 1"),
        ("model", "mixer", 8, "model.mixer must be a list, not 8"),
        ("training", "epochs", 0, "training: epochs 0 and batch_records 8 must be at least 1"),
        ("training", "schedule", "step", "training.schedule must be one of cosine, constant, not 'step'"),
        ("serving", "probes", "all", "serving.probes must be int, not 'all'"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(section: str, key: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_mapping({section: {key: value}})
    assert str(caught.value) == sentence


def test_an_empty_section_means_its_defaults() -> None:
    assert config_from_mapping({"model": None, "schema": None}) == Config()


def test_importing_schema_encoders_and_config_costs_no_tensorflow() -> None:
    import subprocess
    import sys

    program = (
        "import sys, os; os.environ.pop('TF_USE_LEGACY_KERAS', None);"
        "import twin_tf, twin_tf.features.schema, twin_tf.features.encoders, twin_tf.config;"
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'tf_keras', 'pyarrow')],"
        " os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] None\n"


def test_the_schema_in_the_documents_is_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "own_logs.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my_shop.yaml").write_text(block, encoding="utf-8")
    config = load_config(tmp_path / "my_shop.yaml")
    assert [f.name for f in config.schema.inherent] == ["product", "category", "tags", "price"]


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ("training.dense_learning_rate=.nan", "dense_learning_rate must be a positive number"),
        ("training.embedding_learning_rate=-1", "embedding_learning_rate must be a positive number"),
        ("serving.max_candidates=99", "max_candidates must be at least 2 and the largest of warmup_candidates, not 99"),
        ("serving.probes=0", "probes, warmup_lengths and warmup_candidates must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(section, rule):
    with pytest.raises(ConfigError, match=rule):
        load_config(None, [section])
