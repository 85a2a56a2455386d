"""A base path in a bucket: what a server may see at any moment, and what publishers promise one another."""

import json
import shutil

import pytest

from export.contract.base_image import ENTRIES, fill, image_of_base
from export.contract.file_manifest import fault
from export.contract.version_layout import LOCK, ROLLED_BACK, look
from export.gate.validate import validate
from export.publishing import bucket_base
from export.publishing.publisher import ServerCheck, publish, roll_back
from export.publishing.version_store import PublishError
from tests.export.publishing.tiny_models import pass_the_gate, write_model
from tests.twin_tf.fake_bucket import FakeBucket, registered
from twin_tf.core.buckets import BucketPath

URL = "fake://shop/twin"


class Watched(FakeBucket):
    """Notes what a server would see after every change: versions by number, and of them those with a graph."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _appears(self, path, content):
        super()._appears(path, content)
        self._look()

    def delete_file(self, path):
        super().delete_file(path)
        self._look()

    def _look(self):
        inside = [name.split("/")[2:] for name in self.objects if name.startswith("shop/twin/")]
        numbers = {parts[0] for parts in inside if parts[0].isdigit()}
        whole = {n for n in numbers if [n, "saved_model.pb"] in inside}
        for number in whole:
            names = {"/".join(parts[1:]) for parts in inside if parts[0] == number}
            assert names == self.model, "a graph is there only while all it needs is"
        if not self.seen or self.seen[-1] != (numbers, whole):
            self.seen.append((numbers, whole))


@pytest.fixture(autouse=True)
def gate(monkeypatch):
    pass_the_gate(monkeypatch)


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", manifest=True)


@pytest.fixture
def bucket(model):
    with registered("fake", Watched()) as made:
        names = {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()}
        made.model = {*names, ".files.json"}
        yield made


def versions(bucket):
    return look(image_of_base(BucketPath.of(URL))).versions


def test_a_version_appears_with_its_graph_last(bucket, model, capsys):
    published = publish(model, URL)
    assert isinstance(published, BucketPath) and str(published) == f"{URL}/{published.name}"
    number = {published.name}
    assert bucket.seen[-1] == (number, number) and (number, set()) in bucket.seen
    assert bucket.done("copy")[-1] == f"shop/twin/{published.name}/saved_model.pb"
    assert not any(f"/{published.name}/" in path for path in bucket.done("write")), "uploaded where nobody looks"
    assert {path.split("/")[2] for path in bucket.objects} == {published.name, ENTRIES}
    image = image_of_base(BucketPath.of(URL))
    assert fault(image / published.name, contents=False) == "" and fault(image / published.name) != ""
    fill(image / published.name)
    assert fault(image / published.name) == ""
    said = capsys.readouterr().err
    assert said == (
        f"warning: {URL} lies in a bucket, where no lock keeps out a publisher that begins in the same seconds: "
        "let one machine publish\n"
    )


@pytest.mark.parametrize("late", [False, True])
def test_versions_rise_the_newest_stay_and_are_gone_back_to(bucket, model, tmp_path, late):
    bucket.lists_late = late
    other = write_model(tmp_path / "other", 2, manifest=True)
    first, second = publish(model, URL, keep=2), publish(other, URL, keep=2)
    assert versions(bucket) == [int(first.name), int(second.name)]
    third = publish(other, URL, keep=2)
    assert versions(bucket) == [int(second.name), int(third.name)]
    back = roll_back(URL)
    assert str(back) == str(second) and versions(bucket) == [int(second.name)]
    hidden = f"shop/twin/.rolled-back-{third.name}/saved_model.pb"
    gone = f"shop/twin/{third.name}/saved_model.pb"
    assert hidden in bucket.objects and bucket.log.index(("copy", hidden)) < bucket.log.index(("delete", gone))
    remembered = json.loads(bucket.objects[f"shop/twin/{ROLLED_BACK}"])["rolled_back"]
    assert [entry["version"] for entry in remembered] == [int(third.name)]
    newer = publish(other, URL, keep=2)
    assert int(newer.name) > int(third.name) and f"shop/twin/{ROLLED_BACK}" not in bucket.objects
    assert not [path for path in bucket.objects if "incoming" in path or "outgoing" in path or path.endswith(LOCK)]


def test_what_the_gate_refuses_never_appears(bucket, model, monkeypatch):
    monkeypatch.setattr("export.publishing.publisher.validate_apart", lambda *_, **__: "parity: too far off")
    with pytest.raises(PublishError, match=f"^{model} is not published: parity: too far off$"):
        publish(model, URL)
    assert not bucket.objects and not [path for path in bucket.done("write") if not path.endswith(LOCK)]


@pytest.mark.parametrize("fails", ["write", "copy"])
def test_a_store_that_fails_leaves_nothing_of_a_version(bucket, model, monkeypatch, fails):
    first = publish(model, URL)
    before = dict(bucket.objects)

    def refuse(kind, path):
        if kind == fails and path.endswith("variables.index"):
            raise OSError("quota exceeded")
        bucket.log.append((kind, path))

    monkeypatch.setattr(bucket, "_did", refuse)
    with pytest.raises(OSError, match="variables.index cannot be written: quota exceeded"):
        publish(model, URL)
    assert {name for name in bucket.objects if not name.endswith(ENTRIES)} == {
        name for name in before if not name.endswith(ENTRIES)
    }
    assert versions(bucket) == [int(first.name)]


def test_a_half_copied_version_of_a_killed_publisher_is_removed(bucket, model, capsys):
    first = publish(model, URL)
    for name in ("variables/variables.index", "assets.extra/export.json"):
        bucket.objects[f"shop/twin/4000000000/{name}"] = b"{}"
    bucket.objects["shop/twin/.incoming-77/variables/variables.index"] = b""
    bucket.objects["shop/twin/2024/notes.txt"] = b"foreign"
    capsys.readouterr()
    second = publish(model, URL)
    assert versions(bucket) == [int(first.name), int(second.name)]
    assert int(second.name) < 4_000_000_000
    assert f"{URL}/4000000000 holds no saved_model.pb, so a publisher was killed; it is removed" in (
        said := capsys.readouterr().err
    )
    assert f"{URL} holds no version of ours and left alone: 2024 (no model in it)" in said
    assert "shop/twin/2024/notes.txt" in bucket.objects
    assert not [path for path in bucket.objects if "incoming" in path or "4000000000" in path]


def test_what_the_server_refuses_is_taken_back(bucket, model, monkeypatch):
    first = publish(model, URL)
    monkeypatch.setattr("export.publishing.publisher.refusal", lambda *_: "the server refuses it")
    with pytest.raises(PublishError, match=rf"^version \d+ is taken back, version {first.name} is the newest again"):
        publish(model, URL, watcher=ServerCheck("nobody:1"))
    assert versions(bucket) == [int(first.name)]
    assert len([path for path in bucket.objects if ".rolled-back-" in path and path.endswith("saved_model.pb")]) == 1


def claim(bucket, job="refresh", age=0, token="theirs"):
    said = {"job": job, "process": "7 on elsewhere", "token": token, "time": int(bucket_base.time.time()) - age}
    bucket.objects[f"shop/twin/{LOCK}"] = json.dumps(said).encode()


def test_a_claim_keeps_others_out_for_an_hour_but_no_rollback(bucket, model):
    publish(model, URL)
    publish(model, URL)
    claim(bucket)
    before = dict(bucket.objects)
    said = rf"^a refresh \(process 7 on elsewhere\) is at work in {URL}; try again .* or remove {URL}/{LOCK} if it was"
    with pytest.raises(PublishError, match=said):
        publish(model, URL)
    assert bucket.objects == before
    roll_back(URL)
    claim(bucket, age=bucket_base.LEASE_S + 1)
    publish(model, URL)
    bucket.objects[f"shop/twin/{LOCK}"] = b"nobody's"
    publish(model, URL)


def test_who_lost_the_claim_publishes_nothing(bucket, model, monkeypatch):
    first = publish(model, URL)
    monkeypatch.setattr("export.publishing.publisher.validate_apart", lambda *_, **__: claim(bucket, "rollback") or "")
    said = rf"^nothing is published: another publisher has begun in {URL} meanwhile, a rollback \(process 7 on"
    with pytest.raises(PublishError, match=said):
        publish(model, URL)
    assert versions(bucket) == [int(first.name)]
    assert json.loads(bucket.objects[f"shop/twin/{LOCK}"])["token"] == "theirs", "the other one's claim stays"


def test_no_permission_is_one_sentence(bucket, model):
    bucket.refuse[f"shop/twin/{LOCK}"] = PermissionError(13, "Forbidden")
    with pytest.raises(OSError, match=f"^{URL}/{LOCK} cannot be written: no permission; look at the credentials"):
        publish(model, URL)


def test_the_gate_names_what_lies_in_a_bucket_by_its_url(bucket, model):
    version = publish(model, URL)
    for place in (str(version), "fake://shop/exported"):
        bucket.put(model, "fake://shop/exported")
        (check, _) = validate(place, base_path=URL).checks
        assert (check.name, check.detail) == ("directory", f"{place} lacks assets.extra/schema.yaml; export it again")


@pytest.mark.slow
@pytest.mark.integration
def test_real_models_are_checked_and_compared_in_a_bucket(toys, monkeypatch):
    monkeypatch.undo()
    with registered("fake", FakeBucket()) as bucket:
        bucket.put(toys / "second", "fake://shop/exported")
        first = publish(toys / "good", URL)
        second = publish("fake://shop/exported", URL)
        report = validate(str(second), base_path=URL)
        details = {check.name: check.detail for check in report.checks}
        assert f"of version {first.name}" in details["contract"] and f"of version {first.name}" in details["auc"]
        assert all(check.ok for check in report.checks if check.name != "tensorflow_free"), report.reason()
        with pytest.raises(PublishError, match=f"^{toys / 'stale_table'} is not published: self_check: "):
            publish(toys / "stale_table", URL)
        assert str(roll_back(URL)) == str(first)


def test_a_model_in_a_bucket_that_is_not_whole_is_refused(bucket, model):
    bucket.put(model, "fake://shop/exported")
    bucket.objects["shop/exported/variables/variables.index"] = b"indeX"
    said = "^fake://shop/exported is not published: variables/variables.index is damaged"
    with pytest.raises(PublishError, match=said):
        publish("fake://shop/exported", URL)
    shutil.rmtree(model)
    del bucket.objects["shop/exported/saved_model.pb"]
    with pytest.raises(PublishError, match="^fake://shop/exported is no model directory: it holds no saved_model.pb"):
        publish("fake://shop/exported", URL)
