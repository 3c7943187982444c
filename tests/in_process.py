"""Jobs and pages in the process that asks for them: where a test is about plans, no kernel has to start."""
import os
import subprocess
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace

import nbformat
import papermill

from rrg_core.engine import plan, run
from rrg_core.engine.desk import WRITTEN


@contextmanager
def environment(values):
    "Within, these are the variables of the environment."
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def popen_here(command, stdout, stderr, env=None, cwd=None):
    "Run a job of a plan in this process; anything else as `subprocess.Popen` does."
    if "rrg_core.engine.run" not in command:
        return POPEN(command, stdout=stdout, stderr=stderr, env=env, cwd=cwd)
    WRITTEN.clear()
    file = command[command.index("rrg_core.engine.run") + 1]
    with environment(env), redirect_stdout(stdout), redirect_stderr(stdout):
        status = run.main([file])
    return SimpleNamespace(poll=lambda: status, returncode=status, terminate=lambda: None)


def page_here(source, page, parameters, cwd, **_):
    "Run a page's cells without a kernel; what they print is on the page."
    nb, names = nbformat.read(source, as_version=4), {"__name__": "page"}
    with chdir(cwd):
        for cell in nb.cells[1:]:  # the runner's first cell follows another process
            if cell.cell_type != "code":
                continue
            with redirect_stdout(StringIO()) as said:
                exec(cell.source, names)
            if said.getvalue():
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=said.getvalue())]
            if "parameters" in cell.metadata.get("tags", []):
                names.update(parameters)
    nbformat.write(nb, page)


POPEN, PAPERMILL = subprocess.Popen, papermill.execute_notebook


def jobs_here(setattr=setattr):
    "From now on, plans run their jobs in this process."
    setattr(plan, "subprocess", SimpleNamespace(Popen=popen_here))


def pages_here(setattr=setattr):
    "From now on, jobs run their pages in this process."
    setattr(papermill, "execute_notebook", page_here)
