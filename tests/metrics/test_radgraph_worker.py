"""Exported from nbs/05p_radgraph_worker.ipynb: edit it there, then run `nbdev-export`."""
from rrg_core.metrics.radgraph_worker import *


def test_the_worker_answers_every_line():
    import json
    said, texts = [], []
    def fake(model):
        def annotate(some):
            texts.extend(some)
            if "bad" in some: raise RuntimeError("bad: a report's words")
            return [{"text": t, "entities": {}} for t in some]
        return annotate, model + " 1.2"
    lines = [json.dumps(x) for x in ({"model": "xl"}, {"id": 4, "texts": ["a", "ä"]}, {"id": 5, "texts": ["bad"]},
                                     {"id": 6, "texts": []}, {"id": 7})]
    serve([*lines[:2], "\n", *lines[2:]], said.append, fake)
    assert said[0] == {"ready": "xl 1.2"} and [r.get("id") for r in said[1:]] == [4, 5, 6, 7]
    assert [a["text"] for a in said[1]["annotations"]] == ["a", "ä"] and said[3]["annotations"] == []
    assert said[2] == {"id": 5, "error": "RuntimeError"} and said[4] == {"id": 7, "error": "KeyError"}
