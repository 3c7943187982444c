"""R2Gen's memory as one operation beside its formula, turn by turn in one run; nothing runs without this option:
`pytest tests/benchmarks/test_memory_speed.py --benchmark-enable -s`.
Processor time of one thread, the smallest of several turns. It prints; judged is
only that both give the same loss, and that the walk is no slower than the formula.
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import time

import pytest
import torch
import torch.nn.functional as F

from rrg_core.learning.r2gen import R2Gen, R2GenConfig, RelationalMemory
from rrg_core.nets.decoder import report_batch

SIZES = {"course": (dict(), 32, 47, 7), "paper": (None, 16, 60, 3)} # settings, studies, words, turns

def by_formula(self, words, memory=None):
    "The memory's history by PyTorch's own gradients: the words' projections first, then word by word."
    memory = self.start(len(words)) if memory is None else memory
    keys, values = (p(words).unflatten(-1, (self.heads, 1, -1)) for p in (self.key, self.value))
    gates = self.word_gates(words).unsqueeze(2).unbind(1)
    weight, bias = (torch.cat([getattr(p, kind) for p in (self.query, self.key, self.value)])
                    for kind in ("weight", "bias"))
    history = []
    for key, value, gate in zip(keys.unbind(1), values.unbind(1), gates):
        projected = F.linear(memory, weight, bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = projected.permute(2, 0, 3, 1, 4)
        k, v = torch.cat([k, key], 2), torch.cat([v, value], 2)
        seen = (q @ k.transpose(-1, -2) * q.shape[-1]**-.5).softmax(-1) @ v
        new = memory + self.out(seen.transpose(1, 2).flatten(2))
        new = new + self.feed_forward(new)
        admit, keep = (gate + self.slot_gates(memory.tanh())).sigmoid().chunk(2, -1)
        memory = torch.addcmul(keep * memory, admit, new.tanh())
        history.append(memory)
    return torch.stack(history, 1)

def turn_by_turn(work, turns):
    "Least processor time and last result of `work` with the walk and with the formula."
    walk, least, last = RelationalMemory.forward, {}, {}
    try:
        for _ in range(turns):
            for name, forward in (("walk", walk), ("formula", by_formula)):
                RelationalMemory.forward = forward
                start = time.process_time()
                last[name] = work()
                least[name] = min(least.get(name, 9e9), time.process_time() - start)
    finally:
        RelationalMemory.forward = walk
    return least, last

@pytest.mark.parametrize("size", SIZES)
def test_memory_and_training_step(benchmark, size):
    "Forward and back of the memory alone, then a whole step of training with AdamW."
    if not benchmark.enabled: pytest.skip("a benchmark: add --benchmark-enable")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings, studies, words, turns = SIZES[size]
    config = R2GenConfig.course(192, vocab_size=250, **settings) if size == "course" else R2GenConfig(
        vocab_size=760, max_tokens=words)
    model = R2Gen(config)
    embedded = torch.randn(studies, words, config.memory_width)
    memory = lambda: (model.memory(embedded).square().mean().backward(), model.zero_grad())
    batch = dict(features=torch.randn(studies, 49 if size == "paper" else 25, config.feature_width))
    batch |= report_batch([[0, *torch.randint(1, config.vocab_size, (words - 1, )).tolist(), 0]
                           for _ in range(studies)])
    optimiser = torch.optim.AdamW(model.parameters(), 0.)

    def step():
        torch.manual_seed(1)
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    benchmark.pedantic(step, rounds=1)
    for name, work in (("memory, forward and back", memory), ("training step", step)):
        least, last = turn_by_turn(work, turns)
        print(f"\n{size}'s size, {name}: formula {least['formula'] * 1e3:.0f} ms, walk "
              f"{least['walk'] * 1e3:.0f} ms, {least['formula'] / least['walk']:.2f} times")
        assert least["walk"] < least["formula"]
    assert abs(last["walk"] - last["formula"]) < 1e-4
