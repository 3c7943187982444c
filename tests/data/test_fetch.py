"""Exported from nbs/01e_fetch.ipynb: edit it there, then run `nbdev-export`."""
import re
from functools import partial
from pathlib import Path
from rrg_core.data.bundled import members
from rrg_core.engine.desk import atomic, file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import DataError
import pytest, tarfile, tempfile, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from rrg_core.data.fetch import *


def test_fetch_resumes_checks_and_records():
    class Half(BaseHTTPRequestHandler):
        data, asked, ranges = bytes(range(256)) * 2048, [], True

        def do_GET(self):
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.ranges else 0
            self.asked.append(start)
            if self.path != "/a.bin":
                self.send_error(404)
                return
            if start >= len(self.data):
                self.send_error(416)
                return
            body = self.data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:200_000] if len(self.asked) == 1 else body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Half)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory() as d:
            url, d = f"http://127.0.0.1:{server.server_port}/a.bin", Path(d)
            with pytest.raises(CourseError, match="again"):
                fetch(url, d)
            path, how = fetch(url, d)
            assert how == "recorded" and path.read_bytes() == Half.data and Half.asked[
                0] == 0 and 2 * 65536 <= Half.asked[1] <= 200_000 # a broken block is asked for again
            assert len(Half.asked) == 2 and not (d / "a.bin.part").exists()
            assert fetch(url, d)[1] == "checked" and len(Half.asked) == 2
            (d / "a.bin").write_bytes(b"rot")
            with pytest.raises(CourseError, match="SHA-256"):
                fetch(url, d)
            (d / "a.bin").unlink()
            assert fetch(url, d)[1] == "checked"
            with pytest.raises(CourseError, match="should have"):
                fetch(url, d / "other", sha256="0" * 64)
            with pytest.raises(CourseError, match="HTTPError"):
                fetch(url.replace("a.bin", "b.bin"), d)
            Half.ranges = False
            (d / "new").mkdir()
            (d / "new" / "a.bin.part").write_bytes(b"old")
            assert fetch(url, d / "new")[0].read_bytes() == Half.data # a server without ranges: from nothing
    finally:
        server.shutdown()
        server.server_close()


def test_unpack_is_idempotent_and_safe():
    def tar(path, **files):
        with tarfile.open(path, "w:gz") as t:
            for name, data in files.items():
                info = tarfile.TarInfo(name.replace("__", "/"))
                info.size = len(data)
                t.addfile(info, BytesIO(data))

    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        tar(d / "a.tgz", **{"x__a.png": b"1", "x__b.txt": b"2"})
        assert unpack(d / "a.tgz", d / "out", r".*\.png") == 1 and unpack(d / "a.tgz", d / "out", r".*\.png") == 0
        assert [p.name for p in (d / "out").iterdir()] == ["a.png"]
        tar(d / "b.tgz", **{"x__a.png": b"1", "y__a.png": b"2"})
        with pytest.raises(DataError, match="twice"):
            unpack(d / "b.tgz", d / "out2")
        tar(d / "c.tgz", **{"..__a.png": b"1"})
        with pytest.raises(DataError, match="leaves"):
            unpack(d / "c.tgz", d / "out3")
