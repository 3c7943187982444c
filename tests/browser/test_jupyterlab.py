"""A chapter in JupyterLab, as a reader opens it: *Run all* in a headless Chromium, no error, no warning.

`make browser` runs this. `BROWSER_CHAPTERS="01_data 03_reports"` picks chapters (default: all).
"""
import os
import time

import nbformat
import pytest

from rrg_core.engine.run import notebook_of, stderr_lines
from rrg_core.engine.settings import chapters

CHAPTERS = os.environ.get("BROWSER_CHAPTERS", "").split() or [notebook_of(c).stem for c in chapters()]

def finished(path):
    "The saved page holds an error, or its last code cell has run."
    try:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    except nbformat.reader.NotJSONError: # JupyterLab is writing it
        return False
    return cells[-1].execution_count is not None or any(o.output_type == "error" for c in cells for o in c.outputs)

@pytest.mark.parametrize("chapter", CHAPTERS)
def test_run_all_in_a_browser(lab, page, chapter):
    path = lab.folder / "nbs" / f"{chapter}.ipynb"
    cleared = nbformat.read(path, as_version=4)
    for cell in cleared.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(cleared, path)
    lab.open(page, chapter)
    lab.run_all(page)
    end = time.time() + 900
    while time.time() < end and not finished(path):
        time.sleep(2)
        page.keyboard.press("Control+s")
    nb = nbformat.read(path, as_version=4)
    assert not [o.evalue for c in nb.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert stderr_lines(nb) == []
    assert [
        i for i, c in enumerate(nb.cells)
        if c.cell_type == "code" and c.source.strip() and c.execution_count is None
    ] == []
