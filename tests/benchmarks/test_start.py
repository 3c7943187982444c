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

import pytest

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

def test_evaluate(benchmark, tmp_path):
    "A hundred reports under the default protocol: Java's METEOR is most of it."
    said = [f"The heart is {'not ' * (i % 2)}enlarged. No effusion on film {i % 7}." for i in range(101)]
    file = tmp_path / "reports.jsonl"
    file.write_text("".join(
        json.dumps({"hypothesis": a, "reference": b}) + "\n" for a, b in zip(said, said[1:])))
    measured(benchmark, "rrg evaluate, 100 reports", [*RRG, "evaluate", str(file)])

@pytest.mark.parametrize("module", [
    "engine.settings", "data", "labels", "metrics.text", "metrics.clinical", "metrics.stats",
    "metrics.evaluate", "metrics.grounding", "results.claims", "tools.doctor", "tools.cli"
])
def test_import(benchmark, module):
    measured(benchmark, f"import rrg_core.{module}", [sys.executable, "-c", f"import rrg_core.{module}"])
