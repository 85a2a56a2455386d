"""YAML means what YAML 1.2 says, and whatever is wrong with a file is one sentence that names it."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.yaml_text import DEEPEST, dump_yaml, parse_json, parse_yaml, read_yaml
from twin_tf.features.schema import load_schema

TYPED = {
    "010": 10, "+12": 12, "-3": -3, "0o14": 12, "0x1F": 31, "-0o14": "-0o14", "0b11": "0b11", "1_000": "1_000",
    "1:30": "1:30", "190:20:30": "190:20:30", "2026-01-31": "2026-01-31", "2026-01-31 10:00:00": "2026-01-31 10:00:00",
    "1e3": 1000.0, "5e-6": 5e-6, "1.": 1.0, ".5": 0.5, "-1.5E+2": -150.0, "1_0.5": "1_0.5", ".inf": math.inf,
    "-.Inf": -math.inf, "inf": "inf", "nan": "nan", "true": True, "False": False, "TRUE": True, "tRue": "tRue",
    "yes": "yes", "No": "No", "on": "on", "OFF": "OFF", "y": "y", "null": None, "~": None, "": None, "Null": None,
    "'010'": "010", '"true"': "true", "!!str 010": "010", "!!float 1": 1.0, "=": "=", "<<": "<<",
    str(2**63): 2**63, str(-(2**63)): -(2**63), "é": "é",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), TYPED.items())
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}\n", "mine.yaml")["key"]
    assert found == value
    assert type(found) is type(value)
    assert math.isnan(parse_yaml(".nan", "mine.yaml"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("training.epochs=010", 10), ("training.seed=0o14", 12), ("training.clip_norm=1e3", 1000.0)],
)
def test_settings_of_the_command_line_are_read_by_the_same_rule(setting: str, value: object) -> None:
    assert getattr(load_config(None, [setting]).training, setting.split(".")[1].split("=")[0]) == value


@pytest.mark.parametrize("text", ["training.epochs=1_000", "training.deterministic=yes", "training.epochs=1:30"])
def test_text_is_no_number_and_no_truth(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^training\.\w+ must be (int|bool), not '"):
        load_config(None, [text])


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
CHAIN = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))

REFUSED = {
    "a section twice": (
        b"training:\n  epochs: 1\nmodel: {}\ntraining:\n  seed: 2\n",
        "has the key 'training' in line 1 and again in line 4; keep one of them",
    ),
    "a key twice": (b"model:\n  heads: 1\n  top_k: 3\n  heads: 2\n", "has the key 'heads' in line 2 and again in"),
    "a key twice, in braces": (b"{model: {heads: 1, heads: 2}}", "has the key 'heads' in line 1 and again in line 1"),
    "Latin-1": ("a: 1\nname: café\n".encode("latin-1"), "is not UTF-8: line 2 holds the byte 0xe9; save it as UTF-8"),
    "UTF-16": ("a: b".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "UTF-16, big-endian": (b"\xfe\xff" + "a: b".encode("utf-16-be"), "is UTF-16; save it as UTF-8"),
    "UTF-32": ("a: b".encode("utf-32"), "is UTF-32; save it as UTF-8"),
    "deep brackets": (b"a: " + b"[" * 100_000, f"is nested more than {DEEPEST} levels deep in line 1"),
    "deep braces": (b"{a: " * 5_000, f"is nested more than {DEEPEST} levels deep in line 1"),
    "deep lists": (b"- " * 5_000 + b"x", f"is nested more than {DEEPEST} levels deep in line 1"),
    "a long number": (b"a: 1\nb: " + b"9" * 5_000, "has '99999999999999999999'... (5,000 characters) in line 2"),
    "a number of 65 bits": (b"a: 18446744073709551616", "has '18446744073709551616' in line 1, which"),
    "a long hexadecimal number": (b"a: 0x" + b"f" * 5_000, "has '0xffffffffffffffffff'... (5,002 characters) in"),
    "a number beyond floats": (b"a: 1e999", "has '1e999' in line 1, which no floating-point number can hold"),
    "a tab": (b"model:\n\theads: 1\n", "is not valid YAML in line 2: found character '\\t' that cannot"),
    "a NUL byte": (b"model: {}\nx: a\x00b\n", "is not valid YAML in line 2: it holds the character '\\x00'"),
    "a bomb": (BOMB.encode(), "stands for more than 100,000 values by line 5"),
    "a chain of aliases": (CHAIN.encode(), f"is nested more than {DEEPEST} levels deep in line 50"),
    "an endless alias": (b"a: &a\n  - *a\n", "has an alias in line 2 that stands for a thing around it"),
    "an unknown alias": (b"a: *b", "is not valid YAML: found undefined alias 'b'"),
    "an object": (b"a: !!python/object/apply:os.system [ls]", "is not valid YAML: could not determine a constructor"),
    "a wrong tag": (b"a: !!int x", "has 'x' in line 1, which is no int"),
    "a list as a key": (b"? [a]\n: b", "has a key in line 1 that is a list or a mapping; keys are text"),
    "two documents": (b"a: 1\n---\nb: 2\n", "is not valid YAML in line 2: found another document"),
    "an open quote": (b"a: 'b\n", "is not valid YAML: found unexpected end of stream"),
    "nothing": (b"", "must hold a mapping of keys, not NoneType"),
    "a list": (b"- a", "must hold a mapping of keys, not list"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("read", [read_yaml, load_config, load_schema], ids=["read_yaml", "load_config", "load_schema"])
def test_a_bad_file_is_one_sentence_that_names_it(read, name: str, tmp_path: Path) -> None:
    content, sentence = REFUSED[name]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read(path)
    said = str(refused.value)
    assert said.startswith(f"{path} {sentence}")
    assert "\n" not in said
    assert len(said) < 250 + len(str(path))


@pytest.mark.parametrize("text", ["[", "a: b: c", "{x: 1, x: 2}", "*x", "9" * 5_000, "[" * 5_000, "\x00"])
def test_a_bad_value_on_the_command_line_is_one_sentence(text: str) -> None:
    said = r"^--set training\.epochs: the value (is not valid|has|is nested)[^\n]{0,120}$"
    with pytest.raises(ConfigError, match=said):
        load_config(None, [f"training.epochs={text}"])


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfmodel: {heads: 1}")
    assert load_config(tmp_path / "mine.yaml").model.heads == 1


def test_anchors_stand_for_what_they_name() -> None:
    assert parse_yaml("a: &id 64\nb: *id\nc: &c [1, {d: *id}]\ne: *c", "mine.yaml")["e"] == [1, {"d": 64}]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from([text for text in TYPED if text]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(PLAIN)
def test_what_is_written_is_read_as_it_was_by_either_version(plain: object) -> None:
    text = dump_yaml({"value": plain})
    assert parse_yaml(text, "mine.yaml") == {"value": plain}
    assert yaml.safe_load(text) == {"value": plain}


JSON = {
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "has the key 'c' twice; keep one of them"),
    "deep": (b"[" * 100_000, "is not valid JSON: it is nested too deeply"),
    "50 levels and one": (b"[" * 51 + b"]" * 51, "is nested more than 50 levels deep"),
    "900 levels": (b'{"a":' * 900 + b"1" + b"}" * 900, "is nested more than 50 levels deep"),
    "half a pair": (b'{"a": ["\\uD800"]}', "is not valid JSON: it holds half of a surrogate pair"),
    "half a pair as a key": (b'{"\\udfff": 1}', "is not valid JSON: it holds half of a surrogate pair"),
    "half a pair in text": ('{"a": "\ud800"}', "is not valid JSON: it holds half of a surrogate pair"),
    "a long number": (b"9" * 5_000, "is not valid JSON: it holds a number of thousands of digits"),
    "cut": (b'{"a": ', "is not valid JSON: Expecting value: line 1 column 7 (char 6)"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "is not UTF-8: line 1 holds the byte 0xe9; save it as UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), "is UTF-16; save it as UTF-8"),
}


@pytest.mark.parametrize("name", JSON)
def test_bad_json_is_one_sentence_that_names_it(name: str) -> None:
    content, sentence = JSON[name]
    with pytest.raises(ConfigError) as refused:
        parse_json(content, "mine.json")
    assert str(refused.value) == f"mine.json {sentence}"
    assert parse_json(b'\xef\xbb\xbf{"a": [1]}', "mine.json") == {"a": [1]}
    assert parse_json(b'["\\ud83d\\ude00", "\\\\ud800"]', "mine.json") == ["\U0001f600", "\\ud800"]
    assert parse_json("[" * 50 + "]" * 50, "mine.json")
