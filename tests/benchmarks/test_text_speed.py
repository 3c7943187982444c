"""Report pairs through all text metrics, ours against pycocoevalcap alone, in the same run; then `rrg evaluate`.

Run: python -m pytest tests/benchmarks/test_text_speed.py --benchmark-enable -s

No pass or fail on speed: it prints. Judged is only that both give the same numbers.
"""
import json
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from pycocoevalcap.bleu import bleu_scorer
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from rrg_core.metrics.text import text_scores, text_statistics, tokens

PAIRS, WORDS, SEED, REPLICATES, MANY = 3000, (15, 60), 0, 64, 20_000
SECONDS = {}

def sentences(rng):
    """Invented reports with the vocabulary size, length and overlap of real ones (real IU findings have about
    36 words)."""
    finding = [
        "pleural effusion", "focal consolidation", "pneumothorax", "cardiomegaly", "pulmonary edema",
        "rib fracture", "hiatal hernia", "basilar atelectasis", "calcified granuloma"
    ]
    where = [
        "in the left lower lobe", "at the right base", "bilaterally", "in the right upper lung zone",
        "along the left costophrenic angle", "in the lingula"
    ]
    how = [
        "There is no", "There is a small", "No evidence of", "Stable mild",
        "There is interval increase of the", "There is questionable", "Unchanged, moderate"
    ]
    normal = [
        "The cardiac silhouette is within normal limits.", "The lungs are clear.",
        "Heart size and mediastinal contours are unremarkable.", "The osseous structures are intact."
    ]
    if rng.random() < 0.4:
        return str(rng.choice(normal))
    return f"{rng.choice(how)} {rng.choice(finding)} {rng.choice(where)}."

def reports(seed, pairs=PAIRS):
    rng, out = np.random.default_rng(seed), []
    for _ in range(pairs):
        text, length = [], rng.integers(*WORDS)
        while sum(len(s.split()) for s in text) < length:
            text.append(sentences(rng))
        out.append(" ".join(text))
    return out

def alone(hypotheses, references):
    "The package's own way: two tokeniser runs, four scorers."
    h, r = (PTBTokenizer().tokenize({i: [{"caption": t}]
                                     for i, t in enumerate(texts)}) for texts in (hypotheses, references))
    bleu = Bleu(4).compute_score(r, h, verbose=0)[0]
    meteor, rouge, cider = (scorer().compute_score(r, h)[0] for scorer in (Meteor, Rouge, Cider))
    return dict(zip(("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"),
                    bleu)) | {"METEOR": meteor, "ROUGE-L": rouge, "CIDEr": cider}

@pytest.mark.parametrize("way", ["pycocoevalcap alone", "rrg_core"])
def test_text_speed(benchmark, way):
    if not benchmark.enabled:
        pytest.skip("a benchmark: add --benchmark-enable")
    pairs = reports(SEED), reports(SEED + 1)
    start = time.perf_counter()
    scores = benchmark.pedantic(text_scores if way == "rrg_core" else alone, args=pairs, rounds=1)
    SECONDS[way] = time.perf_counter() - start, scores
    if len(SECONDS) == 2:
        (theirs, a), (ours, b) = SECONDS["pycocoevalcap alone"], SECONDS["rrg_core"]
        print(f"\n{PAIRS} pairs: pycocoevalcap alone {theirs:.1f} s, rrg_core {ours:.1f} s, ratio "
              f"{ours / theirs:.2f} (aim: at most 1.10); "
              f"largest difference of a score {max(abs(a[k] - b[k]) for k in a):.1e}")

def timed(work):
    start = time.process_time()
    out = work()
    return time.process_time() - start, out

def loop_bleu(hypotheses, references):
    cooked = [bleu_scorer.cook_test(h, bleu_scorer.cook_refs([r]), eff="closest")
              for h, r in zip(hypotheses, references)]
    return [[c["testlen"], c["reflen"], *c["correct"], *c["guess"]] for c in cooked]

def loop_rouge(hypotheses, references):
    return [[Rouge().calc_score([h], [r])] for h, r in zip(hypotheses, references)]

def test_counts(benchmark):
    "Processor seconds of one thread: the counts of BLEU and ROUGE-L by the package's loops and by ours."
    if not benchmark.enabled:
        pytest.skip("a benchmark: add --benchmark-enable")
    pairs = [tokens(reports(SEED + side)) for side in (0, 1)]
    benchmark.pedantic(text_statistics, args=(*pairs, None, ("CIDEr", )), rounds=1)
    print()
    for metric, loop in (("BLEU", loop_bleu), ("ROUGE-L", loop_rouge)):
        theirs, want = timed(lambda: loop(*pairs))
        ours, stats = timed(lambda: text_statistics(*pairs, None, (metric, )))
        assert stats.tables[metric].tolist() == want # to the last digit
        print(f"{metric}, counts of {PAIRS} pairs: {theirs:.2f} s by the package's loops, {ours:.2f} s here")

def test_replicates(benchmark):
    "CIDEr of resampled test sets one by one, and sixteen together, as `rrg evaluate` takes them."
    if not benchmark.enabled:
        pytest.skip("a benchmark: add --benchmark-enable")
    stats = text_statistics(*(tokens(reports(SEED + side)) for side in (0, 1)), None, ("CIDEr", ))
    rows = list(np.random.default_rng(SEED).integers(0, PAIRS, (REPLICATES, PAIRS)))
    some = [rows[i:i + 16] for i in range(0, REPLICATES, 16)]
    alone, want = timed(lambda: [stats.scores(r) for r in rows])
    together, got = timed(lambda: benchmark.pedantic(lambda: sum(map(stats.scores_of, some), []), rounds=1))
    assert got == want # to the last digit
    print(f"\n{REPLICATES} replicates of CIDEr: {alone:.2f} s one by one, {together:.2f} s sixteen together")

def watched(command):
    "Processor seconds of a command and of all that it starts, and the most memory that they held together, in MB."
    before, most, done = resource.getrusage(resource.RUSAGE_CHILDREN), [0], threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def held(p):
        try:
            return p.memory_info().rss
        except psutil.Error: # it has just ended
            return 0

    def watch(parent):
        while not done.wait(.2):
            try:
                most.append(sum(map(held, [parent, *parent.children(recursive=True)])))
            except psutil.Error:
                pass

    watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid), ))
    watcher.start()
    said, _ = process.communicate()
    done.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, max(most) / 2**20, said

@pytest.mark.parametrize("options", [[], ["--without", "METEOR"]], ids=["default", "without METEOR"])
def test_evaluate(benchmark, tmp_path, options):
    "`rrg evaluate` with its thousand replicates: Java's METEOR is most of it."
    if not benchmark.enabled:
        pytest.skip("a benchmark: add --benchmark-enable")
    file = tmp_path / "reports.jsonl"
    pairs = zip(reports(SEED, MANY), reports(SEED + 1, MANY))
    file.write_text("".join(json.dumps({"hypothesis": h, "reference": r}) + "\n" for h, r in pairs))
    run = [sys.executable, "-c", "from rrg_core.tools.cli import main; main()", "evaluate", str(file), *options]
    seconds, memory, said = benchmark.pedantic(watched, args=(run, ), rounds=1)
    assert "CIDEr" in said
    print(f"\nrrg evaluate, {MANY} reports {' '.join(options)}: {seconds:.1f} processor seconds, "
          f"{memory:.0f} MB at most")
