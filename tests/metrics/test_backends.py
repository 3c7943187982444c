"""Exported from nbs/05o_backends.ipynb: edit it there, then run `nbdev-export`."""
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
import numpy as np
import pandas as pd
from rrg_core.data.study import named
from rrg_core.engine.code import Registry
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.metrics.composite import COMPONENTS, RadCliQ, bleu2
from rrg_core.metrics.radgraph import RadGraphModel, radgraph_f1
import sys, tempfile, textwrap, venv
from pathlib import Path
import numpy as np, pandas as pd, pytest
from rrg_core.engine.settings import CourseError
from rrg_core.metrics.backends import *


def test_standins_by_name():
    truth = "Small left pleural effusion. The heart is normal in size. No pneumothorax."
    said = [truth, truth.replace("left", "right"), truth.replace("Small", "No"), truth.split(". ", 1)[1], "",
            "There is a pacemaker."]
    with pytest.MonkeyPatch.context() as m:
        for root in ("WEIGHTS", "CHEXBERT", "RADGRAPH"): m.delenv(f"RRG_ROOT_{root}", raising=False)
        every = Components("radgraph,chexbert,bertscore,radcliq")
        table = every(said, [truth] * 6)
        assert list(table) == ["RadGraph-standin", "RadGraph-combined-standin", "CheXbert-standin",
                               "BERTScore-standin", "RadCliQ-standin"] == list(every.definitions)
        assert (table.drop(columns="RadCliQ-standin").iloc[0] > .999).all()
        assert table["RadCliQ-standin"].is_unique and table["RadCliQ-standin"].idxmin() == 0
        assert (table.loc[4].iloc[:4] == 0).all() and abs(table.loc[4].iloc[4] - 2.4501430831) < 1e-8 # all zeros
        from rrg_core.metrics.composite import RadCliQ, bleu2
        by_hand = [RadCliQ.v1().score(row["RadGraph-combined-standin"], row["BERTScore-standin"],
                                      row["CheXbert-standin"], bleu2(t, truth))
                   for t, (_, row) in zip(said, table.iterrows())]
        assert np.allclose(table["RadCliQ-standin"], by_hand)
        assert every.models.startswith("radgraph=rules,chexbert=rules,bertscore=standin-phantom-bert@")
        missing = "RRG_ROOT_RADGRAPH", "chexbert.pth", "distilroberta-base in RRG_ROOT_W", "not comparable"
        for note, words in zip(every.notes, missing, strict=True):
            assert words in note and "-standin" in note
        alone = Components("radcliq")(said, [truth] * 6)
        assert list(alone) == ["RadCliQ-standin"] and np.allclose(alone.iloc[:, 0], table["RadCliQ-standin"])
        both = Components(["radcliq-standin", "radcliq", " chexbert ,chexbert-standin"])
        assert list(both(said[:1], said[:1])) == ["RadCliQ-standin", "CheXbert-standin"] # the same, once
        assert Components("radcliq")([], []).shape == (0, 1)


def test_chexbert_standin_by_hand():
    score = lambda h, r: Components("chexbert-standin")([h], [r]).iloc[0, 0]
    assert abs(score("Edema.", "Edema. Cardiomegaly.") - 1 / 2**.5) < 1e-12
    assert abs(score("No edema. Cardiomegaly.", "Edema. Cardiomegaly.")) < 1e-12 # (-1 + 1) / 2
    assert abs(score("Possible edema.", "Edema. No pneumothorax.") - .5 / (.5 * 2**.5)) < 1e-12
    assert score("Heart is normal.", "Heart is normal.") == 1 and score("", "Edema.") == 0
    assert score("Granuloma.", "Old granulomas.") == 1 # none of the fourteen in either
    assert score("Granuloma.", "Edema.") == 0


def test_names_are_read_kindly():
    choices = "; --metrics adds radgraph, chexbert, bertscore, radcliq, each also as NAME-standin"
    empty, unknown = "a name of a metric is empty .a comma too many.." + choices, "unknown metric "
    for thread, names, words in [ # a public thread of its kind, what was typed, the error
            ("xapi-project/xen-api#6214", "radcliq-standin,", empty), ("xapi-project/xen-api#6214", "", empty),
            ("distributed-system-analysis/pbench#2618", "radgraph,,chexbert", empty),
            ("distributed-system-analysis/pbench#2618", ["radcliq", " "], empty),
            ("distributed-system-analysis/pbench#2618", ",", empty),
            ("intel/PerfSpect#154", "bleurt", unknown + "'bleurt'" + choices),
            ("intel/PerfSpect#154", "radcliq-standin,BLEU", unknown + "'BLEU'" + choices),
            ("intel/PerfSpect#154", "RadCliQ-v1", unknown + "'RadCliQ-v1', did you mean 'radcliq'. --metrics ad"),
            ("intel/PerfSpect#154", "bert-score", unknown + "'bert-score', did you mean 'bertscore'."),
            ("intel/PerfSpect#154", "chexbart-standin", "did you mean 'chexbert'."),
            ("ParaToolsInc/taucmdr#309", "radgraph;chexbert", unknown),
            ("intel/PerfSpect#154", "standin", unknown),
            ("ParaToolsInc/taucmdr#309", "radgraph chexbert", unknown + "a text of 17 characters"),
            ("intel/PerfSpect#154", "bertscore-standin-standin", unknown),
            ("numenta/NAB#129", [None, 5], unknown)]:
        with pytest.raises(CourseError, match=words): Components(names)
    for thread, names in [ # and what is read
            ("xapi-project/xen-api#6214", " chexbert-standin , radgraph-standin "),
            ("intel/PerfSpect#154", "CheXbert-standin,RadGraph-STANDIN"),
            ("numenta/NAB#129", ["chexbert-standin", "radgraph-standin"]),
            ("numenta/NAB#129", ["chexbert-standin,radgraph-standin", "CHEXBERT-standin"]),
            ("pa11y/pa11y#114", "chexbert-standin,chexbert-standin,radgraph-standin")]:
        assert list(Components(names).definitions) == ["CheXbert-standin", "RadGraph-standin",
                                                       "RadGraph-combined-standin"], (thread, names)


def test_a_root_without_its_file_is_an_error():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        for name, root, file in [("radgraph", "RADGRAPH", "bin/python is missing"),
                                 ("chexbert", "CHEXBERT", "chexbert.pth does not exist.*StanfordAIMI/RRG_scorer"),
                                 ("bertscore", "WEIGHTS", "distilroberta-base/config.json does not exist.*https"),
                                 ("bertscore", "WEIGHTS", "distilroberta-base/config.json is missing.*https://")]:
            for other in ("WEIGHTS", "CHEXBERT", "RADGRAPH"): m.delenv(f"RRG_ROOT_{other}", raising=False)
            said = list(Components(name).definitions)
            assert said and all("-standin" in s for s in said) # no root: the stand-in, named so
            for where in (d, f"{d}/nowhere") if "is missing.*https" not in file else (d, ):
                m.setenv(f"RRG_ROOT_{root}", where)
                for asked in (name, "radcliq"):
                    with pytest.raises(CourseError, match=f"{file}.*--metrics {name}-standin asks"):
                        Components(asked)
            assert list(Components(f"{name}-standin").definitions) == said
            if root == "WEIGHTS": (Path(d) / "distilroberta-base").mkdir(exist_ok=True) # a folder without files


def test_nothing_heavy_is_imported_before_it_is_asked():
    import subprocess, sys, textwrap
    program = """
    import sys
    import rrg_core.metrics.evaluate, rrg_core.metrics.composite
    from rrg_core.metrics.backends import Components
    Components('radgraph-standin, chexbert-standin')(['No effusion.'], ['No effusion.'])
    print([m for m in ('torch', 'transformers', 'sklearn', 'rrg_core.learning') if m in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_published_models_by_name():
    from rrg_core.labels.chexbert import write_tiny_chexbert
    package = """
    class RadGraph:
        def __init__(self, model_type): pass
        def __call__(self, texts):
            one = lambda w: dict(tokens=w, label="OBS-DP", start_ix=0, end_ix=0, relations=[])
            return {str(i): {"text": t, "entities": {w: one(w) for w in t.split()}} for i, t in enumerate(texts)}
    """
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_WEIGHTS", raising=False)
        write_tiny_chexbert(Path(d) / "chexbert", [0] * 14)
        venv.create(Path(d) / "radgraph", with_pip=False)
        site = next((Path(d) / "radgraph").glob("lib/python*/site-packages"))
        (site / "radgraph.py").write_text(textwrap.dedent(package))
        m.setenv("RRG_ROOT_CHEXBERT", f"{d}/chexbert")
        m.setenv("RRG_ROOT_RADGRAPH", f"{d}/radgraph")
        mixed = Components("radgraph,chexbert,radcliq,chexbert-standin")
        table = mixed(["heart small", "no effusion", ""], ["heart small", "effusion", "heart"])
        assert list(table) == ["RadGraph", "RadGraph-combined", "CheXbert", "RadCliQ-standin", "CheXbert-standin"]
        assert np.allclose(table["RadGraph"], [1, 2 / 3, 0])
        assert np.allclose(table["RadGraph-combined"], [.5, 1 / 3, 0])
        assert abs(table["CheXbert"][0] - 1) < 1e-6 and table["CheXbert"].abs().max() <= 1 + 1e-6
        assert "radgraph=radgraph-unknown,chexbert=chexbert@" in mixed.models # one of RadCliQ's is a stand-in
        assert [n.split(":")[0] for n in mixed.notes] == [
            "BERTScore-standin", "RadCliQ-standin", "CheXbert-standin"]
        from rrg_core.learning import bertscore as made
        m.setattr(made.BERTScore, "published", classmethod(lambda cls: made.BERTScore.standin()))
        (Path(d) / "w" / "distilroberta-base").mkdir(parents=True)
        m.setenv("RRG_ROOT_WEIGHTS", f"{d}/w")
        whole = Components("radcliq")
        assert list(whole.definitions) == ["RadCliQ-v1"] and not whole.notes
        assert list(whole(["heart"], ["heart"])) == ["RadCliQ-v1"]
