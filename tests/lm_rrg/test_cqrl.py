"""Exported from nbs/14c_ppo.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
import numpy as np
import pandas as pd
import torch
from fastcore.basics import patch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from rrg_core.data.study import named
from rrg_core.engine.code import Registry
from rrg_core.learning.baselines import micro_f1
from rrg_core.learning.writers import Studies, spoken
from rrg_core.lm_rrg.model import Generator, LmRrg, LmRrgSystem
from rrg_core.metrics.composite import RadCliQ
from rrg_core.metrics.text import text_scores, text_statistics
from rrg_core.nets.recipes import seed_everything
from rrg_core.nets.saving import half_saved
from rrg_core.nets.training import fit
from rrg_core.reports.tokenizers import decode
import pytest
from rrg_core.lm_rrg.model import tiny_lm_rrg
from rrg_core.learning.writers import words_of
import tempfile
from rrg_core.lm_rrg.cqrl import *


def test_the_reward_falls_with_errors():
    truth = "There is a large right pleural effusion. No pneumothorax. The heart is normal in size."
    wrong = truth.replace("There is a large", "There is no"), "The lungs are clear. The heart is enlarged.", ""
    for name in REWARDS:
        same, *others = make_reward(name)([truth, *wrong], [truth] * 4)
        assert 0 <= min(others) and max(others) < same <= 1, name
        assert others[-1] == 0 and (same == pytest.approx(1) or name in ("radgraph", "radcliq")), name
    assert reward_of(-1.441).item() == pytest.approx(1, abs=1e-3) and reward_of([2.4502, 9]).max() == 0
    steps = reward_of(np.linspace(-3, 4, 50))
    assert (np.diff(steps) <= 0).all() and steps[0] == 1 # lower is better, turned around
    assert reward_of([1.552]).item() == pytest.approx(.231, abs=1e-3) # (2.450 - 1.552) / 3.891, the paper's R2Gen
    assert reward_of([.865]).item() == pytest.approx(.407, abs=1e-3)
    with pytest.raises(ValueError, match="radcliq, BLEU-4"): make_reward("rouge")


def test_kl_weight_is_equation_5_with_a_floor():
    r = torch.linspace(0, 1, 101)
    for theta in (.2, .45, 1.):
        got = kl_weight(r, theta)
        want = [1. if x >= theta else max(x / theta, .1) for x in r.tolist()]
        torch.testing.assert_close(got, torch.tensor(want))
        assert (kl_weight(r, theta, adaptive=False) == 1).all()
    assert not kl_weight(r.clone().requires_grad_(), .4).requires_grad
    for wrong in (0, -1., float("nan")):
        with pytest.raises(ValueError, match="positive"): kl_weight(r, wrong)


def test_k3_is_the_divergence_on_average():
    rng = np.random.default_rng(0)
    for _ in range(5):
        p, q = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(7))
        logs = torch.from_numpy(np.log(p)), torch.from_numpy(np.log(q))
        mean = (torch.from_numpy(p) * k3(*logs)).sum().item() # every word, as often as the policy draws it
        assert mean == pytest.approx(float((p * np.log(p / q)).sum()))
    assert (k3(torch.randn(1000), torch.randn(1000)) >= 0).all() and k3(torch.zeros(3), torch.zeros(3)).sum() == 0
    x, m = torch.tensor([[1., 2, 9], [5, 9, 9]]), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    assert masked_mean(x, m).item() == pytest.approx(8 / 3) and masked_mean(x, m, 1).tolist() == [1.5, 5]
    assert masked_mean(x, m & False).item() == 0


def test_advantages_match_numpy():
    rng = np.random.default_rng(0)
    for b, t in ((1, 1), (3, 5), (6, 9)):
        lengths = rng.integers(1, t + 1, b)
        mask = np.arange(t) < lengths[:, None]
        r, v = rng.random(b), rng.normal(size=(b, t))
        for gamma, lam in ((1., .95), (.9, 0.), (1., 1.)):
            want = np.zeros((b, t))
            for i, n in enumerate(lengths): # each report by itself, by the definition
                delta = [(r[i] if k == n - 1 else 0) + gamma * (v[i, k + 1] if k < n - 1 else 0) - v[i, k]
                         for k in range(n)]
                for k in range(n): want[i, k] = sum((gamma*lam)**j * delta[k + j] for j in range(n - k))
            args = torch.from_numpy(r), torch.from_numpy(v), torch.from_numpy(mask)
            found, target = gae(*args, gamma, lam)
            np.testing.assert_allclose(found, want, atol=1e-12)
            np.testing.assert_allclose(target, (want + v) * mask, atol=1e-12)
            if (gamma, lam) == (1., 1.): np.testing.assert_allclose(target, r[:, None] * mask, atol=1e-12)
            white = whitened(found, args[2]).numpy()
            assert (white[~mask] == 0).all() and abs(white[mask].mean()) < 1e-9
            if mask.sum() > 1: assert white[mask].std() == pytest.approx(1, abs=1e-6)
    quiet = whitened(torch.randn(50, 4, generator=torch.manual_seed(0)) * .01, torch.ones(50, 4).bool())
    assert quiet.std().item() == pytest.approx(.2, rel=.2) # noise of a fifth of .05 stays that
    rewards = torch.tensor([.1, .3, .2, .5, .5, .5])
    got, nothing = grpo_advantages(rewards, None, torch.ones(6, 2).bool(), 3)
    x = np.array([.1, .3, .2])
    np.testing.assert_allclose(got[:3, 0], (x - x.mean()) / (x.std() + 1e-4), rtol=1e-5, atol=1e-6)
    assert nothing is None and (got[3:] == 0).all() and torch.equal(got[:, 0], got[:, 1]) # all alike: no news


def test_ratios_match_numpy():
    rng = np.random.default_rng(0)
    new, old, a, v, w, y = (rng.normal(size=(4, 6)) for _ in range(6))
    mask = rng.random((4, 6)) < .7
    rho = np.exp(new - old)
    want = np.maximum(-a * rho, -a * np.clip(rho, .8, 1.2))[mask].mean()
    tensors = [torch.from_numpy(x) for x in (new, old, a, mask)]
    loss, beyond = clipped_loss(*tensors)
    assert loss.item() == pytest.approx(want)
    outside = ((rho > 1.2) & (a > 0)) | ((rho < .8) & (a < 0))
    assert beyond.item() == pytest.approx(outside[mask].mean())
    held = w + np.clip(v - w, -.2, .2)
    want = (np.maximum((v - y)**2, (held - y)**2)[mask]).mean() / 2
    got = value_loss(*(torch.from_numpy(x) for x in (v, w, y, mask)))
    assert got.item() == pytest.approx(want)
    same, none = clipped_loss(tensors[1], tensors[1], tensors[2], tensors[3]) # the policy that drew the words
    assert none == 0 and same.item() == pytest.approx(-a[mask].mean())
    x = torch.zeros(1, 1, requires_grad=True) # beyond the clip there is no gradient
    for start, advantage, moves in ((.5, 1., False), (.5, -1., True), (-.5, 1., True), (-.5, -1., False)):
        x = torch.tensor([[start]], requires_grad=True)
        clipped_loss(x, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1).bool())[0].backward()
        assert bool(x.grad.any()) == moves


def test_dropout_is_off_and_the_ratio_is_one():
    policy = Policy(tiny_lm_rrg(dropout=.5, max_tokens=9).generator)
    visual = torch.randn(6, 6, 16)
    torch.manual_seed(0)
    ids = policy.generator.generate(visual, do_sample=True, num_beams=1, top_k=0)
    policy.train()
    earned = torch.rand(6)
    old, values = (x.detach() for x in policy(visual, ids, earned))
    assert not policy.training and old.shape == values.shape == (len(ids), ids.shape[1] - 1)
    assert torch.equal(values, earned[:, None].expand_as(values)) # before anything is learned
    new, _ = policy(visual, ids, earned)
    assert torch.equal(new, old) and k3(new, old).sum() == 0
    mask, ended = words_drawn(ids, policy.generator.lm.generation_config.eos_token_id)
    loss, beyond = clipped_loss(new, old, torch.zeros_like(old), mask)
    loss.backward()
    assert beyond == 0 and not any(p.grad.any() for p in policy.parameters() if p.grad is not None) # A = 0
    full = policy.generator(visual, ids[:, :-1])[0].log_softmax(-1)
    want = torch.stack([full[i, torch.arange(ids.shape[1] - 1), ids[i, 1:]] for i in range(6)])
    torch.testing.assert_close(old, want)
    cold = Policy(policy.generator, .5)(visual, ids, earned)[0]
    logits = policy.generator(visual, ids[:, :-1])[0]
    torch.testing.assert_close(cold, torch.log_softmax(2*logits, -1).gather(2, ids[:, 1:, None])[..., 0])
    loose = Policy(tiny_lm_rrg(dropout=.5).generator)
    nn.Module.train(loose, True) # what happens without the rule
    assert (loose(visual, ids, earned)[0] - loose(visual, ids, earned)[0]).abs().max() > 1e-3


def test_words_end_with_the_end():
    mask, ended = words_drawn(torch.tensor([[0, 7, 8, 0, 0], [0, 7, 8, 9, 5], [0, 0, 0, 0, 0]]), 0)
    assert mask.tolist() == [[1, 1, 1, 0, 0][:4], [1, 1, 1, 1], [1, 0, 0, 0]] and ended.tolist() == [1, 0, 1]
    mask, ended = words_drawn(torch.tensor([[1, 7, 2, 0], [1, 2, 0, 0]]), 2) # a padding that is not the end
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0]] and ended.all()


def test_a_report_without_an_end_scores_nothing():
    words = words_of(["a b c d e f g"], 1)
    ends = dict(pad_token_id=0, bos_token_id=0, eos_token_id=0)
    model = tiny_lm_rrg(vocab_size=len(words), max_tokens=6, **ends)
    always = lambda said, truth: np.ones(len(said))
    settings = RolloutSettings(studies=64, parts=1)
    r = Rollouts(Policy(model.generator), deepcopy(model.generator), torch.randn(64, 6, 16), ["a"] * 64, words,
                 always, settings)
    out = r.draw(np.arange(64), 0)
    assert 0 < out["ended"].float().mean() < 1 and torch.equal(out["rewards"], out["ended"].float())
    assert out["ids"].shape[1] <= 6 and (out["ids"][:, 0] == 0).all()
    again = r.draw(np.arange(64), 0)
    assert torch.equal(out["ids"], again["ids"]) and not torch.equal(out["ids"], r.draw(np.arange(64), 1)["ids"])
    assert torch.equal(out["old"], again["old"]) and r.seconds["drawing"] > 0
    r.reward = lambda said, truth: np.full(len(said), 1.5)
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"): r.draw(np.arange(4), 0)
    with pytest.raises(ValueError, match="64 studies needs as many, got 3"):
        Rollouts(r.policy, r.reference, torch.randn(3, 6, 16), ["a"] * 3, words, always, settings)
    with pytest.raises(ValueError, match="temperature is 1.0, the rollouts' is 0.5"):
        Rollouts(r.policy, r.reference, r.visual, r.truth, words, always, RolloutSettings(temperature=.5))
    with pytest.raises(ValueError, match="3 studies for 2"):
        Rollouts(r.policy, r.reference, torch.randn(3, 6, 16), ["a"] * 2, words, always, settings)
    for wrong in (dict(advantages="scst"), dict(advantages="grpo"), dict(studies=0), dict(studies=2, parts=3)):
        with pytest.raises(ValueError, match="must be|whole numbers"): RolloutSettings(**wrong)


def test_parts_of_a_rollout_are_all_of_it():
    words = words_of(["a b c d e f g"], 1)
    model = tiny_lm_rrg(vocab_size=len(words), max_tokens=6, pad_token_id=0, bos_token_id=0, eos_token_id=0)
    for kind, group in (("ppo", 1), ("grpo", 4)):
        s = RolloutSettings(advantages=kind, studies=6, group=group, passes=3, parts=2)
        r = Rollouts(Policy(model.generator), deepcopy(model.generator), torch.randn(9, 6, 16), ["a"] * 9, words,
                     lambda said, truth: np.random.default_rng(0).random(len(said)), s)
        assert len(r.steps(5)) == 30
        seen = [r([k]) for k in range(12)]
        assert len(r.log) == 2 and set(r.log[0]) == {"reward", "ended", "kl", "weight", "words"}
        for rollout in (seen[:6], seen[6:]):
            both = [torch.cat([rollout[k]["advantages"][:, 0], rollout[k + 1]["advantages"][:, 0]]).sort().values
                    for k in (0, 2, 4)] # a pass: every report once
            assert all(len(x) == 6 * group and torch.equal(x, both[0]) for x in both)
        assert ("targets" in seen[0]) == (kind == "ppo")
        if kind == "grpo": # a group's studies are one study, and its advantages sum to nothing
            visual = torch.cat([seen[0]["visual"], seen[1]["visual"]])
            assert len(visual[:, 0, 0].unique()) == 6


def test_a_bandit_finds_the_rewarded_word():
    def bandit(kind, target, rollouts=25):
        words = words_of(["a b c d e f g"], 1)
        model = tiny_lm_rrg(vocab_size=len(words), max_tokens=4, pad_token_id=0, bos_token_id=0, eos_token_id=0)
        reward = lambda said, truth: np.array([s.startswith(target) for s in said], float)
        sizes = dict(studies=64) if kind == "ppo" else dict(studies=8, group=8)
        s = RolloutSettings(advantages=kind, kl=0., theta=1., **sizes)
        policy, first = Policy(model.generator), deepcopy(model.generator)
        r = Rollouts(policy, first, torch.zeros(64, 6, 16), ["c"] * 64, words, reward, s)
        fit(policy, r.steps(rollouts), r, steps=len(r.steps(rollouts)), batch=1, rate=1e-2, schedule="constant",
            loss=rl_terms(), count=lambda b: len(b["ids"]), best=None, precision="no", weight_decay=0.)
        return [row["reward"] for row in r.log]

    for kind, target in (("ppo", "c"), ("ppo", "a"), ("grpo", "e")):
        log = bandit(kind, target)
        assert log[0] < .2 and pd.Series(log).rolling(3).mean().max() > .8, (kind, target, log)


def test_the_kl_term_alone_pulls_back():
    words = words_of(["a b c d e f g"], 1)
    ends = dict(pad_token_id=0, bos_token_id=0, eos_token_id=0)
    model = tiny_lm_rrg(vocab_size=len(words), max_tokens=6, **ends)
    reference = deepcopy(model.generator)
    kept = {k: v.clone() for k, v in reference.state_dict().items()}
    torch.manual_seed(1)
    with torch.no_grad():
        for q in model.generator.parameters(): q.add_(.1 * torch.randn_like(q))
    policy = Policy(model.generator)
    r = Rollouts(policy, reference, torch.randn(64, 6, 16), ["a"] * 64, words,
                 lambda said, truth: np.zeros(len(said)), RolloutSettings(studies=64, adaptive=False))
    fit(policy, r.steps(15), r, steps=len(r.steps(15)), batch=1, rate=3e-3, schedule="constant", loss=rl_terms(),
        count=lambda b: len(b["ids"]), best=None, precision="no", weight_decay=0.)
    apart = [row["kl"] for row in r.log]
    assert apart[0] > .02 and apart[-1] < apart[0] / 4, apart
    assert all(torch.equal(v, kept[k]) for k, v in reference.state_dict().items()) # the reference stays


def test_a_killed_run_ends_the_same():
    words = words_of(["a b c d e f g"], 1)

    def run(folder, dies_at=None):
        model = tiny_lm_rrg(vocab_size=len(words), max_tokens=5, pad_token_id=0, bos_token_id=0, eos_token_id=0)
        policy, asked = Policy(model.generator), []
        torch.manual_seed(0)
        r = Rollouts(policy, deepcopy(model.generator), torch.randn(20, 6, 16), ["c"] * 20, words,
                     lambda said, truth: np.array([s.startswith("c") for s in said], float),
                     RolloutSettings(studies=16))
        def judge(model):
            asked.append(len(r.log))
            if len(asked) == dies_at: raise KeyboardInterrupt
            return {"reward": np.mean([row["reward"] for row in r.log])}
        fit(policy, r.steps(4), r, steps=len(r.steps(4)), batch=1, rate=1e-2, schedule="constant",
            loss=rl_terms(), count=lambda b: len(b["ids"]), best=None, precision="no", evaluate=judge,
            every=r.settings.steps, folder=folder)
        return policy.state_dict()

    with tempfile.TemporaryDirectory() as d:
        whole = run(Path(d) / "whole")
        with pytest.raises(KeyboardInterrupt): run(Path(d) / "killed", dies_at=3)
        again = run(Path(d) / "killed")
    assert all(torch.equal(v, again[k]) for k, v in whole.items())


def test_the_second_stage_moves_g_and_leaves_e():
    from dataclasses import replace
    from rrg_core.engine.settings import profile

    words = words_of(["no effusion . large effusion . the heart is enlarged ."], 1)
    model = tiny_lm_rrg(vocab_size=len(words), max_tokens=8, pad_token_id=0, bos_token_id=0, eos_token_id=0)
    told = ["No effusion. The heart is enlarged.", "Large effusion."] * 6
    rng = np.random.default_rng(0)

    class Given(LmRrgSystem): # studies without a film
        def read(self, split, words):
            from rrg_core.learning.writers import encoded
            table = pd.DataFrame(dict(study_id=[str(i) for i in range(12)], findings=told))
            cells = rng.normal(size=(12, 9, 16)).astype("f2")
            return Studies(table, words, encoded(told, words, 8), features=cells)

    base = dict(encoder_rate=None, reward="radcliq", advantages="ppo", drawn=8, group=1, passes=1, parts=2,
                epsilon=.2, temperature=1., adaptive=True, kl=1., theta=.75, rollouts=4, rl_rate=1e-2,
                value_rate=1e-2, judge_every=2, clip=1., judged=6)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as monkey:
        first = half_saved(model, Path(d) / "first", beside=(words, ))
        was = Given(base, profile("smoke")).saved(first)[0].state_dict()
        short = lambda said, truth: np.array([1 / (1 + len(t.split())) for t in said])
        monkey.setitem(REWARDS, "short", lambda: short)
        for change in (dict(reward="short"), dict(reward="short", advantages="grpo", group=4),
                       dict(reward="short", adaptive=False), dict(kl=0.)):
            system, folder = Given(base | change, profile("smoke")), Path(d) / "second"
            drawn = reinforce(system, first, folder, 0)
            now = system.saved(folder)[0].state_dict()
            frozen = {k for k in was if not k.startswith("generator.")}
            assert frozen and all(torch.equal(now[k], was[k]) for k in frozen)
            moved = any(not torch.equal(now[k], was[k]) for k in set(was) - frozen)
            assert moved or "reward" not in change, change
            seen = pd.read_csv(folder/"evaluations.csv")
            assert seen.step.tolist() == [0, 4, 8]
            assert {"training reward", "validation reward", "drawn kl"} <= set(seen)
            same = (seen["validation reward"] - seen["validation RadCliQ reward"]).abs().max() < 1e-6
            assert same == ("reward" not in change)
            steps = pd.read_csv(folder/"steps.csv")
            assert len(steps) == 8 and {"policy", "KL"} <= set(steps)
            assert ("value" in steps) == (change.get("advantages") != "grpo")
            assert drawn.settings.theta >= .05 and drawn.seconds["reward"] > 0
