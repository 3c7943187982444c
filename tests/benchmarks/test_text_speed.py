"""3,000 report pairs through all text metrics, ours against pycocoevalcap alone, in the same run. No pass or fail: it prints.

Run: python -m pytest tests/benchmarks/test_text_speed.py --benchmark-enable -s
"""
import time

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from rrg_core.metrics.text import text_scores

PAIRS, WORDS, SEED = 3000, (15, 60), 0
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

def reports(seed):
    rng, out = np.random.default_rng(seed), []
    for _ in range(PAIRS):
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
