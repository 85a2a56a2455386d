"""Versions come and go with their directories; one in use is never pulled away."""

import pytest

pytestmark = pytest.mark.integration

RUN = """
import json, logging, os, shutil, sys, threading, time
from pathlib import Path
import numpy as np
from export.contract.errors import ServingError
from export.protos import serving_pb2
from export.contract.tensors import encode
from export.local_server.version_manager import VersionManager

toys, base = Path(sys.argv[1]), Path(sys.argv[2])
names = {value: name for name, value in serving_pb2.ModelVersionStatus.State.items()}
def place(model, number):
    shutil.copytree(toys / model, base / f".{number}")
    (base / f".{number}").rename(base / str(number))
def states():
    return {entry.version: names[entry.state] for entry in manager.status(None)}
request = serving_pb2.PredictRequest(model_spec=serving_pb2.ModelSpec(name="twin", signature_name="self_check"))
encode(np.array([-1], np.int32), request.inputs["probe"])
def ask():
    try:
        with manager.acquire(None) as version:
            return version.predict(request).model_spec.version.value
    except ServingError as error:
        return str(error)
facts = {}
place("good", 1)
(base / ".9").mkdir(); (base / "8.tmp").mkdir(); (base / "7").touch()  # none of them a version
(base / "6").mkdir(); (base / "5").symlink_to(toys / "good"); (base / ".publish.lock").touch()
for number in ("0004", str(2**63 - 1), "9" * 20):
    shutil.copytree(toys / "good", base / number)
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("export.local_server.version_manager").addHandler(handler)
manager = VersionManager("twin", base)
manager.refresh()
manager.refresh()
facts["foreign"] = [line.partition(" holds ")[2] for line in warnings if " holds " in line]
with manager.acquire(None) as held:
    place("second", 2)
    swapping = threading.Thread(target=manager.refresh)
    swapping.start()
    end = time.monotonic() + 60
    while states().get(1) not in ("UNLOADING", "END") and time.monotonic() < end:
        time.sleep(0.01)
    facts["while_held"] = [states(), ask(), held.predict(request).model_spec.version.value]
swapping.join()
facts["after"] = [states(), ask()]
place("stale_table", 3)
manager.refresh()
facts["refused"] = [states(), ask()]
errors = [e.status.error_code for e in manager.status(None)]
facts["codes"] = errors
shutil.rmtree(base / "3"); shutil.rmtree(base / "2")
manager.refresh()
facts["rolled_back"] = [states(), ask()]
shutil.rmtree(base / "1")
manager.refresh()
facts["emptied"] = [states(), ask()]
place("good", 3)
manager.refresh()
facts["repaired"] = [states(), ask()]
shutil.rmtree(base)
manager.refresh()
facts["base_path_gone"] = ask()
manager.close()
print(json.dumps(facts))
"""


def test_versions_follow_their_directories(toys, run_python, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    facts = run_python(RUN, toys, base)
    (foreign,) = facts.pop("foreign")
    assert foreign.startswith("no version of ours and left alone: .9 (not named by a number), 0004 (zeros before")
    assert foreign.endswith("for the newest version, so move it away")
    assert facts == {
        "while_held": [{"1": "UNLOADING", "2": "AVAILABLE"}, 2, 1],
        "after": [{"1": "END", "2": "AVAILABLE"}, 2],
        "refused": [{"1": "END", "2": "AVAILABLE", "3": "END"}, 2],
        "codes": [3, 0, 0],
        "rolled_back": [{"1": "AVAILABLE", "2": "END", "3": "END"}, 1],
        "emptied": [{"1": "END", "2": "END", "3": "END"}, "Servable not found for request: Latest(twin)"],
        "repaired": [{"1": "END", "2": "END", "3": "AVAILABLE"}, 3],
        "base_path_gone": 3,
    }
