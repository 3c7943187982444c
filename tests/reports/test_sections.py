"""Exported from nbs/03b_sections.ipynb: edit it there, then run `nbdev-export`."""
import ast, re
from functools import cache
from os.path import commonprefix
from pathlib import Path
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
    assert sections(" COMPARISON: None.") == {"comparison": "None."}
    assert "last_paragraph" not in sections("FINDINGS: Clear.") and sections(
        "FINDINGS:\n\nIMPRESSION: Clear.") == {"impression": "Clear."}
    assert sections("IMPRESSION: a\nIMPRESSION: b") == {"impression": "b", "earlier": "a"}
    assert sections("IMPRESSION: a\nIMPRESSION:\n") == {"impression": "a"}
    assert sections("") == sections(" \n") == {}
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


def test_sections_by_headings():
    cases = [ # the public report in whose spirit the row is, the report, its sections
        ("mimic-code#1982", " NDICATION:  Cough.\n \n FINDINGS:  Clear.",
         dict(indication="Cough.", findings="Clear.")),
        ("own: a clock time",
         " AP CHEST, 4:30 A.M. ON ___\n \n HISTORY:  Cough.\n \n IMPRESSION:  Small effusion.",
         dict(preamble="AP CHEST, 4:30 A.M. ON ___", history="Cough.", impression="Small effusion.")),
        ("own", " FINDINGS:  Opacity.\n \n IMPRESSON:  Opacity.",
         dict(findings="Opacity.", impression="Opacity.")),
        ("own", " INDICATION:  Cough.\n \n FINDNGS:  Opacity.\n \n IMPRESSION:  Same.",
         dict(indication="Cough.", findings="Opacity.", impression="Same.")),
        ("own", " COMPARISION:  ___.\n \n FINDINGS:  Clear.", dict(comparison="___.", findings="Clear.")),
        ("own", " REFERENCE EXAM:  ___.\n \n FINDINGS: Clear.", dict(comparison="___.", findings="Clear.")),
        ("own", " IMPRESSION:  Effusion.\n \n COMMENT:  Told to the team.",
         dict(impression="Effusion.", comment="Told to the team.")),
        ("own", " FINDINGS:  Effusion.\n \n OTHER FINDINGS:  Scoliosis.",
         dict(findings="Effusion.\n\nScoliosis.")),
        ("own", " INDICATION:  Line placement.", dict(indication="Line placement.")),
        ("own", " Lungs are clear.\n \n Heart is normal.",
         dict(full_report="Lungs are clear.\n\nHeart is normal.")),
        ("ReXrank#2", "Findings: None. Impression: 1. Two chest tubes.\n2. No pneumothorax.",
         dict(findings="None.", impression="1. Two chest tubes.\n2. No pneumothorax.")),
        ("own", "INDICATION: Cough. FINDINGS: Clear lungs. IMPRESSION: Normal.",
         dict(indication="Cough.", findings="Clear lungs.", impression="Normal.")),
        ("own, decided", " FINDINGS:  Tube seen on the\n CT HISTORY: none given.\n The effusion is large.",
         dict(findings="Tube seen on the CT HISTORY: none given. The effusion is large.")),
        ("own", " FINDINGS:  Effusion.\n CONTRAINDICATIONS: none.\n Edema.",
         dict(findings="Effusion. CONTRAINDICATIONS: none. Edema.")),
        ("own", "<5 mm nodule in the left apex.", dict(full_report="<5 mm nodule in the left apex.")),
        ("own", "\ufeffFINDINGS: Clear.\nIMPRESSION: Normal.", dict(findings="Clear.", impression="Normal.")),
        ("RRG24#9", " INDICATION:  Cough.\n \n COMPARISON:  ___\n \n The heart is large.",
         dict(indication="Cough.", comparison="___", last_paragraph="The heart is large.")),
        ("cxr-clip#7", " HISTORY:  Cough.\n \n Lungs are clear.",
         dict(history="Cough.", last_paragraph="Lungs are clear.")),
        ("own, decided", " CHEST, TWO VIEWS:  ___\n \n HISTORY:  Cough.\n \n Lungs are clear.",
         dict(findings="___", history="Cough.", last_paragraph="Lungs are clear.")),
        ("own", " FINDINGS:  Old one.\n \n FINDINGS:  New one.", dict(findings="New one.", earlier="Old one.")),
        ("own", " WET READ: Large.\n ______\n FINAL REPORT\n FINDINGS: Small.\n ADDENDUM: None.",
         dict(wet_read="Large.", findings="Small.", addendum="None.")),
        ("own", "findings :\tClear.\r\n\r\nimpression\xa0: Normal.\r\n",
         dict(findings="Clear.", impression="Normal.")),
    ]
    body = "\n \n FINDINGS:  Clear."
    same = lambda kind, key, *headings: [(kind, f" {h}:  Old film.{body}",
                                          {key: "Old film.", "findings": "Clear."})
                                         for h in headings]
    cases += same("a letter is wrong", "impression", "IMPRESION", "IMPRSSION", "IMPRESSOIN", "IMOPRESSION",
                  "MPRESSION",
                  "IMPRESSIONN", "IMPTESSION", "Impresson", "CONCLUSON", "CONCUSION")
    cases += same("a letter is wrong", "comparison", "COMPARSION", "COMPARRISON", "COMPARISIONS", "COMPRISON",
                  "CMPARISON",
                  "COMPARISO", "COMPARISON EXAM", "REFERENCE FILM", "Comparison", "COMPARISON/TECHNIQUE")
    cases += same("a letter is wrong", "indication", "IDICATION", "INDCATION", "INDICATIO", "INDICATOIN",
                  "INDICTAION",
                  "REASON FOR EXAM", "Reason for this examination", "CLINICAL INDICATION", "INDICATIONS",
                  "INDICATION(S)")
    cases += same("names of their own", "recommendation", "RECOMMENDATION(S)", "RECOMMENDATIONS",
                  "Recommendation")
    cases += same("names of their own", "history", "CLINICAL HISTORY", "HISTROY", "PATIENT HISTORY",
                  "CLINICAL INFORMATION")
    cases += same("names of their own", "wet_read", "PFI", "PROVISIONAL FINDINGS IMPRESSION", "PFI REPORT",
                  "WETREAD")
    cases += same("a free heading", "contrast", "CONTRAST") + same("a free heading", "date", "DATE")
    inside = lambda kind, *lines: [(kind, f" FINDINGS:  Heart is large.\n {line}\n Edema.",
                                    dict(findings=f"Heart is large. {line} Edema.")) for line in lines]
    cases += inside("no heading", "Film of 4:30 p.m. is better.", "AT 4:30 THE TUBE WAS MOVED.", "CT RATIO: 1:2.",
                    "CT RATIO 1:2.", "HEPARIN 1:1000 was given.", "DOPAMINE: 5 MCG/KG/MIN.", "NITRO DRIP AT 2:1.",
                    "LUNGS: Clear.", "BONE FINDINGS: None.", "RELATIVE CONTRAINDICATION: none.", "Note: rotated.",
                    "See www.x.org:80 for more.", "TIME:10:15 is the hour.", "History of CHF: stable.",
                    "SCORE: 3 of 5.",
                    "The history: cough.", "FINDINGS:none was dictated.", "Compare with the FINDINGS: of ___.")
    cases += [("no heading", f" INDICATION: Cough.\n {line}{body}",
               dict(indication=f"Cough. {line}", findings="Clear."))
              for line in ("CT RATIO: 1:2", "DOPAMINE: 5 MCG/KG/MIN", "NOREPI: 0.1 mcg / kg", "EF RATIO: 1 : 2",
                           "SALINE: 10 ML PER HOUR", "CONTRAINDICATIONS: none", "AT 4:30 PM", "RATE 10:1",
                           "ETT 4:30",
                           "INSULIN: 2 UNITS/HR")]
    one = dict(indication="Cough.", findings="Clear lungs.", impression="Normal.")
    cases += [("one line", text, one) for text in (
        "FINAL REPORT INDICATION: Cough. FINDINGS: Clear lungs. IMPRESSION: Normal.",
        "Indication: Cough. Findings: Clear lungs. Impression: Normal.",
        "indication: Cough. findings: Clear lungs. impression: Normal.",
        "INDICATION: Cough.  FINDINGS:  Clear lungs.  IMPRESSION:  Normal.",
        "INDICATION : Cough. FINDINGS : Clear lungs. IMPRESSION : Normal.",
        "INDICATION: Cough.\tFINDINGS: Clear lungs.\tIMPRESSION: Normal.",
        "INDICATION: Cough. FINDNGS: Clear lungs. IMPRESSON: Normal.",
        "REASON FOR EXAM: Cough. FINDINGS: Clear lungs. CONCLUSION: Normal.",
        "INDICATION:\xa0Cough. FINDINGS:\xa0Clear lungs. IMPRESSION:\xa0Normal.",
        "\ufeffINDICATION\uff1a Cough. FINDINGS\uff1a Clear lungs. IMPRESSION\uff1a Normal.",
        "INDICATION: Cough. FINDINGS: Clear lungs.\rIMPRESSION: Normal.",
        "INDICATION: Cough. TECHNIQUE: FINDINGS: Clear lungs. IMPRESSION: Normal.")]
    cases += [("one line, no stop", "COMPARISON: XXXX INDICATION: Cough FINDINGS: Clear IMPRESSION: ___",
               dict(comparison="XXXX", indication="Cough", findings="Clear", impression="___")),
              ("a sign, no tag", "<unk> FINDINGS are normal.", dict(full_report="<unk> FINDINGS are normal.")),
              ("a sign, no tag", "< 5 mm\nIMPRESSION: Scar.", dict(preamble="< 5 mm", impression="Scar.")),
              ("a sentence in capitals", "THE LUNGS ARE CLEAR. IMPRESSION: NORMAL.",
               dict(preamble="THE LUNGS ARE CLEAR.", impression="NORMAL.")),
              ("a title with a time", " AP CHEST, 4:30 P.M.: Clear.", dict(findings="Clear.")),
              ("an empty repeat", " FINDINGS: Clear.\n FINDINGS:\n IMPRESSION: a",
               dict(findings="Clear.", impression="a")),
              ("a body before the impression", " INDICATION: Cough.\n \n Lungs clear.\n \n IMPRESSION: Normal.",
               dict(indication="Cough.", last_paragraph="Lungs clear.", impression="Normal.")),
              ("no body: findings are there", " INDICATION: Cough.\n \n Fever.\n \n FINDINGS: Clear.",
               dict(indication="Cough.\n\nFever.", findings="Clear.")),
              ("a body of paragraphs", " TECHNIQUE: Supine.\n \n Clear.\n \n No effusion.",
               dict(technique="Supine.", last_paragraph="Clear.\n\nNo effusion.")),
              ("under an addendum", " ADDENDUM: Moved.\n ______\n FINAL REPORT\n Clear.\n \n Normal.",
               dict(addendum="Moved.", full_report="Clear.\n\nNormal.")),
              ("later findings add", " IMPRESSION: Old.\n FINDINGS: a\n IMPRESSION: b\n ADDITIONAL FINDINGS: c",
               dict(earlier="Old.", findings="a\n\nc", impression="b"))]
    for kind, text, expected in cases:
        assert dict(sections(text)) == expected, (kind, text, dict(sections(text)))


def test_sections_lose_no_word():
    import random

    rng, number = random.Random(0), iter(range(10**6))
    headings = ["FINDINGS", "IMPRESSION", "INDICATION", "HISTORY", "COMPARISON", "TECHNIQUE", "OTHER FINDINGS",
                "COMMENT",
                "CHEST, TWO VIEWS", "WET READ", "ADDENDUM", "FINDINGS AND IMPRESSION", "IMPRESSON", "Findings",
                "impression", "LUNGS", "CONTRAST", "LAST PARAGRAPH", "EARLIER", "FULL REPORT", "PREAMBLE", "PFI",
                "CONTRAINDICATIONS", "CT HISTORY", "RECOMMENDATION(S)", "NOTIFICATION", "DATE", "BONE FINDINGS"]
    words = lambda: " ".join(rng.choice([f"w{next(number)}", f"W{next(number)}.", f"4:3{next(number)}",
                                         f"{next(number)} mm", f"of the w{next(number)}"])
                             for _ in range(rng.randint(0, 5)))
    for _ in range(2000):
        text = rng.choice(["", "\ufeff", "<", "                FINAL REPORT\n"])
        for _ in range(rng.randint(1, 9)):
            text += rng.choice(["", " ", "  ", "\t"]) + rng.choice(["", "", f"{rng.choice(headings)}: "])
            text += words() + rng.choice([" ", ". ", "\n", "\n \n", "\r\n", ".\n", "\n\n", "\n FINAL REPORT ",
                                          "\n ______\n", "\x0b", "\n WET READ by ", "\n ADDENDUM (2) "])
        found = " ".join(sections(text).values())
        lost = {w for w in re.findall(r"[wW]?\d+", text)} - set(re.findall(r"[wW]?\d+", found))
        assert not lost, (text, dict(sections(text)))
    for r in iu_reports()[::10]: # a report in one line, and each of its texts as a report of its own
        line = " ".join(f"{name.upper()}: {text}" for name, text in r.sections.items())
        for text in (line, r.findings, r.impression, line.upper(), line.lower()):
            found = " ".join([*sections(text).keys(), *sections(text).values()]).lower()
            assert set(re.findall(r"\w+", text.lower())) <= set(re.findall(r"\w+", found)), r.study_id


def test_section_names_of_typing_errors():
    right = "IMPRESSION FINDINGS INDICATION COMPARISON CONCLUSION TECHNIQUE HISTORY".split()
    for word in right: # each error of one letter, against the official parser's list and beyond it
        name = section_name(word)
        swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2:] for i in range(len(word) - 1)}
        missing, doubled = ({word[:i] + word[i] * m + word[i + 1:] for i in range(len(word))} for m in (0, 2))
        wrong = {word[:i] + "X" + word[i + 1:] for i in range(len(word))}
        for typed in swapped | missing | doubled | wrong:
            assert section_name(typed) == name and section_name(typed.lower()) == name, typed
    for other in ("COMPRESSION", "DEPRESSION", "MEDICATION", "OCCLUSION", "CONCUSSION", "CONTRAST", "PREPARATION",
                  "FUSION",
                  "VENTILATION", "DICTATION", "LOCATION", "HISTOLOGY", "MODIFICATION", "FEEDING"):
        assert section_name(other) == other.lower() and section_name(other, "findings") is None
    for other in ("CONTRAINDICATION", "CONTRAINDICATIONS", "MRI CONTRAINDICATIONS", "Contraindications"):
        assert section_name(other) is None


def test_sections_xml():
    xml = '<e><AbstractText Label="COMPARISON"/><AbstractText Label="FINDINGS">a &amp; b</AbstractText></e>'
    assert sections(xml) == {"findings": "a & b"} and sections(xml)["comparison"] == ""
    for bad in ("<e>", '<!DOCTYPE e [<!ENTITY a "b">]><e>&a;</e>'):
        with pytest.raises(DataError, match="s9: XML"):
            sections(bad, "s9")
    for text, expected in [
        ('<e><AbstractText Label="FINDINGS">a <i>b</i> c</AbstractText></e>', {"findings": "a b c"}),
        ('<e><AbstractText Label="FINDINGS">a</AbstractText><AbstractText Label="FINDINGS">b</AbstractText></e>',
         {"findings": "a\n\nb"}), ('<AbstractText Label="IMPRESSION">a</AbstractText>', {"impression": "a"}),
        ("\ufeff <e>\n <AbstractText>a</AbstractText></e>", {"full_report": "a"}),
        ('<?xml version="1.0"?><e><AbstractText Label="FINDINGS"/></e>', {})
    ]:
        assert sections(text) == expected, text
    for bad in ("<e/>", "<e><f>a</f></e>", "<?xml version='1.0'?>", '<e><AbstractText Label="FINDINGS">a</e>',
                '<e><AbstractText Label="FIN', "<e"):
        with pytest.raises(DataError, match="s9: XML"):
            sections(bad, "s9")


def test_choose_order():
    assert choose({"findings": "a", "comparison": "b"}) == ("findings", "a") and choose(
        {"findings": "a", "impression": "b"})[0] == "impression"
    with pytest.raises(DataError, match="s9: findings is empty"):
        choose({"impression": "b"}, ("findings", ), "s9")
    with pytest.raises(DataError, match="is empty"):
        choose(sections(" INDICATION:  Line placement."))
    assert choose(sections(" Lungs are clear.\n \n Heart is normal.")) == (
        "full_report", "Lungs are clear.\n\nHeart is normal.")


def test_sections_of_the_official_parser():
    text = lambda *parts: " FINAL REPORT\n" + "".join(f" {part}\n \n" for part in parts)
    for report, found, taken in [
        (text("HISTORY:  Cough.", "Clear.", "Normal."),
         dict(history="Cough.", last_paragraph="Clear.\n \n Normal."),
         "Clear.\n \n Normal."), (text("INDICATION:  Tube."), dict(indication="Tube.", last_paragraph=""), ""),
        (" INDICATION: Tube.", {"full report": "INDICATION: Tube."}, ""),
        (" Clear.\n \n Normal.", {"full report": "Clear.", "last_paragraph": "Normal."}, "Normal."),
        (text("NDICATION: a") + " .", dict(impression="a\n \n ."), "a\n \n ."),
        (text("FINDINGS: a", "FINDINGS:", "OTHER FINDINGS: b"), dict(findings="b"), "b"),
        (text("CHEST, 4:30 A.M.", "HISTORY: a", "IMPRESSION: b"), dict(history="a", impression="b"), "b"),
        (text("CT HISTORY: a", "LUNGS: b", "PORTABLE: c"), dict(history="a", lungs="b", findings="c"), "c"),
        (text("PFI: a", "RECOMMENDATION(S): b", "IMPRESSION: c"),
         dict(history="a", recommendations="b", impression="c"),
         "c"), ("\n COMPARISON: a", dict(comparison="a"), "a"),
        ("\n HISTORY: a. FINDINGS: b", dict(history="a. FINDINGS: b"), ""),
        ("\r\n FINDINGS:  a\r\n \r\n IMPRESSION:\r\n", dict(findings="a"), "a"),
        ("\n FINDINGS:\n IMPRESSION: a\n", dict(findings="IMPRESSION: a"), "IMPRESSION: a")
    ]:
        got, chosen = sections_mimic(report)
        got.pop("preamble", "")
        assert got == found and chosen == taken, (report, got, chosen)
    report = text("INDICATION: a", "TECHNIQUE: b", "IMPRESSION: c")
    assert sections_mimic(report, "technique")[1] == "b" and sections_mimic(report, (1, 6))[1] == report[1:6]
    assert sections_mimic(report, (0, 0))[1] == ""
    with pytest.raises(DataError, match="s9: section 'note' is missing"):
        sections_mimic(report, "note", "s9")


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
