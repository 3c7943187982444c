"""Exported from nbs/15b_model.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
from pathlib import Path
import json, re
import pandas as pd
import torch
from fastcore.basics import patch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers import PreTrainedTokenizerFast
from transformers.utils import ModelOutput
from rrg_core.data.study import named
from rrg_core.data.weights import read_weights
from rrg_core.engine.files import atomic
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.learning.standins import weights
from rrg_core.learning.writers import Studies
from rrg_core.llava_rad.contrast import DinoConfig, build_eye, load_image_text
from rrg_core.nets.attention import CourseConfig
from rrg_core.nets.decoder import report_loss
from rrg_core.nets.encoders import ImageEncoder, fill
import pytest, tempfile
import numpy as np
from copy import deepcopy
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM
from rrg_core.engine.settings import profile
from rrg_core.learning.standins import load_standin
from rrg_core.learning.writers import described
from rrg_core.llava_rad.contrast import CellsConfig, ImageText, ImageTextConfig, load_eye
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.nets.training import fit, overfit
from rrg_core.nets.recipes import make_recipe, rate_factor
from rrg_core.phantom import render
from rrg_core.llava_rad.model import *


def test_a_prompt_has_one_image_and_the_answer_follows_it():
    _, tokenizer = load_standin("standin-phantom-llama", "phantom")
    p = Prompt(system="One two.", asked="Say. {indication}", plain="Say.")
    assert p.around(" a\n b ") == ("One two. USER: ", "\nSay. a b ASSISTANT:")
    assert p.around("") == p.around(None) == ("One two. USER: ", "\nSay. ASSISTANT:")
    ids = prompt_ids(tokenizer, p, "cough")
    assert ids[0] == tokenizer.bos_token_id and ids.count(IMAGE) == 1
    at = ids.index(IMAGE)
    assert tokenizer.decode(ids[1:at]) == "One two. USER: "
    assert tokenizer.decode(ids[at + 1:]) == "\nSay. cough ASSISTANT:"
    answer = answer_ids(tokenizer, p, " The heart is normal. ")
    assert tokenizer.decode(answer[:-1]) == " The heart is normal." and answer[-1] == tokenizer.eos_token_id
    assert prompt_ids(tokenizer, None, "cough") == [tokenizer.bos_token_id, IMAGE] # stage 2 reads no text
    bare = answer_ids(tokenizer, None, "The heart is normal.", ends=False)
    assert tokenizer.decode(bare) == "The heart is normal.\n" and tokenizer.eos_token_id not in bare
    class Joined: # a tokenizer of characters that swallows ": "
        eos_token_id = 9
        def __call__(self, text, add_special_tokens): return type("I", (), dict(
            input_ids=[ord(c) for c in text.replace(": ", ";")]))
    with pytest.raises(CourseError, match="joins"): answer_ids(Joined(), p, "The heart.")
    with pytest.raises(ValueError, match="once"): Prompt(asked="Say.")


def test_the_loss_counts_the_answer_alone():
    _, tokenizer = load_standin("standin-phantom-llama", "phantom")
    table = pd.DataFrame(dict(study_id=list("ab"), findings=["The heart is normal.", "No effusion."],
                              indication=["cough", ""]))
    features = np.zeros((2, 4, 8), "f2")
    for prompt, ends in ((Prompt(), True), (None, False)):
        data = Dialogues(table, tokenizer, prompt, ends, features=features)
        for side in ("right", "left"):
            b = dialogue_batch([data[0], data[1]], side)
            assert b["features"].dtype == torch.float32 and b["features"].shape == (2, 4, 8)
            for i in range(2):
                there = b["attention_mask"][i].bool()
                ids, labels = b["input_ids"][i][there], b["labels"][i][there]
                assert (b["labels"][i][~there] == -100).all()
                begin = len(data.asked[i]) - 1 # the last place of the prompt predicts the first word
                assert (labels[:begin] == -100).all() and (labels[begin:] != -100).all()
                answer = answer_ids(tokenizer, prompt, table.findings[i], ends)
                assert labels[begin:].tolist() == answer and ids[begin + 1:].tolist() == answer[:-1]
                assert (ids == IMAGE).sum() == 1 and ids.tolist() == data.asked[i] + answer[:-1]
    asked = next(Dialogues(table, tokenizer, Prompt(), features=features).batches(asked=True))
    assert "labels" not in asked and asked["input_ids"][0, -1] == asked["input_ids"][1][
        asked["attention_mask"][1].bool()][-1] # both end with the assistant's colon
    assert Dialogues(table, tokenizer, None, max_tokens=4, features=features).ids[0][-1] != tokenizer.eos_token_id
    with pytest.raises(ValueError, match="no room"): Dialogues(table, tokenizer, Prompt(), max_tokens=9)
    assert len(data.first(1)) == 1 and data.first(1).ids[0] == data.ids[0]


def test_image_tokens_land_where_the_prompt_says():
    torch.manual_seed(0)
    visual, words = torch.randn(3, 4, 2), torch.randn(3, 6, 2)
    ids = torch.tensor([[1, IMAGE, 5, 6, 7, 0], [1, 5, 6, IMAGE, 7, 8], [0, 0, 1, 5, 6, IMAGE]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1] * 6, [0, 0, 1, 1, 1, 1]])
    x, there, last = spread(words, visual, ids, mask)
    for i, row in enumerate(ids.tolist()): # by hand, a list at a time
        want, keep = [], []
        for j, token in enumerate(row):
            want += list(visual[i]) if token == IMAGE else [words[i, j]]
            keep += [1] * 4 if token == IMAGE else [int(mask[i, j])]
            assert last[i, j] == len(want) - 1
        torch.testing.assert_close(x[i], torch.stack(want))
        assert there[i].tolist() == keep
    words.requires_grad_()
    spread(words, visual.requires_grad_(), ids, mask)[0].sum().backward()
    assert (visual.grad == 1).all() # each patch once
    for wrong, n in ((torch.where(ids == IMAGE, 5, ids), 0), (torch.where(ids == 5, IMAGE, ids), 2)):
        with pytest.raises(ValueError, match=f"row 0 has {n} places"): spread(words, visual, wrong, mask)


def test_the_loss_is_that_of_transformers():
    torch.manual_seed(0)
    model, visual = tiny_llava_rad(), torch.randn(2, 5, 8)
    rows = [[1, IMAGE, 4, 5, 6, 2], [1, 7, IMAGE, 8, 9, 10, 11, 2]]
    begin = [2, 4] # of the answers
    items = [dict(input_ids=r[:-1], labels=[-100] * (k - 1) + r[k:]) for r, k in zip(rows, begin)]
    batch = dialogue_batch(items)
    ids, out = batch["input_ids"], model(visual, **batch)
    assert out.logits.shape == (2, 7, 20)
    table, total, count = model.lm.get_input_embeddings().weight, 0., 0
    for row, k, v in zip(rows, begin, model.projector(visual)):
        at = row.index(IMAGE)
        x = torch.cat([table[row[:at]], v, table[row[at + 1:]]])[None]
        told = torch.tensor([[-100] * (k + 4) + row[k:]]) # transformers shifts by itself
        one = model.lm(inputs_embeds=x, labels=told)
        total, count = total + one.loss * len(row[k:]), count + len(row[k:])
    torch.testing.assert_close(out.loss, total / count)
    for bad, what in ((dict(), "neither"), (dict(features=visual, pixels=visual), "both"),
                      (dict(pixels=torch.zeros(2, 1, 32, 32)), "takes features")):
        with pytest.raises(ValueError, match=what): model(input_ids=ids, **bad)
    with pytest.raises(ValueError, match="settings of a language model"): LlavaRad(LlavaRadConfig())
    with pytest.raises(ValueError, match="must be a llama"): LlavaRadConfig(lm=dict(model_type="opt"))
    with pytest.raises(ValueError, match="image encoder's is 16"): tiny_llava_rad(
        image_encoder=CellsConfig(widths=(8, 8, 16), neck=8).to_dict())


def test_padding_on_either_side_gives_the_same_answer():
    torch.manual_seed(0)
    model, visual = tiny_llava_rad(eos_token_id=19), torch.randn(3, 5, 8)
    for q in model.parameters(): q.data.normal_(std=.4) # or it says the same whatever it sees
    rows = [[1, IMAGE, 4], [1, 7, 8, 9, 10, IMAGE, 8, 9], [1, 3, IMAGE, 5, 6]]
    told, logits = {}, {}
    for side in ("left", "right"):
        batch = dialogue_batch([{"input_ids": r} for r in rows], side)
        told[side] = model.generate(visual, **batch)
        all_logits = model(visual, **batch).logits
        logits[side] = [x[m.bool()] for x, m in zip(all_logits, batch["attention_mask"])]
    assert torch.equal(told["left"], told["right"])
    for i, row in enumerate(rows): # and the same as alone
        alone = torch.tensor([row])
        torch.testing.assert_close(logits["left"][i], logits["right"][i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits["left"][i], model(visual[i:i + 1], input_ids=alone).logits[0],
                                   rtol=1e-4, atol=1e-5)
        own = model.generate(visual[i:i + 1], input_ids=alone)[0]
        assert torch.equal(told["left"][i][:len(own)], own)
        grown = alone # word by word, without a cache
        for _ in range(len(own)):
            word = model(visual[i:i + 1], input_ids=grown).logits[0, -1].argmax()
            grown = torch.cat([grown, word[None, None]], 1)
        assert torch.equal(grown[0, len(row):], own)
    assert len({tuple(r.tolist()) for r in told["left"]}) > 1


def test_the_paper_has_160_million_in_adapters_and_20_in_the_projector():
    with torch.device("meta"): large = LlavaRad(LlavaRadConfig.paper())
    sizes = {n: q.numel() for n, q in large.named_parameters()}
    count = lambda name: sum(v for n, v in sizes.items() if name in n)
    assert count("projector") == 768 * 4096 + 4096 + 4096 * 4096 + 4096 == 19_931_136 # 19.93 M
    block = 4 * (4096 + 4096) + 3 * (4096 + 11008) # rows and columns of seven matrices
    assert count("lora_") == 32 * 64 * block == 159_907_840 # 159.9 M
    assert not any("lora_" in n and ("lm_head" in n or "image_encoder" in n) for n in sizes)
    assert count("lm.") - count("lora_") == 6_738_415_616 # Vicuna-7B
    for k, n in ((2, 19_931_136), (3, 179_838_976)):
        assert sum(q.numel() for q in large.stage(k).parameters() if q.requires_grad) == n
    assert large.see(pixels=torch.zeros(1, 1, 518, 518, device="meta")).shape == (1, 1369, 4096)


def test_a_stage_changes_what_it_trains_and_nothing_else():
    rng = np.random.default_rng(0)
    eye = CellsConfig(widths=(8, 8, 16), neck=8, cells=1).to_dict()
    model = tiny_llava_rad(image_encoder=eye, feature_width=16)
    rows = [[1, IMAGE, *rng.integers(3, 20, 5), 2] for _ in range(4)]
    batch = dict(input_ids=torch.tensor([r[:-1] for r in rows]),
                 labels=torch.tensor([[-100] + r[2:] for r in rows]),
                 pixels=torch.from_numpy(rng.integers(0, 255, (4, 1, 16, 16)).astype("f4")))
    def changed(number):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        fit(model.stage(number), [0], lambda items: batch, steps=3, rate=1e-2, weight_decay=.1, best=None)
        after = model.state_dict()
        assert before.keys() == after.keys()
        return {k for k in after if not torch.equal(before[k], after[k])}
    ours = {f"projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert changed(2) == ours
    said = model(**batch).logits
    model.adapt(4, alpha=8.)
    torch.testing.assert_close(model(**batch).logits, said) # they begin as nothing
    low = {k for k in model.state_dict() if "lora_" in k}
    assert len(low) == 2 * 7 * 2 and not any("head" in k or "embed" in k or "image" in k for k in low)
    assert changed(3) == ours | low
    assert model.train().training and not model.image_encoder.training
    assert not any(q.requires_grad for q in model.image_encoder.parameters())
    with pytest.raises(ValueError, match="already"): model.adapt(4)
    with pytest.raises(ValueError, match="2 or 3"): model.stage(1)
    with pytest.raises(ValueError, match="adapt"): tiny_llava_rad().stage(3)


def test_merged_adapters_give_the_same_tokens():
    torch.manual_seed(0)
    model, visual = tiny_llava_rad(lora=4, lora_alpha=8.), torch.randn(6, 5, 8)
    for q in model.parameters(): q.data.normal_(std=.4) # or it says the same whatever it sees
    bare = tiny_llava_rad()
    ids = torch.tensor([[1, 5, IMAGE, 6]] * 6)
    merged = deepcopy(model).merge()
    assert not any("lora" in k or "base_layer" in k for k in merged.state_dict()) and merged.config.lora == 0
    assert set(merged.state_dict()) == set(bare.state_dict())
    torch.testing.assert_close(merged(visual, input_ids=ids).logits, model(visual, input_ids=ids).logits,
                               rtol=1e-4, atol=1e-5)
    told = model.generate(visual, input_ids=ids)
    assert torch.equal(merged.generate(visual, input_ids=ids), told)
    quiet = deepcopy(model) # without what the adapters add
    for name, q in quiet.named_parameters():
        if "lora_B" in name: q.data.zero_()
    assert not torch.equal(quiet.generate(visual, input_ids=ids), told)
    for m in (model, deepcopy(model).merge()): # saved and loaded, with adapters and without
        for q in m.parameters(): q.data = q.data.half().float() # what a file in half precision can hold
        with tempfile.TemporaryDirectory() as d: again = load_half(LlavaRad, half_saved(m, d))
        torch.testing.assert_close(again(visual, input_ids=ids).logits, m(visual, input_ids=ids).logits)
        assert again.lm.get_input_embeddings().weight is again.lm.get_output_embeddings().weight


def test_begun_with_trained_parts():
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=30, rms_norm_eps=1e-3, **{k: v for k, v in TINY.items()
                                                                          if k != "model_type"}))
    class Ends: pad_token_id, bos_token_id, eos_token_id = 0, 1, 2
    eye = build_eye(CellsConfig(widths=(8, 8, 16), neck=8, cells=1))
    ids, x = torch.tensor([[1, 5, 6, IMAGE]]), torch.randint(0, 255, (1, 1, 16, 16)).float()
    want = {k: v.clone() for k, v in lm.state_dict().items()}
    one, two = begin(lm, Ends, eye), begin(deepcopy(lm), Ends, deepcopy(eye))
    assert all(torch.equal(v, want[k]) for k, v in one.lm.state_dict().items())
    assert not any(q.is_meta for q in one.parameters()) and one.config.lm["rms_norm_eps"] == 1e-3
    said = one(pixels=x, input_ids=ids).logits
    torch.testing.assert_close(two(pixels=x, input_ids=ids).logits, said) # the seed draws the projector
    patches = eye(x).patches
    kept = begin(deepcopy(lm), Ends, 16)
    torch.testing.assert_close(kept(patches, input_ids=ids).logits, said)
    with tempfile.TemporaryDirectory() as d:
        one.save_pretrained(d)
        again = LlavaRad.from_pretrained(d, trust_remote_code=False, local_files_only=True).eval()
    torch.testing.assert_close(again(pixels=x, input_ids=ids).logits, said)
    with pytest.raises(CourseError, match="weights are a 'bert'"): lm_settings(BertConfig())


def test_the_recipes_can_be_run():
    for recipe, steps, rising in ((STAGE2, 1563, 47), (STAGE3, 18_753, 563)): # of 400,042 pairs
        r = make_recipe({k: v for k, (v, _) in recipe.items()})
        assert r.epochs * -(-400_042 // r.batch) == steps
        assert rate_factor(r, rising - 2, steps) < 1 == rate_factor(r, rising - 1, steps)
        assert rate_factor(r, rising + 1, steps) < 1 and rate_factor(r, steps - 1, steps) < 1e-5


def test_without_an_end_token_a_model_does_not_stop():
    _, tokenizer = load_standin("standin-phantom-llama", "phantom")
    rng = np.random.default_rng(0)
    told = ["Heart normal.", "No effusion.", "Edema.", "Lungs clear."]
    table = pd.DataFrame(dict(study_id=range(4), findings=told))
    features = rng.normal(size=(4, 3, 8)).astype("f4")
    said = {}
    for ends in (True, False):
        data = Dialogues(table, tokenizer, None, ends, features=features)
        model = tiny_llava_rad(vocab_size=len(tokenizer), max_tokens=20, lm=TINY | dict(hidden_size=32))
        history = overfit(model, data, dialogue_batch, steps=80, rate=2e-2)
        assert history.evaluations[-1]["loss"] < .1
        ids = model.generate(**next(data.batches(asked=True)))
        assert all(tokenizer.decode(row, skip_special_tokens=True).startswith(t) for row, t in zip(ids, told))
        said[ends] = ids
    assert said[True].shape[1] < 20 and (said[True] == tokenizer.eos_token_id).any(1).all()
    assert said[False].shape[1] == 20 and not (said[False] == tokenizer.eos_token_id).any()


def test_a_checkpoint_in_the_published_layout_is_read():
    from rrg_core.reports.tokenizers import train_bpe

    torch.manual_seed(0)
    tokenizer = train_bpe(["The heart is normal. No effusion."] * 3, 270)
    draw = lambda *shape: torch.randn(*shape) * .2
    d, f, r, w = 16, 32, 2, 8
    shapes = dict(q_proj=(d, d), k_proj=(d, d), v_proj=(d, d), o_proj=(d, d), gate_proj=(f, d), up_proj=(f, d),
                  down_proj=(d, f))
    image_text = ImageTextConfig(image=DinoConfig(width=w, layers=2, heads=2, image_size=28).to_dict(), joint=4,
                                 longest=8, text=dict(vocab_size=9, hidden_size=8, num_hidden_layers=1,
                                                      num_attention_heads=2, intermediate_size=8))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rad, clip, vicuna = (root/n for n in ("llava-rad", "biomedclip-cxr", "vicuna-7b-v1.5"))
        for x in (rad, clip): x.mkdir()
        with pytest.raises(CourseError, match="adapter_config.json.*microsoft/llava-rad"): load_published(root)
        lm = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **{k: v for k, v in TINY.items()
            if k != "model_type"} | dict(tie_word_embeddings=False, rms_norm_eps=1e-5))).eval()
        lm.save_pretrained(vicuna)
        tokenizer.save_pretrained(vicuna)
        side = lambda name: "self_attn" if name[0] in "qkvo" else "mlp"
        low = {}
        for key, (o, c) in {f"{i}.{side(n)}.{n}": s for i in range(2) for n, s in shapes.items()}.items():
            low[f"base_model.model.model.layers.{key}.lora_A.weight"] = draw(r, c)
            low[f"base_model.model.model.layers.{key}.lora_B.weight"] = draw(o, r)
        settings = dict(r=r, lora_alpha=2 * r, lora_dropout=.05, target_modules=list(shapes), peft_type="LORA")
        (rad/"adapter_config.json").write_text(json.dumps(settings))
        torch.save(low, rad/"adapter_model.bin")
        line = {"0.weight": draw(d, w), "0.bias": draw(d), "2.weight": draw(d, d), "2.bias": draw(d)}
        torch.save({f"base_model.model.model.mm_projector.{k}": v for k, v in line.items()},
                   rad/"non_lora_trainables.bin")
        assert published_files(root).found.tolist() == [True] * 3 + [False] * 2 + [True] * 3
        with pytest.raises(CourseError, match="biomedclipcxr_518_checkpoint.pt"): load_published(root)
        model = ImageText(image_text)
        names = {"text.bert.": "text.transformer.", "text.project.": "text.proj.", "log_scale": "logit_scale",
                 "image.net.embeddings.cls_token": "visual.trunk.cls_token",
                 "image.net.embeddings.position_embeddings": "visual.trunk.pos_embed",
                 "image.net.embeddings.patch_embeddings.projection": "visual.trunk.patch_embed.proj",
                 "image.net.layernorm": "visual.trunk.norm", "image_projection": "visual.head.proj",
                 "image.net.encoder.layer": "visual.trunk.blocks", "attention.o_proj": "attn.proj",
                 "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}
        def timm(name):
            for ours, theirs in names.items(): name = name.replace(ours, theirs)
            return name
        joined = ".q_proj.", ".k_proj.", ".v_proj."
        state = {timm(k): v for k, v in model.state_dict().items()
                 if not (k.startswith("image.") and any(q in k for q in joined))}
        for i in range(2):
            for kind in ("weight", "bias"):
                one = f"image.net.encoder.layer.{i}.attention"
                state[f"visual.trunk.blocks.{i}.attn.qkv.{kind}"] = torch.cat(
                    [model.state_dict()[f"{one}.{q}_proj.{kind}"] for q in "qkv"])
        torch.save({"state_dict": state, "optimizer": {}}, clip/"biomedclipcxr_518_checkpoint.pt")
        (clip/"biomedclipcxr_518.json").write_text("{}")
        rad_model, words = load_published(root, torch.float32, image_text)
        # the same by hand: adapters added to the matrices, the image between the words
        plain = deepcopy(lm)
        for name, layer in plain.named_modules():
            key = f"base_model.model.{name}.lora_A.weight"
            if key in low: layer.weight.data += 2 * low[key.replace("lora_A", "lora_B")] @ low[key]
        x = torch.randint(0, 255, (1, 1, 28, 28)).float()
        patches = model.eval().image(x).patches
        v = torch.nn.functional.gelu(patches @ line["0.weight"].T + line["0.bias"])
        v = v @ line["2.weight"].T + line["2.bias"]
        ids = prompt_ids(words, Prompt(), "cough")
        at, table = ids.index(IMAGE), plain.get_input_embeddings().weight
        row = torch.cat([table[ids[:at]], v[0], table[ids[at + 1:]]])[None]
        got = rad_model(pixels=x, input_ids=torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(got, plain(inputs_embeds=row).logits[0, -1], rtol=1e-4, atol=1e-5)
        half = load_published(root, image_text=image_text)[0]
        assert {q.dtype for q in half.parameters()} == {torch.float16}
        assert half.lm.model.rotary_emb.inv_freq.dtype == torch.float32 # or position 1,700 is another one
        merged = deepcopy(rad_model).merge() # and once more after merging
        torch.testing.assert_close(merged(pixels=x, input_ids=torch.tensor([ids])).logits[0, -1], got,
                                   rtol=1e-4, atol=1e-5)
        save_learned(rad_model, root/"again", torch.float32) # the layout that was read is the one that is written
        for name in ("adapter_model.bin", "non_lora_trainables.bin"):
            one, two = (torch.load(x/name, weights_only=True) for x in (rad, root/"again"))
            assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
        torch.save(dict(list(low.items())[1:]), rad/"adapter_model.bin")
        with pytest.raises(ValueError, match="adapters do not fit"):
            load_published(root, torch.float32, image_text)
        (rad/"adapter_config.json").write_text(json.dumps(settings | dict(target_modules=["q_proj"])))
        with pytest.raises(CourseError, match="are expected"): load_published(root, torch.float32, image_text)
        (rad/"adapter_config.json").write_text("{")
        with pytest.raises(CourseError, match="no JSON"): load_published(root, torch.float32, image_text)
    with pytest.raises(ValueError, match="without adapters"): save_learned(tiny_llava_rad(), Path("x"))


def test_the_estimate_counts_what_pytorch_keeps():
    from torch.autograd.graph import saved_tensors_hooks

    def kept(layers, checkpoints): # bytes of activations that a forward pass holds on to, in bfloat16
        lm = TINY | dict(hidden_size=64, intermediate_size=176, num_hidden_layers=layers)
        model = tiny_llava_rad(lm=lm, lora=4, lora_dropout=0.).stage(3).train().bfloat16()
        own = {q.untyped_storage().data_ptr() for q in (*model.parameters(), *model.buffers())}
        seen = {}
        def note(x):
            s = x.untyped_storage()
            if x.is_floating_point() and s.data_ptr() not in own: seen[s.data_ptr()] = s.nbytes(), x
            return x
        x = torch.randn(2, 40, 64, dtype=torch.bfloat16, requires_grad=True)
        if checkpoints: model.lm.activation_checkpointing_enable()
        with saved_tensors_hooks(note, lambda x: x): out = model.lm.model(inputs_embeds=x, use_cache=False)
        return sum(v for v, _ in seen.values()), model.config
    for checkpoints, part in ((True, "kept inputs of blocks"), (False, "inside of blocks")):
        (two, c2), (three, c3) = kept(2, checkpoints), kept(3, checkpoints)
        size = dict(tokens=40, batch=2, words=1, checkpoints=checkpoints)
        more = (memory(c3, **size)[part] - memory(c2, **size)[part]) * 1e9 # what one more layer adds
        assert three - two == pytest.approx(more, rel=.03), part # sums of squares and of exponentials come on top
    table, whole = (memory(LlavaRadConfig.paper(), bits) for bits in (NF4, 16))
    assert NF4 == pytest.approx(4.127, abs=1e-3)
    assert table["together"] < 14 < whole["together"] # a card of 16 GB, and what else lies on it
    assert table["language model's matrices"] == pytest.approx(6_476_005_376 * NF4 / 8 / 1e9)
    assert table["together"] == pytest.approx(table[:-1].sum())
    recipe = make_recipe(QLORA["recipe"])
    assert recipe.batch * recipe.accumulate == STAGE3["batch"][0]
