"""`make test-faults`: no mutation of a published version passes the gate and the client.

TWIN_MUTATIONS mutations (200) are drawn by TWIN_MUTATION_SEED (1). Each is made in a copy of one version, exported from
the golden run by today's code, and given to the gate beside that version as the published one. It must be refused in
one sentence: a gate that is killed, ends with a traceback or lets it pass fails the test. Those of another contract are
given to the client too, as a server would that serves them. All of them stand in `mutations.md`, in pytest's directory.

Not drawn, for no check is meant to find it: figures of `export.json` that only people read, values of a hashed item
feature that no item has, names inside the graph.
"""

import collections
import concurrent.futures
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from export.client.contract_check import check_answer
from export.client.request import ClickResponse
from export.contract.errors import FailedPreconditionError
from export.contract.file_manifest import MANIFEST
from export.session.child_process import child_environment
from tests.export.gate import model_mutations
from tests.export.gate.model_mutations import in_turn
from tests.export.gate.mutations import (
    DESCRIPTION,
    EXTRA,
    Mutation,
    copy_of,
    files_of,
    of_bytes,
    of_directory,
    of_list,
    relisted,
)
from tests.export.gate.variables import Variables
from twin_tf.features.contract import recorded_contract
from twin_tf.features.encoders import FeatureEncoder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.filterwarnings("ignore::twin_tf.renamed_settings.RenamedSettingWarning"),
]

MUTATIONS = int(os.environ.get("TWIN_MUTATIONS", "200"))
SEED = int(os.environ.get("TWIN_MUTATION_SEED", "1"))
GATES = 2
"""Gates at a time."""


class Outcome(NamedTuple):
    mutation: Mutation
    refused_by: str
    sentence: str
    fault: str


class Gates:
    """Runs the gate, through `forked_gates`."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("forked_gates.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment(),
        )  # fmt: skip

    def run(self, directory: Path, base: Path) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(directory), str(base)]) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def base(root, tmp_path):
    """A base path with one version, 1700000000."""
    shutil.copytree(root / "new", tmp_path / "base/1700000000")
    return tmp_path / "base"


def drawn(model: Path, variables: Variables) -> list[Mutation]:
    """Half of them careless, a fifth with their list made anew, the others with a meaning of their own."""
    draw = random.Random(SEED)
    names = [name for name in files_of(model) if name != MANIFEST]
    assets = [name for name in names if name.startswith(EXTRA) and name != DESCRIPTION]
    careless = in_turn(
        of_bytes(model, draw, "careless", names),
        of_bytes(model, draw, "careless", names),
        of_directory(model, draw, "careless", [*names, MANIFEST]),
        of_list(draw),
    )
    listed = in_turn(
        relisted(of_bytes(model, draw, "relisted", assets)), relisted(of_directory(model, draw, "relisted", assets))
    )
    meant = in_turn(
        model_mutations.of_weights(model, variables, draw),
        model_mutations.of_graph(draw),
        model_mutations.of_assets(variables, draw),
        model_mutations.of_weights(model, variables, draw),
        model_mutations.of_versions(variables, draw),
        model_mutations.of_contract(variables, draw),
    )
    shares = ((careless, MUTATIONS // 2), (listed, MUTATIONS // 5))
    found = [mutation for mutations, share in shares for mutation in itertools.islice(mutations, share)]
    return [*found, *itertools.islice(meant, MUTATIONS - len(found))]


class Server:
    """What a client is told by a server of a version."""

    model_name = "twin"

    def __init__(self, understood: np.ndarray) -> None:
        self._understood = understood

    def call(self, *_: Any) -> dict[str, np.ndarray]:
        return {"understood": self._understood[None, :]}


def said_by_client(model: Path, mutant: Path) -> str:
    """Why a client that encodes by the published version's contract takes no answer of a mutant; empty if it does."""
    contract = recorded_contract(mutant / EXTRA)
    assert contract is not None
    number, nobody = np.array([contract.number]), np.zeros(1, np.int32)
    answer = ClickResponse(np.zeros((1, 1), np.float32), number, number, nobody, nobody, nobody, 2, number)
    try:
        check_answer(Server(number), answer, FeatureEncoder.load(model / EXTRA).contract)
    except FailedPreconditionError as error:
        return error.message
    return ""


def outcome(mutation: Mutation, gates: Gates, base: Path, mutant: Path) -> Outcome:
    """Gives a mutant to the gate and, if it has another contract, to the client."""
    found = gates.run(mutant, base)
    failed, status = found["failed"], found["status"]
    check, sentence = next(iter(failed.items()), ("nobody", ""))
    if status != 1 or not failed or "Traceback" in found["written"]:
        fault = "passes the gate" if status == 0 else f"the gate ends with {status}: {found['written'][-2000:]}"
    elif any("\n" in detail or not detail for detail in failed.values()):
        fault = f"is not refused in one sentence: {failed}"
    else:
        fault = ""
    if check == "contract" and not fault:
        fault = "" if said_by_client(base / "1700000000", mutant) else "is taken by a client"
        check = "contract, and by the client"
    return Outcome(mutation, check, sentence.replace(str(mutant), "..."), fault)


def test_no_mutation_of_a_version_passes_gate_and_client(base, tmp_path, capsys):
    model = base / "1700000000"
    variables = Variables(model)
    mutations = drawn(model, variables)
    gates = [Gates() for _ in range(GATES)]
    outcomes: list[Outcome] = []
    try:
        found = gates[0].run(model, base)
        assert found["status"] == 0, found
        with concurrent.futures.ThreadPoolExecutor(GATES) as pool:
            free = list(gates)

            def judged(number: int, mutation: Mutation, mutant: Path) -> Outcome:
                one = free.pop()
                try:
                    return outcome(mutation, one, base, mutant)
                finally:
                    free.append(one)
                    shutil.rmtree(mutant)

            waiting = []
            for number, mutation in enumerate(mutations):
                mutant = copy_of(model, tmp_path / str(number))
                mutation.change(mutant)
                waiting.append(pool.submit(judged, number, mutation, mutant))
            outcomes = [one.result() for one in waiting]
    finally:
        for one in gates:
            one.close()
        write_report(tmp_path / "mutations.md", outcomes)
    counts = collections.Counter(f"{one.mutation.kind}, refused by {one.refused_by}" for one in outcomes)
    with capsys.disabled():
        print(f"\n{len(outcomes)} mutations, seed {SEED}, in {tmp_path / 'mutations.md'}")
        print("\n".join(f"{count:5}  {what}" for what, count in sorted(counts.items())))
    assert len(outcomes) == len(mutations) == MUTATIONS
    faults = [f"{m.kind} {m.file} ({m.what}): {fault}" for m, _, _, fault in outcomes if fault]
    assert not faults, "\n".join(faults)


def write_report(path: Path, outcomes: list[Outcome]) -> None:
    """One line a mutation."""
    lines = ["| kind | file | what | refused by | sentence |", "|---|---|---|---|---|"]
    for mutation, check, sentence, fault in outcomes:
        cells = (mutation.kind, mutation.file, mutation.what, check, f"FAULT: {fault}" if fault else sentence)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
