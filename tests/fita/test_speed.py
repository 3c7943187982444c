"""Exported from nbs/11d_speed.ipynb: edit it there, then run `nbdev-export`."""
import time
import pandas as pd
import torch
from torch import Tensor
from rrg_core.nets.encoders import ResNetConfig, XrvConfig
from rrg_core.fita.model import Fita, FitaConfig
from rrg_core.nets.decoder import report_batch
from rrg_core.data.study import OBSERVATIONS
from rrg_core.nets.training import fit
from rrg_core.fita.speed import *


def test_a_step_and_a_decode_at_the_papers_widths():
    deep = torch.cuda.is_available()
    speeds, ids = paper_scale(batch=2, steps=1, size=224 if deep else 64, words=8)
    assert len(speeds) == 2 and (speeds["studies a second"] > 0).all() and set(
        speeds.precision) == {"bf16" if deep else "no"}
    assert ids.shape[0] == 2 and 1 < ids.shape[1] <= 9 and 0 <= ids.min() and ids.max() < paper_config(
        deep).vocab_size
    learns = {n.split(".")[0] for n, q in paper_model(paper_config(False)).named_parameters() if q.requires_grad}
    assert {"image_encoder", "graph", "refiner", "layers"
            } <= learns and not learns & {"text", "refine", "classifier"}
    shallow, whole = paper_config(False), FitaConfig.paper()
    assert all(
        getattr(shallow, k) == getattr(whole, k)
        for k in ("width", "heads", "feed_forward", "feature_width", "vocab_size", "max_tokens", "joint",
                  "name_width")) and shallow.bert["hidden_size"] == whole.bert["hidden_size"]


def test_a_whole_step_at_the_papers_size_without_numbers():
    from unittest.mock import patch
    loss = lambda logits, labels: torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    with torch.device("meta"), patch("rrg_core.fita.kiut.report_loss", loss):
        model = Fita(FitaConfig.paper()).train()
        learns = [q for q in model.parameters() if q.requires_grad]
        optimiser = torch.optim.Adam(learns, 1e-4, amsgrad=True)
        ids = torch.zeros(16, 99, dtype=torch.long)
        out = model(pixels=torch.zeros(16, 1, 224, 224), decoder_input_ids=ids, labels=ids,
                    observations=torch.zeros(16, 14, dtype=torch.long))
        assert set(out.terms) == {"words", "observations", "alignment"} and out.logits.shape == (16, 99, 4336)
        out.loss.backward()
        silent = {n for n, q in model.named_parameters() if q.requires_grad and q.grad is None}
        assert not silent and len(learns) > 400
        optimiser.step()
        assert all("max_exp_avg_sq" in optimiser.state[q] for q in learns)
