"""A chapter in JupyterLab, as a reader opens it: *Run all* in a headless Chromium, no error, no warning.

`make browser` runs this. It needs Chromium (Debian: apt-get install chromium) and `pip install playwright`; without them it skips.
`BROWSER_CHAPTERS="01_data 03_reports"` picks chapters (default: all), `BROWSER_SHOTS=folder` keeps a picture of each.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from rrg_core.engine.freshness import notebook_of
from rrg_core.engine.pages import stderr_lines
from rrg_core.engine.settings import chapters, repo_root

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
CHAPTERS = os.environ.get("BROWSER_CHAPTERS", "").split() or [notebook_of(c).stem for c in chapters()]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"
]

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab over a copy of the notebooks, so that saving a page changes nothing here."
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(repo_root() / "nbs", folder / "nbs", ignore=shutil.ignore_patterns(".*"))
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", f"--notebook-dir={folder / 'nbs'}", "--IdentityProvider.token=",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
    ]
    environment = {k: v
                   for k, v in os.environ.items() if not k.startswith("RRG_")} | {
                       "RRG_REPO": str(repo_root()), "RRG_PROFILE": os.environ.get("RRG_PROFILE", "smoke"),
                       "RRG_FIGURES": str(folder / "figures")
                   }
    with open(folder / "log", "w") as log, subprocess.Popen(command,
                                                            stdout=log,
                                                            stderr=log,
                                                            env=environment,
                                                            cwd=folder) as server:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/lab", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", folder
        server.terminate()

def wait_for_kernel(address, chapter, seconds=120):
    "The page is there before its kernel; a menu used too early asks for a kernel first."
    end = time.time() + seconds
    while time.time() < end:
        sessions = json.loads(urllib.request.urlopen(f"{address}/api/sessions", timeout=5).read())
        if any(chapter in s["path"] and s["kernel"]["execution_state"] == "idle" for s in sessions):
            return
        time.sleep(0.5)
    raise TimeoutError(f"no kernel for {chapter} after {seconds} s")

def finished(path):
    "The saved page holds an error, or its last code cell has run."
    try:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    except nbformat.reader.NotJSONError: # JupyterLab is writing it
        return False
    return cells[-1].execution_count is not None or any(o.output_type == "error" for c in cells
                                                        for o in c.outputs)

@pytest.mark.parametrize("chapter", CHAPTERS)
def test_run_all_in_a_browser(lab, chapter):
    address, folder = lab
    path = folder / "nbs" / f"{chapter}.ipynb"
    cleared = nbformat.read(path, as_version=4)
    for cell in cleared.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(cleared, path)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{address}/lab/tree/{chapter}.ipynb?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        wait_for_kernel(address, chapter)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']",
                               state="attached",
                               timeout=120_000)
        time.sleep(3)
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        end = time.time() + 900
        while time.time() < end and not finished(path):
            time.sleep(2)
            page.keyboard.press("Control+s")
        if shots := os.environ.get("BROWSER_SHOTS"):
            Path(shots).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(Path(shots) / f"{chapter}.png"))
        browser.close()
    nb = nbformat.read(path, as_version=4)
    assert not [o.evalue for c in nb.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert stderr_lines(nb) == []
    assert [
        i for i, c in enumerate(nb.cells)
        if c.cell_type == "code" and c.source.strip() and c.execution_count is None
    ] == []
