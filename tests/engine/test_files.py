"""Exported from nbs/90h_files.ipynb: edit it there, then run `nbdev-export`."""
import atexit, os, platform, re, secrets, shutil, subprocess, tempfile
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
import filelock, psutil
from rrg_core.engine.settings import PUBLIC, CourseError, cache_root, repo_root
from rrg_core.engine.files import *


def test_atomic_files_are_whole_or_absent():
    import os, platform, tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.files import PARTIAL

    with tempfile.TemporaryDirectory() as d:
        path = Path(d)/"a"/"t.csv"
        with atomic(path) as tmp: tmp.write_text("1")
        assert path.read_text() == "1" and path.stat().st_mode & 0o777 == 0o644
        with pytest.raises(ZeroDivisionError):
            with atomic(path) as tmp:
                tmp.write_text("2")
                1/0
        assert path.read_text() == "1" and os.listdir(path.parent) == ["t.csv"]
        gone = (f"{PARTIAL}{platform.node()}:999999999:1-ab.pt", f"{PARTIAL}ab.pt") # killed; by no writer of ours
        for name in gone: (path.parent/name).write_text("left by a killed writer")
        (path.parent/f"{PARTIAL}another-node:1:1-ab.pt").touch() # alive or not: that node knows
        with atomic(path) as tmp: # one that writes while another sweeps
            tmp.write_text("3")
            assert sweep(d) == 2 and sweep(d) == 0
        assert path.read_text() == "3" and len(os.listdir(path.parent)) == 2
        path.write_text("1")
        assert file_hash(path) == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"


def test_a_list_vouches_for_records():
    import tempfile, threading
    from pathlib import Path

    import pytest
    from rrg_core.engine.files import _write_sums, atomic, file_hash
    from rrg_core.engine.settings import CourseError

    with tempfile.TemporaryDirectory() as d:
        file = Path(d)/"one"/"records.json"
        def write(text):
            with vouched(file) as tmp: tmp.write_text(text)
        write("{}")
        assert read_vouched(file) == b"{}" and read_sums(d) == {"one/records.json": {file_hash(file)}}
        old = read_sums(d)
        write("[]")
        _write_sums(d, {k: v | old[k] for k, v in read_sums(d).items()}) # killed before the old line went
        assert read_vouched(file) == b"[]"
        file.write_text("{}") # or before the file came
        assert read_vouched(file) == b"{}"
        write("{1}")
        for change in (lambda: file.write_text("{2}"), lambda: file.write_text(""),
                       lambda: file.write_text("{1}\n"),
                       lambda: file.write_text("version https://git-lfs.github.com/spec/v1\n")):
            change()
            with pytest.raises(CourseError, match="records.json is damaged or was edited"): read_vouched(file)
        with pytest.raises(CourseError, match="git lfs pull"): read_vouched(file)
        write("{1}")
        (Path(d)/SUMS).unlink() # without the list nothing is vouched for
        with pytest.raises(CourseError, match="SHA256SUMS does not vouch"): read_vouched(file)
        for bad in ("x", "0"*64, "0"*64 + "  ../../etc/passwd", "0"*63 + "  one/records.json", "\0"):
            (Path(d)/SUMS).write_text(bad + "\n")
            with pytest.raises(CourseError, match="line 1 is no digest"): read_vouched(file)
        (Path(d)/SUMS).unlink()
        def many(i):
            for k in range(5):
                with vouched(Path(d)/f"c{i}"/"records.json") as tmp: tmp.write_text(str(k))
                assert read_vouched(Path(d)/f"c{i}"/"records.json") == str(k).encode()
        threads = [threading.Thread(target=many, args=(i,)) for i in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(read_sums(d)) == 4 and all(len(h) == 1 for h in read_sums(d).values())


def test_what_is_entrusted_stays():
    import os, subprocess, sys, tempfile, textwrap
    from pathlib import Path

    from rrg_core.engine.settings import repo_root

    code = textwrap.dedent("""
    import os, sys, tempfile, time
    from pathlib import Path
    from rrg_core.engine.files import *
    from rrg_core.engine.files import entrust, atomic, is_tracked
    from rrg_core.engine.settings import CourseError, repo_root
    root, out = repo_root(), Path(sys.argv[1])
    entrust("phantom")
    assert oct(os.umask(0o022)) == "0o22"
    entrust("mimic-cxr")
    with atomic(out/"deep"/"er"/"f.txt") as tmp: tmp.write_text("x")
    modes = [oct(p.stat().st_mode & 0o777) for p in (out/"deep"/"er"/"f.txt", out/"deep"/"er")]
    assert modes == ["0o600", "0o700"]
    assert Path(tempfile.mkdtemp()).is_relative_to(Path(os.environ["RRG_CACHE"])/"tmp")
    (out/"link").symlink_to(root/"figures")
    (out/"other").mkdir()
    os.system(f"git init -q {out/'other'} && echo ignored > {out/'other'}/.gitignore")
    refused = []
    cloned = (root/"a.txt", root/"rrg_core"/"a.txt")*(root/".git").exists() # not in a copy without git
    for place in (root/"figures"/"x"/"a.csv", root/"nbs"/"a.ipynb", *cloned,
                  out/"link"/"a.csv", out/"other"/"a.csv", out/"other"/"deep"/"a.csv",
                  root/"build"/".."/"nbs"/"a.csv"):
        try:
            with atomic(place) as tmp: tmp.write_text("x")
        except CourseError as e: refused.append("mimic-cxr" in str(e))
    assert refused == [True]*(6 + len(cloned)), refused
    for place in (root/"build"/"smoke"/"a-test.csv", out/"other"/"ignored", out/"a.csv"):
        with atomic(place) as tmp: tmp.write_text("x")
        place.unlink()
    print("held", flush=True)
    time.sleep(60*(len(sys.argv) > 2))
    """)
    with tempfile.TemporaryDirectory() as d:
        env = os.environ | {"RRG_CACHE": f"{d}/cache"}
        for x in "ab": Path(d, x).mkdir()
        ran = subprocess.run([sys.executable, "-c", code, f"{d}/a"], env=env, capture_output=True, text=True)
        assert ran.stdout == "held\n", ran.stderr
        assert list(Path(d, "cache", "tmp").iterdir()) == []
        hung = subprocess.Popen([sys.executable, "-c", code, f"{d}/b", "wait"], env=env, stdout=subprocess.PIPE)
        assert hung.stdout.readline() == b"held\n"
        left = list(Path(d, "cache", "tmp").glob("*/*"))
        hung.kill()
        hung.wait()
        assert left and all(p.exists() for p in left) # a killed process cleans nothing up: the next one does
        (elsewhere := Path(d, "cache", "tmp", "another-node:1:1")).mkdir() # alive or not: that node knows
        subprocess.run([sys.executable, "-c", "from rrg_core.engine.files import entrust; entrust('brax')"],
                       env=env)
        assert list(Path(d, "cache", "tmp").iterdir()) == [elsewhere]
        fork = "import os; from rrg_core.engine.files import entrust; import tempfile; entrust('brax'); "
        fork += "child = os.fork(); child or exit(); os.waitpid(child, 0); print(os.path.isdir(tempfile.tempdir))"
        ran = subprocess.run([sys.executable, "-c", fork], env=env, capture_output=True, text=True)
        assert ran.stdout == "True\n", ran.stderr # a child that ends takes nothing of its parent's away


def test_a_process_is_known_by_its_start():
    import os, subprocess, sys

    import pytest
    import psutil
    from rrg_core.engine.files import is_alive, process_token

    mine = process_token()
    assert is_alive(mine) and mine.startswith(f"{os.getpid()}:") and process_token() == mine
    real = psutil.Process.create_time # a clock step moves what psutil says of the start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil.Process, "create_time", lambda self: real(self) + 1)
        assert is_alive(mine) and process_token() == mine
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    token = process_token(child.pid)
    assert is_alive(token)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE: pass
    assert not is_alive(token) # a zombie has ended
    child.wait()
    for gone in (token, f"{os.getpid()}:1", f"{os.getpid()}:", "0:0", "999999999:1", "", "x", "-1:5"):
        assert not is_alive(gone), gone
