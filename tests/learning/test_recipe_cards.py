"""Exported from nbs/07k_recipe_cards.ipynb: edit it there, then run `nbdev-export`."""
import pytest
from rrg_core.engine.experiments import chapter_module
from rrg_core.engine.settings import CourseError, profile
from rrg_core.learning.recipe_cards import *


def test_a_card_names_every_value_and_its_source():
    card = recipe_card("learning", "r2gen", profile("mimic"))
    module = chapter_module("learning")
    for k, (v, where) in module.RECIPES["r2gen"]["paper"].items(): assert k in card and where in card, k
    assert "standin-shapes-resnet stands in" in card and "hours" in card and "NVIDIA" in card
    fita = recipe_card("fita", "d", profile("mimic"))
    assert "ifr" in fita and "variant d" in fita and "FITA, section 4.1" in fita
    course = recipe_card("fita", "baseline", profile("phantom"))
    assert "ours" in course and "cost.csv has what a run took" in course
    chex = recipe_card("chex", "no-boxes", profile("mimic"))
    assert "variant no-boxes" in chex and "ChEX's code" in chex and "standin-phantom-towers stands in" in chex
    assert "learn" in recipe_card("chex", "supvg", profile("phantom"))
    for chapter, variant, words in (("learning", "constant", "learns nothing"), ("fita", "e", "unknown variant"),
                                    ("chex", "contrastive", "learns nothing")):
        with pytest.raises(CourseError, match=words): recipe_card(chapter, variant, profile("phantom"))
