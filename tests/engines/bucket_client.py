"""What `test_gs_buckets` does in a process of its own, whose Cloud Storage the environment names: Arrow's real client.

bucket_client.py publish MODEL      publishes a directory three times and rolls back; prints what a server sees
bucket_client.py read URL           loads prepared data, reads every shard; prints the SHA-256 of each
"""

import hashlib
import json
import sys
from pathlib import Path

from export.contract.base_image import image_of_base
from export.contract.version_layout import look
from export.publishing import publisher
from twin_tf.core.buckets import BucketPath
from twin_tf.core.mirrors import at_hand
from twin_tf.core.new_directory import new_directory
from twin_tf.records.format import Manifest

BASE = "gs://bucket/serving/twin"


def publish(model: str) -> list[object]:
    publisher.validate_apart = lambda *_, **__: ""  # of models of a few bytes; the gate never sees a bucket here
    with new_directory("gs://bucket/exported") as building:
        for path in (p for p in Path(model).rglob("*") if p.is_file()):
            (target := building / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    seen = []
    for _ in range(3):
        version = publisher.publish("gs://bucket/exported", BASE, keep=2)
        seen.append([version.name, look(image_of_base(BucketPath.of(BASE))).versions])
    back = publisher.roll_back(BASE)
    seen.append([back.name, look(image_of_base(BucketPath.of(BASE))).versions])
    copied = at_hand(back)
    seen.append(sorted(path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()))
    return seen


def read(url: str) -> dict[str, str]:
    manifest = Manifest.load(url)
    paths = {path for split in manifest.splits for path in manifest.shard_paths(split)}
    return {str(path): hashlib.sha256(path.open().read()).hexdigest() for path in paths}


if __name__ == "__main__":
    print(json.dumps({"publish": publish, "read": read}[sys.argv[1]](sys.argv[2])))
