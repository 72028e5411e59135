"""A captioned source is a module found by its name: the shipped ones, and one that a test adds."""

import sys
import types

import pytest
from ml_collections import ConfigDict
from support.fake_family import daubs
from support.toy_source import COLOURS, EXAMPLE, toy_source

from jaxgen.data import named_source, pipeline
from jaxgen.data.captioned import section
from jaxgen.data.captioned.examples import train_data
from jaxgen.data.captioned.records import open_records, validation_data
from jaxgen.data.captioned.source import find_source
from jaxgen.data.captioned.tokenizers import make_tokenizer, resolve
from jaxgen.data.text.tokens import SPECIAL
from jaxgen.errors import UserError
from jaxgen.runs.card import model_card

__all__ = ["toy_source"]


def settings(source, **changes):
    data = section.defaults()
    data.update(source=source, size=8, count=12, **changes)
    return data


def test_the_shipped_sources_and_what_only_some_offer():
    names = named_source.names("jaxgen.data.captioned")
    bare = ["depth", "plain", "segmentation"]
    assert names == sorted(["coco", "cub", "emoji", "folder", "shapes", *bare])
    found = {name: find_source(name) for name in names}
    assert [name for name in names if not found[name].CAPTIONED] == bare
    assert [name for name in names if not found[name].EXAMPLE] == bare
    assert [name for name in names if found[name].KIND != "photo"] == ["depth", "segmentation"]
    assert [name for name in names if found[name].BOXES] == ["cub"]
    assert [name for name in names if found[name].vocabulary] == ["shapes"]
    assert [name for name in names if "held_out" in found[name].SPLITS] == ["shapes"]


def test_a_source_of_ones_own_is_trained_on_without_a_registry(toy_source):
    data = resolve(ConfigDict({"data": settings(toy_source)})).data
    # By frequency, then by the alphabet.
    assert data.vocabulary == ("a", "all", "picture", "blue", "green", "red")
    records, transform = train_data(data)
    assert len(records) == 12
    batch = pipeline.train_dataset(records, transform, batch_size=16, seed=0)[0]
    assert batch["image"].shape == (16, 8, 8, 3)
    for i in range(16):
        name = list(COLOURS)[batch["meaning"][i]]
        assert tuple(batch["image"][i, 0, 0]) == COLOURS[name]
        assert len(SPECIAL) + data.vocabulary.index(name) in batch["tokens"][i]
    assert len(validation_data(data)) == len(COLOURS)
    assert not make_tokenizer(data).encode(EXAMPLE).unknown


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_its_prompts_are_read_once_its_captions_are(tokenizer, toy_source):
    data = settings(toy_source, tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"tokenizers\.resolve\(config\)"):
        make_tokenizer(data)
    filled = resolve(ConfigDict({"data": data})).data
    assert make_tokenizer(filled).ids("a red picture")


def test_its_own_check_and_what_it_lacks(toy_source):
    section.check(settings(toy_source))
    with pytest.raises(UserError, match=r"set data\.enlarge to 1"):
        section.check(settings(toy_source, enlarge=1.5, crop="random"))
    with pytest.raises(UserError, match=r"data\.source=colours have no boxes"):
        section.check(settings(toy_source, crop="bbox"))
    with pytest.raises(UserError, match="no split held_out; it has train, validation"):
        open_records(settings(toy_source), "held_out")


def test_its_example_stands_on_the_model_card(toy_source):
    model = daubs()
    model.config.data = settings(toy_source)
    assert f'jaxgen generate "{EXAMPLE}"' in model_card("mine", model)
    model.config.data.source = "elsewhere"
    assert 'jaxgen generate "a text"' in model_card("mine", model)


def test_words_known_beforehand_need_no_captions(monkeypatch):
    drawn = types.ModuleType("jaxgen.data.captioned.drawn")
    drawn.EXAMPLE, drawn.vocabulary = "dots", lambda: ("dots", "lines")
    drawn.open_records = lambda data, split: pytest.fail("opened")
    monkeypatch.setitem(sys.modules, drawn.__name__, drawn)
    assert make_tokenizer(settings("drawn")).vocabulary == ("dots", "lines")


def test_a_source_that_lacks_a_package_says_which(monkeypatch):
    def find_spec(name, path=None, target=None):
        if name == "jaxgen.data.captioned.coco":
            raise ModuleNotFoundError("No module named 'nonesuch'", name="nonesuch")

    monkeypatch.delitem(sys.modules, "jaxgen.data.captioned.coco", raising=False)
    blocked = types.SimpleNamespace(find_spec=find_spec)
    monkeypatch.setattr(sys, "meta_path", [blocked, *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="nonesuch"):
        find_source("coco")
