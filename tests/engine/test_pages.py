"""Exported from nbs/90i_pages.ipynb: edit it there, then run `nbdev-export`."""
import re
from pathlib import Path
import nbformat
from rrg_core.engine.files import atomic
import json, tempfile
from rrg_core.engine.pages import *


def test_executable_skips_what_the_directives_say():
    new = nbformat.v4.new_code_cell
    with tempfile.TemporaryDirectory() as d:
        nb = nbformat.v4.new_notebook(cells=[
            new("#| eval: false\n1/0"),
            new("#| slow\n1/0"),
            new("x = '#| slow'"),
            new("#| eval: true\n2")
        ])
        path = Path(d) / "a.ipynb"
        nbformat.write(nb, path)
        skipped = lambda **k: [
            "skip-execution" in c.metadata.get("tags", []) for c in executable(path, **k).cells
        ]
        assert skipped() == [True, True, False, False]
        assert skipped(run=("slow", )) == [True, False, False, False]


def test_tidy_page_leaves_no_trace_of_the_run():
    view = nbformat.v4.new_output(
        "display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "bar"})
    text = nbformat.v4.new_output("execute_result", data={"text/plain": "3"}, execution_count=7)
    with tempfile.TemporaryDirectory() as d:
        cell = nbformat.v4.new_code_cell(
            "1 + 2",
            outputs=[view, text],
            execution_count=7,
            metadata={"papermill": {"duration": 1.5}, "tags": ["parameters", "skip-execution"]})
        nb = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("x", metadata={"tags": ["runner"]}), cell],
            metadata={"widgets": {"state": 1}, "papermill": {"input_path": "/home/me/x.ipynb"}})
        path = Path(d) / "a.ipynb"
        nbformat.write(nb, path)
        tidy = json.loads(tidy_page(path) and path.read_text())
        assert [c["source"] for c in tidy["cells"]
                ] == [["1 + 2"]] and tidy["cells"][0]["metadata"] == {"tags": ["parameters"]}
        assert tidy["cells"][0]["execution_count"] is None and len(tidy["cells"][0]["outputs"]) == 1
        assert not any(w in path.read_text() for w in ("papermill", "widget", "/home/me", "duration"))


def test_stderr_lines_sees_warnings_only():
    cells = [
        nbformat.v4.new_code_cell("x",
                                  outputs=[nbformat.v4.new_output("stream", name=n, text=f"{n} 1\n\n{n} 2\n")])
        for n in ("stdout", "stderr")
    ]
    assert stderr_lines(nbformat.v4.new_notebook(cells=cells)) == ["stderr 1", "stderr 2"]
