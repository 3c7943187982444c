"""Exported from nbs/12t_verdicts.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
from dataclasses import replace
import numpy as np
from rrg_core.chex import NAMES
from rrg_core.chex.hints import HINTS
from rrg_core.chex.tasks import DETECTED, MEASURES, TASKS, Answers, Asked
from rrg_core.results.claims import Claim, Missing, Verdict, claims, common_seeds, decide, unmeasured
from rrg_core.results.systems import Reports, System
from rrg_core.results.tables import Measure
import pytest
from rrg_core.chex.systems import tiny_studies
from rrg_core.chex.tasks import Answer, answer_table, asked, told_regions, truth_of
from rrg_core.chex.verdicts import *


def test_several_tasks_are_counted_by_hand():
    from dataclasses import replace
    from rrg_core.chex.tasks import MS_CXR, FINDINGS

    empty = np.zeros((0, 4)), np.zeros(0)

    def blind(a): # no box is found
        nothing = {name: (*empty, np.zeros(0, int)) for name in a.detected}
        return replace(a, grounded=[empty] * len(a.grounded), detected=nothing)

    def silent(a): # no text is right
        mute = lambda texts: ["-"] * len(texts)
        return replace(a, box_texts=mute(a.box_texts), region_texts=mute(a.region_texts), report="-")

    def nobody(texts): # a labeler that reads every text but a dash as an effusion
        out = np.zeros((len(texts), 14))
        out[:, 9] = [t != "-" for t in texts]
        return out

    import rrg_core.chex.scores as scores_module

    class NoJava:
        def statistics(self, said, told): return np.ones((len(said), 23))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "METEOR", NoJava())
        questions = [asked(s) for s in tiny_studies(6)]
        best = [truth_of(q) for q in questions]
        frames = {"truth": best, "no text": list(map(silent, best)), "no box": list(map(blind, best))}
        sides = {k: Answers({0: answer_table(questions, v), 1: answer_table(questions, v)}, questions, k, nobody)
                 for k, v in frames.items()}
        across = {k: Across(v).values("mean over tasks", ("mean",))[:, 0] for k, v in sides.items()}
        assert across["truth"].tolist() == [1, 1]
        assert across["no text"] == pytest.approx([6 / 9] * 2) # of nine tasks three are about texts
        of = lambda a, b: Won(sides[a], sides[b], n=20).values("tasks won or tied", ("n",))[:, 0].tolist()
        assert of("truth", "no text") == [1, 1] and of("truth", "truth") == [1, 1] # nine less eight
        assert of("no box", "truth") == [-3, -3] # grounding and three sets of detection are lost
        drawn = Across(sides["truth"]).replicates("mean over tasks", ("mean",), 5)
        assert drawn.shape == (5, 2, 1)


def test_every_claim_has_its_sides():
    every = claims("chex")
    assert set(COMPARED) | set(OF_HINTS) | {"chex-13", "chex-15", "chex-16"} == set(every)
    for key, (left, right, metrics) in COMPARED.items():
        c = every[key]
        assert NAMES.get(left, "ChEX") == c.left or c.left == "with boxes"
        task = {m.partition(" (")[0].removeprefix("RG ") for m in metrics}
        assert set(c.metrics) <= {*metrics, *task}
    lost = judged_all(Sides({}, []))
    assert [v.claim.id for v in lost] == list(every) and {v.verdict for v in lost} == {"inconclusive"}
    assert "no-boxes" in lost[13].words and lost[15].claim.margin == 0


def test_a_claim_on_hints_says_what_it_is_against():
    from rrg_core.chex.hints import packed_hints

    questions = [asked(s) for s in tiny_studies(6)]

    def hinted(q): # every hint is answered by the right box, in the right words
        boxes = np.reshape([[h.box] * 4 for h in q.hints], (-1, 4, 4))
        a = truth_of(q)
        a.more = {"hints": packed_hints(boxes, np.ones(boxes.shape[:2])),
                  "hint_texts": [f"{h.prompt}." for h in q.hints for _ in range(5)]}
        return a

    frame = answer_table(questions, [hinted(q) for q in questions])
    some = Sides({"chex": {0: frame, 1: frame}}, questions, 20)
    for key in OF_HINTS:
        claim = claims("chex")[key]
        verdict = judged(some, claim)
        assert verdict.effect.against == " or ".join(claim.right) != "nothing"
        assert {e.against for e in verdict.parts} == {verdict.effect.against}
    assert judged(some, claims("chex")["chex-10"]).verdict == "reproduced" # a finer hint adds nothing here
