"""Exported from nbs/06d_recipes.ipynb: edit it there, then run `nbdev-export`."""
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import cos, pi
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, default_collate
from rrg_core.data.study import named
import pytest
import matplotlib.pyplot as plt
from rrg_core.engine.desk import set_style
from rrg_core.nets.recipes import *


def test_one_seed_fixes_three_generators():
    def draw(*place):
        seed_everything(*place)
        return random.random(), np.random.rand(), torch.rand(()).item()

    draws = [draw(0), draw(1), draw(0, 0), draw(0, 7), draw(7, 0)]
    assert draw(0, 7) == draws[3] and len({x
                                           for d in draws
                                           for x in d}) == 15 # nothing shared between seeds, places or libraries
    with pytest.raises(ValueError, match="negative"):
        seed_everything(-1)


def test_a_recipe_is_checked_where_it_enters():
    assert make_recipe() == Recipe() and make_recipe(dict(rate=.1), epochs=3) == make_recipe(
        Recipe(rate=.1), epochs=3) == Recipe(rate=.1, epochs=3)
    bad = dict(epochs=0,
               batch=2.5,
               rate=-1,
               clip=0,
               schedule="cosin",
               optimiser="lion",
               precision="half",
               best="most",
               warmup=1,
               weight_decay=-1,
               groups={"a": -1},
               every=0)
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name.rstrip("s")):
            make_recipe(**{name: value})
    with pytest.raises(ValueError, match="no setting is called 'learning_rate'"):
        make_recipe(learning_rate=1)


def test_schedules_agree_with_torch_and_by_hand():
    def torch_rates(make, total): # rates of a stateful scheduler, as shares of the highest
        optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.)
        schedule, out = make(optimiser), []
        for _ in range(total):
            out.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return out

    def ours(total, per_epoch=1, **settings):
        return [rate_factor(Recipe(**settings), s, total, per_epoch) for s in range(total)]

    for total, rising in ((50, .2), (7, .3), (1000, .05)):
        theirs = torch_rates(
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1., total_steps=total, pct_start=rising), total)
        np.testing.assert_allclose(ours(total, warmup=rising), theirs, rtol=1e-9, atol=1e-12)
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20), 20)
    np.testing.assert_allclose(ours(20, schedule="cosine"), theirs, atol=1e-12)
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 6, .5), 20)
    np.testing.assert_allclose(ours(20, 3, schedule="step", decay=.5, decay_epochs=2), theirs)
    np.testing.assert_allclose(ours(6, schedule="linear", warmup=.34),
                               [.5, 1, 1, .75, .5, .25]) # two steps up, four down
    for name in SCHEDULES:
        assert ours(1, schedule=name) == [1] and max(ours(10, schedule=name, warmup=.5)) == 1


def test_groups_by_longest_prefix():
    model = nn.ModuleDict(dict(visual=nn.Linear(4, 3), text=nn.Linear(3, 2)))
    got = {(g["peak"], g["weight_decay"]): sum(p.numel() for p in g["params"])
           for g in parameter_groups(
               model, make_recipe(rate=1., weight_decay=.5, groups={"visual": .1, "visual.b": .2}))}
    assert got == {(.1, .5): 12, (.2, 0): 3, (1., .5): 6, (1., 0): 2}
    model["text"].requires_grad_(False)
    assert sum(p.numel() for g in parameter_groups(model, Recipe()) for p in g["params"]) == 15
    with pytest.raises(ValueError, match="begins with 'text'; there are visual"):
        parameter_groups(model, make_recipe(groups={"text": .1}))
    with pytest.raises(ValueError, match="no parameter that learns"):
        parameter_groups(model.requires_grad_(False), Recipe())


def test_an_epoch_holds_every_study_once():
    lengths = np.random.default_rng(1).integers(5, 60, 103)
    for given in (None, lengths):
        steps = steps_of(103, 8, 3, 1, given, window=4)
        assert sorted(np.concatenate(steps)) == list(range(103)) and sorted(map(len, steps)) == [7] + [8] * 12
        again, other, seed = steps_of(103, 8, 3, 1, given, window=4), steps_of(103, 8, 3, 2, given,
                                                                               window=4), steps_of(103,
                                                                                                   8,
                                                                                                   4,
                                                                                                   1,
                                                                                                   given,
                                                                                                   window=4)
        assert all(map(np.array_equal, steps, again)) and not all(map(np.array_equal, steps, other)) and not all(
            map(np.array_equal, steps, seed))
        assert [len(s) for s in steps_of(103, 8, 3, 1, given, drop_last=True)] == [8] * 12
    assert len(steps_of(3, 8, 0)) == 1 and steps_of(1, 1, 0)[0].tolist() == [0]
    for bad in (dict(n=0), dict(n=7, drop_last=True), dict(n=3, lengths=[1])):
        with pytest.raises(ValueError):
            steps_of(**(dict(size=8, seed=0) | bad))


def test_buckets_pad_less():
    lengths = np.repeat([10, 50], 32)
    assert padding(steps_of(64, 32, 0, lengths=lengths), lengths) == 0 # two lengths, two batches: nothing to pad
    assert padding([np.arange(16, 48)], lengths) == .4 # sixteen of 10 among sixteen of 50: 960 of 1,600 tokens
    lengths = np.random.default_rng(0).integers(10, 100, 1000)
    assert padding(steps_of(1000, 20, 0, lengths=lengths), lengths) < padding(steps_of(1000, 20, 0), lengths) / 5
    order = [lengths[s].mean() for s in steps_of(1000, 20, 0, lengths=lengths)]
    assert abs(np.corrcoef(order, range(50))[0, 1]) < .5 # short steps do not all come first


def test_shares_partition_each_step():
    data = list(range(11))
    for processes in (1, 2, 3):
        shares = [
            Shares(data, torch.tensor, Recipe(batch=5, accumulate=2, seed=3), None, r, processes)
            for r in range(processes)
        ]
        assert shares[0].per_epoch == 2 and shares[0].total == 2
        for k in range(4):
            got = [s[k] for s in shares]
            if k == 3:
                assert got == [None] * processes
                continue # step 1 has one study, so one pass
            seen = [i for batch, idle in got if not idle for i in batch.tolist()]
            want = shares[0].studies(k // 2)[k % 2 * 5:k%2*5 + 5]
            assert sorted(seen) == sorted(want.tolist()) and all(len(batch) for batch, _ in got)
        for epoch in (1, 0, 2): # each epoch has its own order, whichever is asked for first
            for place, want in enumerate(steps_of(11, 10, 3, epoch)):
                assert np.array_equal(shares[-1].studies(2*epoch + place), want)
