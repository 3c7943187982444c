"""Exported from nbs/05e_retrieval.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np
from rrg_core.data.study import as_numbers
import numpy as np, pytest, torch
from torchmetrics.functional.retrieval import retrieval_precision
from rrg_core.metrics.retrieval import *


def test_recall_by_hand():
    s = np.array([[.9, .2, .1], [.8, .7, .1], [.5, .5, .5]])
    assert [recall_at_k(s, k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1]
    assert [recall_at_k(s, k, ["a", "a", "b"]) for k in (1, 2, 3)] == [2 / 3, 2 / 3, 1]
    assert recall_at_k(np.ones((5, 5)), 1) == 0 and recall_at_k(np.ones(
        (5, 5)), 4) == 0 and recall_at_k(np.ones((5, 5)), 1, [0] * 5) == 1
    assert recall_at_k(np.eye(4), 1) == 1 == recall_at_k(
        s.T, 1) # text to image: each image is the nearest to its own text


def test_parity_without_ties():
    rng = np.random.default_rng(0)
    s = rng.random((30, 40)) + .01 # torchmetrics counts a candidate at 0 or below as not retrieved
    queries, candidates = rng.integers(0, 4, 30), rng.integers(0, 4, 40)
    for k in (1, 3, 40):
        theirs = [
            retrieval_precision(torch.tensor(row), torch.tensor(candidates == q), top_k=k).item()
            for row, q in zip(s, queries)
        ]
        assert abs(precision_at_k(s, queries, candidates, k) - np.mean(theirs)) < 1e-6
    square = rng.normal(size=(25, 25))
    for k in (1, 5, 25):
        want = np.mean([i in np.argsort(-row)[:k] for i, row in enumerate(square)])
        assert recall_at_k(square, k) == want == recall_at_k(square, k, np.arange(25))


def test_retrieval_refuses():
    for bad, words in [(lambda: precision_at_k(np.ones((2, 3)), [0, 1], [0, 1], 1), "does not fit"),
                       (lambda: precision_at_k(np.ones((2, 2)), [0, 1], [0, 1], 3), "between 1 and 2"),
                       (lambda: recall_at_k(np.ones((2, 2)), 0), "got 0"),
                       (lambda: recall_at_k(np.ones((2, 3)), 1), "row i must match"),
                       (lambda: recall_at_k([[np.nan]], 1), "query 0 is NaN"),
                       (lambda: recall_at_k(np.ones((2, 2)), 1, [0]), "groups must be"),
                       (lambda: precision_at_k(np.ones((0, 2)), [], [0, 1], 1), "queries, candidates")]:
        with pytest.raises(ValueError, match=words):
            bad()
    assert precision_at_k(np.ones(
        (1, 3)), ["a"], ["a", "a", "b"], 1) == 0 and precision_at_k(np.ones(
            (1, 3)), ["a"], ["a", "a", "b"], 3) == 2 / 3
