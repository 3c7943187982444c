"""Exported from nbs/07i_bertscore.ipynb: edit it there, then run `nbdev-export`."""
from pathlib import Path
import numpy as np
import torch
from torch import Tensor
from rrg_core.data.study import named_file
from rrg_core.engine.code import weights_hash
from rrg_core.engine.desk import progress
from rrg_core.engine.settings import CourseError, data_root, figures_at, profile, repo_root
from rrg_core.engine.store import whole
from rrg_core.learning.standins import WEIGHTS, standin_recipe, weights
import re, tempfile
import numpy as np, pandas as pd, pytest, torch
from rrg_core.engine.settings import CourseError
from rrg_core.learning.bertscore import *


def test_greedy_matching_is_the_packages():
    from bert_score.utils import greedy_cos_idf
    rng = torch.Generator().manual_seed(0)
    for trial in range(40):
        n, m, d = (int(torch.randint(3, 12, (), generator=rng)) for _ in range(3))
        h, r = torch.randn(n, d, generator=rng), torch.randn(m, d, generator=rng) + .5 # vectors of any length
        inner = [torch.tensor([False] + [True] * (k - 2) + [False]) for k in (n, m)] # [CLS] … [SEP]
        _, _, f = greedy_cos_idf(r[None], torch.ones(1, m).bool(), inner[1][None].float(), h[None],
                                 torch.ones(1, n).bool(), inner[0][None].float())
        assert abs(greedy_f1(h, r, inner) - float(f)) < 1e-5, trial
        assert abs(greedy_f1(h, r, inner) - greedy_f1(r, h, inner[::-1])) < 1e-6 # P and R change places
        assert abs(greedy_f1(h, h[torch.randperm(n, generator=rng)], (torch.ones(n).bool(), ) * 2) - 1) < 1e-5
    assert greedy_f1(h, r, (torch.zeros(n).bool(), inner[1])) == 0


def test_standin_score():
    score = BERTScore.standin()
    assert re.fullmatch("standin-phantom-bert@[0-9a-f]{16}", score.identity) and .3 < score.baseline < .95
    truth = "Small left pleural effusion. The heart is normal in size. No pneumothorax."
    equal, side, denied, other, empty, none, capitals = score(
        [truth, truth.replace("left", "right"), truth.replace("Small", "No"), "Tube in the stomach.", "", " \n",
         truth.upper()], [truth] * 7)
    assert abs(equal - 1) < 1e-5 and abs(capitals - 1) < 1e-5 and empty == none == 0
    assert equal > side > other and equal > denied > other
    assert score([truth], [""])[0] == 0 and score([], []).shape == (0, )
    texts = [truth, "Heart enlarged.", "", "Clear lungs. " * 70, "No effusion."] # one is longer than the model
    alone = [score([t], [truth])[0] for t in texts]
    assert np.allclose(score(texts, [truth] * 5), alone, atol=1e-5) # companions do not matter
    assert abs(score(["Clear lungs. " * 70] * 2, ["Clear lungs. " * 70] * 2) - 1).max() < 1e-5
    again = BERTScore.standin()
    assert again.baseline == score.baseline and again([truth], [texts[1]]) == score([truth], [texts[1]])
    with pytest.raises(ValueError, match="2 hypotheses for 1 references"): score(["a", "b"], ["a"])


def test_published_score_is_the_packages():
    import bert_score
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] heart lungs clear no effusion . normal size small left right".split()
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    core.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]",
                                        cls_token="[CLS]", sep_token="[SEP]", model_max_length=64)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_WEIGHTS", raising=False)
        with pytest.raises(CourseError, match="RRG_ROOT_WEIGHTS/distilroberta-base/config.json does not exist.*"
                                              "huggingface.co/distilbert.*standin-phantom-bert stands in"):
            BERTScore.published()
        folder = Path(d) / "distilroberta-base"
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=6, num_attention_heads=2,
                             intermediate_size=32, max_position_embeddings=64)).save_pretrained(folder)
        with pytest.raises(CourseError, match="tokenizer.json or vocab.json is missing"):
            BERTScore.published(Path(d))
        tokenizer.save_pretrained(folder)
        ours = BERTScore.published(Path(d))
        said = [" ".join(rng.choice(words[5:], rng.integers(1, 40))) for _ in range(60)]
        _, _, f = bert_score.score(said[:30], said[30:], model_type=str(folder), num_layers=5)
        assert np.allclose(ours(said[:30], said[30:]), (f.numpy() - .8473319) / (1 - .8473319), atol=1e-4)
        assert ours.identity.startswith("distilroberta-base@") and ours.vectors.layer == 5
