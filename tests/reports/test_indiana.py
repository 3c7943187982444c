"""Exported from nbs/03a_indiana.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
from rrg_core.data.bundled import iu_records
from rrg_core.data.study import Report, SECTIONS
from rrg_core.reports.indiana import *


def test_iu_counts():
    reports = iu_reports()
    count = lambda s: sum(bool(getattr(r, s).strip()) for r in reports)
    assert [count(s) for s in ("comparison", "indication", "findings", "impression")] == [3333, 3865, 3425, 3921]
    assert len(reports) == len({r.study_id for r in reports}) == 3955
    assert sum(r.normal for r in reports) == sum("normal" in r.major for r in reports) == 1391
    images = [i for r in reports for i in r.images]
    assert len(images) == len(set(images)) == 7470 and sum(not r.images for r in reports) == 104
    assert sum("No Indexing" in r.major for r in reports) == 95
    assert sum("Technical Quality of Image Unsatisfactory" in r.major for r in reports) == 86


def test_iu_no_findings():
    empty = next(r for r in iu_reports() if "findings" not in r.sections)
    # a report without findings is a record like any other; who needs a reference asks for it
    assert empty.findings == ""
    assert sum(not r.sections.keys() & {"findings", "impression"} for r in iu_reports()) == 28
