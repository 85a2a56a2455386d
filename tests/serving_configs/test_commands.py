"""The commands that the runbook and the manifests show are commands of the project, with options it has."""

import re

import pytest

from tests.serving_configs.test_serving_configs import FOLDER, REPOSITORY
from twin_tf.cli.main import main

PLACES = [
    REPOSITORY / "docs" / "serving.md",
    FOLDER / "docker-compose.yaml",
    FOLDER / "models.config",
    FOLDER / "kubernetes" / "refresh.yaml",
]


def shown(text):
    """(command, its options) for every call in the text; a manifest's list of arguments counts as one."""
    text = re.sub(r"command: \[twin-tf\]\s+args:", "twin-tf", text)
    text = re.sub(r"\n +(?:#.*\n +)*- (?=-|refresh)", " ", text)
    return [
        (name, re.findall(r"--[a-z][a-z-]*", rest)) for name, rest in re.findall(r"twin-tf ([a-z]+)([^`#\n]*)", text)
    ]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: path.name)
def test_every_command_shown_exists_with_its_options(path):
    calls = shown(path.read_text(encoding="utf-8"))
    assert calls
    for name, options in calls:
        assert name in main.commands, name
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert set(options) <= known, (name, options)


def test_the_refresh_job_is_read_as_one_call():
    text = (FOLDER / "kubernetes" / "refresh.yaml").read_text(encoding="utf-8")
    assert shown(text) == [("refresh", ["--run", "--base-path", "--server", "--json"])]
