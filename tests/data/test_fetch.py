"""Exported from nbs/01e_fetch.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re
from pathlib import Path
from urllib.parse import unquote, urlsplit
import filelock
from rrg_core.data.bundled import members
from rrg_core.engine.files import atomic, file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import DataError
import contextlib, filelock, hashlib, json, pytest, tarfile, tempfile, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from rrg_core.data.fetch import *


def test_a_part_is_continued_only_with_its_own_file():
    from email.utils import formatdate
    import requests
    from requests.adapters import HTTPAdapter
    OLD, NEW, DATE = bytes(range(256)) * 800, bytes(reversed(range(256))) * 800, formatdate(1e9, usegmt=True)
    HALF, LATER = 100_000, formatdate(2e9, usegmt=True)

    class Plain(HTTPAdapter): # an https address leads to the server of the test
        def send(self, request, **options):
            request.url = request.url.replace("https://", "http://", 1)
            return super().send(request, **options)

    @contextlib.contextmanager
    def served(answer): # answer(handler, start, first) → (status, headers, body)
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                asked.append((start, self.headers.get("If-Range")))
                status, headers, body = answer(start, len(asked) == 1)
                self.send_response(status)
                for name, value in ({"Content-Length": len(body)} | headers).items():
                    if value is not None: self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args): pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = requests.Session.get_adapter
        to_us = lambda self, url: Plain() if url.startswith("https://127.0.0.1") else found(self, url)
        try:
            with pytest.MonkeyPatch.context() as m, tempfile.TemporaryDirectory() as d:
                m.setattr(requests.Session, "get_adapter", to_us)
                yield f"https://127.0.0.1:{server.server_port}/a.bin", Path(d), asked
        finally:
            server.shutdown()
            server.server_close()

    def broken(headers): # the first answer: half of the old file under the whole length
        return 200, {"Content-Length": len(OLD)} | headers, OLD[:HALF]

    def rest(body, start, **headers):
        piece = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        return 206, piece | {k.replace("_", "-"): v for k, v in headers.items()}, body[start:]

    tag, date = {"ETag": '"1"'}, {"Last-Modified": DATE}
    cases = { # name: (headers of the broken answer, the answers afterwards, the file, where requests began)
        "the same version": (tag, lambda s: rest(OLD, s, ETag='"1"'), OLD, "continued"),
        "the same date": (date, lambda s: rest(OLD, s, Last_Modified=DATE), OLD, "continued"),
        "another version, If-Range honoured": (tag, lambda s: (200, {"ETag": '"2"'}, NEW), NEW, "sent whole"),
        "another version, If-Range ignored":
            (tag, lambda s: rest(NEW, s, ETag='"2"') if s else (200, {}, NEW), NEW, "begun again"),
        "another date, If-Range ignored":
            (date, lambda s: rest(NEW, s, Last_Modified=LATER) if s else (200, {}, NEW), NEW, "begun again"),
        "a rest without a version": (tag, lambda s: rest(NEW, s) if s else (200, {}, NEW), NEW, "begun again"),
        "no version at all": ({}, lambda s: rest(NEW, s) if s else (200, {}, NEW), NEW, "whole"),
        "a weak version": ({"ETag": 'W/"1"'}, lambda s: (200, {"ETag": 'W/"1"'}, NEW), NEW, "whole"),
        "a weak version and a date":
            ({"ETag": 'W/"1"', **date}, lambda s: rest(NEW, s, **date) if s else (200, {}, NEW), NEW, "whole"),
        "no ranges": (tag, lambda s: (200, tag, OLD), OLD, "sent whole"),
        "416, the file is shorter now":
            (tag, lambda s: (416, {"Content-Range": "bytes */9"}, b"") if s else (200, {}, NEW[:9]), NEW[:9],
             "begun again"),
        "another piece":
            (tag, lambda s: (206, tag | {"Content-Range": f"bytes 7-{len(OLD) - 1}/{len(OLD)}"}, OLD[7:])
             if s else (200, tag, OLD), OLD, "begun again"),
        "a longer file under the same version":
            (tag, lambda s: rest(OLD + b"more", s, ETag='"1"') if s else (200, tag, NEW), NEW, "begun again"),
        "206 without Content-Range":
            (tag, lambda s: (206, tag, OLD[s:]) if s else (200, tag, OLD), OLD, "begun again"),
    }
    for name, (first, then, body, way) in cases.items():
        with served(lambda s, new: broken(first) if new else then(s)) as (url, d, asked):
            with pytest.raises(CourseError, match="run the command again"): fetch(url, d)
            assert not (d / "a.bin").exists() and not (d / "SHA256SUMS").exists(), name
            assert fetch(url, d) == (d / "a.bin", "unchecked") and (d / "a.bin").read_bytes() == body, name
            begun = asked[1][0] # what came of a broken block is asked for again
            assert (begun == 0) == (way == "whole") and begun <= HALF, (name, asked)
            assert asked[2:] == ([(0, None)] if way == "begun again" else []), (name, asked)
            version = first.get("ETag", first.get("Last-Modified"))
            assert asked[1][1] == (version if begun else None), (name, asked)
            assert sorted(p.name for p in d.iterdir() if p.name != ".fetch.lock") == ["SHA256SUMS", "a.bin"], name


def test_what_is_fetched_is_checked_or_said_to_be_unchecked():
    import requests
    from requests.adapters import HTTPAdapter
    DATA, tag = bytes(range(256)) * 800, {"ETag": '"1"'}
    RIGHT, WRONG, answers = hashlib.sha256(DATA).hexdigest(), "0" * 64, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers.pop(0)
            self.send_response(status)
            for name, value in ({"Content-Length": len(body)} | headers).items():
                if value is not None: self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args): pass

    class Plain(HTTPAdapter):
        def send(self, request, **options):
            request.url = request.url.replace("https://", "http://", 1)
            return super().send(request, **options)

    found = requests.Session.get_adapter
    to_us = lambda self, url: Plain() if url.startswith("https://127.0.0.1") else found(self, url)

    def fails(words, folder, *given, sha256=None, scheme="https", path="a.bin"):
        answers[:] = given
        with pytest.raises(CourseError, match=words):
            fetch(f"{scheme}://127.0.0.1:{server.server_port}/{path}", folder, sha256)
        assert not answers and not (folder / "a.bin").exists() and not (folder / "SHA256SUMS").exists()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.MonkeyPatch.context() as m, tempfile.TemporaryDirectory() as d:
            m.setattr(requests.Session, "get_adapter", to_us)
            d, plain = Path(d), f"http://127.0.0.1:{server.server_port}/a.bin"
            url, whole = plain.replace("http:", "https:"), (200, tag, DATA)
            fails("HTTPError 404", d, (404, {}, b"no such page"))
            fails("broke.*nothing is kept", d, (200, {"Content-Length": len(DATA)}, DATA[:-1])) # shorter
            fails("SHA-256 0000", d, whole, sha256=WRONG)
            fails("neither a length nor", d, (200, {"Content-Length": None}, DATA[:50]))
            fails("sends a part", d, (206, tag | {"Content-Range": "bytes 0-9/10"}, DATA[:10]))
            fails("leads away from https", d, (302, {"Location": plain}, b""))
            fails("leads away from https", d, (301, {"Location": plain}, b""), sha256=RIGHT)
            fails("anybody on the way", d, scheme="http")
            assert not list(d.glob("*.part*"))
            for bad in ("", "/", "..", "%2e%2e", "a%5cb", "a/"):
                with pytest.raises(ValueError, match="no file"): fetch(f"https://127.0.0.1/{bad}", d)
            for bad in ("file:///etc/hostname", "ftp://127.0.0.1/a.bin", "a.bin"):
                with pytest.raises(ValueError, match="https address"): fetch(bad, d)
            with pytest.raises(ValueError, match="64 hexadecimal"): fetch(url, d, RIGHT[:12])

            (d / "a.bin.part").write_bytes(b"of nobody knows what") # a part without a note
            answers[:] = [whole]
            assert fetch(url, d)[1] == "unchecked" and (d / "a.bin").read_bytes() == DATA
            assert fetch(url, d)[1] == "as recorded" and fetch(url, d, RIGHT.upper())[1] == "checked"
            (d / "a.bin").write_bytes(b"rot")
            for known in (None, RIGHT):
                with pytest.raises(CourseError, match="remove it and fetch again"): fetch(url, d, known)
            (d / "a.bin").unlink()
            answers[:] = [(200, tag, DATA[::-1])]
            with pytest.raises(CourseError, match="as recorded"): fetch(url, d) # the server's file is another one
            answers[:] = [whole]
            assert fetch(plain, d, RIGHT)[1] == "checked" # plain http with a hash

            (d / "b").mkdir()
            (d / "b" / "a.bin").write_bytes(DATA[:99]) # half a file that somebody put there
            assert fetch(url, d / "b")[1] == "unchecked" and not (d / "b" / "SHA256SUMS").exists()
            assert fetch(url, d / "b")[1] == "unchecked" # and so it stays

            (d / "c").mkdir() # a part of another address; a part that is whole
            note = dict(url="https://elsewhere.org/a.bin", version='"1"', length=len(DATA))
            (d / "c" / "a.bin.part").write_bytes(b"x" * 9)
            (d / "c" / "a.bin.part.json").write_text(json.dumps(note))
            answers[:] = [whole]
            assert fetch(url, d / "c")[0].read_bytes() == DATA
            (d / "c" / "a.bin").rename(d / "c" / "a.bin.part")
            (d / "c" / "a.bin.part.json").write_text(json.dumps(note | {"url": url}))
            assert fetch(url, d / "c")[1] == "as recorded" and not answers
            with filelock.FileLock(d / ".fetch.lock"), pytest.raises(CourseError, match="another process"):
                fetch(url, d)
    finally:
        server.shutdown()
        server.server_close()


def test_a_bad_line_of_hashes_is_named():
    A, B = "a" * 64, "b" * 64
    good = {"": {}, f"{A}  x": {"x": A}, f"{A} *x\n\n{B}  a b.bin\n": {"x": A, "a b.bin": B},
            f"{A.upper()}  x": {"x": A}, f"{A}  x\r\n{A}  x": {"x": A}}
    bad = {"x": 1, f"{A}": 1, f"{A} x": 1, f"{A}  ": 1, f"{A[:63]}  x": 1, f"{A}a  x": 1, f"{A}  x\n{B}  x": 2,
           f"SHA256 (x) = {A}": 1, f"\n{A}  x\n<html>": 3, f"{A}  x\n{'g' * 64}  y": 2,
           "version https://git-lfs.github.com/spec/v1": 1}
    with tempfile.TemporaryDirectory() as d:
        file = Path(d) / "SHA256SUMS"
        for text, found in good.items():
            file.write_bytes(text.encode())
            assert recorded(d) == found, text
        for text, number in bad.items():
            file.write_text(text)
            with pytest.raises(CourseError, match=f"SHA256SUMS, line {number}: "): recorded(d)
            with pytest.raises(CourseError, match=f"line {number}: "): fetch("https://127.0.0.1:1/x", d)
        file.write_bytes(b"\xff\xfe" + A.encode())
        with pytest.raises(CourseError, match="line 1"): recorded(d)


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
        for wrong in (b"", b"2", b"11"): # truncated, corrupt with the right size, too long
            (d / "out" / "a.png").write_bytes(wrong)
            assert unpack(d / "a.tgz", d / "out", r".*\.png") == 1 and (d / "out" / "a.png").read_bytes() == b"1"
        (d / "out" / "a.png").unlink()
        (d / "out" / "a.png").symlink_to("nowhere")
        assert unpack(d / "a.tgz", d / "out", r".*\.png") == 1 and not (d / "out" / "a.png").is_symlink()
        whole = (d / "a.tgz").read_bytes()
        for n, broken in enumerate((whole[:-12], whole[:-1], whole[:-8] + b"\0" + whole[-7:])): # cut; another CRC
            (d / "cut.tgz").write_bytes(broken)
            with pytest.raises(DataError, match="damaged"):
                unpack(d / "cut.tgz", d / f"cut{n}")
            assert not list((d / f"cut{n}").glob("*"))
        tar(d / "b.tgz", **{"x__a.png": b"1", "y__a.png": b"2"})
        with pytest.raises(DataError, match="twice"):
            unpack(d / "b.tgz", d / "out2")
        tar(d / "c.tgz", **{"..__a.png": b"1"})
        with pytest.raises(DataError, match="leaves"):
            unpack(d / "c.tgz", d / "out3")
