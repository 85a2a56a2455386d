"""Trains in processes that get killed: `PREPARED RUN CONFIG KILL...`, one process for each KILL, then one to the end.

A KILL is the moment at which the process gets SIGKILL: `creation:1` when the run directory is half made; `step:7` after
seven steps; `half:2` in the midst of writing the second checkpoint; `seconds:1.5` that long after the first step, from
outside. Each process is a fork of this one, which has imported TensorFlow but not started it. Prints how each ended:
the signal, negative, or 0.
"""

import os
import signal
import sys
import time
from pathlib import Path

from twin_tf.config import load_config
from twin_tf.core.keras_api import tf
from twin_tf.runs import run
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, number, act):
    """Has `act` called instead of the `number`-th call of a function, with the function and its arguments."""
    original, calls = getattr(owner, name), 0

    def replacement(*args, **kwargs):
        nonlocal calls
        calls += 1
        return act(original, *args) if calls == number else original(*args, **kwargs)

    setattr(owner, name, replacement)


def leave_half(write, checkpoint, prefix):
    write(checkpoint, prefix)
    for path in Path(prefix).parent.glob(f"{Path(prefix).name}.data*"):
        os.truncate(path, path.stat().st_size // 2)
    die()


def arm(kill):
    moment, _, number = kill.partition(":")
    place = {
        "step": (TrainStep, "step", die),
        "half": (tf.train.Checkpoint, "write", leave_half),
        "creation": (run, "save_info", die),
    }
    if moment in place:
        owner, name, act = place[moment]
        before(owner, name, int(number) + (moment == "step"), act)


def train_and_die(kill, prepared, run, config):
    """One process's whole life; returns how it ended."""
    first_step, stepped = os.pipe()
    child = os.fork()
    if not child:
        arm(kill)
        before(TrainStep, "prepare_step", 1, lambda original, *args: (os.write(stepped, b"."), original(*args))[1])
        train_model(prepared, run, load_config(config))
        os._exit(0)
    os.close(stepped)
    moment, _, number = kill.partition(":")
    if moment == "seconds" and os.read(first_step, 1):
        time.sleep(float(number))
        os.kill(child, signal.SIGKILL)
    os.close(first_step)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    prepared, run, config, *kills = sys.argv[1:]
    for kill in [*kills, "never"]:
        ended = train_and_die(kill, prepared, run, config)
        print(ended, flush=True)
        if not ended:
            return


if __name__ == "__main__":
    main()
