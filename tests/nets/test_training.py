"""Exported from nbs/06e_training.ipynb: edit it there, then run `nbdev-export`."""
import platform, resource, sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import isfinite
from os import environ
from pathlib import Path
from time import perf_counter
import torch
from fastcore.basics import patch
from torch import nn
from torch.utils.data import DataLoader, Subset, default_collate
from rrg_core.data.study import named
from rrg_core.engine.store import current_build
from rrg_core.engine.files import atomic, sweep
from rrg_core.nets.recipes import Recipe, Shares, make_optimiser, make_recipe, rate_factor, seed_everything
from rrg_core.engine.desk import set_style
from rrg_core.nets.recipes import steps_of
import json, os, random, subprocess, tempfile
from textwrap import dedent
import numpy as np
import pandas as pd
import pytest
import torch.nn.functional as F
from rrg_core.nets.training import *


def test_tokens_of_a_batch():
    labels = torch.tensor([[5, 7, -100], [5, 7, 9]])
    assert tokens(dict(labels=labels)) == 5 and tokens(dict(labels=labels), shift=1) == 3
    assert tokens(
        dict(labels=torch.zeros(2, 14))) == 2 and tokens(torch.zeros(3, 2)) == 3 # multi-label targets are studies


def test_a_line_is_found():
    def squared(model, batch):
        return ((model(batch["x"])[:, 0] - batch["y"])**2).mean()

    def points(noise):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(64, 2)).astype("f4")
        y = (x @ [2, -1] + .5 + noise * rng.normal(size=64)).astype("f4")
        return x, y, [dict(x=a, y=b) for a, b in zip(x, y)]

    for noise in (0, .3): # a full batch and many steps: the least squares solution to float32
        x, y, data = points(noise)
        exact = np.linalg.lstsq(np.c_[x, np.ones(64)], y, rcond=None)[0]
        seed_everything(0)
        model = nn.Linear(2, 1)
        said = []
        history = fit(model,
                      data,
                      loss=squared,
                      steps=150,
                      batch=64,
                      optimiser="sgd",
                      rate=.2,
                      weight_decay=0,
                      clip=None,
                      say=said.append)
        np.testing.assert_allclose(np.r_[model.weight.data[0].numpy(), model.bias.data.numpy()], exact, atol=1e-5)
    assert said[0].startswith("1 process on ") and len(
        history.steps) == 150 and not model.training and model.weight.grad is None
    assert history.frame().rate.max() == .2 and history.frame().studies.sum() == 150 * 64
    cost = history.cost()
    assert cost["steps"] == 150 and cost["parameters"] == 3
    assert cost["memory_mb"] > 50 and 0 < cost["seconds"] < 60
    with pytest.raises(ValueError, match="what must be"):
        history.frame("losses")


def test_what_a_model_may_return():
    class Named(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.line, self.wrap = nn.Linear(2, 1), wrap

        def forward(self, x, y):
            return self.wrap(((self.line(x)[:, 0] - y)**2).mean())

    class Output:
        def __init__(self, loss):
            self.loss = loss

    data, ends = [
        dict(x=torch.randn(2, generator=torch.Generator().manual_seed(i)), y=torch.tensor(1.)) for i in range(8)
    ], []
    for wrap in (Output, lambda loss: dict(loss=loss), lambda loss: loss):
        seed_everything(0)
        model = Named(wrap)
        fit(model, data, steps=5, batch=4)
        ends.append(model.line.weight.detach())
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


def test_terms_are_added_up_and_written_down():
    class Sum:
        def __init__(self, terms):
            self.terms = terms

    def two_terms(model, batch):
        y = model(batch)
        return dict(far=(y - 1).square().mean(), large=.1 * y.square().mean())

    class Both(nn.Module): # The same two, as an output's `terms`
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(2, 1)

        def forward(self, x):
            return Sum(two_terms(self.line, x))

    data, found = list(torch.randn(8, 2, generator=torch.Generator().manual_seed(0))), []
    asked = dict(epochs=2, batch=2, accumulate=2, rate=.1, best=None)
    for loss in (two_terms, lambda m, x: sum(two_terms(m, x).values()), None):
        seed_everything(0)
        model = Both() if loss is None else nn.Linear(2, 1)
        steps = fit(model, data, loss=loss, **asked).frame()
        found.append((steps, getattr(model, "line", model).weight.detach()))
    (named_terms, w), (one, same), (returned, also) = found
    torch.testing.assert_close(w, same, rtol=0, atol=1e-7)
    assert torch.equal(w, also) and returned.far.tolist() == named_terms.far.tolist()
    np.testing.assert_allclose(named_terms.far + named_terms.large, named_terms.loss, rtol=1e-12)
    np.testing.assert_allclose(one.loss, named_terms.loss, rtol=1e-6) # float32 sums
    assert "far" not in one and named_terms.far.notna().all()


def test_accumulation_equals_one_large_batch():
    rng = np.random.default_rng(0)
    reports = [torch.tensor(rng.integers(0, 7, n)) for n in rng.integers(2, 10, 21)]

    def padded(items):
        ids = nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=-100)
        return dict(x=ids[:, :-1].clamp(min=0), labels=ids[:, 1:])

    def entropy(model, batch):
        return F.cross_entropy(model(batch["x"]).flatten(0, 1), batch["labels"].flatten())

    def end(lengths=None, **settings):
        seed_everything(0)
        model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7))
        history = fit(model,
                      reports,
                      padded,
                      loss=entropy,
                      lengths=lengths,
                      epochs=2,
                      rate=.05,
                      optimiser="sgd",
                      **settings)
        return model[1].weight.detach(), history.frame()

    for lengths in (None, [len(r) for r in reports]):
        whole, frame = end(lengths, batch=8)
        for pieces in (dict(batch=4, accumulate=2), dict(batch=2, accumulate=4), dict(batch=1, accumulate=8)):
            weights, other = end(lengths, **pieces)
            torch.testing.assert_close(weights, whole, rtol=0,
                                       atol=2e-7) # a few float32 roundings of weights below 1
            np.testing.assert_allclose(other.loss, frame.loss, rtol=1e-6) # sums of some 40 float32 terms
            assert other["items"].tolist() == frame["items"].tolist() and frame.studies.tolist() in (
                [8, 8, 5] * 2, *[[8, 8, 5]]) or lengths
    assert (end(batch=4, accumulate=2, count=lambda batch: 1)[0] -
            end(batch=8)[0]).abs().max() > 1e-4 # a mean of means is something else


def test_one_step_by_hand():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 1.
    data = [dict(x=torch.tensor([1.]), y=torch.tensor(0.)), dict(x=torch.tensor([3.]), y=torch.tensor(0.))]

    def squared(model, batch):
        return ((model(batch["x"])[:, 0] - batch["y"])**2).mean()

    history = fit(model,
                  data,
                  loss=squared,
                  steps=1,
                  batch=2,
                  rate=.01,
                  optimiser="sgd",
                  schedule="constant",
                  weight_decay=0,
                  clip=None)
    assert history.steps[0]["loss"] == 5 and history.steps[0]["norm"] == 10 and abs(
        model.weight.item() - .9) < 1e-7 # loss (1 + 9)/2, slope 1 + 9
    fit(model,
        data,
        loss=squared,
        steps=1,
        batch=2,
        rate=.01,
        optimiser="sgd",
        schedule="constant",
        weight_decay=0,
        clip=2.)
    assert abs(model.weight.item() - .88) < 1e-6 # slope 9, clipped to 2


def test_a_resumed_run_is_the_same_run():
    class Noisy:
        def __init__(self, fail_at=None):
            self.seen, self.fail_at = [], fail_at

        def __len__(self):
            return 23

        def __getitem__(self, i):
            self.seen.append(i)
            if len(self.seen) == self.fail_at: raise KeyboardInterrupt
            noise = torch.randn(4) + random.random() + float(np.random.rand())
            return dict(x=torch.full((4, ), i / 23) + noise, y=torch.tensor(i / 23))

    def run(data, folder=None):
        seed_everything(5)
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(.5), nn.BatchNorm1d(16), nn.Linear(16, 1))
        start = model[0].weight.clone() # every step leads away from it: the first evaluation is the best

        def evaluate(model):
            drawn = torch.rand(()) + model(torch.randn(9, 4)).mean()
            return dict(moved=(model[0].weight - start).abs().sum(), drawn=drawn)

        squared = lambda model, batch: ((model(batch["x"])[:, 0] - batch["y"])**2).mean()
        settings = dict(epochs=4, batch=3, accumulate=2, every=3, best="min", patience=4, rate=.05, seed=2)
        history = fit(model,
                      data,
                      loss=squared,
                      evaluate=evaluate,
                      lengths=np.arange(23) % 7,
                      folder=folder,
                      **settings)
        return model.state_dict(), history

    def timeless(records):
        return [{k: v for k, v in r.items() if k != "seconds"} for r in records]

    calm = Noisy()
    wanted, history = run(calm)
    assert len(history.steps) == 15 # of 16; evaluations at 3 (the best), 6, 9, 12 and 15
    assert len(calm.seen) == sum(r["studies"] for r in history.steps)
    for fail_at, step in ((2, 0), (37, 6), (80,
                                            12)): # before the first checkpoint, in the middle, in the last epoch
        with tempfile.TemporaryDirectory() as d:
            killed, resumed = Noisy(fail_at), Noisy()
            with pytest.raises(KeyboardInterrupt):
                run(killed, d)
            weights, again = run(resumed, d)
            assert os.listdir(d) == ["state.pt"] and again.resumed == step
        assert weights.keys() == wanted.keys() and all(torch.equal(weights[k], wanted[k]) for k in wanted)
        assert timeless(again.steps) == timeless(history.steps)
        assert timeless(again.evaluations) == timeless(history.evaluations)
        assert again.best_step == history.best_step == 3
        assert again.stopped == history.stopped == "no better moved in 4 evaluations"
        done = sum(r["studies"] for r in history.steps[:step]) # studies that were read before the checkpoint
        assert killed.seen == calm.seen[:fail_at] and resumed.seen == calm.seen[done:]


def test_what_a_finished_run_leaves():
    class Counted(list):
        reads = 0

        def __getitem__(self, i):
            Counted.reads += 1
            return super().__getitem__(i)

    def run(folder, **options):
        seed_everything(0)
        model, Counted.reads = nn.Linear(2, 1), 0
        data = Counted(torch.arange(12.).view(6, 2).unbind())
        loss = lambda model, batch: (model(batch)**2).mean()
        fit(model, data, loss=loss, epochs=2, batch=2, rate=.1, folder=folder, **options)
        return model.weight.tolist(), Counted.reads, sorted(f.name for f in Path(folder).glob("*"))

    with tempfile.TemporaryDirectory() as d:
        folder = Path(d, "checkpoint")
        weights, *left = run(folder)
        assert left == [12, ["state.pt"]]
        for options, reads, files in ((dict(resume=True), 0, ["state.pt"]),
                                      (dict(resume=False), 12, ["state.pt"]), (dict(clear=True), 0, [])):
            for resume in (True, False):
                (folder / f".partial-{resume}.pt").write_bytes(
                    b"half") # what a kill in the middle of writing leaves
            assert run(folder, **options) == (weights, reads, files)
        assert not folder.exists()
        assert run(folder, clear=True) == (weights, 12, []) and not folder.exists()
        folder.mkdir()
        (folder / "notes.txt").touch()
        assert run(folder, clear=True) == (weights, 12, ["notes.txt"])


def test_a_checkpoint_of_another_run_is_refused():
    def squared(model, batch):
        return (model(batch)**2).mean()

    data = list(torch.randn(6, 2, generator=torch.Generator().manual_seed(0)))
    with tempfile.TemporaryDirectory() as d:
        fit(nn.Linear(2, 1), data, loss=squared, steps=2, rate=.1, folder=d)
        for model, n, change, words in ((nn.Linear(2, 1), 6, dict(rate=.2), r"rate 0.1 \(now 0.2\)"), (nn.Linear(
                2, 2), 6, {}, "parameters"), (nn.Linear(2, 1), 5, {}, r"studies 6 \(now 5\)")):
            with pytest.raises(ValueError, match=words):
                fit(model, data[:n], loss=squared, **(dict(steps=2, rate=.1, folder=d) | change))
        fit(nn.Linear(2, 1), data, loss=squared, steps=2, rate=.1, folder=d,
            workers=1) # where data are read changes nothing


def test_workers_change_nothing():
    class Noisy:
        def __len__(self):
            return 9

        def __getitem__(self, i):
            return torch.randn(2) + i

    def squared(model, batch):
        return (model(batch)**2).mean()

    ends, drawn = [], []
    for settings in (dict(batch=4), dict(batch=4, workers=2), dict(
            batch=2, accumulate=2
    )): # a worker leaves the main process's generators alone: dropout and the evaluation must not care
        seed_everything(0)
        model = nn.Sequential(nn.Linear(2, 9), nn.Dropout(.5), nn.Linear(9, 1))
        history = fit(model,
                      Noisy(),
                      loss=squared,
                      evaluate=lambda m: torch.rand(()),
                      epochs=2,
                      every=1,
                      best=None,
                      **settings)
        ends.append(model[0].weight.detach())
        drawn.append(history.frame("evaluations").score.tolist())
    assert torch.equal(*ends[:2]) and drawn[0] == drawn[1] == drawn[2] and len(set(drawn[0])) == 6


def test_a_process_killed_by_signal_nine_resumes():
    program = """
    import os, signal, torch
    from torch import nn
    from rrg_core.nets.training import fit, seed_everything
    class Data:
        seen = 0
        def __len__(self): return 16
        def __getitem__(self, i):
            Data.seen += 1
            if Data.seen == KILL_AT: os.kill(os.getpid(), signal.SIGKILL)
            return torch.randn(2) + i
    seed_everything(0); model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1))
    history = fit(model, Data(), loss=lambda m, x: (m(x)**2).mean(), epochs=3, batch=4, folder=FOLDER)
    """

    def text(folder, kill_at):
        return dedent(program).replace("FOLDER", repr(folder)).replace("KILL_AT", str(kill_at))

    def here(folder):
        space = {}
        exec(text(folder, 0), space)
        return space["history"], space["model"].state_dict()

    with tempfile.TemporaryDirectory() as d:
        killed = subprocess.run([sys.executable, "-c", text(f"{d}/a", 38)],
                                env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
        assert killed.returncode == -9 and os.listdir(f"{d}/a") == ["state.pt"]
        (resumed, weights), (calm, wanted) = here(f"{d}/a"), here(f"{d}/b")
    assert resumed.resumed == 8 and calm.resumed == 0 and all(torch.equal(weights[k], wanted[k]) for k in wanted)


def test_the_best_weights_come_back():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.frozen = nn.Parameter(torch.zeros(())), nn.Parameter(torch.ones(()), requires_grad=False)

        def forward(self, x):
            return -self.w + 0 * x.sum() + 0 * self.frozen

    settings = dict(batch=1, optimiser="sgd", rate=1., schedule="constant", clip=None, every=1)
    data = list(torch.zeros(4))
    model = Growing()
    history = fit(model, data, steps=9, evaluate=lambda m: -abs(m.w - 3), **settings)
    assert model.w == 3 and history.best_step == 3 and history.best["score"] == 0 and len(
        history.steps) == 9 and not history.stopped
    model = Growing()
    history = fit(model,
                  data,
                  steps=9,
                  evaluate=lambda m: dict(other=1, far=abs(m.w - 3)),
                  best="min",
                  watch="far",
                  patience=2,
                  **settings)
    assert model.w == 3 and len(history.steps) == 5 and history.stopped == "no better far in 2 evaluations"
    model = Growing()
    fit(model, data, steps=9, evaluate=lambda m: -abs(m.w - 3), best=None, patience=2, **settings)
    assert model.w == 9 # the last
    model = Growing()
    history = fit(model, data, steps=3, evaluate=lambda m: float("nan"), **settings)
    assert model.w == 3 and history.best_step is None # a NaN is not the best
    model = Growing()
    history = fit(model, data, steps=6, evaluate=lambda m: float("nan") if m.w < 3 else -m.w, **settings)
    assert model.w == 3
    modes = []
    fit(Growing(),
        data,
        steps=2,
        evaluate=lambda m: modes.append((m.training, torch.is_grad_enabled())) or 0,
        **settings)
    assert modes == [(False, False)] * 2
    with pytest.raises(ValueError, match="returned score, but not F1"):
        fit(Growing(), data, evaluate=lambda m: 0, watch="F1", **settings)


def test_a_nan_names_its_step_and_leaves_the_weights():
    class Broken:
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return torch.tensor([float("nan") if i == 4 else 1.])

    model, order = nn.Linear(1, 1), np.concatenate(steps_of(6, 1, 0))
    step = order.tolist().index(4)
    with pytest.raises(ValueError, match=rf"step {step}: the loss is nan.*epoch 0, rate .*, studies 4\)"):
        fit(model, Broken(), loss=lambda m, x: m(x).mean(), batch=1)
    assert all(p.isfinite().all() for p in model.parameters())
    model.weight.data[:], model.bias.data[:] = 0., 0. # a finite loss with an infinite slope
    with pytest.raises(ValueError, match="step 0: the loss is 0.0, the norm of its gradient (inf|nan)"):
        fit(model, [torch.ones(1)], loss=lambda m, x: m(x).abs().sqrt().mean())
    with pytest.raises(ValueError, match="every label is masked"):
        fit(model, [0], lambda items: dict(labels=torch.full((1, 3), -100)), loss=lambda m, b: m.weight.sum())


def test_two_processes_take_the_steps_of_one():
    program = """
    import json, sys, numpy as np, torch, torch.nn.functional as F
    from torch import nn
    from rrg_core.nets.training import fit, seed_everything
    rng = np.random.default_rng(0)
    reports = [torch.tensor(rng.integers(0, 7, n)) for n in rng.integers(2, 30, 21)]
    def padded(items):
        ids = nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=-100)
        return dict(x=ids[:, :-1].clamp(min=0), labels=ids[:, 1:])
    def entropy(model, batch): return F.cross_entropy(model(batch["x"]).flatten(0, 1), batch["labels"].flatten())
    seed_everything(0); model, said = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7)), []
    history = fit(model, reports, padded, loss=entropy, evaluate=lambda m: m[1].weight.sum(),
                  lengths=[len(r) for r in reports], folder=FOLDER, epochs=3, batch=2, accumulate=4, rate=.05,
                  optimiser="sgd", schedule="cosine", seed=1, say=said.append)
    RESULT = dict(processes=history.processes, loss=[r["loss"] for r in history.steps],
                  items=[r["items"] for r in history.steps], weights=model[1].weight.flatten().tolist(),
                  best=history.best_step, said=said[0])
    RESULT["again"] = len(fit(model, reports, padded, loss=entropy, steps=1, precision="bf16").steps)
    """
    tail = """
    import os, torch.distributed
    with open(f"{sys.argv[1]}/rank{os.environ['RANK']}.json", "w") as f: json.dump(RESULT, f)
    torch.distributed.destroy_process_group()
    """
    with tempfile.TemporaryDirectory() as d:
        Path(d, "program.py").write_text(dedent(program).replace("FOLDER", "sys.argv[1]") + dedent(tail))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "program.py",
            d
        ]
        done = subprocess.run(command,
                              cwd=d,
                              capture_output=True,
                              text=True,
                              timeout=120,
                              env=os.environ | {"OMP_NUM_THREADS": "1"} |
                              ({"ACCELERATE_USE_CPU": "true"} if torch.cuda.is_available() else {}))
        assert not done.returncode, done.stderr[-2000:]
        ranks = [json.loads(Path(d, f"rank{r}.json").read_text()) for r in (0, 1)]
    one = {}
    exec(dedent(program).replace("FOLDER", "None"), one)
    one = one["RESULT"]
    for rank in ranks:
        assert rank["processes"] == 2 and one["processes"] == 1 and rank["said"].startswith(
            "2 processes on ") and rank["again"] == 1
        assert rank["items"] == one["items"] and rank["best"] == one["best"]
        np.testing.assert_allclose(rank["loss"], one["loss"],
                                   rtol=1e-6) # sums of some 100 float32 terms in another order
        np.testing.assert_allclose(rank["weights"], one["weights"], rtol=0,
                                   atol=3e-7) # roundings of nine steps on weights below 1
    assert ranks[0]["weights"] == ranks[1]["weights"]


def test_a_launcher_that_is_not_heard_is_an_error():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("WORLD_SIZE", "2") # a launcher's wish, and no process that follows it
        with pytest.raises(ValueError, match="asked for 2 processes, accelerate has 1"):
            fit(nn.Linear(1, 1), [torch.ones(1)], loss=lambda m, x: m(x).sum())


def test_bf16_passes_leave_float32_weights():
    seen = []

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(2, 1)

        def forward(self, x):
            out = self.line(x)
            seen.append(out.dtype)
            return (out.float()**2).mean()

    data = list(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    for precision, dtype in (("bf16", torch.bfloat16), ("no",
                                                        torch.float32)): # one after the other in one process
        model = Line()
        seen.clear()
        history = fit(model,
                      data,
                      lambda items: dict(x=torch.stack(items)),
                      steps=3,
                      batch=4,
                      precision=precision)
        assert set(seen) == {dtype
                             } and history.precision == precision and model.line.weight.dtype == torch.float32
        model(torch.ones(1, 2, device=model.line.weight.device))
        assert seen[-1] == torch.float32 and "forward" not in vars(model)


def test_a_step_in_bf16_on_a_gpu():
    if not torch.cuda.is_available(): pytest.skip("no GPU")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    history = fit(model,
                  list(torch.randn(64, 64)),
                  loss=lambda m, x: (m(x) - 1).square().mean(),
                  steps=50,
                  batch=32)
    assert history.precision == "bf16" and next(model.parameters(
    )).is_cuda and history.steps[-1]["loss"] < history.steps[0]["loss"] / 2 and history.memory > 0


def test_eight_studies_are_learnt_and_noise_without_input_is_not():
    rng = np.random.default_rng(0)
    data = [dict(x=rng.normal(size=8).astype("f4"), y=(rng.random(14) < .3).astype("f4")) for _ in range(12)]

    def labels_loss(model, batch):
        return F.binary_cross_entropy_with_logits(model(batch["x"]), batch["y"])

    seed_everything(0)
    history = overfit(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 14)),
                      data,
                      loss=labels_loss,
                      steps=150,
                      rate=1e-2)
    assert history.evaluations[-1][
        "loss"] < .01 and history.studies == 8 and history.best_step is None and history.recipe.weight_decay == 0
    blind = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 14))
    blind[0].requires_grad_(False).weight.zero_() # it cannot tell the eight apart
    y = np.stack([d["y"] for d in data[:8]])
    p = y.mean(0)
    q = p[(p > 0) & (p < 1)]
    floor = -(q * np.log(q) +
              (1-q) * np.log(1 - q)).sum() / 14 # the entropy of each label's rate is the best that it can do
    history = overfit(blind, data, loss=labels_loss, steps=150, rate=1e-2)
    assert floor - 1e-4 < history.evaluations[-1]["loss"] < floor + .02
    assert len(overfit(nn.Linear(8, 14), data[:3], loss=labels_loss, steps=2).steps) == 2


def test_learning_curve_draws_each_history():
    histories = {}
    for name, rate in (("slow", 1e-3), ("fast", 1e-1)):
        histories[name] = fit(nn.Linear(2, 1),
                              list(torch.ones(8, 2)),
                              loss=lambda m, x: ((m(x) - 1)**2).mean(),
                              evaluate=lambda m: m.bias.item(),
                              epochs=3,
                              batch=4,
                              rate=rate)
    fig = learning_curve(histories)
    assert [len(a.lines)
            for a in fig.axes] == [2, 2] and len(learning_curve(histories["slow"]).axes[0].lines) == 2
    assert len(fig.axes[1].lines[0].get_xdata()) == 3


def test_importing_the_networks_imports_no_more_than_they_need():
    program = """
    import sys, torch, transformers
    from transformers import GenerationMixin, PreTrainedModel # these import what they like
    before = set(sys.modules)
    from rrg_core.nets import attention, decoder, encoders, recipes, saving, training
    print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True)
    heavy = {"torchxrayvision", "skimage", "matplotlib", "seaborn", "IPython", "sklearn", "datasets", "pandas"}
    assert "rrg_core" in done.stdout.split() and not heavy & set(done.stdout.split())
