"""Emoji as captioned pictures: what is drawn, what it is called, and what is kept apart."""

import collections
import pickle

import numpy as np
import pytest
from PIL import features

from jaxgen.data.builders import emoji as builder
from jaxgen.data.captioned import emoji, examples, section, tokenizers
from jaxgen.data.tfds import prepare_tfds
from jaxgen.errors import UserError


@pytest.fixture(scope="module")
def font() -> str:
    """The font's path, where there is one."""
    from pathlib import Path

    if not Path(emoji.FONT).is_file():
        pytest.skip("needs the Debian package fonts-noto-color-emoji")
    if not features.check("raqm"):
        pytest.skip("needs Pillow with Raqm")
    return emoji.FONT


def settings(**changes):
    data = section.defaults()
    data.update({"source": "emoji", "size": 32, **changes})
    return data


@pytest.fixture(scope="module")
def sources(font) -> dict[str, emoji.Emoji]:
    return {split: emoji.Emoji(settings(), split) for split in ("train", "validation")}


def names(source: emoji.Emoji) -> dict[str, tuple[str, ...]]:
    return {one.text: one.captions for one in source._emoji}


# ---- names and bases: without the font -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\U0001f600", ("grinning face", "grinning")),
        ("\u2764\ufe0f", ("red heart", "heavy black heart", "heart")),
        ("\U0001f44d", ("thumbs up", "thumbs up sign", "thumbsup")),  # without "+1"
        ("\U0001f44b\U0001f3ff", ("waving hand dark skin tone",)),
        ("#\ufe0f\u20e3", ("keycap #", "hash")),
    ],
)
def test_captions_are_cldr_then_unicode_then_aliases(text, said):
    found = {one.text: one.captions for one in emoji.every()}
    assert found[text] == said
    assert len(found) > 3500


def test_flags_say_that_they_are_flags():
    found = {one.text: one.captions for one in emoji.every()}
    assert found["\U0001f1e6\U0001f1fc"][0] == "flag Aruba"
    england = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert found[england][0] == "flag England"
    assert found["\U0001f600"][0] == "grinning face"


@pytest.mark.parametrize(
    "forms",
    [
        # Waving hand, in all tones.
        ["\U0001f44b", "\U0001f44b\U0001f3fb", "\U0001f44b\U0001f3ff"],
        # Person, woman, man; with red hair they are another base.
        ["\U0001f9d1", "\U0001f469\U0001f3fd", "\U0001f468"],
        ["\U0001f9d1\u200d\U0001f9b0", "\U0001f469\U0001f3fb\u200d\U0001f9b0"],
        # Running: person, woman, man, person to the right.
        ["\U0001f3c3", "\U0001f3c3\u200d\u2640\ufe0f", "\U0001f3c3\U0001f3fb\u200d\u2642"],
        ["\U0001f3c3", "\U0001f3c3\u200d\u27a1\ufe0f"],
        # Families, couples and handshakes, spelt out and as one character.
        ["\U0001f46a", "\U0001f468\u200d\U0001f469\u200d\U0001f466", "\U0001f469\u200d\U0001f467"],
        ["\U0001f46d", "\U0001f469\U0001f3fb\u200d\U0001f91d\u200d\U0001f469\U0001f3ff"],
        ["\U0001f491", "\U0001f468\u200d\u2764\ufe0f\u200d\U0001f468"],
        ["\U0001f91d", "\U0001faf1\U0001f3fb\u200d\U0001faf2\U0001f3ff"],
    ],
)  # fmt: skip
def test_tones_and_genders_share_a_base(forms):
    assert len({emoji.base(form) for form in forms}) == 1


def test_other_emoji_have_other_bases():
    different = [
        "\U0001f44b", "\U0001f44d", "\U0001f9d1", "\U0001f9d1\u200d\U0001f9b0", "\U0001f46a",
        "\U0001f3fb", "\u2640\ufe0f", "\U0001f1e6\U0001f1fc", "\U0001f1e6\U0001f1e9",
        "1\ufe0f\u20e3", "2\ufe0f\u20e3", "\U0001f9d1\u200d\u2695\ufe0f",
    ]  # fmt: skip
    assert len({emoji.base(text) for text in different}) == len(different)


def test_a_missing_font_says_what_to_install(tmp_path):
    with pytest.raises(UserError, match=r"install the Debian package fonts-noto-color-emoji, or"):
        emoji.Emoji(settings(font=str(tmp_path / "none.ttf")), "train")
    other = tmp_path / "text.ttf"
    other.write_text("no font")
    with pytest.raises(UserError, match=r"data\.font needs a font of colour bitmaps"):
        emoji.Emoji(settings(font=str(other)), "train")


# ---- pictures ------------------------------------------------------------------------------------


def test_records(sources):
    source = sources["train"]
    record = source[5]
    assert record["image"].shape == (32, 32, 3)
    assert record["image"].dtype == np.uint8
    assert record["_name"] == record["_captions"][0]
    assert record["_emoji"] == source._emoji[5].text
    assert source[-1]["_emoji"] == source._emoji[-1].text
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[5]["image"], record["image"])
    assert list(source.captions())[5] == record["_captions"]


@pytest.mark.parametrize("size", [32, 64, 136])
def test_emoji_look_as_they_are_called(font, size):
    def mean(text):
        return emoji.draw(text, size, font)[size // 4 : -size // 4, size // 4 : -size // 4].mean(
            (0, 1)
        )

    red, green, blue = mean("\u2764\ufe0f")
    assert red > 2 * max(green, blue)
    red, green, blue = mean("\U0001f49a")  # green heart
    assert green > max(red, blue)
    red, green, blue = mean("\U0001f600")
    assert min(red, green) > blue + 60  # yellow
    dark, light = (mean("\U0001f44b" + tone).mean() for tone in ("\U0001f3ff", "\U0001f3fb"))
    assert light > dark + 60
    picture = emoji.draw("\U0001f600", size, font)
    assert (picture[0, 0] == 255).all()  # white around


def test_the_drawable_ones_are_each_one_glyph(font, sources):
    drawn = {one.text for one in emoji.drawable(font)}
    assert len(drawn) > 3000
    assert "\U0001f468\u200d\U0001f469\u200d\U0001f466" in drawn
    assert "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f" in drawn
    face = emoji._face(font)
    assert not emoji._has(face, "\U0010ffff")
    assert not emoji._has(face, "\U0001f600\U0001f600")
    # Flags of nowhere: one with a question mark, or the black one alone.
    assert not emoji._has(face, "\U0001f3f4\U000e0079\U000e0079\U000e0079\U000e007f")
    assert not emoji._has(face, "\U0001f1fd\U0001f1fe")
    pictures = {sources["validation"][i]["image"].tobytes() for i in range(0, 200, 4)}
    assert len(pictures) > 40


def test_splits_share_no_base_no_meaning_and_no_caption(sources):
    train, held = sources["train"], sources["validation"]
    assert 0.05 < len(held) / (len(held) + len(train)) < 0.2
    for key in (
        lambda s: {one.base for one in s._emoji},
        lambda s: set(s._meanings),
        lambda s: {text for captions in s.captions() for text in captions},
    ):
        assert not key(train) & key(held)


def test_meanings_are_equal_just_where_bases_or_captions_are(sources):
    train = sources["train"]
    by_base, by_caption = collections.defaultdict(set), collections.defaultdict(set)
    for one, meaning in zip(train._emoji, train._meanings, strict=True):
        by_base[one.base].add(meaning)
        for text in one.captions:
            by_caption[text].add(meaning)
    assert all(len(found) == 1 for found in (*by_base.values(), *by_caption.values()))
    # Hardly anything else is merged.
    assert len(set(train._meanings)) > 0.97 * len(by_base)
    assert max(train._meanings) < 2**31


def test_without_raqm_single_code_points_are_left(font, monkeypatch, caplog):
    monkeypatch.setattr(emoji.features, "check", lambda name: False)
    emoji._face.cache_clear()
    try:
        with caplog.at_level("WARNING", logger="absl"):
            found = {one.text for one in emoji.drawable.__wrapped__(font)}
        picture = emoji.draw("\u2764\ufe0f", 32, font)
    finally:
        emoji._face.cache_clear()
    assert sum("Raqm" in r.getMessage() for r in caplog.records) == 1
    assert {"\U0001f600", "\u2764\ufe0f"} <= found
    assert len(found) > 1000
    assert all(len(text.replace("\ufe0f", "")) == 1 for text in found)
    red, green, blue = picture[8:24, 8:24].mean((0, 1))
    assert red > 2 * max(green, blue)


def test_as_training_data(font):
    config = tokenizers.resolve(_config())
    assert 500 < len(config.data.vocabulary) <= 1024
    records, transform = examples.train_data(config.data)
    from jaxgen.data import pipeline

    batch = pipeline.train_dataset(records, transform, batch_size=16, seed=0)[0]
    assert batch["image"].shape == (16, 16, 16, 3)
    assert batch["mask"].sum() > 32


def _config():
    from ml_collections import ConfigDict

    return ConfigDict({"data": settings(size=16, crop="random", enlarge=1.25)})


def test_tfds_builder(font, tmp_path, monkeypatch, sources):
    few = tuple(emoji.drawable(font)[i] for i in range(0, 3600, 90))
    monkeypatch.setattr(emoji, "drawable", lambda font: few)
    prepare_tfds("emoji/16", tmp_path)
    ready = builder.builder(tmp_path, 16)
    assert ready.info.splits["train"].num_examples == 36
    records = ready.as_data_source("validation")
    own = emoji.Emoji(settings(size=16), "validation")
    assert len(records) == len(own) == 4
    expected = {record["_emoji"]: record for record in (own[i] for i in range(4))}
    for record in records:
        other = expected[record["emoji"].decode()]
        np.testing.assert_array_equal(record["image"], other["image"])
        assert tuple(text.decode() for text in record["captions"]) == other["_captions"]
        assert record["meaning"] == other["meaning"]
    with pytest.raises(UserError, match="8 pixels or more"):
        builder.builder(tmp_path, 4)
    assert builder.builder(tmp_path, 64).builder_config.name == "64"
