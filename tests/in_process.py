"""Jobs and pages in the process that asks for them: where a test is about plans, no kernel has to start."""
import io
import os
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace

import nbformat

from rrg_core.engine import plan, run
from rrg_core.engine.desk import WRITTEN
from rrg_core.engine.settings import repo_root


@contextmanager
def environment(values):
    "Within, these are the variables of the environment."
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class PoolHere(plan.Pool):
    "A pool whose jobs run one after the other in this process."

    def _begin(self, name):
        log = self.plan.run / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        WRITTEN.clear()
        with environment(self.environment), open(log, "w") as f, redirect_stdout(f), redirect_stderr(f):
            status = run.main([self.jobs[name]["command"][-1]])
        self.running[name] = SimpleNamespace(poll=lambda: status, returncode=status)


def page_here(nb, page, parameters, p, job, started):
    "Run a page's cells without a kernel; what they print is on the page."
    names = {"__name__": "page"}
    page.parent.mkdir(parents=True, exist_ok=True)
    with environment(run.environment_of(p, job.figures)), chdir(repo_root() / "nbs"):
        for cell in nb.cells[1:]:  # the runner's first cell follows another process
            if cell.cell_type != "code":
                continue
            with redirect_stdout(io.StringIO()) as said:
                exec(cell.source, names)
            if said.getvalue():
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=said.getvalue())]
            if "parameters" in cell.metadata.get("tags", []):
                names.update(parameters)
    nbformat.write(nb, page)
