"""Exported from nbs/03d_tokenizers.ipynb: edit it there, then run `nbdev-export`."""
import tempfile
from collections import Counter
import pytest
from rrg_core.reports.tokenizers import *


def test_words_threshold():
    texts = ["b a . a", "a b <x> .", "c ."]
    t = train_words(texts, min_count=2)
    assert t.get_vocab() == {"<pad>": 0, ".": 1, "<unk>": 2, "a": 3,
                             "b": 4} # sorted, from 1, <unk> among the words
    counts = Counter(w for s in texts for w in s.split()) # an independent count
    assert set(t.get_vocab()) - {"<pad>", "<unk>"} == {w for w, n in counts.items() if n >= 2}
    assert t("a c .").input_ids == [0, 3, 2, 1, 0] and decode(t, [0, 3, 2, 1, 0, 0, 3]) == "a <unk> ."
    d = train_words(texts, min_count=2, ends="distinct")
    assert len({d.pad_token_id, d.bos_token_id, d.eos_token_id, d.unk_token_id
                }) == 4 and d("a").input_ids == [1, d.get_vocab()["a"], 2]


def test_words_cut():
    t = train_words(["a b ."], min_count=1)
    for n, ends in ((58, True), (59, False), (70, False)):
        ids = encode_r2gen(t, " ".join(["a"] * n), 60)
        assert len(ids) == 60 and ids[0] == 0 and (ids[-1] == 0) == ends and sum(i > 0 for i in ids) == min(n, 59)
    assert len(encode_r2gen(t, "a b", 60)) == 4 and encode_r2gen(
        t, "", 60) == [0, 0] and decode(t, [0, 0]) == "" == decode(t, [])
    assert sum(
        i > 0 for i in t("a " *
                         70, truncation=True, max_length=60).input_ids) == 58 # transformers keeps the end instead


def test_words_wrong_input():
    for bad in ([], ["", " "], "invented words", ["a", None], ["a", ["invented words"]], [b"invented words"]):
        with pytest.raises(ValueError, match="text") as e:
            train_words(bad)
        assert "words" not in str(e.value).replace("no words to train", "") # no report is quoted
    with pytest.raises(ValueError, match="text 1: text must be text, got nan"):
        train_words(["a", float("nan")])
    with pytest.raises(ValueError, match="0"):
        train_words(["a"], min_count=0)
    with pytest.raises(ValueError, match="'both'"):
        train_words(["a"], ends="both")
    with pytest.raises(ValueError):
        encode_r2gen(train_words(["a"], 1), None)


def test_round_trips():
    texts = [
        "Heart size is normal.", "No effusion; 2.5 x 3.0 cm nodule (right-sided).",
        "XXXX are intact.\n1. ___ seen."
    ]
    for text in [*texts, " two  spaces ", "µ é 字", ""]:
        assert decode(train_bpe(texts, 300),
                      train_bpe(texts, 300)(text).input_ids) == text.strip() # nothing unknown, nothing lost
    words = train_words(["heart size normal .", "2.5 cm ."], 1)
    assert decode(words, words("heart size 2.5 .").input_ids) == "heart size 2.5 ."
    pieces = train_wordpiece(texts, 150)
    same = lambda s: "".join(s.lower().split())
    for text in texts:
        assert same(decode(pieces, pieces(text).input_ids)) == same(text) # up to case and spaces
    assert pieces("字").input_ids[1] == pieces.unk_token_id # a character never seen


def test_train_twice():
    texts = [" ".join(f"{a}{b}{c}ing" for c in "xyzw") for a in "abcdefgh" for b in "klmnop"]
    for train in (train_bpe, train_wordpiece):
        first = train(texts, 400).backend_tokenizer.to_str()
        assert all(train(texts, 400).backend_tokenizer.to_str() == first for _ in range(5)), train.__name__
    assert len(train_bpe(texts, 400)) == 400


def test_subword_wrong_input():
    for train in (train_bpe, train_wordpiece):
        with pytest.raises(ValueError, match="no words"):
            train([])
        with pytest.raises(ValueError, match="got 3"):
            train(["some words"], 3)


def test_save_and_load():
    from transformers import PreTrainedTokenizerFast
    for t in (train_words(["a b . a"], 1), train_words(["a b ."], 1, ends="distinct"), train_bpe(
        ["a b ."], 270), train_wordpiece(["ab b ."], 20)):
        with tempfile.TemporaryDirectory() as folder:
            t.save_pretrained(folder)
            again = PreTrainedTokenizerFast.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True)
        assert again.get_vocab() == t.get_vocab() and again.all_special_ids == t.all_special_ids
        assert again(["b a zz", "a"], padding=True).input_ids == t(["b a zz", "a"], padding=True).input_ids
        assert decode(again, again("a b .").input_ids) == decode(t, t("a b .").input_ids)


def test_losses_by_hand():
    t = train_words(["a b .", "a b ."], 2)
    out = losses(t, ["a b c .", "a ."],
                 max_length=4) # 3 tokens survive the start: the last full stop of the first falls
    assert out == {
        "words": 6, "tokens": 6, "fertility": 1, "unknown": 1 / 6, "reports_unknown": .5, "cut": 1 / 6,
        "reports_cut": .5
    }
    with pytest.raises(ValueError, match="no words"):
        losses(t, [""])


def test_errors_of_reports_quote_no_report():
    from importlib import import_module
    from rrg_core.reports import cleaning, words_of
    from rrg_core.tools.house import quoting

    split = import_module("rrg_core.reports.sections") # the function has the same name
    trained = train_words(["a text", "a text"], 1)
    calls = {f"clean {name}": lambda x, f=f: f([x]) for name, f in cleaning.CLEANERS.items()}
    calls |= {
        "sections": lambda x: split.sections([x]),
        "sections bytes": lambda x: split.sections(str(x).encode()),
        "sections' record": lambda x: split.sections("<a", "record 7"),
        "sentences": lambda x: split.sentences([x]),
        "as_text": lambda x: split.as_text([x]),
        "choose": lambda x: split.choose(x),
        "choose order": lambda x: split.choose({}, x),
        "choose orders": lambda x: split.choose({}, [x]),
        "choose among": lambda x: split.choose(split.sections("No effusion."), ("findings", x)),
        "a section": lambda x: split.sections("No effusion.")[x],
        "words_of": lambda x: words_of([x]),
        "dataset": lambda x: cleaning.clean_r2gen("a", x),
        "train_words": lambda x: train_words([x, None], 1),
        "train_words on one": lambda x: train_words(str(x), 1),
        "ends": lambda x: train_words(["a"], 1, x),
        "min_count": lambda x: train_words(["a"], x),
        "train_bpe": lambda x: train_bpe([[x]], 300),
        "train_wordpiece": lambda x: train_wordpiece([x, 7], 300),
        "encode": lambda x: encode_r2gen(trained, [x]),
        "decode": lambda x: decode(trained, x),
        "decode one": lambda x: decode(trained, [1, x]),
        "losses": lambda x: losses(trained, [x, None]),
    }
    assert quoting(calls) == []
    found = split.sections("FINDINGS: The canary sings.\n\nIMPRESSION: Normal.")
    assert repr(found) == "Sections('findings': 3 words, 'impression': 1 words)"
    assert dict(found)["impression"] == "Normal."
