"""Exported from nbs/08c_claims.ipynb: edit it there, then run `nbdev-export`."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
import numpy as np
import pandas as pd
from IPython.display import HTML
from rrg_core.data.study import named
from rrg_core.engine.desk import Chapter, show_table
from rrg_core.metrics.stats import Spread, spread
from rrg_core.engine.settings import CourseError, package_root
from rrg_core.results.systems import METEOR, System
from rrg_core.results.tables import Measure, _found, published
import tempfile
import matplotlib.pyplot as plt
import pytest
from rrg_core.engine.desk import set_style
from rrg_core.metrics.stats import interval, t_half
from rrg_core.results.systems import Measured, Reports
from rrg_core.results.claims import *


def test_all_claims_parse():
    every = claims()
    assert len(every) == 61 and {c.relation
                                 for c in every.values()} == set(RELATIONS) and all(
                                     c.margin > 0 and c.metrics and all(c.right) for c in every.values())
    assert sum(map(len, (claims(p) for p in ("fita", "chex", "dcrrg", "lm_rrg", "llava_rad")))) == 61
    assert (every["fita-5"].right, every["fita-5"].best) == (("(a)", "(b)"), True) and (
        every["llava_rad-10"].right, every["llava_rad-10"].best) == (("LLaVA-Med", "LLaVA"), False)
    assert every["chex-6"].metrics == ("RE Mic-F1-14", "RE Mac-F1-14",
                                       "RE METEOR") and every["chex-5"].metrics == ("RC AUROC", "RC wAUROC")
    assert every["llava_rad-8"].metrics == ("Kendall tau-b, total errors", ) and every["dcrrg-13"].metrics == (
        "AUROC, 6b minus 6a", ) and every["dcrrg-5"].metrics == ("BLEU-4", "CE-F1")
    assert every["dcrrg-9"].relation == ">" and every["llava_rad-9"].relation == "<=" and every[
        "lm_rrg-6"].margin == .05
    with pytest.raises(ValueError, match="x: relation must be one of"):
        parse_claim(dict(id="x", relation="=", margin="1"))
    with pytest.raises(CourseError, match="no claims of 'kiut': the papers are fita, chex"):
        claims("kiut")


def test_the_rules_of_the_verdict():
    table = [(">", .01, .2, "reproduced"), (">", .01, .015, "reproduced"), (">", -.2, -.01, "reversed"),
             (">", -.01, .2, "inconclusive"), (">", -.01, .0199, "absent"), (">", -.01, .02, "inconclusive"),
             (">", -.2, .01, "absent"), (">", 0, .2, "inconclusive"), (">", 0, .01, "absent"),
             (">", -.01, 0, "absent"), (">", -.2, -.1, "reversed"), ("<", -.2, -.01, "reproduced"),
             ("<", .01, .2, "reversed"), ("<", -.2, .01, "inconclusive"), ("<", -.0199, .2, "absent"),
             ("<", -.02, .01, "inconclusive"), ("~", -.01, .015, "reproduced"), ("~", .03, .05, "reversed"),
             ("~", -.05, -.03, "reversed"), ("~", .01, .03, "inconclusive"), ("~", -.05, .05, "inconclusive"),
             ("~", -.02, .02, "reproduced"), (">=", -.01, .2, "reproduced"), (">=", .1, .2, "reproduced"),
             (">=", -.2, -.03, "reversed"), (">=", -.03, .2, "inconclusive"), (">=", -.03, -.01, "inconclusive"),
             ("<=", -.2, .01, "reproduced"), ("<=", .03, .2, "reversed"), ("<=", -.2, .03, "inconclusive")]
    for relation, low, high, expected in table:
        assert verdict_of(relation, .02, low, high) == expected, (relation, low, high)
    for bad in [(">", .02, 1, 0), ("=", .02, 0, 1), (">", .02, np.nan, 1), ("", .02, 0, 1)]:
        with pytest.raises(ValueError):
            verdict_of(*bad)
    small = [(r, *b) for r in RELATIONS for b in ((.005, .015), (.005, .025), (-.01, .015), (-.015, -.005))
             if below_margin(r, .02, *b)]
    assert small == [(">", .005, .015), ("<", -.015, -.005)]


def test_effects_are_told_apart_as_in_05f():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 150)
    a, b, c = (np.where(rng.random((150, 3)) < p, truth[:, None], 1 - truth[:, None]) for p in (.8, .75, .75))

    def accuracy(predicted, truth):
        return (predicted == truth).mean()

    A, B, C = (Measured(x, {"accuracy": accuracy}, truth) for x in (a, b, c))
    m = Measure("accuracy", "measured")
    claim = Claim("x", "toy", "", "A", ("B", ), False, ("accuracy", ), ">", .02, "")
    e = effect_of(claim, "accuracy", m, A, {"B": B}, n=300)
    right = [(x == truth[:, None]).mean(0) for x in (a, b, c)]
    np.testing.assert_allclose(e.per_seed, right[0] - right[1])
    np.testing.assert_allclose(e.spread.between, np.var(e.per_seed, ddof=1)) # a mean's jackknife
    assert abs(e.effect - e.per_seed.mean()) < 1e-12 and e.spread.seeds == 3 and e.spread.studies == 150
    half = t_half(e.spread.between / 3, e.spread.shared, 3, 150)
    least = t_half(0., e.spread.shared + e.spread.mixed / 3, 1, 150) # agreement hides no noise
    np.testing.assert_allclose(e.interval, e.effect + np.array([-1, 1]) * max(half, least))
    best = Claim("x", "toy", "", "A", ("B", "C"), True, ("accuracy", ), ">", .02, "")
    e = effect_of(best, "accuracy", m, A, {"B": B, "C": C}, n=300)
    means = lambda keep: [r[keep].mean() for r in right]
    left_out = [means([i for i in range(3) if i != s]) for s in range(3)]
    gaps = [x[0] - max(x[1:]) for x in left_out] # the best is chosen anew without each seed
    np.testing.assert_allclose(e.spread.between, 4 * np.var(gaps, ddof=1))
    low = Claim("x", "toy", "", "A", ("B", "C"), True, ("accuracy", ), "<", .02, "") # lower is better
    e = effect_of(low, "accuracy", m, A, {"B": B, "C": C}, n=300)
    np.testing.assert_allclose(e.effect, right[0].mean() - min(r.mean() for r in right[1:]))
    alone = effect_of(claim, "accuracy", m, *(Measured(x[:, :1], {"accuracy": accuracy}, truth) for x in (a, )),
                      {"B": Measured(b[:, :1], {"accuracy": accuracy}, truth)}, n=300)
    assert alone.seeds == 1 and np.isfinite(alone.interval).all() and alone.spread.mixed == 0
    for other, words in [(Measured(b[:, :2], {"accuracy": accuracy},
                                   truth), "3 seeds on the left, 2 on the right"),
                         (Measured(b[:99], {"accuracy": accuracy}, truth[:99]), "different studies.*150 and 99")]:
        with pytest.raises(CourseError, match=words):
            effect_of(claim, "accuracy", m, A, {"B": other})


def test_published_effects_are_fractions():
    every = claims()
    known = {c.id: published_effect(c, c.metrics[0], list(c.right)) for c in every.values()}
    known = {k: v for k, v in known.items() if not np.isnan(v)}
    assert len(known) >= 25 and all(abs(v) < 1 for v in known.values())
    by_hand = {"fita-2": .326 - .262, "fita-6": known["fita-6"], "llava_rad-1": (57.3 - 55.7) / 100,
               "lm_rrg-6": known["lm_rrg-6"], "dcrrg-6": .376 - .354}
    for k, v in by_hand.items(): assert abs(known[k] - v) < 1e-9, (k, known[k], v)
    assert known["fita-5"] < .01 and known["lm_rrg-6"] < 0 # the better of (a) and (b); RadCliQ falls
    assert np.isnan(published_effect(every["chex-7"], "gIoU", ["queried vs other instance"])) # a figure
    assert np.isnan(published_effect(every["fita-1"], "BLEU-4", [])) and np.isnan(
        published_effect(every["fita-1"], "no such metric", ["Baseline (KiUT reproduced)"]))


def test_the_needed_numbers_decide_four_times_in_five():
    rng = np.random.default_rng(0)
    seeds, n, between, shared, mixed = 5, 400, .03**2, .012**2, .01**2
    noise = Spread(seeds, n, between, shared, mixed)

    def decided(relation, delta, s, studies, experiments=4000):
        x, m = mixed*n / studies, shared*n / studies
        each = delta + rng.normal(size=(experiments, s)) * math.sqrt(between - mixed + x) + rng.normal(
            size=(experiments, 1)) * math.sqrt(m)
        half = t_half(each.var(1, ddof=1) / s, m, s, studies)
        said = [verdict_of(relation, .02, a - h, a + h) for a, h in zip(each.mean(1), half)]
        return pd.Series(said).value_counts(normalize=True)

    for relation, delta, word in ((">", .03, "reproduced"), (">", -.005, "absent"), ("<", -.03, "reproduced"),
                                  ("~", .002, "reproduced"), (">=", .005, "reproduced"), (">", -.03, "absent")):
        need = needed(Effect("m", "r", delta, noise, np.full(seeds, delta), n), relation, .02)
        assert need.both[0] > seeds and need.both[1] > n
        shares = decided(relation, delta, *need.both)
        assert .75 < shares[word] + shares.get("reversed", 0) < .9, (relation, delta, shares)
    tiny = Effect("m", "r", .02, Spread(5, 400, 1e-8, 1e-8, 0.), np.full(5, .02), 400)
    assert needed(tiny, ">", .02) == Needed(5, 400, (5, 400)) # it is decided already
    huge = Effect("m", "r", .01, Spread(5, 400, 100., 100., 0.), np.full(5, .01), 400)
    assert needed(huge, ">", .02) == Needed(None, None, None)
    closer = lambda e: needed(Effect("m", "r", e, noise, np.full(seeds, e), n), "~", .02).both
    assert closer(.01) == closer(-.01) == closer(.03) # .01 on either side of the margin
    assert distance(">", .02, .01) == .01 and min(distance(">", .02, e) for e in np.linspace(-1, 1, 801)) >= .01


def test_the_words_name_numbers():
    per_seed = np.array([.00, .02, .04])
    def of(between, shared, seeds=3, effect=.02, n=1000):
        return Effect("m", "r", effect, Spread(seeds, n, between, shared, 0.), per_seed[:seeds], n)

    open_ = of(.0004, .0001)
    need = needed(open_, ">", .02)
    assert need.seeds is None and need.studies is None # neither alone: .01 of the other is left
    assert in_words(need, open_) == (f"would be decided by {need.both[0]} seeds on {need.both[1]:,} studies, "
                                     "neither alone")
    assert not decides(open_.spread, .02, need.both[0] - 1, need.both[1] - 40)
    few = of(.0004, 0.)
    words = in_words(needed(few, ">", .02), few)
    assert words.startswith("would be decided by ") and "seeds on these 1,000 studies" in words
    assert decides(few.spread, .02, needed(few, ">", .02).seeds, 1000)
    single = of(np.nan, .0001, 1)
    assert in_words(needed(single, ">", .02), single).startswith("one seed says nothing")
    close = of(.0004, .0001, effect=.02)
    assert in_words(needed(close, ">=", -.02), close).startswith("no number within 100 times these")


def test_known_answers():
    def method(p, n, seeds=3, noise=0., seed=0):
        rng = np.random.default_rng(seed)
        return Measured((rng.random((n, seeds)) < p + noise * rng.normal(size=seeds)).astype(float),
                        "accuracy",
                        protocol="coin")

    def verdict(left, right, relation=">", margin=.02):
        return decide(Claim("t", "t", "", "l", ("r", ), False, ("accuracy", ), relation, margin, ""), left, right,
                      {"accuracy": Measure("accuracy", "coin")})

    better, base, worse, twin = (method(p, 3000, seed=i) for i, p in enumerate((.80, .70, .60, .70)))
    assert [verdict(x, base).verdict for x in (better, worse)] == ["reproduced", "reversed"]
    assert verdict(twin, base, margin=.08).verdict == "absent" and verdict(twin, base).verdict == "inconclusive"
    assert [verdict(x, base, "<").verdict for x in (better, worse)] == ["reversed", "reproduced"]
    few = verdict(method(.80, 25, seed=5), method(.70, 25, seed=6))
    assert few.verdict == "inconclusive" and needed(few.effect, ">", .02).both[1] > 25 and few.words
    assert verdict(twin, base, "~", .08).verdict == "reproduced" and verdict(
        better, base, "~", .05).verdict == "reversed" and verdict(twin, base, "~", .01).verdict == "inconclusive"
    assert verdict(worse, base, ">=").verdict == "reversed" and verdict(
        better, base, ">=").verdict == "reproduced" and verdict(twin, base, "<=", .08).verdict == "reproduced"
    assert verdict(better, base).words == ""


def test_seed_noise_is_not_an_effect():
    calls = {"studies": 0, "both": 0} # of 60 comparisons of two equal methods whose seeds differ by .05
    for i in range(60):
        rng = np.random.default_rng(100 + i)
        left, right = (Measured((rng.random((3000, 3)) < .7 + .05 * rng.normal(size=3)).astype(float),
                                "a",
                                protocol="coin") for _ in range(2))
        e = effect_of(Claim("t", "t", "", "l", ("r", ), False, ("a", ), ">", .02, ""),
                      "a",
                      Measure("a", "coin"),
                      left, {"r": right},
                      n=100)
        calls["both"] += abs(e.effect) > e.spread.half()
        half = 1.96 * math.sqrt(e.spread.shared + e.spread.mixed / 3)
        calls["studies"] += abs(e.effect) > half
    assert calls["studies"] > 30 and calls["both"] < 8, calls # of 60


def test_the_weakest_part_decides():
    rng = np.random.default_rng(0)

    def two(p, q, seed):
        rng = np.random.default_rng(seed)
        return Measured((rng.random((2000, 3, 2)) < [p, q]).astype(float),
                        {"x": lambda v: v[:, 0].mean(), "y": lambda v: v[:, 1].mean()},
                        protocol="coin")

    a, b, c = two(.8, .7, 1), two(.7, .7, 2), two(.6, .6, 3)
    both = {"x": Measure("x", "coin"), "y": Measure("y", "coin")}
    claim = Claim("t", "t", "", "a", ("b", ), False, ("x", "y"), ">", .02, "")
    v = decide(claim, a, b, both)
    assert v.verdict == "absent" and v.effect.metric == "y" and len(v.parts) == 2
    assert decide(claim, a, c, both).verdict == "reproduced" and decide(
        claim, c, a, both).effect.metric == "x" # of two reversed parts the plainer
    each = Claim("t", "t", "", "a", ("b", "c"), False, ("y", ), ">", .02, "")
    v = decide(each, a, {"b": b, "c": c}, {"y": both["y"]})
    assert v.verdict == "absent" and v.effect.against == "b"
    for given, words in [((claim, a, b, {"x": both["x"]}), "t speaks of y: given are x"),
                         ((each, a, {"b": b}, {"y": both["y"]}), "compares with b, c: given are b"),
                         ((claim, a, b, {"x": Measure("x", "fita"), "y": Measure(
                             "y", "coin")}), "nothing on the left is measured under 'fita'")]:
        with pytest.raises(CourseError, match=words):
            decide(*given)
    sets = Claim("t", "t", "", "a", ("b", ), False, ("x", ), ">", .02, "") # one metric on two sets
    assert len(decide(sets, a, c, {"x (one)": both["x"], "x (two)": both["x"]}).parts) == 2


def test_an_effect_that_is_one_statistic():
    auroc_and_f1 = np.array([[.6, .5], [.7, .55], [.75, .6], [.8, .7]]) # four models: their scores rise together
    values = np.repeat(auroc_and_f1[None, None], 50, 0) + np.random.default_rng(0).normal(
        0, .01, (50, 3, 4, 2)) # (studies, seeds, models, scores)

    def slope(v):
        m = v.mean(0)
        return np.corrcoef(m[:, 0], m[:, 1])[0, 1]

    claim = claims("dcrrg")["dcrrg-9"]
    v = decide(claim, Measured(values, {"r": slope}, protocol="models"), None,
               {claim.metrics[0]: Measure("r", "models")})
    assert v.verdict == "reproduced" and v.effect.effect > .9 and v.effect.against == "nothing"
    with pytest.raises(CourseError, match="is undefined: nan"):
        decide(claim, Measured(values * np.nan, {"r": np.mean}, protocol="models"), None,
               {claim.metrics[0]: Measure("r", "models")})


def test_reports_are_decided_like_anything_else():
    words = {True: "Small left pleural effusion.", False: "The lungs are clear."}

    def written(right, seed, n=120):
        rng = np.random.default_rng(seed)
        sick = np.arange(n) % 2 == 0
        said = np.where(rng.random(n) < right, sick, ~sick)
        return pd.DataFrame({
            "study_id": [f"s{i:03}" for i in range(n)], "hypothesis": [words[bool(x)] for x in said],
            "reference": [words[bool(x)] for x in sick]
        })

    good, poor = (Reports({s: written(p, s + 10*i) for s in range(3)}) for i, p in enumerate((.95, .6)))
    claim = claims("llava_rad")["llava_rad-1"]
    how = {"pos_micro_F1-14": Measure("CE-F1", "llava-rad-pos-micro-f1-14", 100)}
    v = decide(claim, good, poor, how, "supp_table2.csv: LLaVA-Rad", n=200)
    # a fraction, whatever the paper prints
    assert v.verdict == "reproduced" and .1 < v.effect.effect < 1 and v.effect.n == 120
    assert decide(claim, poor, good, how, n=200).verdict == "reversed"


def test_a_claim_without_runs_is_open():
    verdict = unmeasured(claims("chex")["chex-14"], "runs missing: no-boxes")
    effect = verdict.effect
    assert verdict.verdict == "inconclusive" and verdict.words == "runs missing: no-boxes"
    assert (effect.effect, *effect.interval, effect.n, effect.seeds) == (0, -1, 1, 0, 0)
    undefined = Effect("F1", "r", np.nan, Spread(2, 9, 1., 1., 0.), np.zeros(2), 9)
    with pytest.raises(Missing) as e: decide_effects(claims()["chex-14"], [undefined])
    assert unmeasured(claims()["chex-14"], e.value).words.startswith("the effect in F1 against r is undefined")
    runs = {"a": {3: 0, 1: 0}, "b": {1: 0, 3: 0, 0: 0}, "c": {0: 0}, "none": {}}
    assert common_seeds(runs, ["a", "b"]) == [1, 3] and common_seeds(runs, ["c"]) == [0]
    for asked, words in ((["a", "none", "d"], "^runs missing: none, d$"),
                         (["a", "c"], "no seed in common: a, c")):
        with pytest.raises(Missing, match=words): common_seeds(runs, asked)


def test_the_power_table_keeps_its_word():
    noise = dict(between=.02**2, shared=.004**2, mixed=.004**2) # a seed's effect in macro F1; 2,000 test studies
    effects = lambda rng, seeds, delta: delta + rng.normal(size=seeds) * noise["between"]**.5 + rng.normal(
    ) * noise["shared"]**.5

    def row(i, rng, seeds, delta=0.):
        per_seed = effects(rng, seeds, delta)
        between = float(np.var(per_seed, ddof=1)) if seeds > 1 else np.nan
        s = Spread(seeds, 2000, between, noise["shared"], noise["mixed"])
        e = Effect("F1", "r", float(per_seed.mean()), s, per_seed, 2000)
        return decide_effects(Claim(f"t-{i}", "t", "", "l", ("r", ), False, ("F1", ), ">", .02, ""), [e])

    rng, ways = np.random.default_rng(0), {.05: [], 0.: [], .02: []}
    for _ in range(60):
        asked = power_table([row(i, rng, 2) for i in range(5)])
        assert (asked["seeds"] >= 5).all() and asked["sd of a seed"].nunique() == 1
        for delta, said in ways.items():
            said += [row(0, rng, int(asked["seeds"][0]), delta).verdict for _ in range(17)]
    share = {d: pd.Series(said).value_counts(normalize=True) for d, said in ways.items()} # 1,020 sets each
    assert share[.05]["reproduced"] >= .8 and share[.02]["reproduced"] >= .75
    assert share[0.]["absent"] + share[0.].get("reversed", 0) >= .8 and share[0.]["absent"] >= .75
    for d, wrong in ((.05, ["reversed", "absent"]), (0., ["reversed"]), (.02, ["reversed"])):
        assert sum(share[d].get(w, 0) for w in wrong) <= .06, (d, share[d])
    with pytest.raises(CourseError, match="two seeds in a row"):
        power_table([row(0, rng, 1)])


def test_what_is_asked_is_what_the_verdict_asks():
    from rrg_core.results.claims import _for_people

    def asked(relation, margin):
        c = replace(claims("chex")["chex-13"], relation=relation, margin=margin)
        e = Effect("CE-F1", "baseline", 0., Spread(3, 100, 0., 1e-4, 0.), np.zeros(3), 100, np.nan)
        return _for_people(decide_effects(c, [e], "x"))["asked"]

    words = [asked(r, .02) for r in RELATIONS]
    assert words == ["> 0, margin 0.02", "< 0, margin 0.02", "~ ± 0.02", ">= -0.02", "<= 0.02"]
    assert asked(">=", 0.) == ">= 0" and asked("<=", 0.) == "<= 0"
    for relation, inside, outside in ((">=", (-.019, .1), (-.021, .1)), ("<=", (-.1, .019), (-.1, .021)),
                                      ("~", (-.019, .019), (-.021, .019))): # the bounds that stand there
        assert verdict_of(relation, .02, *inside) == "reproduced" != verdict_of(relation, .02, *outside)


def test_the_ledger_is_complete():
    def made(claim, low, high, seeds=3):
        middle = (low+high) / 2
        shared = ((high-low) / 2 / t_half(0., 1., seeds, 1000))**2 # an interval of just that width
        e = Effect("CE-F1", "baseline", middle, Spread(seeds, 1000, 0., shared, 0.), np.full(seeds, middle), 1000,
                   .02)
        return decide_effects(claim, [e], "table2.csv: x")

    verdicts = [
        made(c, *bounds)
        for c, bounds in zip(claims("fita").values(), [(.01, .05), (-.01, .05), (-.05, -.01), (-.01, .005)] * 2)
    ]
    with tempfile.TemporaryDirectory() as d:
        desk = Chapter("fita", "smoke", root=d)
        shown = ledger(desk, verdicts[::-1]).data
        csv = pd.read_csv(desk.path("claims.csv"))
        assert list(csv) == CLAIM_COLUMNS and csv["id"].tolist() == list(
            claims("fita")) and csv.notna().all(axis=None)
        assert csv["verdict"].tolist() == [
            "reproduced", "inconclusive", "reversed", "absent", "reproduced", "absent", "reversed"
        ] # fita-6 claims a loss
        assert csv["effect"][0] == .03 and abs(csv["low"][0] - .01) < 1e-6
        assert csv["margin"].tolist()[:2] == [.01, .02]
        assert csv["published"].tolist() == [.02] * 7
        row, = claims_frame([unmeasured(claims("chex")["chex-14"], "no run")]).to_dict("records")
        assert (row["effect"], row["low"], row["high"], row["seeds"], row["cell"]) == (0, -1, 1, 0, "no run")
        md = desk.path("claims.md").read_text()
        assert "smoke" in shown
        for words in ("would be decided by", "FITA writes better text", "+0.020, inside",
                      "2 reproduced, 1 inconclusive, 2 absent, 2 reversed"):
            assert words in md, words
        for wrong, words in [(verdicts[:-1], "no verdict on fita-7"),
                             (verdicts + verdicts[:1], "fita-1 is no claim of this paper, or judged twice"),
                             (verdicts + [made(claims("chex")["chex-1"], 0, 1)], "chex-1 is no claim")]:
            with pytest.raises(CourseError, match=words):
                ledger(desk, wrong)


def test_the_ledger_ends_with_the_line_of_every_table():
    from rrg_core.engine.store import changing_records

    run = lambda made, hardware: dict(made=made, hardware=hardware)
    one, other = run("2026-01-05", "A, 1 thread"), run("2026-02-01", "B, 2 threads")
    effect = Effect("CE-F1", "baseline", .03, Spread(3, 1000, .0001, .0001, 0.), np.linspace(.01, .05, 3), 1000)
    verdicts = [decide_effects(c, [effect], "table2.csv: x") for c in claims("fita").values()]
    behind = [({}, ""), ({"d-s0": one}, "trained 2026-01-05 on A"),
              ({"d-s0": one, "d-s1": one}, "trained 2026-01-05 on A"),
              ({"d-s0": one, "d-s1": run("2026-02-01", "A")}, "trained 2026-01-05 to 2026-02-01 on A"),
              ({"d-s0": one, "d-s1": other}, "trained 2026-01-05 to 2026-02-01 on A, B")]
    for runs, trained in behind:
        for why in ("", "the labels changed"):
            with tempfile.TemporaryDirectory() as d:
                desk = Chapter("fita", "smoke", root=d)
                with changing_records(desk.folder) as records:
                    records["artifacts"] = {f"predictions/{n}.parquet": r for n, r in runs.items()}
                    records["stale"] = {"why": why} if why else {}
                ledger(desk, verdicts)
                last = desk.path("claims.md").read_text().splitlines()[-1]
                assert last == desk.footer(), (runs, why)
            assert trained in last and ("trained" in last) == bool(trained), runs
            assert last.endswith(f" · declared stale: {why}") or not why, why


def test_each_claim_has_its_line_in_the_chart():
    from rrg_core.results.claims import _COLOURS
    set_style()
    found = []
    for k, (low, high) in enumerate([(.01, .05), (-.01, .05), (-.05, -.01), (-.01, .005)]):
        claim, middle = list(claims("fita").values())[k], (low + high) / 2
        noise = Spread(5, 1000, 0., ((high - low) / 2 / t_half(0., 1., 5, 1000))**2, 0.)
        e = Effect("CE-F1", "baseline", middle, noise, np.full(5, middle), 1000, .02 if k else np.nan)
        found.append(decide_effects(replace(claim, margin=.02 if k else 0.), [e]))
    ax = claims_chart(found).axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2 and len(set(line.get_ydata())) == 1]
    assert len(lines) == 4 and sum(line.get_marker() == "D" for line in ax.lines) == 3 # one has nothing published
    for v, line in zip(found, lines):
        assert line.get_color() == _COLOURS[v.verdict]
        np.testing.assert_allclose(line.get_xdata(), np.array(v.effect.interval) / (v.claim.margin or 1.))
    assert [t.get_text().split(":")[0] for t in ax.texts] == [v.told for v in found]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] # the first claim is on top
    plt.close("all")
