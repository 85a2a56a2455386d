"""A checkpoint is whole or it is none."""

import json
import os

import pytest

from twin_tf.core.keras_api import tf
from twin_tf.runs.checkpoints import CheckpointStore, DamagedCheckpointError


@pytest.fixture
def value():
    return tf.Variable([1.0, 2.0])


@pytest.fixture
def store(value, tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", tf.train.Checkpoint(value=value))


def saved(store, value, steps):
    value.assign([steps, -steps])
    return store.save(steps, {"steps": steps})


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "checkpoints").iterdir())


def test_the_newest_is_restored_with_its_state(store, value):
    for steps in (9, 10, 100):
        saved(store, value, steps)
    value.assign([0.0, 0.0])
    assert store.restore_newest() == {"steps": 100}
    assert value.numpy().tolist() == [100.0, -100.0]


def test_a_new_directory_has_nothing_to_restore(store, value):
    assert store.restore_newest() is None
    assert value.numpy().tolist() == [1.0, 2.0]


def damage(tmp_path, name, way):
    path = tmp_path / "checkpoints" / name
    if way == "missing":
        path.unlink()
    elif way == "short":
        os.truncate(path, path.stat().st_size // 2)
    elif way == "empty":
        path.write_bytes(b"")
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("way", ["missing", "short", "empty", "one bit"])
@pytest.mark.parametrize("suffix", ["data-00000-of-00001", "index", "json"])
def test_damage_to_any_file_goes_back_to_the_one_before(suffix, way, store, value, tmp_path, capsys):
    saved(store, value, 9)
    saved(store, value, 10)
    damage(tmp_path, f"ckpt-10.{suffix}", way)
    assert store.restore_newest() == {"steps": 9}
    assert value.numpy().tolist() == [9.0, -9.0]
    warned = capsys.readouterr().err
    if (suffix, way) == ("json", "missing"):
        assert warned == ""  # it was never finished
    else:
        assert warned.startswith(f"warning: the checkpoint {'file ' if suffix != 'json' else ''}{tmp_path}")
        assert warned.endswith("; going back to the one before\n") and warned.count("\n") == 1


def test_without_a_sound_one_nothing_is_restored(store, value, tmp_path):
    for steps in (1, 2):
        saved(store, value, steps)
        damage(tmp_path, f"ckpt-{steps}.index", "one bit")
    assert store.restore_newest() is None
    assert value.numpy().tolist() == [2.0, -2.0]


def test_a_changed_record_is_damage_even_if_it_reads_well(store, value, tmp_path):
    name = saved(store, value, 3)
    path = tmp_path / "checkpoints" / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": {"steps": 4}}))
    with pytest.raises(DamagedCheckpointError, match=rf"^the checkpoint {path} has been changed$"):
        store.restore(name)


def test_what_a_kill_left_is_removed_and_what_is_needed_stays(store, value, tmp_path):
    for steps in (1, 2, 3):
        saved(store, value, steps)
    for left in ("ckpt-4.index", ".ckpt-4.tmp", ".checkpoint.tmp"):
        (tmp_path / "checkpoints" / left).write_bytes(b"x")
    (tmp_path / "checkpoints" / "ckpt-4_temp").mkdir()
    (tmp_path / "checkpoints" / "ckpt-4_temp" / "part").write_bytes(b"x")
    store.keep_only({"ckpt-1", "ckpt-3"})
    parts = ("data-00000-of-00001", "index", "json")
    assert files(tmp_path) == ["checkpoint", *(f"ckpt-{steps}.{part}" for steps in (1, 3) for part in parts)]
    assert store.restore_newest() == {"steps": 3}


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", ["data", "record"])
def test_an_end_while_writing_leaves_the_one_before(moment, store, value, tmp_path, monkeypatch):
    saved(store, value, 1)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        write = tf.train.Checkpoint.write

        def killed(*args):
            if moment == "record":
                write(*args)
            raise Killed

        patched.setattr(tf.train.Checkpoint, "write", killed)
        saved(store, value, 2)
    assert store.restore_newest() == {"steps": 1}
    saved(store, value, 2)
    value.assign([0.0, 0.0])
    assert store.restore_newest() == {"steps": 2}


def test_the_same_steps_may_be_saved_again(store, value):
    saved(store, value, 1)
    saved(store, value, 2)
    store.save(2, {"steps": 2, "epoch": 1})
    assert store.restore_newest() == {"steps": 2, "epoch": 1}


def test_tensorflow_s_own_functions_find_and_read_what_is_handed_on(store, value, tmp_path):
    first = saved(store, value, 1)
    second = saved(store, value, 2)
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")) == str(tmp_path / "checkpoints" / second)
    store.mark_final(first)
    found = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    assert found == str(tmp_path / "checkpoints" / first)
    other = tf.Variable([0.0, 0.0])
    tf.train.Checkpoint(value=other).restore(found).assert_consumed()
    assert other.numpy().tolist() == [1.0, -1.0]
