"""Exported from nbs/03b_sections.ipynb: edit it there, then run `nbdev-export`."""
import re
from defusedxml import ElementTree, DefusedXmlException
from rrg_core.data.study import DataError, named, without_text
import pytest
from rrg_core.reports.indiana import iu_reports
from rrg_core.reports.sections import *


def test_sections_free_text():
    text = (" FINAL REPORT\n INDICATION:  ___F with cough\n\n FINDINGS:\n\n Heart is\n normal.\n LUNGS: "
            "clear.\n\n Bones intact.\n IMPRESSION:\n 1. No change\n from ___.\n 2. Normal.\n")
    found = sections(text)
    assert dict(found) == {
        "indication": "___F with cough", "findings": "Heart is normal. LUNGS: clear.\n\nBones intact.",
        "impression": "1. No change from ___.\n2. Normal."
    }
    assert found["comparison"] == "" and "comparison" not in found
    with pytest.raises(KeyError, match="findigns"):
        found["findigns"]
    assert sections("Impression: Clear.\r\n")["impression"] == "Clear." and sections(
        "IMPRESSION\n Clear.")["impression"] == "Clear."


def test_sections_fallback():
    assert dict(sections("The lungs are clear.")) == {"full_report": "The lungs are clear."}
    assert sections(" COMPARISON: None.\n\n Lungs are clear.\n\n Heart is normal."
                    )["last_paragraph"] == "Lungs are clear.\n\nHeart is normal."
    assert sections(" COMPARISON: None.")["last_paragraph"] == "None."
    assert "last_paragraph" not in sections("FINDINGS: Clear.") and sections(
        "FINDINGS:\n\nIMPRESSION: Clear.") == {"impression": "Clear."}
    assert sections("IMPRESSION: a\nIMPRESSION: b") == {"impression": "b"
                                                        } and sections("") == sections(" \n") == {}
    assert sections("FINDINGS AND IMPRESSION: Clear.") == {"impression": "Clear."}
    assert sections(" PORTABLE CHEST: Clear.\n NOTE: x") == {"findings": "Clear. NOTE: x"}


def test_sections_asides():
    rule = "_" * 20
    wet = f" WET READ: ___ 3:12 PM\n FINDINGS: Effusion.\n{rule}\n FINAL REPORT\n IMPRESSION: Clear.\n"
    assert sections(wet)["findings"] == "" and sections(
        wet)["impression"] == "Clear." and "Effusion." in sections(wet)["wet_read"]
    top = f" ADDENDUM  The tube has moved.\n IMPRESSION: Wrong one.\n{rule}\n FINAL REPORT\n FINDINGS: Tube.\n"
    assert sections(top)["findings"] == "Tube." and sections(top)["impression"] == "" and "has moved" in sections(
        top)["addendum"]
    assert sections("FINDINGS: Tube.\nADDENDUM: It has moved.") == {
        "findings": "Tube.", "addendum": "It has moved."
    } # no rule below: like any heading
    assert sections(" WET READ: Clear.\n FINDINGS: Also clear.")["findings"] == "Also clear."


def test_sections_xml():
    xml = '<e><AbstractText Label="COMPARISON"/><AbstractText Label="FINDINGS">a &amp; b</AbstractText></e>'
    assert sections(xml) == {"findings": "a & b"} and sections(xml)["comparison"] == ""
    for bad in ("<e>", '<!DOCTYPE e [<!ENTITY a "b">]><e>&a;</e>'):
        with pytest.raises(DataError, match="s9: XML"):
            sections(bad, "s9")


def test_choose_order():
    assert choose({"findings": "a", "comparison": "b"}) == ("findings", "a") and choose(
        {"findings": "a", "impression": "b"})[0] == "impression"
    with pytest.raises(DataError, match="s9: findings is empty"):
        choose({"impression": "b"}, ("findings", ), "s9")


def test_items_keep_their_lines_and_wraps_do_not():
    P = "- No focal\n  consolidation"
    for body, *items in [
        ("- No edema\n- Effusion", "No edema", "Effusion"),
        (P + "\n- Effusion", "No focal consolidation", "Effusion"),
        ("* No mass\n  or nodule\n* Scar", "No mass or nodule", "Scar"),
        ("\u2022 No mass\n\u2022 Scar", "No mass", "Scar"),
        ("+ No mass\n+ Scar", "No mass", "Scar"), ("> No mass\n> Scar", "No mass", "Scar"),
        ("-> No mass\n-> Scar", "No mass", "Scar"), ("1. No mass\n2. Scar", "No mass", "Scar"),
        ("1) No mass\n   or nodule\n2) Scar", "No mass or nodule", "Scar"),
        ("(1) No mass\n(2) Scar", "No mass", "Scar"),
        ("a) no mass\nb) scar", "no mass", "scar"), ("i. No mass\nii. Scar", "No mass", "Scar"),
        ("- Lines:\n    - PICC\n    - tube", "Lines:", "PICC", "tube"),
        ("- Lungs: no\n  mass\n    * old scar in the\n      left apex", "Lungs: no mass",
         "old scar in the left apex"),
        ("1. Lungs\n   a) no mass\n   b) scar\n2. Effusion", "Lungs", "no mass", "scar", "Effusion"),
        ("- No mass\n\n- Scar", "No mass", "Scar"), ("- No mass\nHeart is large", "No mass", "Heart is large"),
        ("- No mass in the\nleft lung", "No mass in the left lung"), ("Pneumonia\n- none", "Pneumonia - none"),
        ("No mass\nor nodule of\n2.5 cm", "No mass or nodule of 2.5 cm")
    ]:
        for indent in ("", " ", "     "):
            report = "FINDINGS:\n" + "\n".join(indent + line for line in body.split("\n"))
            assert sentences(sections(report)["findings"]) == items, (body, sections(report)["findings"])
        assert sentences(body) == items, (body, sentences(body))


def test_sentences_invented():
    same = lambda text, *parts: sentences(text) == list(parts)
    assert same("Heart size normal. No effusion.", "Heart size normal.", "No effusion.")
    assert same("1. Approx. 2.5 cm nodule vs. scar 2. No effusion.", "Approx. 2.5 cm nodule vs. scar",
                "No effusion.")
    assert same("Seen with Dr. Smith, e.g. in the left base. XXXX are normal.",
                "Seen with Dr. Smith, e.g. in the left base.", "XXXX are normal.")
    assert same("Called at 3 p.m. by ___. No change.", "Called at 3 p.m. by ___.", "No change.") and same(
        "Called at 3 a.m. No change.", "Called at 3 a.m.", "No change.")
    assert same("Heart normal.calcified node. Clear.No effusion", "Heart normal.", "calcified node.", "Clear.",
                "No effusion")
    assert same("It measures 2.2 x 1.6 cm. stable.",
                "It measures 2.2 x 1.6 cm. stable.") # cm. before a small letter: one sentence
    assert same("XXXX.XXXX XXXX.Heart normal", "XXXX.XXXX XXXX.", "Heart normal")


def test_sentences_lists():
    same = lambda text, *parts: sentences(text) == list(parts)
    assert same("1.Nodule. 2.Clear.", "Nodule.", "Clear.") and same("1) Nodule\n2) Clear", "Nodule", "Clear")
    assert same("2. Clear. 3. 17 mm nodule.", "Clear.", "17 mm nodule.") # a list may begin anywhere
    assert same("Fracture of T11. The rib 4. is intact.", "Fracture of T11.", "The rib 4.",
                "is intact.") # no list: nothing is dropped
    assert same("Wrapped at\nthe margin. Next\n\nparagraph", "Wrapped at the margin.", "Next", "paragraph")
    assert same("Findings (see below.) Next? Yes!! ..", "Findings (see below.)", "Next?", "Yes!!")
    assert sentences("") == sentences(" \n ") == sentences("...") == []


def test_sentences_of_lines_and_bullets():
    for text, *parts in [
        ("No effusion\nEdema", "No effusion", "Edema"), ("No\nEdema", "No Edema"),
        ("No effusion\r\n\r\nEdema", "No effusion", "Edema"), ("No effusion\rEdema", "No effusion", "Edema"),
        ("There is no pleural\neffusion or\nedema.", "There is no pleural effusion or edema."),
        ("NO PLEURAL\nEFFUSION", "NO PLEURAL EFFUSION"), ("NO EFFUSION\nEDEMA", "NO EFFUSION", "EDEMA"),
        ("The tip of the\nPICC", "The tip of the PICC"), ("\u2022 No edema \u2022 Mass", "No edema", "Mass"),
        ("- No edema\n- Mass", "No edema", "Mass"), ("* No edema * Mass", "No edema", "Mass"),
        ("Edema\n- none", "Edema - none"), ("Edema:\nnone", "Edema: none"), ("1) clear 2) mass", "clear", "mass"),
        ("(1) Clear (2) Mass", "Clear", "Mass"), ("a) clear b) mass", "clear", "mass"),
        ("i. Clear\nii. Mass", "Clear", "Mass"), ("In image 2) a mass", "In image 2) a mass"),
        ("LUNGS: No mass\nBONES: fracture", "LUNGS: No mass", "BONES: fracture"),
        ("Lungs clear. BONES: fracture", "Lungs clear.", "BONES: fracture"),
        ("No. 5 rib is fractured.", "No. 5 rib is fractured."),
        ("Effusion: No. 2 cm mass.", "Effusion: No.", "2 cm mass."),
        ("A long line of forty characters or more, right\nPICC ends.",
         "A long line of forty characters or more, right PICC ends.")]:
        assert sentences(text) == parts, (text, sentences(text))


def test_sentences_keep_words():
    letters = lambda s: re.sub(r"[\s\d.)]", "", s)
    for r in iu_reports():
        for text in (r.findings, r.impression):
            assert letters(" ".join(sentences(text))) == letters(text), r.study_id


def test_sentences_counts():
    counts = sorted(len(sentences(r.findings)) for r in iu_reports() if r.findings)
    assert [counts[int(q * len(counts))]
            for q in (.05, .25, .5, .75, .95)] == [3, 4, 4, 5,
                                                   8] # as counted by another program with another splitter


def test_sections_no_text():
    for bad in (None, float("nan"), 5, b"FINDINGS: a", ["FINDINGS: a"]):
        for function in (sections, sentences, as_text, choose):
            with pytest.raises(ValueError, match="must be"):
                function(bad)
