"""JupyterLab and a headless Chromium, for the tests of this folder; without playwright or Chromium they skip.

Debian: `apt-get install chromium`, then `make browser`. `BROWSER_SHOTS=folder` keeps a picture of each page.
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

import pytest

from rrg_core.engine.settings import repo_root

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"
]

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

class Lab:
    "A running JupyterLab: its address, and the folder with `nbs`."

    def __init__(self, address, folder):
        self.address, self.folder = address, folder

    def sessions(self):
        return json.loads(urllib.request.urlopen(f"{self.address}/api/sessions", timeout=5).read())

    def open(self, page, notebook, seconds=240):
        "A notebook in the browser, its kernel ready: a menu used too early asks for a kernel first."
        page.goto(f"{self.address}/lab/tree/{notebook}.ipynb?reset", wait_until="domcontentloaded", timeout=120_000)
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        end = time.time() + seconds
        while not any(notebook in s["path"] and s["kernel"]["execution_state"] == "idle" for s in self.sessions()):
            if time.time() > end: raise TimeoutError(f"no kernel for {notebook} after {seconds} s")
            time.sleep(0.5)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached", timeout=120_000)
        time.sleep(3)

    def run_all(self, page):
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()

@pytest.fixture(scope="session")
def chromium():
    "A browser."
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None: pytest.skip("no Chromium on the PATH")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()

def shot(page, name):
    "A picture of the page, where somebody wants it."
    if shots := os.environ.get("BROWSER_SHOTS"):
        Path(shots).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(shots) / f"{name}.png"))

@pytest.fixture
def page(chromium, request):
    "An empty page; `page.shot(name)` keeps its picture, and so does the end of a test."
    page = chromium.new_page(viewport={"width": 1300, "height": 1000})
    page.shot = lambda name: shot(page, name)
    yield page
    page.shot(request.node.callspec.id if hasattr(request.node, "callspec") else request.node.name)
    page.close()

@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    "JupyterLab over a copy of the notebooks, so that saving a page changes nothing here; as a reader starts it."
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(repo_root() / "nbs", folder / "nbs", ignore=shutil.ignore_patterns(".*"))
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.ip=127.0.0.1",
        f"--notebook-dir={folder / 'nbs'}", "--IdentityProvider.token=", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
    ]
    unwatched = ("CI", "IN_TEST")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RRG_") and k not in unwatched} | {
        "RRG_REPO": str(repo_root()), "RRG_PROFILE": os.environ.get("RRG_PROFILE", "smoke"),
        "RRG_FIGURES": str(folder / "figures")
    }
    with open(folder / "log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment,
                                                            cwd=folder) as server:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/lab", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield Lab(f"http://127.0.0.1:{port}", folder)
        server.terminate()
