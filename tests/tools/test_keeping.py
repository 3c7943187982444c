"""Exported from nbs/98d_keeping.ipynb: edit it there, then run `nbdev-export`."""
import time
from collections.abc import Iterator
from pathlib import Path
from rrg_core.engine.files import SUMS, UNHASHED, file_hash, read_sums, vouched
from rrg_core.engine.experiments import artifacts, experiments, read_predictions
from rrg_core.engine.plan import Plan, few
from rrg_core.engine.run import read_manifest
from rrg_core.engine.settings import CourseError, cache_root, chapters, figures_at, profile
from rrg_core.engine.store import changing_records, content_of, damages, hardware, read_records
from rrg_core.tools.keeping import *


def test_only_what_is_proven_is_accepted():
    import tempfile
    from pathlib import Path

    from rrg_core.tools.keeping import _differs, _rekey
    from rrg_core.engine.store import Artifact, changing_records, current_build

    def artifact(code, losses=((1., .5), (2.,)), seed="0", name="m"):
        def build(path):
            for each in losses: current_build().note(list(each), "no")
            (path/"w").write_text("w")
        return Artifact(folder, name, {"code": code, "code a.module": code, "seed": seed}, build)

    folder = Path(tempfile.mkdtemp())/"c"
    artifact("1").make(lambda words: None)
    artifact("1", (), name="rules").make(lambda words: None)
    cases = [({}, ""), ({"losses": ((1., .5 + 1e-7), (2.,))}, ""), ({"seed": "1"}, "seed changed"),
             ({"losses": ((1., .5003), (2.,))}, "training 1, step 1: loss 0.5003, before 0.5"),
             ({"losses": ((1., .5), (float("nan"),))}, "training 2, step 0"),
             ({"losses": ((1., .5), ())}, "training 2: 0 steps, before 1"),
             ({"losses": ((1.,), (2.,))}, "training 1: 1 steps, before 2"),
             ({"losses": ()}, "0 trainings, before 2"), ({"losses": ((1., .5),)}, "1 trainings, before 2"),
             ({"name": "rules", "losses": ()}, "no losses"), ({"name": "another"}, "never made")]
    for change, words in cases:
        found = _differs(artifact("2", **change), None, {})
        assert (words in found if words else found == ""), (change, found)
    with changing_records(folder) as records: records["artifacts"]["m"]["hardware"] = "another, 1 thread"
    assert _differs(artifact("2", ((1., .5003), (2.,))), None, {}) == "" # three digits are equal
    assert "step 1" in _differs(artifact("2", ((1., .501), (2.,))), None, {})
    _rekey(artifact("2"), "a comment")
    assert artifact("2").why() == "" and artifact("1").why() == "code a.module changed"
    assert [a["why"] for a in artifact("2").record()["accepted"]] == ["a comment"]


def test_what_a_model_writes_is_compared_as_it_is_saved():
    from types import SimpleNamespace

    import numpy as np
    import pandas as pd
    import pytest
    import rrg_core.tools.keeping as keeping

    whole = pd.DataFrame({"study_id": list("abc"), "texts": [["one", "two"], [], ["three"]],
                          "boxes": [np.array([1, 2], "i2"), np.array([], "i2"), np.array([3], "i2")]})
    def run(frame, there=True):
        model = SimpleNamespace(path=SimpleNamespace(exists=lambda: there))
        return SimpleNamespace(settings={"system": "x"}, predictions=SimpleNamespace(parts={"code": "1"}),
                               path="p", model=model, decode=lambda first: frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "read_predictions", lambda path: keeping._as_read(whole))
        writes = {}
        assert "none of its kind" in keeping._writing_differs(run(whole, False), writes)
        assert keeping._writing_differs(run(whole.copy()), writes) == ""
        assert keeping._writing_differs(run(None, False), writes) == "" # another of its kind has shown it
        for column, value in (("texts", ["one", "three"]), ("boxes", np.array([1, 3], "i2")), ("study_id", "d")):
            frame = whole.copy()
            frame.at[0, column] = value
            assert keeping._writing_differs(run(frame), {}) == f"16 studies are written otherwise: {column}"


def test_what_was_changed_is_found_and_can_be_adopted():
    import os, tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.desk import Desk
    from rrg_core.engine.settings import CourseError
    from rrg_core.engine.store import Artifact

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_CACHE", f"{d}/cache")
        out, cache = Path(d)/"figures", Path(d)/"cache"
        def artifact(root, name, key="1"):
            fill = lambda path: (path/"w" if path.is_dir() else path).write_text("0123456789")
            return Artifact(root/"learning", name, {"k": key}, fill)
        made = [artifact(out, "predictions/a-s0.parquet"), artifact(out, "model"), artifact(cache, "features")]
        for a in made: a.make(str)
        desk = Desk("learning", "smoke", root=out)
        found = lambda **where: {f.relative_to(d).as_posix(): what for f, what in verify(out=out, **where)}
        assert found() == {}
        (out/"learning"/"stray.txt").write_text("x")
        assert found() == {"figures/learning/stray.txt": "is in no record and no manifest"}
        (out/"learning"/"stray.txt").unlink()
        for a in made: next(f for f in (a.path, a.path/"w") if f.is_file()).write_text("0123456780")
        assert found(chapter="fita") == {} and set(found(chapter="learning").values()) == {"was changed"}
        assert len(found()) == 3
        with pytest.raises(CourseError, match="unknown chapter"): list(verify("learnin", out=out))
        with pytest.raises(CourseError, match="say why"): adopt(out/"learning"/"model"/"w", " ")
        with pytest.raises(CourseError, match="damaged"): made[1].make(str)
        assert adopt(out/"learning"/"model"/"w", "converted to another format") == "learning/model"
        assert made[1].make(str) == "loaded" and len(found()) == 2
        with pytest.raises(CourseError, match="as it was made"): adopt(out/"learning"/"model"/"w", "again")
        for name in ("learning", "fita"): # a chapter that reads it is marked as well
            footer = Desk(name, "smoke", root=out).footer()
            assert "**learning/model/w was put in by hand**: converted to another format" in footer
        assert "by hand" not in Desk("data", "smoke", root=out).footer()
        artifact(out, "model", "2").make(str) # made anew: nothing of the hand is left
        assert "by hand" not in desk.footer()
        records = out/"learning"/"records.json"
        records.write_text(records.read_text().replace('"seconds": ', '"seconds":  ', 1))
        assert "SHA256SUMS" in found()["figures/learning/records.json"]
        adopt(records, "a space")
        assert "records.json was put in by hand" in desk.footer()
        (out/"SHA256SUMS").write_text("nonsense")
        assert "is no digest" in found()["figures/SHA256SUMS"]
        for odd in (out/"learning"/"t.csv", Path(d)/"x", out/"other"/"t.csv"):
            with pytest.raises(CourseError): adopt(odd, "x")
