"""Studies a second on one core, and beside a second process: `pytest tests/benchmarks --benchmark-enable -s`."""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import hashlib
import subprocess
import sys
from itertools import count

import pytest

from rrg_core.phantom import render

@pytest.mark.parametrize("size", [160, 224, 512])
def test_render_speed(benchmark, size):
    "Scene, attenuation, film and boxes; the report is not part of it."
    seeds = count(100)
    render(0, size)
    benchmark.pedantic(lambda: render(next(seeds), size), rounds=60, warmup_rounds=3)
    if benchmark.stats:
        print(
            f"\n{size} px: {1/benchmark.stats.stats.median:.0f} studies a second (median), "
            f"{1/benchmark.stats.stats.min:.0f} at best"
        )

RENDER = """
import sys, time
from rrg_core.phantom import render
render(0, 224)
print("ready", flush=True)
sys.stdin.readline()
seed, end = 100, time.perf_counter() + 5
while time.perf_counter() < end:
    render(seed, 224)
    seed += 1
print(f"{(seed - 100) / (time.perf_counter() - end + 5):.1f}")
"""

def studies_a_second(processes):
    "At 224 px, of each of several processes that render for the same five seconds; no limit set on their threads."
    free = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    started = [
        subprocess.Popen([sys.executable, "-c", RENDER], env=free, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(processes)
    ]
    try:
        for p in started: # all have compiled and drawn one before the first begins
            assert p.stdout.readline() == "ready\n"
        for p in started:
            p.stdin.write("go\n")
            p.stdin.flush()
        return [float(p.communicate(timeout=60)[0]) for p in started]
    finally:
        for p in started:
            p.kill()

def test_render_beside_another(benchmark):
    "Without OMP_NUM_THREADS, as in a notebook: 25 studies a second each, two at a time on two cores, are the aim."
    if not benchmark.enabled: pytest.skip("a benchmark: add --benchmark-enable")
    alone = studies_a_second(1)
    both = benchmark.pedantic(studies_a_second, args=(2, ), rounds=1)
    benchmark.extra_info["studies a second"] = {"alone": alone, "beside another": both}
    print(f"\n224 px, threads not limited from outside: {alone[0]} studies a second alone, "
          f"{both[0]} and {both[1]} side by side")

def test_render_is_deterministic():
    "The same bytes, twice in one process."
    digest = lambda: hashlib.sha256(b"".join(render(seed, 96).image.tobytes()
                                             for seed in range(8))).hexdigest()
    assert digest() == digest()
