"""Exported from nbs/98d_keeping.ipynb: edit it there, then run `nbdev-export`."""
import time
from pathlib import Path
from rrg_core.engine.experiments import artifacts, experiments, read_predictions
from rrg_core.engine.plan import Plan, few
from rrg_core.engine.settings import CourseError, figures_at, profile
from rrg_core.engine.store import changing_records, hardware
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
