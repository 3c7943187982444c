"""Writing with and without the cache, in the same run: `pytest tests/benchmarks/test_decoding_speed.py --benchmark-enable -s`.

Reports of 60 tokens that never end, so that both ways do the same work. Processor time of one thread, the smaller of two runs each:
a machine that others use as well changes the seconds, much less the ratio.
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import time

import pytest
import torch

from rrg_core.nets.decoder import report_batch
from rrg_core.learning.r2gen import R2Gen, R2GenConfig

TOKENS, STUDIES, CELLS, LEAST = 60, 24, 25, 3.

def writer(memory):
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(192, vocab_size=250, memory=memory, encoder_layers=0,
                                     max_tokens=TOKENS)).eval()
    with torch.no_grad():
        model.head.bias[0] = -1e4 # never the end
    return model

def seconds(work, runs=2):
    "Least processor time of some runs, and the last result."
    times = []
    for _ in range(runs):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result

@pytest.mark.parametrize("memory", [True, False], ids=["R2Gen", "plain"])
@pytest.mark.parametrize("beams", [1, 3])
def test_cache_is_three_times_faster(benchmark, memory, beams):
    "The same reports, at least three times faster."
    if not benchmark.enabled: pytest.skip("a benchmark: add --benchmark-enable")
    torch.set_num_threads(1)
    model, features = writer(memory), torch.randn(STUDIES,
                                                  CELLS,
                                                  192,
                                                  generator=torch.Generator().manual_seed(0))
    write = lambda cached: model.generate(features, num_beams=beams, use_cache=cached)
    write(True)
    fast, with_cache = seconds(lambda: benchmark.pedantic(write, args=(True, ), rounds=1)
                               if not benchmark.stats else write(True))
    slow, without = seconds(lambda: write(False), runs=1)
    assert with_cache.shape == without.shape == (STUDIES, TOKENS)
    same = (
        with_cache == without).all(1).float().mean().item() # in single precision a tie may fall the other way
    print(f"\n{STUDIES} reports, {TOKENS} tokens, {beams} beams: {fast:.2f} s with, {slow:.2f} s without "
          f"cache, {slow / fast:.1f} times; the same text in {same:.0%}")
    assert slow > LEAST * fast

@pytest.mark.parametrize("cells", [25, 100])
@pytest.mark.parametrize(
    "settings", [dict(memory=False), {}, dict(memory_width=192, memory_heads=6)],
    ids=["plain", "memory", "memory as wide as the decoder"])
def test_training_step(benchmark, settings, cells):
    """Processor time of forward, backward and AdamW on 32 reports of 60 tokens, width 192. It prints, nothing
    is judged."""
    if not benchmark.enabled: pytest.skip("a benchmark: add --benchmark-enable")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(192, vocab_size=250, **settings))
    batch = dict(features=torch.randn(32, cells, 192)) | report_batch(
        [[0, *torch.randint(1, 250, (TOKENS - 1, )).tolist(), 0] for _ in range(32)])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)

    def step():
        model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    step()
    benchmark.pedantic(step, rounds=1)
    best, _ = seconds(step, runs=6)
    print(f"\n{settings or 'memory a third as wide'}, {cells} cells: {best * 1e3:.0f} ms a step")
