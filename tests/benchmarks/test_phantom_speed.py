"""Studies a second on one core: `pytest tests/benchmarks --benchmark-enable --benchmark-only`."""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import hashlib
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

def test_render_is_deterministic():
    "The same bytes, twice in one process."
    digest = lambda: hashlib.sha256(b"".join(render(seed, 96).image.tobytes()
                                             for seed in range(8))).hexdigest()
    assert digest() == digest()
