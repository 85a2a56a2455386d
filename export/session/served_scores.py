"""What a loaded model answers to its probes."""

from collections.abc import Iterator

from export.contract.probe_file import Probes, batches
from export.contract.tensors import Array
from export.session.loaded_version import DEFAULT_SIGNATURE, LoadedVersion


def served_scores(version: LoadedVersion, probes: Probes) -> Iterator[tuple[slice, Array]]:
    """What a model answers to the probes.

    Yields:
        Which probes, and `probability` float32 `(probes, candidates)`, cut to the widest of them.

    Raises:
        ServingError: the model refuses a request.
    """
    for rows, batch in batches(probes):
        yield rows, version.session.run(DEFAULT_SIGNATURE, batch, ["probability"])["probability"]
