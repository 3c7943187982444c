"""What the notebooks show, the pages of the chapters aside (`rrg regenerate` runs those): `python tests/notebooks.py [NOTEBOOK …]`.

A notebook has a process of its own, so that none can depend on what another left behind; it is forked from one that has
imported what takes seconds to import. Cells that are exported as tests are pytest's.
"""
import os
import re
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


def eligible():
    "All notebooks but the chapters' own pages, the longest files first."
    from rrg_core.engine.settings import chapters
    pages = re.compile(rf"\d+_({'|'.join(chapters())})\.ipynb")
    found = [f for f in (REPO / "nbs").rglob("*.ipynb") if not any(p.startswith(".") for p in f.parts)]
    found = [f for f in found if f.parent != REPO / "nbs" or not pages.fullmatch(f.name)]
    return sorted(found, key=lambda f: -f.stat().st_size)


def passes(notebook, flags):
    "Whether every cell runs; what a cell raises goes to stderr."
    from nbdev.test import test_nb
    return test_nb(notebook, skip_flags=flags, basepath=REPO)[0]


def run(notebooks, at_once=2):
    "The notebooks that fail."
    import nbdev.config
    import IPython, matplotlib.pyplot, pandas, pytest, sklearn.linear_model, torch, torchvision, transformers # noqa: F401
    flags, waiting, running, failed = nbdev.config.get_config(REPO).tst_flags, list(notebooks), {}, []
    flags = flags.split() if isinstance(flags, str) else flags
    while waiting or running:
        while waiting and len(running) < at_once:
            notebook = waiting.pop(0)
            sys.stdout.flush(), sys.stderr.flush()
            if not (pid := os.fork()):
                good = False
                try: good = passes(notebook, flags)
                finally: os._exit(not good)
            running[pid] = notebook, time.time()
        pid, status = os.wait()
        if pid not in running: continue # a process that a library began
        notebook, began = running.pop(pid)
        print(f"{'failed' if status else 'passed'} {os.path.relpath(notebook, REPO)} ({time.time() - began:.0f} s)",
              flush=True)
        if status: failed.append(notebook)
    return failed


if __name__ == "__main__":
    failed = run([Path(a).resolve() for a in sys.argv[1:]] or eligible())
    sys.exit(f"failed: {', '.join(f.name for f in failed)}" if failed else 0)
