"""The runner of the notebooks: what fails is named, and nothing of one notebook is left for the next."""
import subprocess
import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import REPO, eligible # noqa: E402


def test_a_failing_notebook_is_named_and_no_other(tmp_path):
    cells = {"good": "x = 1", "bad": "1/0", "other": "x", "tested": "#| test never\n1/0"}
    for name, cell in cells.items():
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
        nbformat.write(nb, tmp_path / f"{name}.ipynb")
    files = [str(tmp_path / f"{name}.ipynb") for name in cells]
    done = subprocess.run([sys.executable, REPO / "tests" / "notebooks.py", *files], capture_output=True, text=True)
    said = [line.split("/")[-1].split()[0] for line in done.stdout.splitlines() if line.startswith("failed")]
    assert done.returncode and sorted(said) == ["bad.ipynb", "other.ipynb"], done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stderr and "NameError" in done.stderr
    assert done.stdout.count("passed") == 2


def test_chapters_pages_are_left_to_the_engine():
    names = {f.name for f in eligible()}
    assert {"06e_training.ipynb", "11a_kiut.ipynb", "index.ipynb"} <= names
    assert "11_fita.ipynb" in names # its solutions
    assert REPO / "nbs" / "11_fita.ipynb" not in eligible() and REPO / "nbs" / "solutions" / "11_fita.ipynb" in eligible()
