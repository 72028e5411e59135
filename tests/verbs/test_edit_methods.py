"""Each way to edit a picture through the verb, with nets of random numbers."""

import numpy as np
import pytest
from helpers import noise
from support.tiny_ldm import tiny_ldm, tiny_ldm_config, tiny_nets

from jaxgen.models.ldm.edit import null_text
from jaxgen.runs.model import Model

RED, BLUE = "a large red circle", "a large blue circle"
# Random nets hardly heed words: what leads by them is strong, and the same for both captions.
STRONG = {"guidance": 50.0}
BOTH = {**STRONG, "source_guidance": 50.0, "strength": 1.0}


@pytest.fixture(scope="module")
def flow():
    return tiny_ldm()


@pytest.fixture(scope="module")
def eps():
    config = tiny_ldm_config(model__target="eps", model__schedule__kind="scaled-linear",
                             model__sampling__sampler="ddim")  # fmt: skip
    return Model("ldm", config, tiny_nets(config), step=4)


@pytest.fixture(scope="module")
def picture():
    return noise(16, 16)


def levels(a, b):
    return np.abs(a.astype(int) - b).max()


# (model, options, whether a picture that words do not change comes back to the last level).
CAPTIONED = {
    "flowedit": ("flow", BOTH, True),
    "ddcm": ("flow", BOTH, True),
    "dds": ("flow", {**STRONG, "steps": 2, "rate": 1.0}, True),
    "diffedit": ("flow", STRONG, True),
    "ddpm": ("eps", BOTH, False),
    "p2p, negative": ("flow", {"inversion": "negative", **STRONG}, False),
    "p2p, null-text": ("eps", {"inversion": "null-text", "guidance": 4.0}, False),
}


@pytest.mark.parametrize("case", CAPTIONED)
def test_the_same_words_change_nothing_and_others_do(case, picture, request):
    name, options, exact = CAPTIONED[case]
    edit, method = request.getfixturevalue(name).edit, case.split(",")[0]
    same = edit(picture, RED, RED, method=method, **options)
    assert levels(same.pictures[0], same.reconstruction) == 0
    assert (same.error == 0) == exact
    other = edit(picture, RED, BLUE, method=method, **options)
    assert levels(other.reconstruction, same.reconstruction) <= 1
    assert levels(other.pictures[0], same.pictures[0]) > 1


def test_a_learnt_empty_prompt_brings_more_back(eps, picture):
    plain, learnt = (
        eps.edit(picture, RED, BLUE, inversion=name, guidance=4.0).error
        for name in ("ddim", "null-text")
    )
    assert learnt < plain


@pytest.mark.parametrize("room", [0, 2 << 30])
def test_a_net_that_holds_too_much_for_gradients_computes_it_anew(room, eps, picture, monkeypatch):
    asked = {"inversion": "null-text", "guidance": 4.0}
    usual, nets, choose = eps.edit(picture, RED, BLUE, **asked), [], null_text._lean
    monkeypatch.setattr(null_text, "HELD", room)
    monkeypatch.setattr(
        null_text, "_lean", lambda *given: nets.append(choose(*given).net) or choose(*given)
    )
    again = Model("ldm", eps.config, tiny_nets(eps.config), step=4).edit(
        picture, RED, BLUE, **asked
    )
    assert {net.remat for net in nets} == {room == 0}
    assert levels(again.pictures[0], usual.pictures[0]) <= 1


def test_sdedit(flow, picture):
    red, blue = (flow.edit(picture, text, method="sdedit", **STRONG) for text in (RED, BLUE))
    assert red.reconstruction is None
    assert levels(red.pictures[0], blue.pictures[0]) > 1
    little = flow.edit(picture, RED, method="sdedit", strength=0.34, **STRONG)
    assert levels(little.pictures[0], picture) < levels(red.pictures[0], picture)


def test_imagic_draws_from_the_picture_to_the_words(flow, picture):
    quick = {"learn_steps": 1, "tune_steps": 1, "times": 2, "learn_rate": 0.1, **STRONG}
    none, half, all_of_it = (
        flow.edit(picture, BLUE, method="imagic", eta=eta, **quick) for eta in (0.0, 0.5, 1.0)
    )
    assert levels(none.pictures[0], none.reconstruction) == 0
    assert levels(half.pictures[0], none.pictures[0]) > 0
    assert levels(all_of_it.pictures[0], half.pictures[0]) > 0


def test_the_captions_guidance_acts_where_the_targets_is_1(flow, picture):
    little, strong = (
        flow.edit(picture, RED, BLUE, method="flowedit", **{**BOTH, "guidance": 1.0, **change})
        for change in ({"source_guidance": 2.0}, {})
    )
    assert levels(little.pictures[0], strong.pictures[0]) > 1
