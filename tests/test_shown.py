"""Exported from nbs/90i_shown.ipynb: edit it there, then run `nbdev-export`."""
import html, os, sys
from rrg_core.shown import *


def test_a_control_s_first_value():
    import pytest
    from rrg_core.shown import _first

    @pytest.mark.parametrize("control, first", [((1, 5), 1), ((2, 9, .5), 2), ([3, 4], 3),
                                                ([("a", 1), ("b", 2)], 1), ({"x": 7}, 7), (True, True), (5, 5)])
    def check(control, first): assert _first(control) == first

    for control, first in check.pytestmark[0].args[1]: check(control, first)
    assert list(progress([1, 2], "counting")) == [1, 2]
