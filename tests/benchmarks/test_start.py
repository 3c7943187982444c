"""What a command costs before it does anything: processor seconds of the process and of all that it starts.

Run: python -m pytest tests/benchmarks/test_start.py --benchmark-enable -s

No pass or fail: it prints, and says where a command ended badly. Seconds of wall clock depend on who else uses the
machine; processor seconds do so much less. `--dry-run` decides what is fresh and then stops: where nothing is to do,
the command without it does the same work.
"""
import json
import resource
import subprocess
import sys
from dataclasses import asdict

import pytest

from rrg_core.engine.run import Job

RRG = [sys.executable, "-c", "from rrg_core.tools.cli import main; main()"]
SECONDS = 300 # Longest that one command may take

def spent():
    "Processor seconds, user and system, of all children that have ended."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

def cost(command):
    "Processor seconds of a command, and how it ended."
    before = spent()
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    return spent() - before, done

def measured(benchmark, name, command):
    if not benchmark.enabled: pytest.skip("a benchmark: add --benchmark-enable")
    seconds, done = benchmark.pedantic(cost, args=(command, ), rounds=1)
    benchmark.extra_info["processor seconds"] = round(seconds, 2)
    last = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1]
    print(f"\n{name}: {seconds:.2f} processor seconds, status {done.returncode}: {last[:100]}")

@pytest.mark.parametrize("arguments", [
    ["--help"], ["doctor"], ["evaluate", "--list"], ["regenerate", "--dry-run"],
    ["train", "learning", "r2gen", "--seed", "0", "--dry-run"]
], ids=" ".join)
def test_start(benchmark, arguments):
    measured(benchmark, f"rrg {' '.join(arguments)}", [*RRG, *arguments])

@pytest.mark.parametrize("options", [[], ["--without", "METEOR"]], ids=["default", "without METEOR"])
def test_evaluate(benchmark, tmp_path, options):
    "A hundred reports under the default protocol: Java's METEOR is most of it; without it, 5 seconds are the aim."
    said = [f"The heart is {'not ' * (i % 2)}enlarged. No effusion on film {i % 7}." for i in range(101)]
    file = tmp_path / "reports.jsonl"
    file.write_text("".join(
        json.dumps({"hypothesis": a, "reference": b}) + "\n" for a, b in zip(said, said[1:])))
    measured(benchmark, f"rrg evaluate, 100 reports {' '.join(options)}", [*RRG, "evaluate", str(file), *options])

STANDINS = ["standin-phantom-resnet", "standin-phantom-densenet", "standin-shapes-bert"]

@pytest.mark.parametrize("chapter, reads, experiment", [
    ("learning", [], "standin-phantom-resnet"), ("learning", [], "constant-s0"),
    ("fita", STANDINS, "baseline-s0")
], ids=["a stand-in", "learning", "fita"])
def test_load(benchmark, tmp_path, monkeypatch, chapter, reads, experiment):
    "What `rrg train --missing` starts for an artifact that turns out to be there: made once, then loaded."
    if not benchmark.enabled: pytest.skip("a benchmark: add --benchmark-enable")
    monkeypatch.setenv("RRG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("RRG_CACHE", str(tmp_path / "cache"))

    def job(chapter, experiment):
        job = Job(chapter, "smoke", str(tmp_path / "figures"), str(tmp_path), experiment)
        file = tmp_path / f"{job.name}.json"
        file.write_text(json.dumps(asdict(job)))
        return job, [sys.executable, "-m", "rrg_core.engine.run", str(file)]

    def how(job): return json.loads(job.file("results").read_text())["how"]

    for name in reads:
        cost(job("learning", name)[1])
    once, command = job(chapter, experiment)
    seconds, _ = cost(command)
    print(f"\n{once.name}: {seconds:.2f} processor seconds, {how(once)}")
    measured(benchmark, f"{once.name} again", command)
    assert how(once) == "loaded"

@pytest.mark.parametrize("module", [
    "engine.settings", "data", "labels", "metrics", "metrics.text", "metrics.clinical", "metrics.stats",
    "metrics.evaluate", "metrics.grounding", "results.claims", "learning", "fita", "tools.doctor", "tools.cli"
])
def test_import(benchmark, module):
    measured(benchmark, f"import rrg_core.{module}", [sys.executable, "-c", f"import rrg_core.{module}"])
