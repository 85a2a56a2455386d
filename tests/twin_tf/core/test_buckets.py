import pytest
from click.testing import CliRunner

from tests.twin_tf.fake_bucket import FakeBucket, registered
from twin_tf.cli.main import main
from twin_tf.core import buckets
from twin_tf.core.buckets import INDEX, BucketError, BucketPath, is_url
from twin_tf.core.mirrors import WorkingCopy, at_hand, local_path, named, place_of, working_copy


@pytest.fixture
def bucket():
    with registered("fake", FakeBucket()) as made:
        yield made


def fill(directory, **files):
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def sizes(directory):
    return {p.relative_to(directory).as_posix(): p.stat().st_size for p in directory.rglob("*") if p.is_file()}


def test_urls_are_told_from_local_paths(tmp_path):
    assert is_url("gs://bucket/a") and is_url(BucketPath("fake://b"))
    assert not is_url("/a/b") and not is_url("a/b") and not is_url(tmp_path)
    assert at_hand(tmp_path) == tmp_path


def test_an_object_is_written_read_and_looked_at(bucket):
    path = BucketPath.of("fake://shop/a/") / "b/c.txt"
    assert path.size() is None and str(path) == "fake://shop/a/b/c.txt" and path.name == "c.txt"
    path.write(b"text")
    assert path.size() == 4 and path.read() == b"text" and bucket.objects == {"shop/a/b/c.txt": b"text"}
    with path.open() as stream:
        stream.seek(2)
        assert stream.read() == b"xt"
    with pytest.raises(FileNotFoundError):
        (path / "d").read()


def test_send_writes_what_makes_a_directory_readable_last(bucket, tmp_path):
    names = {"variables__variables.index": "1", "a": "", "_SUCCESS": ""}
    directory = fill(tmp_path / "model", **names)
    (directory / "saved_model.pb").write_text("graph")
    BucketPath.of("fake://shop/model").send(directory, sizes(directory))
    assert bucket.done("write")[-3:] == ["shop/model/.files.json", "shop/model/_SUCCESS", "shop/model/saved_model.pb"]
    assert set(bucket.done("write")[:-3]) == {"shop/model/a", "shop/model/variables/variables.index"}


def test_copy_and_delete_keep_the_order(bucket, tmp_path):
    directory = fill(tmp_path / "model", a="1", b="2")
    (directory / "saved_model.pb").write_text("graph")
    model, other = BucketPath.of("fake://shop/model"), BucketPath.of("fake://shop/other")
    model.send(directory, sizes(directory))
    model.copy_to(other, [*sizes(directory), INDEX])
    assert bucket.done("copy")[-2:] == ["shop/other/.files.json", "shop/other/saved_model.pb"]
    assert other.indexed() == sizes(directory)
    other.remove()
    assert bucket.done("delete")[:2] == ["shop/other/saved_model.pb", "shop/other/.files.json"]
    assert not other.files() and model.files()


def test_what_fsspec_knows_is_read_and_written(tmp_path):
    pytest.importorskip("fsspec", reason="NOT checked: memory:// needs `pip install fsspec`")
    place = BucketPath.of("memory://shop/a/run")
    place.send(fill(tmp_path / "run", a="1", b__c="2"), {"a": 1, "b/c": 1})
    assert set(place.files()) == {".files.json", "a", "b/c"}
    assert (at_hand("memory://shop/a/run") / "b/c").read_text() == "2"
    place.copy_to(BucketPath.of("memory://shop/b"), place.files())
    place.remove()
    assert not place.files() and BucketPath.of("memory://shop/b").indexed() == {"a": 1, "b/c": 1}


def test_what_the_store_does_not_copy_is_copied_by_way_of_here(bucket, monkeypatch):
    monkeypatch.setitem(buckets._LARGEST_COPY, "fake", 3)
    bucket.objects |= {"shop/a/small": b"123", "shop/a/large": b"1234"}
    BucketPath.of("fake://shop/a").copy_to(BucketPath.of("fake://shop/b"), ["small", "large"])
    assert (bucket.done("copy"), bucket.done("write")) == (["shop/b/small"], ["shop/b/large"])
    assert bucket.objects["shop/b/large"] == b"1234"


def test_what_was_sent_is_found_before_it_is_listed(bucket, tmp_path):
    bucket.lists_late = True
    directory = fill(tmp_path / "run", a="1", b__c="2")
    place = BucketPath.of("fake://shop/run")
    place.send(directory, sizes(directory))
    assert place.files() == {} and place.indexed() == {"a": 1, "b/c": 1}
    copy = at_hand("fake://shop/run")
    assert (copy / "b/c").read_text() == "2" and copy.name == "run"
    place.remove()
    assert not bucket.objects


def test_a_copy_is_called_by_its_url(bucket, tmp_path):
    BucketPath.of("fake://shop/run").send(fill(tmp_path / "run", a="1"), {"a": 1})
    copy = at_hand("fake://shop/run")
    assert place_of(copy) == "fake://shop/run" and place_of(tmp_path) == str(tmp_path)
    assert named(f"no {copy}/items/x, and no {copy}.") == "no fake://shop/run/items/x, and no fake://shop/run."


def test_a_working_copy_sends_what_changed(bucket, tmp_path):
    place = BucketPath.of("fake://shop/run")
    place.send(fill(tmp_path / "run", a="1", b="2", big="x"), {"a": 1, "b": 1, "big": 1})
    bucket.log.clear()
    with working_copy("fake://shop/run", lambda name: name != "big") as copy:
        assert sorted(path.name for path in copy.iterdir()) == ["a", "b"]
        fill(copy, a="changed", c="new")
        (copy / "b").unlink()
        (copy / ".lock").touch()
    assert sorted(bucket.log[:2]) == [("write", "shop/run/a"), ("write", "shop/run/c")]
    assert bucket.log[2:] == [("write", "shop/run/.files.json"), ("delete", "shop/run/b")]
    assert place.indexed() == {"a": 7, "c": 3, "big": 1}


def test_a_working_copy_of_nothing_makes_a_directory(bucket):
    copy = WorkingCopy("fake://shop/new")
    copy.push()
    assert not bucket.objects
    fill(copy.directory, a="1")
    copy.push()
    copy.push()
    assert bucket.done("write") == ["shop/new/a", "shop/new/.files.json"]


def test_nothing_is_sent_of_a_block_that_fails(bucket):
    with pytest.raises(RuntimeError), working_copy("fake://shop/run") as copy:
        fill(copy, a="1")
        raise RuntimeError
    assert not bucket.objects


def test_a_failed_write_leaves_what_makes_it_readable_unwritten(bucket, tmp_path):
    directory = fill(tmp_path / "model", a="1")
    (directory / "saved_model.pb").write_text("graph")
    bucket.refuse["shop/model/a"] = OSError("the store is full\nof AWS's words")
    with pytest.raises(BucketError, match="^fake://shop/model/a cannot be written: .*the store is full"):
        BucketPath.of("fake://shop/model").send(directory, sizes(directory))
    assert "shop/model/saved_model.pb" not in bucket.objects and "shop/model/.files.json" not in bucket.objects


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere://bucket/a", r"nowhere://bucket cannot be opened: .*(pip install fsspec|Protocol not known)"),
        ("gs://", "gs:// names no bucket; write scheme://bucket/path"),
    ],
)
def test_a_scheme_that_nothing_reads_is_one_sentence(url, said):
    with pytest.raises(BucketError, match=said):
        at_hand(url)


def test_no_permission_is_one_sentence(bucket):
    bucket.objects["shop/a"] = b""
    bucket.refuse["shop/a"] = PermissionError(13, "AWS Error ACCESS_DENIED during PutObject: x-amz-id ...")
    with pytest.raises(BucketError) as refused:
        BucketPath.of("fake://shop/a").write(b"1")
    said = "no permission; look at the credentials of this machine and at the rights that they have on the bucket"
    assert str(refused.value) == f"fake://shop/a cannot be written: {said}"


def test_names_that_lead_out_are_refused(bucket, tmp_path):
    bucket.objects["shop/a/.files.json"] = b'{"../b": 1}'
    with pytest.raises(BucketError, match="fake://shop/a/.files.json is damaged"):
        at_hand("fake://shop/a")
    with pytest.raises(BucketError, match="leads out of it"):
        BucketPath.of("fake://shop/a").fetch(tmp_path, ["/etc/x"])


def test_nothing_there_and_half_of_it_are_told_apart(bucket):
    with pytest.raises(BucketError, match="^there is nothing at fake://shop/run$"):
        at_hand("fake://shop/run")
    bucket.objects["shop/run/.files.json"] = b'{"a": 1}'
    with pytest.raises(BucketError, match="fake://shop/run is not whole, or is being written"):
        at_hand("fake://shop/run")


def test_what_must_be_local_says_so(tmp_path):
    assert local_path(str(tmp_path), "a comparison") == tmp_path
    with pytest.raises(BucketError, match="^gs://b/c lies in a bucket, and a comparison must be on a local disk; name"):
        local_path("gs://b/c", "a comparison")


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "--base-path", "gs://b/twin"],
        ["score", "--run", "run", "--prepared", "gs://b/data", "--output", "gs://b/scores.parquet"],
        ["compare", "--prepared", "data", "--output", "gs://b/comparison"],
        ["compare", "--prepared", "gs://b/data", "--output", "comparison"],
        ["import", "complete-journey", "--output", "gs://b/raw"],
        ["publish", "nowhere://b/model", "--base-path", "base"],
    ],
)
def test_commands_refuse_in_one_sentence(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, command)
    assert done.exit_code in (1, 2), done.output
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("Error: ") and ("must be on a local disk" in sentence or "cannot be opened" in sentence)
    assert not list(tmp_path.iterdir())
