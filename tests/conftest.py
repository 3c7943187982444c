"""A miniature course in a temporary folder: the real engine, chapters of a few lines."""
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest

REPO = Path(__file__).resolve().parent.parent

CHAPTER = """
import json, time
from rrg_core.engine.files import Desk
desk = Desk({name!r}, profile, seed)
def save(stem, value):
    with desk.writing(stem + ".json") as tmp: tmp.write_text(json.dumps(value))
def load(chapter, stem): return json.loads((desk.folder.parent/chapter/(stem + ".json")).read_text())
""".strip()

class Course:
    "Chapters made of code cells, and the `rrg` command run on them."
    def __init__(self, root: Path):
        # the course's smoke trains in the notebook; here jobs are what is tested
        self.root, self.chapters, self.jobs = root, {}, "yes"
        (root / "nbs").mkdir()
        (root / "workflow").symlink_to(REPO / "workflow")

    def chapter(self, name, *cells, needs=()):
        "Write (or write again) a chapter; each cell is code."
        self.chapters.setdefault(name, needs)
        number = list(self.chapters).index(name) + 1
        new = nbformat.v4.new_code_cell
        parameters = new("profile = None\nseed = None", metadata={"tags": ["parameters"]})
        head = [nbformat.v4.new_markdown_cell(f"# {name}"), parameters, new(CHAPTER.format(name=name))]
        nb = nbformat.v4.new_notebook(cells=head + [new(textwrap.dedent(c).strip()) for c in cells])
        nb.metadata.kernelspec = dict(name="python3", display_name="python3", language="python")
        nbformat.write(nb, self.notebook(name, number))
        settings = (REPO / "settings.ini").read_text().replace("jobs = no", f"jobs = {self.jobs}")
        graph = "\n".join(f"{c} = {' '.join(n)}" for c, n in self.chapters.items())
        (self.root / "settings.ini"
         ).write_text(f"{settings[:settings.index('[chapters]')]}[chapters]\n{graph}\n\n[roots]\n")

    def module(self, name, source):
        "Write a chapter's module into a package that is otherwise the course's own, file for file."
        package = self.root / "lib" / "rrg_core"
        if not package.exists():
            package.mkdir(parents=True)
            for file in (REPO / "rrg_core").iterdir():
                if file.name != "__pycache__":
                    (package / file.name).symlink_to(file)
        (package / f"{name}.py").unlink(
            missing_ok=True) # a link: writing through it would change the course's own module
        (package / f"{name}.py").write_text(textwrap.dedent(source))

    def notebook(self, name, number=None):
        return self.root / "nbs" / f"{number or list(self.chapters).index(name) + 1:02d}_{name}.ipynb"

    def command(self, *arguments):
        return [sys.executable, "-c", "from rrg_core.tools.cli import main; main()", *arguments]

    @property
    def environment(self):
        path = os.pathsep.join(filter(None, [str(self.root / "lib"), os.environ.get("PYTHONPATH")]))
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RRG_")}
        return clean | {
            "RRG_REPO": str(self.root), "COLUMNS": "200", "PYTHONPATH": path, "LESSON_LOG": str(
                self.root / "trained.log")
        }

    @property
    def trained(self):
        "What the lesson of `module` wrote down: a line a training, sorted."
        log = self.root / "trained.log"
        return sorted(log.read_text().split("\n")[:-1]) if log.exists() else []

    def rrg(self, *arguments, timeout=600):
        return subprocess.run(self.command(*arguments),
                              capture_output=True,
                              text=True,
                              env=self.environment,
                              cwd=self.root,
                              timeout=timeout)

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments),
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT,
                                text=True,
                                env=self.environment,
                                cwd=self.root)

    @property
    def figures(self):
        return self.root / "build" / "smoke" / "figures"

    def bytes(self):
        "Every artifact outside byte identity's exceptions."
        files = (f for f in self.figures.rglob("*") if f.is_file() and f.name != "cost.csv")
        return {f.relative_to(self.figures).as_posix(): f.read_bytes() for f in files}

@pytest.fixture
def course(tmp_path):
    return Course(tmp_path)
