"""A model that was trained on targets of one label is not fit to be served, unless somebody says so."""

import json

import pytest

from export.gate.answer_checks import check_labels
from export.gate.limits import Limits


@pytest.mark.parametrize(("label", "words"), [(0, "is no click"), (1, "is a click")])
def test_a_model_of_one_class_is_refused(label, words, tmp_path):
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra/export.json").write_text(json.dumps({"label_of_all": label}))
    check = check_labels(tmp_path, False)
    assert not check.ok
    assert check.detail == f"every target that it was trained on {words}; --allow-one-class lets it pass"
    assert check_labels(tmp_path, True).ok


def test_other_models_pass(tmp_path):
    assert check_labels(tmp_path, False).ok  # of earlier code, without a description
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra/export.json").write_text("{}")
    assert check_labels(tmp_path, False).ok
    assert "--allow-one-class" in Limits(allow_one_class=True).as_arguments()
