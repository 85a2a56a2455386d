"""Run on a worker's Python: unpickles every function of a portable pipeline and prints their classes as JSON.

python unpickle_job.py pipeline.pb
"""

import importlib.util
import json
import sys
from pathlib import Path

from apache_beam.internal import pickler
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2


def main() -> None:
    """Prints {"classes": [...], "tensorflow": whether it could be imported}."""
    pipeline = beam_runner_api_pb2.Pipeline.FromString(Path(sys.argv[1]).read_bytes())
    primitives, combiners = common_urns.primitives, common_urns.composites
    functions = []
    for transform in pipeline.components.transforms.values():
        payload = transform.spec.payload
        if transform.spec.urn == primitives.PAR_DO.urn:
            function = beam_runner_api_pb2.ParDoPayload.FromString(payload).do_fn
            if function.urn == python_urns.KEY_WITH_NONE_DOFN:  # a step of Beam's own that is known by its name
                continue
            assert function.urn == python_urns.PICKLED_DOFN_INFO, function.urn
            functions.append(pickler.loads(function.payload)[0])
        elif transform.spec.urn == combiners.COMBINE_PER_KEY.urn:
            function = beam_runner_api_pb2.CombinePayload.FromString(payload).combine_fn
            assert function.urn == python_urns.PICKLED_COMBINE_FN, function.urn
            functions.append(pickler.loads(function.payload))
    classes = sorted({f"{type(function).__module__}.{type(function).__qualname__}" for function in functions})
    print(json.dumps({"classes": classes, "tensorflow": importlib.util.find_spec("tensorflow") is not None}))


if __name__ == "__main__":
    main()
