"""A miniature course in a temporary folder: the real engine, chapters of a few lines."""
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

REPO = Path(__file__).resolve().parent.parent

CHAPTER = """
import json, os, time
from rrg_core.engine.desk import Desk
desk = Desk({name!r}, profile, seed)
def save(stem, value):
    with desk.writing(stem + ".json") as tmp: tmp.write_text(json.dumps(value))
def load(chapter, stem): return json.loads((desk.folder.parent/chapter/(stem + ".json")).read_text())
""".strip()


def pytest_collection_modifyitems(items):
    "What is written by hand takes longest and comes first (`--no-loadscope-reorder`): two workers end together."
    items.sort(key=lambda item: item.path.parent != REPO / "tests")


# A process that has imported what takes long, and forks for each line that it reads: a run begins at once.
FORKS = """
import json, os, sys, traceback
import pandas, pyarrow.parquet
from in_process import jobs_here
from rrg_core.engine import plan
jobs_here()
for line in sys.stdin:
    asked = json.loads(line)
    if not (pid := os.fork()):
        status = 1
        try:
            os.environ.update(asked.pop("environment", {}))
            plan.regenerate(**asked)
            status = 0
        except BaseException: traceback.print_exc()
        os._exit(status)
    print("pid", pid, flush=True)
    print("ended", os.waitpid(pid, 0)[1], flush=True)
"""


class Course:
    "Chapters made of code cells, and the engine run on them, in this process or in others."

    def __init__(self, root: Path):
        # the course's smoke trains in the notebook; here jobs are what is tested
        self.root, self.chapters, self.jobs, self.seeds = root, {}, "yes", "0"
        self.package, self.log, self.replaced = root / "lib" / "rrg_core", root / "trained.log", {}
        (root / "nbs").mkdir()
        (root / "workflow").symlink_to(REPO / "workflow")
        for folder, folders, files in os.walk(REPO / "rrg_core"):
            here = self.package / Path(folder).relative_to(REPO / "rrg_core")
            here.mkdir(parents=True)
            for file in files:
                (here / file).symlink_to(Path(folder) / file)
            if "__pycache__" in folders:
                folders.remove("__pycache__")
                (here / "__pycache__").symlink_to(Path(folder) / "__pycache__")

    def chapter(self, name, *cells, needs=()):
        "Write (or write again) a chapter; each cell is code."
        self.chapters.setdefault(name, needs)
        new = nbformat.v4.new_code_cell
        parameters = new("profile = None\nseed = None", metadata={"tags": ["parameters"]})
        head = [nbformat.v4.new_markdown_cell(f"# {name}"), parameters, new(CHAPTER.format(name=name))]
        nb = nbformat.v4.new_notebook(cells=head + [new(textwrap.dedent(c).strip()) for c in cells])
        nb.metadata.kernelspec = dict(name="python3", display_name="python3", language="python")
        nbformat.write(nb, self.notebook(name))
        self.settings()

    def settings(self, **changed):
        "Write settings.ini; `changed` are values of the profile smoke."
        text = (REPO / "settings.ini").read_text()
        head, smoke, rest = text.partition("[phantom]")
        lines = dict(jobs=self.jobs, seeds=self.seeds) | changed
        keep = [line for line in head.splitlines() if line.partition(" = ")[0] not in lines]
        head = "\n".join([*keep, *(f"{k} = {v}" for k, v in lines.items())]) + "\n\n"
        graph = "\n".join(f"{c} = {' '.join(n)}" for c, n in self.chapters.items())
        (self.root / "settings.ini").write_text(
            f"{head}{smoke}{rest[:rest.index('[chapters]')]}[chapters]\n{graph}\n\n[roots]\n")

    def module(self, name, source):
        "Write a chapter's module into the package, which is otherwise the course's own, file for file."
        file = self.package / name / "__init__.py"
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)  # a link: writing through it would change the course's own module
        file.write_text(textwrap.dedent(source))
        self.forget(f"rrg_core.{name}")

    def forget(self, name):
        "Let Python import a module anew; what it was comes back at the end of the test."
        importlib.invalidate_caches()
        parent, _, short = name.rpartition(".")
        for n in [n for n in sys.modules if n == name or n.startswith(name + ".")]:
            self.replaced.setdefault(n, sys.modules.pop(n))
            sys.modules.pop(n, None)
        self.replaced.setdefault(name, None)
        vars(sys.modules[parent]).pop(short, None)

    def restore(self):
        for name, module in self.replaced.items():
            sys.modules.pop(name, None)
            parent, _, short = name.rpartition(".")
            vars(sys.modules[parent]).pop(short, None)
            if module is not None:
                sys.modules[name] = module
                setattr(sys.modules[parent], short, module)

    def notebook(self, name):
        return self.root / "nbs" / f"{list(self.chapters).index(name) + 1:02d}_{name}.ipynb"

    @property
    def environment(self):
        path = [str(self.root / "lib"), str(REPO / "tests"), os.environ.get("PYTHONPATH", "")]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RRG_")}
        return clean | {
            "RRG_REPO": str(self.root), "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "LESSON_LOG": str(self.log), "PYTHONDONTWRITEBYTECODE": "1"
        }

    def enter(self, monkeypatch, pool=True, pages=True):
        "This process works on the course; its jobs and pages run here where asked."
        import rrg_core
        from in_process import jobs_here, pages_here
        from rrg_core.engine import settings
        environment = self.environment
        for name in [k for k in os.environ if k not in environment]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(self.root)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setattr(rrg_core, "__path__", [str(self.package)])
        monkeypatch.setattr(rrg_core.__spec__, "origin", str(self.package / "__init__.py"))
        settings.repo_root.cache_clear()
        settings.package_root.cache_clear()
        if pool:
            jobs_here(monkeypatch.setattr)
        if pages:
            pages_here(monkeypatch.setattr)

    def call(self, f, *arguments, **options):
        "What a function of the engine prints (`text`), and its error's words (`error`)."
        from rrg_core.engine.settings import CourseError
        error = ""
        with redirect_stdout(io.StringIO()) as said:
            try:
                f(*arguments, **options)
            except CourseError as e:
                error = str(e)
        ran = {line.split()[0] for line in said.getvalue().splitlines() if "  made " in line}
        return SimpleNamespace(text=said.getvalue(), error=error, ran=ran)

    def regenerate(self, *names, **options):
        from rrg_core.engine.plan import regenerate
        return self.call(regenerate, names, "smoke", **options)

    def train(self, *arguments, **options):
        from rrg_core.engine.plan import train
        return self.call(train, *arguments, profile_name="smoke", **options)

    @property
    def planned(self):
        "The plan of `rrg regenerate` in words."
        return self.regenerate(dry_run=True).text

    @property
    def trained(self):
        "What the lesson's training wrote down: a line a training, in order."
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    def command(self, *arguments):
        return [sys.executable, "-c", "from rrg_core.tools.cli import main; main()", *arguments]

    def rrg(self, *arguments, timeout=600):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.environment,
                              cwd=self.root, timeout=timeout)

    def start(self, *arguments, **environment):
        return subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env=self.environment | environment, cwd=self.root)

    def forks(self):
        "A process that begins a run for each line of JSON, the arguments of `regenerate`."
        return subprocess.Popen([sys.executable, "-u", "-c", FORKS], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, env=self.environment, cwd=self.root)

    @property
    def figures(self):
        return self.root / "build" / "smoke" / "figures"

    def manifest(self, chapter):
        return json.loads((self.figures / chapter / "manifest.json").read_text())

    def records(self, chapter):
        return json.loads((self.figures / chapter / "records.json").read_text())

    def bytes(self, figures=None):
        "Every artifact outside byte identity's exceptions."
        files = (f for f in (figures or self.figures).rglob("[!.]*")
                 if f.is_file() and f.name not in ("cost.csv", "records.json", "SHA256SUMS") and ".run" not in f.parts)
        return {f.relative_to(figures or self.figures).as_posix(): f.read_bytes() for f in files}


def _entered(tmp_path, monkeypatch, **here):
    from rrg_core.engine import settings
    monkeypatch.syspath_prepend(REPO / "tests")
    made = Course(tmp_path)
    made.enter(monkeypatch, **here)
    yield made
    made.restore()
    monkeypatch.undo()
    settings.repo_root.cache_clear()
    settings.package_root.cache_clear()


@pytest.fixture
def course_at():
    "As `course`, in a folder of any name: a context."
    @contextmanager
    def at(folder):
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            yield from _entered(folder, patch)
    return at


@pytest.fixture
def course(tmp_path, monkeypatch):
    "Jobs and pages run in this process."
    yield from _entered(tmp_path, monkeypatch)


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    "Jobs run in this process, pages in kernels."
    yield from _entered(tmp_path, monkeypatch, pages=False)


@pytest.fixture
def processes(tmp_path, monkeypatch):
    "Jobs are processes, pages run in kernels."
    yield from _entered(tmp_path, monkeypatch, pool=False, pages=False)


@pytest.fixture(autouse=True)
def nothing_is_entrusted():
    "A test that reads credentialed data marks its process; the next test begins without the mark."
    from rrg_core.engine import files as desk
    mask, folder = os.umask(0o022), tempfile.tempdir
    os.umask(mask)
    yield
    if desk.ENTRUSTED:
        desk.ENTRUSTED.clear()
        os.umask(mask)
        tempfile.tempdir = folder
