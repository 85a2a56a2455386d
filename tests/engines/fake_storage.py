"""Cloud Storage on this machine: the part of its JSON API that Beam's gs:// file system and stager use, in memory.

Google's client library is the real one: `STORAGE_EMULATOR_HOST` sends it here, with the token of a made-up account. So
nothing of Beam is replaced, and no credentials of the machine are looked at. Arrow's client comes here the same way.
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google_crc32c

TIME = "2024-01-01T00:00:00.000Z"


class FakeStorage:
    """The objects, by their gs:// paths, and the environment that leads a process to them."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.environment: dict[str, str] = {}

    def upload(self, directory: Path, path: str) -> None:
        """Puts every file below a directory."""
        for file in sorted(p for p in directory.rglob("*") if p.is_file()):
            self.objects[f"{path}/{file.relative_to(directory).as_posix()}"] = file.read_bytes()

    def download(self, path: str, directory: Path) -> None:
        """Writes every object below a path to a directory."""
        for name, content in self.objects.items():
            if name.startswith(f"{path}/"):
                target = directory / name.removeprefix(f"{path}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


@contextmanager
def fake_storage(directory: Path) -> Iterator[FakeStorage]:
    """Serves an empty storage; writes the made-up account into `directory`."""
    storage = FakeStorage()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"storage": storage}))
    address = f"http://127.0.0.1:{server.server_port}"
    account = {
        "type": "authorized_user",
        **dict.fromkeys(("client_id", "client_secret", "refresh_token", "token", "quota_project_id"), "none"),
        "expiry": "2999-01-01T00:00:00Z",  # never refreshed, so Google is never asked
    }
    (directory / "account.json").write_text(json.dumps(account))
    storage.environment = {
        "STORAGE_EMULATOR_HOST": address,
        "GOOGLE_APPLICATION_CREDENTIALS": str(directory / "account.json"),
        "GOOGLE_CLOUD_PROJECT": "project",
        "NO_GCE_CHECK": "true",
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    storage: FakeStorage
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self._path()
        if path[:2] == ["download", "storage"]:
            self._media(path[1:])
        elif len(path) == 4:  # storage/v1/b/<bucket>
            self._json({"kind": "storage#bucket", "name": path[3], "id": path[3]})
        elif len(path) == 5:  # storage/v1/b/<bucket>/o
            start = f"gs://{path[3]}/{query.get('prefix', '')}"
            names = sorted(name for name in self.storage.objects if name.startswith(start))
            self._json({"kind": "storage#objects", "items": [self._resource(name) for name in names]})
        elif query.get("alt") == "media":
            self._media(path)
        else:
            name = _name(path)
            self._json(self._resource(name)) if name in self.storage.objects else self._missing(name)

    def do_POST(self) -> None:
        path, query = self._path()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == ["batch", "storage", "v1"]:
            self._delete_all(body)
        elif query.get("uploadType") == "resumable":
            name = f"gs://{path[4]}/{query.get('name') or json.loads(body)['name']}"
            upload = str(len(self.storage.uploads))
            self.storage.uploads[upload] = (name, b"")
            where = f"http://{self.headers['Host']}/upload/storage/v1/b/{path[4]}/o?upload_id={upload}"
            self._answer(200, b"", {"Location": where})
        elif query.get("uploadType") == "multipart":
            boundary = self.headers["Content-Type"].split("boundary=")[1].strip("\"'").encode()
            _, resource, media, _ = body.split(b"--" + boundary)
            name = f"gs://{path[4]}/{json.loads(_content(resource))['name']}"
            self.storage.objects[name] = _content(media)
            self._json(self._resource(name))
        elif "rewriteTo" in path:
            place = path.index("rewriteTo")
            source, target = _name(path[:place]), _name(["", "", *path[place + 1 :]])
            if source not in self.storage.objects:
                self._missing(source)
                return
            self.storage.objects[target] = self.storage.objects[source]
            size = str(len(self.storage.objects[target]))
            said = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
            self._json({**said, "resource": self._resource(target)})
        else:
            self._answer(501, f"not simulated: {self.path}".encode())

    def do_PUT(self) -> None:
        _, query = self._path()
        part = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name, before = self.storage.uploads[query["upload_id"]]
        content = before + part
        if self.headers["Content-Range"].endswith("/*"):
            self.storage.uploads[query["upload_id"]] = (name, content)
            self._answer(308, b"", {"Range": f"bytes=0-{len(content) - 1}"})
        else:
            self.storage.objects[name] = content
            self._json(self._resource(name))

    def do_DELETE(self) -> None:
        path, _ = self._path()
        name = _name(path)
        if self.storage.objects.pop(name, None) is None:
            self._missing(name)
        else:
            self._answer(204, b"")

    def _delete_all(self, body: bytes) -> None:
        """A batch of deletions, the only requests that Beam sends in batches here."""
        part = b"--part\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n"
        wanted = re.findall(rb"^DELETE \S*/b/([^/]+)/o/([^?\s]+)", body, flags=re.MULTILINE)
        for bucket, name in wanted:
            self.storage.objects.pop(f"gs://{bucket.decode()}/{urllib.parse.unquote(name.decode())}", None)
        headers = {"Content-Type": "multipart/mixed; boundary=part"}
        self._answer(200, part * len(wanted) + b"--part--", headers)

    def _path(self) -> tuple[list[str], dict[str, str]]:
        address = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in address.path.strip("/").split("/")]
        return parts, dict(urllib.parse.parse_qsl(address.query))

    def _media(self, path: list[str]) -> None:
        name = _name(path)
        if name not in self.storage.objects:
            self._missing(name)
            return
        content = self.storage.objects[name]
        if "Range" not in self.headers:
            self._answer(200, content)
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last or len(content)) + 1]
        where = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self._answer(206 if part else 416, part, {"Content-Range": where})

    def _resource(self, name: str) -> dict[str, Any]:
        bucket, _, rest = name.removeprefix("gs://").partition("/")
        content = self.storage.objects[name]
        return {
            "kind": "storage#object",
            "name": rest,
            "bucket": bucket,
            "size": str(len(content)),
            "crc32c": base64.b64encode(google_crc32c.Checksum(content).digest()).decode(),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "generation": "1",
            "metageneration": "1",
            "etag": "1",
            "updated": TIME,
        }

    def _missing(self, name: str) -> None:
        self._answer(404, json.dumps({"error": {"code": 404, "message": f"no {name}"}}).encode())

    def _json(self, value: dict[str, Any]) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _name(path: list[str]) -> str:
    """storage/v1/b/<bucket>/o/<object> -> gs://<bucket>/<object>."""
    return f"gs://{path[3]}/{'/'.join(path[5:])}"


def _content(part: bytes) -> bytes:
    """What a part of a multipart body holds."""
    return part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
