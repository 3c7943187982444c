"""Exported from nbs/14b_model.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass, replace
from functools import cached_property, partial
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastcore.basics import patch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers import PreTrainedTokenizerFast
from transformers.utils import ModelOutput
from rrg_core.data.study import OBSERVATIONS, named
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.labels import label_many
from rrg_core.learning.published import found_for
from rrg_core.learning.standins import STANDINS, standin_recipe
from rrg_core.learning.writers import ReportSystem, Studies, described, dimmed, encoded, images_of, read_by, words_of
from rrg_core.lm_rrg.regions import BiomedEyeConfig, Extractor, TowerEyeConfig, build_eye, load_eye, prompt_table
from rrg_core.nets.attention import CourseConfig, EncoderLayer
from rrg_core.nets.decoder import report_loss
from rrg_core.reports.cleaning import clean_r2gen
import pytest, tempfile
from dataclasses import replace
from pathlib import Path
from rrg_core.engine.settings import profile
from rrg_core.nets.decoder import count_parameters, leaks, report_batch
from rrg_core.nets.training import overfit
from rrg_core.learning.writers import collate
from rrg_core.lm_rrg.model import *


def test_every_slot_is_known_and_sees_the_others():
    torch.manual_seed(0)
    transfer, x = VisualTransfer(5, 16, 2, 32, 2, 0.), torch.randn(2, 5, 16)
    out = transfer(x)
    assert out.shape == x.shape
    same = transfer(torch.ones(1, 5, 16))[0] # five equal features come out different: the slots
    assert (same[0] - same[1]).abs().max() > 1e-3
    x[:, 4] = torch.randn(2, 16)
    assert ((transfer(x) - out).abs().amax(-1) > 1e-4).all() # the others have seen it


def test_words_begin_as_their_pieces():
    from rrg_core.learning.standins import load_standin

    llama, pieces = load_standin("standin-shapes-llama", "phantom")
    table = llama.get_input_embeddings().weight
    rows = spelled_out(table, pieces, ["large", "pneumothorax", "[END]", "large"], {"[END]": pieces.eos_token_id})
    own = pieces(" pneumothorax", add_special_tokens=False).input_ids
    assert len(own) > 5 and pieces.decode(own) == " pneumothorax"
    torch.testing.assert_close(rows[1], table[own].mean(0))
    torch.testing.assert_close(rows[2], table[pieces.eos_token_id])
    torch.testing.assert_close(rows[0], rows[3])
    assert not rows.requires_grad and rows.shape == (4, table.shape[1])


def test_disease_loss_at_its_ends():
    states = disease_states([[1., 0., -1., np.nan]])
    assert states.tolist() == [[1, 2, 3, 0]] and [STATES[i] for i in states[0]] == [
        "positive", "negative", "uncertain", "blank"]
    sure = F.one_hot(states, 4).float() * 50
    assert disease_loss(sure, states) < 1e-6
    torch.testing.assert_close(disease_loss(torch.zeros(1, 4, 4), states), torch.tensor(4.).log())
    torch.manual_seed(0)
    x = torch.randn(3, 14, 4)
    y = torch.randint(0, 4, (3, 14))
    p = np.exp(x.numpy()) / np.exp(x.numpy()).sum(-1, keepdims=True) # by hand
    want = -np.log(np.take_along_axis(p, y.numpy()[..., None], -1)).mean()
    assert disease_loss(x, y).item() == pytest.approx(want, rel=1e-5)


def test_a_word_sees_the_prompt_and_the_words_before():
    opt = dict(model_type="opt", hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2,
               max_position_embeddings=64, word_embed_proj_dim=16)
    for lm in (TINY, opt):
        for lora in (0, 2):
            model = tiny_lm_rrg(lm=lm, lora=lora, max_tokens=12)
            batch = report_batch([[1, 5, 6, 7, 2], [1, 8, 9, 4, 2]])
            cells = torch.randn(2, 9, 16)
            assert leaks(model, {"features": cells, "decoder_input_ids": batch["decoder_input_ids"]}) == []
            out = model(cells, **batch)
            assert out.logits.shape == (2, 4, 20)
            for part in (cells.flip(2), None): # the image counts, and so does the instruction
                other = LmRrg(model.config).eval()
                other.load_state_dict(model.state_dict())
                if part is None: other.generator.instruction.data.normal_()
                moved = other(cells if part is None else part, **batch).logits
                assert (moved[:, 0] - out.logits[:, 0]).abs().max() > 1e-4
            learn = {n for n, p in model.generator.lm.named_parameters() if p.requires_grad}
            assert all("lora" in n for n in learn) == bool(lora) and learn
            short = model(cells[:1], **report_batch([[1, 5, 6, 7, 2]])) # a batch of one, unpadded
            mixed = model(cells, **report_batch([[1, 5, 6, 7, 2], [1, 8, 2]]))
            torch.testing.assert_close(short.logits[0], mixed.logits[0], atol=1e-5, rtol=1e-4)


def test_greedy_writing_is_the_likeliest_next_word():
    model, cells = tiny_lm_rrg(max_tokens=9), torch.randn(3, 9, 16)
    model.train()
    ids = model.generate(cells, num_beams=1)
    assert model.training and ids.shape[1] <= 9 and (ids[:, 0] == 1).all()
    model.eval()
    said = torch.ones(3, 1, dtype=torch.long)
    for k in range(ids.shape[1] - 1): # without a cache, word by word
        last = model(cells, decoder_input_ids=said).logits[:, -1].argmax(-1)
        done = (said[:, 1:] == 2).any(1)
        said = torch.cat([said, torch.where(done, 0, last)[:, None]], 1)
    assert torch.equal(ids, said)
    beams = model.generate(cells, num_beams=3)
    likely = lambda w: torch.log_softmax(model(cells, decoder_input_ids=w[:, :-1]).logits, -1).gather(
        2, w[:, 1:, None])[..., 0].masked_fill((w[:, 1:] == 0), 0).sum(1)
    assert (likely(beams) >= likely(ids) - 1e-4).all()
    torch.manual_seed(1)
    drawn = [model.generate(cells, num_beams=1, do_sample=True, top_k=0) for _ in range(3)]
    assert len({tuple(d.flatten().tolist()) for d in drawn}) > 1


def test_the_ablations_are_settings():
    batch = report_batch([[1, 5, 2]])
    for change, tokens, terms in [({}, 10, 2), (dict(whole=False), 9, 2), (dict(reading=None), 5, 2),
                                  (dict(instruction=0), 6, 2), (dict(disease=0.), 10, 1),
                                  (dict(reading="A"), 10, 2)]:
        model = tiny_lm_rrg(**change)
        cells = torch.randn(1, 9, 16)
        assert model.generator.prompt(model.see(cells))[1].shape == (1, tokens, 16), change
        out = model(cells, **batch, observations=torch.zeros(1, 14, dtype=torch.long))
        assert len(out.terms) == terms, change
        out.loss.backward()
        idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        # a key alone has weight 1: the text in reading A, and the global feature where there is no other
        dead = {"A": ("cross.query", "cross.key", "regions.blocks.0.norms.0"),
                None: ("transfer.layers.0.attention.query", "transfer.layers.0.attention.key")}
        known = ("key.bias", *dead.get(model.config.reading, ())) # a bias of all keys alike moves no softmax
        assert not [n for n in idle if not any(d in n for d in known)], (change, idle)
    full, half = (tiny_lm_rrg(disease=w) for w in (1., .5))
    one, other = (m(cells, **batch, observations=torch.ones(1, 14, dtype=torch.long)).terms for m in (full, half))
    torch.testing.assert_close(other["disease"], one["disease"] / 2)
    torch.testing.assert_close(other["report"], one["report"])
    for wrong, words in [(dict(lm=None), "config.lm"), (dict(lm={"model_type": "gpt2"}), "opt, got 'gpt2'"),
                         (dict(disease=-1.), "from 0, got -1"), (dict(instruction=-2), "from 0, got -2"),
                         (dict(heads=0), "heads must be"), (dict(feature_widht=3), "no setting")]:
        with pytest.raises(ValueError, match=words): tiny_lm_rrg(**wrong)
    with pytest.raises(ValueError, match="both"): model.see(cells, cells)
    with pytest.raises(ValueError, match="takes features"): model.see(pixels=torch.zeros(1, 1, 64, 64))


def test_pixels_go_through_the_tower_inside():
    from rrg_core.lm_rrg.regions import TowerEye, TowerEyeConfig

    eye = TowerEyeConfig(widths=(8, 8, 16, 16, 16), neck=8, joint=16)
    model = tiny_lm_rrg(image_encoder=eye.to_dict())
    pixels = torch.randint(0, 256, (2, 1, 64, 96))
    patches = model.image_encoder(pixels).patches # a grid of 4 × 6
    torch.testing.assert_close(model.see(pixels=pixels), model.extractor(patches, (4, 6)))
    with pytest.raises(ValueError, match="is 8, the image encoder's is 16"):
        tiny_lm_rrg(feature_width=8, image_encoder=eye.to_dict())
    with tempfile.TemporaryDirectory() as d: # saved and loaded, the table of prompts with it
        model.save_pretrained(d)
        again = LmRrg.from_pretrained(d, trust_remote_code=False, local_files_only=True).eval()
        torch.testing.assert_close(again.see(pixels=pixels), model.see(pixels=pixels))
        ids = torch.tensor([[1, 5], [1, 7]])
        torch.testing.assert_close(again(pixels=pixels, decoder_input_ids=ids).logits,
                                   model(pixels=pixels, decoder_input_ids=ids).logits)


def test_the_paper_s_size_by_hand():
    c = LmRrgConfig.paper()
    with torch.device("meta"): model = LmRrg(c)
    linear = lambda a, b, bias=1: a*b + bias*b
    norm = lambda d: 2*d
    count = lambda part: sum(p.numel() for p in part.parameters())
    d, f = 768, 3072
    layer = 4*linear(d, d) + linear(d, f) + linear(f, d) + 2*norm(d)
    vit = linear(3*16*16, d) + d + 197*d + 12*layer + norm(d) + d*512
    assert count(model.image_encoder) == vit
    d, f = 512, 2048
    block = 8*linear(d, d) + linear(d, f) + linear(f, d) + 3*norm(d)
    assert count(model.extractor) == d*d + 3*block + norm(d)
    layer = 4*linear(d, d) + linear(d, f) + linear(f, d) + 2*norm(d)
    assert count(model.generator.transfer) == 30*d + 3*layer + norm(d)
    d, f = 2560, 10240
    layer = 4*linear(d, d) + linear(d, f) + linear(f, d) + 2*norm(d)
    opt = 50272*d + (2048 + 2)*d + 32*layer + norm(d) # input and output words are one table
    adapters = 32 * 4 * 2*16*d
    assert count(model.generator.lm) == opt + adapters and 2.6e9 < opt < 2.7e9
    learn = count_parameters(LmRrg, c, trainable=True)
    assert learn == count(model) - opt
    assert count(model.disease) == linear(2*512, 14*4) and model.generator.instruction.shape == (29, 2560)


def test_weights_go_below_the_adapters():
    torch.manual_seed(0)
    source, plain, low = build_lm(TINY, 20), build_lm(TINY, 20), build_lm(TINY, 20, lora=2)
    ids = torch.randint(0, 20, (2, 6))
    for lm in (plain, low):
        assert not torch.allclose(lm(ids).logits, source(ids).logits)
        begun_with(lm, dict(source.state_dict()))
        torch.testing.assert_close(lm(ids).logits, source(ids).logits) # an adapter begins as nothing
        assert lm.get_input_embeddings().weight is lm.get_output_embeddings().weight
    with pytest.raises(ValueError, match="do not fit"): begun_with(plain, {"model.norm.weight": torch.ones(16)})
    with pytest.raises(ValueError, match="do not fit"): begun_with(build_lm(TINY, 21), dict(source.state_dict()))


def test_eight_studies_are_learned_by_heart():
    model = tiny_lm_rrg(vocab_size=12, feature_width=32, dropout=0., max_tokens=12)
    rng = np.random.default_rng(0)
    told = [[1, *rng.integers(3, 12, rng.integers(2, 6)), 2] for _ in range(8)]
    data = Studies(None, None, told, features=rng.normal(size=(8, 9, 32)).astype("f2"),
                   observations=torch.from_numpy(rng.integers(0, 4, (8, 14))))
    history = overfit(model, data, collate, steps=120, rate=1e-2)
    assert history.evaluations[-1]["loss"] < .1
    assert set(history.frame()) >= {"report", "disease"}
    cells = torch.from_numpy(data.inputs["features"]).float()
    said = model.generate(cells, num_beams=1)
    assert all(row[:len(t)].tolist() == t for row, t in zip(said, told))


def test_a_system_trains_saves_and_writes_frozen_or_end_to_end():
    from rrg_core.learning.standins import train_standin
    from rrg_core.learning.writers import written

    base = dict(encoder="standin-phantom-towers", cells=1, lm="standin-shapes-llama", instruction=True,
                prompts="names", regions=True, reading="C", whole=True, disease=1., lora=0, heads=4, wider=1,
                region_layers=1, transfer_layers=1, dropout=.1, max_tokens=20, min_count=1, site="structured",
                zeroed=0., keep="last", judged=3, epochs=2, batch=4, rate=1e-3, optimiser="adamw", options={},
                weight_decay=.01, schedule="one-cycle", decay=.8, decay_epochs=1, clip=1., precision="no",
                beams=1)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d, p = Path(d), replace(profile("smoke"), train=8, valid=4, test=5)
        m.setenv("RRG_FIGURES", str(d/"figures"))
        m.setenv("RRG_CACHE", str(d/"cache"))
        for name in ("standin-phantom-towers", "standin-shapes-llama"):
            train_standin(name, p, say=lambda line: None)
        for rate, vocabulary in ((None, "the reports'"), (1e-4, OWN)):
            system = LmRrgSystem(base | dict(encoder_rate=rate, vocabulary=vocabulary), p)
            folder = d/f"model {rate}"
            folder.mkdir()
            system.train(folder, 0)
            model, words = system.saved(folder)
            told = written(system, folder, 3)
            assert told.study_id.is_unique and len(told) == 3 and told.reference.str.len().min() > 0
            steps = pd.read_csv(folder/"steps.csv")
            assert len(steps) == 4 and {"report", "disease"} <= set(steps)
            assert (model.config.image_encoder is None) == (rate is None)
            fresh, train = system.fresh(0, system.read("train")), system.read("train")
            assert len(words) == len(train.words) and system.read("test", words).ids[0][0] == words.bos_token_id
            assert system.told(model, system.read("valid", words)).shape == (4, 14)
            if rate: # the language model's own words begin as they were
                lm = system.language[0]
                assert torch.equal(fresh.generator.lm.model.embed_tokens.weight, lm.model.embed_tokens.weight)
                moved = model.image_encoder.state_dict()
                was = {k: v.half().float() for k, v in system.encoder.state_dict().items()}
                assert any(not torch.equal(moved[k], was[k]) for k in was)
            torch.testing.assert_close(fresh.extractor.table, prompt_table(base["encoder"], "names", p))
