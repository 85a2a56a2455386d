"""Every command that README, docs/ and examples/ show exists, with its options, settings, extras and targets."""

import re
import runpy

import pytest

from tests.docs.pages import NAMES, PAGES, README, ROOT, inline_calls, make_targets, mistakes, text_of, twin_tf_calls
from twin_tf.cli.main import main
from twin_tf.config import load_config


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_command_of_a_block_can_be_run_as_shown(page):
    assert [(call, mistakes(call)) for call in twin_tf_calls(text_of(page)) if mistakes(call)] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_command_in_running_text_has_its_options(page):
    for name, options in inline_calls(text_of(page)):
        assert name in main.commands, name
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert set(options) <= known, (name, options)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_setting_shown_is_a_setting(page):
    config, text = load_config("complete_journey"), text_of(page)
    for setting in re.findall(r"--set ([a-z_.]+=[^\s`]+)", text.replace("section.key=value", "training.epochs=1")):
        load_config("complete_journey", [setting.strip("'\"")])
    named = re.findall(r"`(model|training|serving|clusters)\.([a-z_]+)(?:: [^`]*)?`", text)
    assert [name for name in named if name[1] != "preset" and not hasattr(getattr(config, name[0]), name[1])] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_make_target_shown_is_in_the_makefile(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(make_targets(text_of(page))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_extra_shown_is_in_setup_py(page, monkeypatch):
    monkeypatch.setattr("setuptools.setup", lambda **arguments: None)
    extras = runpy.run_path(str(ROOT / "setup.py"))["EXTRAS"]
    shown = re.findall(r"(?:pip install '(?:twin-tf|\.)|`)\[([a-z,]+)\]", text_of(page))
    assert {extra for group in shown for extra in group.split(",")} <= set(extras)


def test_the_readme_shows_the_whole_way():
    names = [call[0] for call in twin_tf_calls(text_of(README))]
    assert names == ["preprocess", "train", "evaluate", "export", "publish", "serve", "predict", "refresh"]
    assert {"demo", "demo-simulated", "docs"} <= set(make_targets(text_of(README)))
