"""Exported from nbs/12n_writing.ipynb: edit it there, then run `nbdev-export`."""
from functools import partial
from pathlib import Path
import torch
from safetensors.torch import save_file
from torch import Tensor
from rrg_core.chex.sentences import SentenceGenerator, repeated_loss, small_gpt2, text_ids, write
from rrg_core.chex.systems import Lessons, copies_of, lessons_of
from rrg_core.chex.towers import load_towers
from rrg_core.data.weights import read_weights
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import Profile
from rrg_core.learning.published import standins_among
from rrg_core.nets.training import fit
from rrg_core.reports.tokenizers import decode, train_bpe
import pytest, torch
from rrg_core.chex.model import tiny_chex
from rrg_core.chex.systems import lessons_from, tiny_studies
from rrg_core.chex.writing import *


def test_words_are_learned_without_images():
    model = tiny_chex()
    lessons = lessons_from(tiny_studies(12))
    texts, words = said_in(lessons), words_of(lessons, 300)
    vectors = model.eyes.texts(model.prompt_words, texts)
    s = dict(lm_width=32, lm_layers=2, positions=2, prefix_hidden=32, longest=24, dropout=0., writer_epochs=60,
             writer_batch=8, writer_rate=1e-2)
    torch.manual_seed(0)
    writer = fresh_writer(words, vectors.shape[1], s)
    history = learn_words(writer, words, texts, vectors, s, 0)
    assert history.steps[-1]["loss"] < .25 < 3 < history.steps[0]["loss"]
    said = describe(writer, words, vectors, batch=5)
    assert sum(a == b for a, b in zip(said, texts)) > .5 * len(texts) # towers that nobody trained
    assert describe(writer, words, vectors[:0]) == []


def test_a_writer_begins_where_words_ended():
    import tempfile
    from pathlib import Path
    from rrg_core.chex import writing
    from rrg_core.engine.settings import profile

    lessons, p = lessons_from(tiny_studies(4)), profile("smoke")
    words = words_of(lessons, 300)
    s = dict(vocab=300, lm_width=16, lm_layers=1, positions=2, prefix_hidden=8, longest=24, dropout=0.,
             towers="t", site="x", writer_epochs=1, writer_batch=8, writer_rate=1e-2)
    made = []
    def build(name, settings, make, p, seed, needs, say): # in place of the store
        folder = Path(root) / f"{seed}"
        if not folder.exists():
            folder.mkdir()
            make(folder)
            made.append(seed)
        return folder

    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        model = tiny_chex()
        patch.setattr(writing, "shared", build)
        patch.setattr(writing, "lessons_of", lambda split, site, p: lessons)
        patch.setattr(writing, "load_towers", lambda choice, p: (model.eyes, model.prompt_words))
        first, second, other = (fresh_writer(words, model.config.width, s) for _ in range(3))
        begin_writer(first, s, 3, p)
        begin_writer(second, s, 3, p)
        before = other.prefix[0].weight.clone()
        begin_writer(other, s, 3, p, prefix=False)
    assert made == [3]
    for a, b in zip(first.parameters(), second.parameters()): torch.testing.assert_close(a, b)
    torch.testing.assert_close(other.prefix[0].weight, before)
    torch.testing.assert_close(other.lm.transformer.wte.weight, first.lm.transformer.wte.weight)
    assert first.lm.lm_head.weight is first.lm.transformer.wte.weight
