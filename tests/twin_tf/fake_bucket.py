"""Object stores in memory, behind Arrow's interface: one that is listed late, and TensorFlow's own `ram://`."""

import contextlib
import datetime
import io
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from twin_tf.core import buckets

NOW = datetime.datetime.now(datetime.timezone.utc)


class FakeBucket(fs.FileSystemHandler):
    """An object store: no directories, no rename, an object appears when its stream is closed.

    Attributes:
        objects: path -> content.
        late: paths that no listing shows, as long as they are here.
        log: what was done, in order: `("write" | "copy" | "delete", path)`.
        refuse: path -> the error that writing, copying to or deleting it raises.
        lists_late: whether what is written from now on is listed only after `settle`.
    """

    def __init__(self):
        self.objects, self.late, self.log, self.refuse = {}, set(), [], {}
        self.lists_late = False

    def settle(self):
        self.late.clear()

    def put(self, directory, url):
        """Copies a local directory to where a URL says, without this project's code."""
        for path in Path(directory).rglob("*"):
            if path.is_file():
                self.objects[f"{url.partition('://')[2]}/{path.relative_to(directory).as_posix()}"] = path.read_bytes()

    def done(self, *kinds):
        return [path for kind, path in self.log if kind in kinds]

    def _did(self, kind, path):
        if path in self.refuse:
            raise self.refuse[path]
        self.log.append((kind, path))

    def _appears(self, path, content):
        self.objects[path] = content
        if self.lists_late:
            self.late.add(path)

    def get_type_name(self):
        return "fake"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        return [self._info(path) for path in paths]

    def _info(self, path):
        if path in self.objects:
            return fs.FileInfo(path, fs.FileType.File, size=len(self.objects[path]), mtime=NOW)
        below = any(name.startswith(path + "/") for name in self.objects.keys() - self.late)
        return fs.FileInfo(path, fs.FileType.Directory if below else fs.FileType.NotFound)

    def get_file_info_selector(self, selector):
        root = selector.base_dir.rstrip("/") + "/"
        below = [name for name in sorted(self.objects.keys() - self.late) if name.startswith(root)]
        if selector.recursive:
            return [self._info(name) for name in below]
        return [self._info(name) for name in dict.fromkeys(root + n[len(root) :].split("/")[0] for n in below)]

    def create_dir(self, path, recursive):
        pass

    def delete_dir(self, path):
        for name in [name for name in self.objects.keys() - self.late if name.startswith(path + "/")]:
            self.delete_file(name)

    def delete_dir_contents(self, path, missing_dir_ok=False):
        raise NotImplementedError

    def delete_root_dir_contents(self):
        raise NotImplementedError

    def delete_file(self, path):
        if path not in self.objects:
            raise FileNotFoundError(path)
        self._did("delete", path)
        del self.objects[path]
        self.late.discard(path)

    def move(self, src, dest):
        raise NotImplementedError("an object store renames nothing")

    def copy_file(self, src, dest):
        if src not in self.objects:
            raise FileNotFoundError(src)
        self._did("copy", dest)
        self._appears(dest, self.objects[src])

    def open_input_stream(self, path):
        return self.open_input_file(path)

    def open_input_file(self, path):
        if path not in self.objects:
            raise FileNotFoundError(path)
        return pa.PythonFile(io.BytesIO(self.objects[path]), mode="r")

    def open_output_stream(self, path, metadata):
        bucket = self

        class Object(io.BytesIO):
            def close(self):
                if not self.closed:
                    bucket._did("write", path)
                    bucket._appears(path, self.getvalue())
                super().close()

        return pa.PythonFile(Object(), mode="w")

    def open_append_stream(self, path, metadata):
        raise NotImplementedError


class Ram(FakeBucket):
    """TensorFlow's `ram://`, which its own readers know too; to read and to list alone."""

    def __init__(self):
        super().__init__()
        from twin_tf.core.keras_api import tf

        self._gfile = tf.io.gfile

    def put(self, directory, url):
        for path in Path(directory).rglob("*"):
            if path.is_file():
                name = f"{url}/{path.relative_to(directory).as_posix()}"
                self._gfile.makedirs(name.rpartition("/")[0])
                if self._gfile.exists(name):
                    self._gfile.remove(name)  # it would append
                with self._gfile.GFile(name, "wb") as file:
                    file.write(path.read_bytes())

    def _info(self, path):
        if self._gfile.exists(f"ram://{path}") and not self._gfile.isdir(f"ram://{path}"):
            return fs.FileInfo(path, fs.FileType.File, size=self._gfile.stat(f"ram://{path}").length)
        return fs.FileInfo(path, fs.FileType.NotFound)

    def open_input_file(self, path):
        with self._gfile.GFile(f"ram://{path}", "rb") as file:
            return pa.PythonFile(io.BytesIO(file.read()), mode="r")


@contextlib.contextmanager
def registered(scheme, handler):
    """Lets the project read and write a scheme's URLs in a store."""
    before = dict(buckets._registered)
    buckets.register(scheme, fs.PyFileSystem(handler))
    try:
        yield handler
    finally:
        buckets._registered.clear()
        buckets._registered.update(before)
