"""Captioned data: settings, tokenizers that travel with the config, examples, cached features."""

import pickle
import re

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data import pipeline
from jaxgen.data.captioned import examples, section, shapes, tokenizers
from jaxgen.data.captioned.records import center, open_records, validation_data
from jaxgen.data.text import features as embeddings
from jaxgen.data.text.tokens import PAD, SPECIAL, START, UNKNOWN
from jaxgen.errors import UserError


def settings(**changes) -> ConfigDict:
    data = section.defaults()
    data.update(changes)
    return data


def resolved(**changes) -> ConfigDict:
    return tokenizers.resolve(ConfigDict({"data": settings(**changes)})).data


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures, 20x12, whose gray level is ten times their number; a text beside each."""
    for i in range(20):
        pixels = np.full((12, 20, 3), 10 * i, np.uint8)
        pixels[:, :10] += 3  # the left half is brighter
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
        (tmp_path / f"{i:02d}.txt").write_text(f"picture number {i}\nthe gray one, {i}\n")
    return tmp_path


def batch_of(data, count=64, seed=0):
    records, transform = examples.train_data(data)
    return pipeline.train_dataset(records, transform, batch_size=count, seed=seed)[0]


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"source": "photos"},
            r"one of coco, cub, depth, emoji, folder, plain, segmentation, shapes, not 'photos'$",
        ),
        ({"source": "foldr"}, r"not 'foldr'; did you mean folder\?"),
        ({"source": "../shapes"}, r"data\.source must be one of"),
        ({"source": "pictures"}, r"data\.source must be one of"),  # beside the sources, and none
        ({"crop": "left"}, r"data\.crop must be one of"),
        ({"tokenizer": "letters"}, r"data\.tokenizer must be one of words, bpe, clip"),
        ({"size": 4}, r"data\.size must be at least 8"),
        ({"length": 1}, r"data\.length must be at least 2"),
        ({"holdout": 1.0}, r"data\.holdout must be below 1"),
        ({"objects": (2, 1)}, r"data\.objects"),
        ({"enlarge": 1.2, "source": "folder"}, r"data\.enlarge=1\.2 needs data\.crop=random"),
        ({"crop": "bbox", "source": "folder"}, r"data\.source=folder have no boxes"),
        ({"flip": True}, "captions say where things are"),
        ({"captions_per_example": 4}, r"needs data\.embeddings"),
        ({"tokenizer": "bpe", "vocabulary_size": 100}, "259 ids"),
    ],
)
def test_impossible_settings_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        section.check(settings(**changes))


def test_unknown_and_missing_keys_are_named():
    section.check(section.defaults())
    data = settings()
    data.flipp = True
    with pytest.raises(UserError, match=r"data\.flipp; did you mean data\.flip\?"):
        section.check(data)
    data = settings()
    del data.holdout
    with pytest.raises(UserError, match=r"data\.holdout is missing; start from jaxgen\.data\.capt"):
        section.check(data)


# ---- tokenizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_shapes_are_read_with_or_without_resolving(tokenizer):
    data = settings(tokenizer=tokenizer, count=50)
    full = resolved(tokenizer=tokenizer, count=50)
    assert bool(full.vocabulary) == (tokenizer == "words")
    assert bool(full.tokenizer_json) == (tokenizer == "bpe")
    one, two = tokenizers.make_tokenizer(data), tokenizers.make_tokenizer(full)
    assert one.size == two.size
    for i in range(20):
        for text in shapes.Shapes("validation", 20, 16)[i]["_captions"]:
            prompt = one.encode(text)
            np.testing.assert_array_equal(prompt.tokens, two.encode(text).tokens)
            assert not prompt.unknown
            assert not prompt.cut


def test_resolving_changes_a_copy_and_only_once(folder):
    config = ConfigDict({"data": settings(source="folder", path=str(folder)), "family": "x"})
    config.lock()
    full = tokenizers.resolve(config)
    assert config.data.vocabulary == ()
    assert full.is_locked
    # The most frequent words first, equal ones by the alphabet.
    assert full.data.vocabulary[:6] == (",", "gray", "number", "one", "picture", "the")
    assert tokenizers.resolve(full).to_json() == full.to_json()
    assert tokenizers.resolve(config).to_json() == full.to_json()
    full.data.vocabulary = ("gray",)
    assert tokenizers.resolve(full).data.vocabulary == ("gray",)


def test_prompts_of_an_unresolved_config_are_refused(folder):
    with pytest.raises(UserError, match=r"data\.vocabulary is empty"):
        tokenizers.make_tokenizer(settings(source="folder", path=str(folder)))


def test_words_outside_a_cut_vocabulary_and_long_captions_are_reported(folder, caplog):
    data = resolved(source="folder", path=str(folder), vocabulary_size=6, length=4)
    tokenizer = tokenizers.make_tokenizer(data)
    assert len(data.vocabulary) == 6
    report = tokenizers.report(["picture of gray", "the gray one , number"], tokenizer)
    assert "12.50% of the training captions' words" in report
    assert "1 of 2 captions are longer than data.length=4" in report
    assert tokenizers.report(["gray number"], tokenizer) == ""
    with caplog.at_level("WARNING", logger="absl"):
        examples.train_data(data)
    said = [r.getMessage() for r in caplog.records if "<unk>" in r.getMessage()]
    assert len(said) == 1
    assert "18 of 36 captions are longer" in said[0]
    prompt = tokenizer.encode("gray zebra")
    assert list(prompt.unknown) == ["zebra"]
    assert prompt.tokens[2] == UNKNOWN


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        (
            lambda i: ["a bird"],
            r"all captions are equal.*\(20 pictures have .*'a bird'\)",
        ),
        (lambda i: [f"bird {i}", "a photo"], "all captions are equal, or linked by equal ones"),
        (lambda i: ["a bird" if i < 16 else f"bird {i}"], "16 of 20 pictures have one meaning"),
        (lambda i: [f"bird {i // 4}"], ""),
    ],
)
def test_captions_that_can_hardly_mismatch_are_named_before_training(
    folder, caplog, captions, says
):
    for i in range(20):
        (folder / f"{i:02d}.txt").write_text("\n".join(captions(i)))
    data = resolved(source="folder", path=str(folder), holdout=0.0)
    with caplog.at_level("WARNING", logger="absl"):
        examples.train_data(data)
    said = [r.getMessage() for r in caplog.records if "mismatched pairs" in r.getMessage()]
    assert len(said) == bool(says)
    assert not says or re.search(says, said[0])


# ---- examples ------------------------------------------------------------------------------------


def test_examples_of_shapes():
    data = resolved(size=16, count=40, length=20)
    batch = batch_of(data)
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "image": ((64, 16, 16, 3), "uint8"),
        "tokens": ((64, 20), "int32"),
        "mask": ((64, 20), "bool"),
        "meaning": ((64,), "int32"),
    }
    assert (batch["tokens"][:, 0] == START).all()
    assert (batch["tokens"][~batch["mask"]] == PAD).all()
    assert batch["tokens"].max() < len(SPECIAL) + len(data.vocabulary)
    # Several captions of a picture come, and nothing but the seed decides which.
    np.testing.assert_array_equal(batch_of(data)["tokens"], batch["tokens"])
    assert (batch_of(data, seed=1)["tokens"] != batch["tokens"]).any()
    first = batch["image"][0]
    many = batch_of(data, count=1000)
    same = (many["image"] == first).all(axis=(1, 2, 3))
    assert len({tokens.tobytes() for tokens in many["tokens"][same]}) > 3


@pytest.mark.parametrize("split", ["validation", "held_out"])
def test_validation_shapes_have_captions_and_no_chance(split):
    data = settings(size=16)
    records = validation_data(data, split)
    assert validation_data(settings(size=16), split) is records  # for each evaluation
    one, again = records[3], open_records(data, split)[3]
    assert one["image"].shape == (16, 16, 3)
    np.testing.assert_array_equal(one["image"], again["image"])
    assert one["_captions"] == again["_captions"]
    assert one["meaning"] == again["meaning"]
    assert len(records) == 1000


def test_only_shapes_are_held_out_by_pairs(folder):
    with pytest.raises(UserError, match="no split held_out"):
        validation_data(settings(source="folder", path=str(folder)), "held_out")


def test_crops_and_flips_of_a_folder(folder):
    common = {"source": "folder", "path": str(folder), "size": 8, "holdout": 0.0}
    # The middle of a picture that was 20x12 is half bright: 13x8 after fitting.
    batch = batch_of(resolved(**common))
    assert batch["image"].shape == (64, 8, 8, 3)
    left, right = batch["image"][:, 4, 0, 0].astype(int), batch["image"][:, 4, -1, 0].astype(int)
    np.testing.assert_array_equal(left - right, 3)
    flipped = batch_of(resolved(**common, flip=True))["image"][:, 4].astype(int)
    signs = np.sign(flipped[:, 0, 0] - flipped[:, -1, 0])
    assert 0.25 < (signs < 0).mean() < 0.75
    # Random crops of a picture 25x15 see one half, the other, or both.
    moved = batch_of(resolved(**common, crop="random", enlarge=15 / 8), count=200)["image"]
    difference = moved[:, 4, 0, 0].astype(int) - moved[:, 4, -1, 0].astype(int)
    assert {0, 3} <= set(difference.tolist())
    # The level is the picture's number times ten: captions belong to their pictures.
    data = resolved(**common)
    batch = batch_of(data)
    words = dict(enumerate(data.vocabulary, len(SPECIAL)))
    for i in range(64):
        said = [words[t] for t in batch["tokens"][i][batch["mask"][i]][1:]]
        assert str(int(batch["image"][i, 4, -1, 0]) // 10) == said[-1]
    assert len(set(batch["meaning"].tolist())) > 10


def test_a_picture_of_the_right_size_is_not_touched():
    image = np.zeros((8, 8, 3), np.uint8)
    assert center(image, 8).base is image
    assert np.shares_memory(center(image, 8), image)


def test_validation_pictures_of_a_folder(folder):
    data = resolved(source="folder", path=str(folder), size=8, holdout=0.25)
    records = validation_data(data)
    assert len(records) == 5
    assert {r["image"].shape for r in records} == {(8, 8, 3)}
    training = {r["_name"] for r in open_records(data, "train")}
    assert not training & {r["_name"] for r in records}
    assert len(training) == 15


def test_transforms_travel_to_workers(folder):
    data = resolved(source="folder", path=str(folder), size=8, tokenizer="bpe", length=12)
    make = pickle.loads(pickle.dumps(examples.MakeExample(data)))
    record = pickle.loads(pickle.dumps(open_records(data, "train")))[0]
    one = make(record, np.random.default_rng(1))
    two = examples.MakeExample(data)(record, np.random.default_rng(1))
    for key, value in two.items():
        np.testing.assert_array_equal(one[key], value)


# ---- precomputed features ------------------------------------------------------------------------


@pytest.fixture
def features(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(20):
        for text in (f"picture number {i}", f"the gray one, {i}"):
            words = rng.normal(size=(i % 7 + 1, 6))
            rows.append({"caption": text, "words": words, "sentence": rng.normal(size=5)})
    path = tmp_path / "features.array_record"
    assert embeddings.write(path, [*rows, rows[0]], {"encoder": "noise"}) == 40
    return path, {row["caption"]: row for row in rows}


def test_features_come_back_by_caption(features):
    path, rows = features
    cache = pickle.loads(pickle.dumps(embeddings.Embeddings(path)))
    assert cache.about == {"encoder": "noise"}
    assert (len(cache), cache.words, cache.sentence) == (40, 6, 5)
    for text, row in rows.items():
        words, sentence = cache.read(f" {text} ")  # white space does not count
        assert words.dtype == sentence.dtype == np.float32
        np.testing.assert_array_equal(words, row["words"].astype(np.float16))
        np.testing.assert_array_equal(sentence, row["sentence"].astype(np.float16))
    assert "picture number 3" in cache
    with pytest.raises(UserError, match=r"no features of the caption 'a new one'.*anew"):
        cache.read("a new one")


def test_examples_carry_features_instead_of_tokens(folder, features):
    path, rows = features
    common = {"source": "folder", "path": str(folder), "size": 8, "length": 5}
    data = resolved(**common, embeddings=str(path))
    batch = batch_of(data)
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "image": ((64, 8, 8, 3), "uint8"),
        "words": ((64, 5, 6), "float32"),
        "mask": ((64, 5), "bool"),
        "sentence": ((64, 5), "float32"),
        "meaning": ((64,), "int32"),
    }
    number = int(batch["image"][0, 4, -1, 0]) // 10
    texts = (f"picture number {number}", f"the gray one, {number}")
    known = [rows[text]["sentence"].astype(np.float16) for text in texts]
    assert any((batch["sentence"][0] == sentence).all() for sentence in known)
    assert batch["mask"][0].sum() == min(5, number % 7 + 1)
    assert (batch["words"][~batch["mask"]] == 0).all()
    # The mean of both captions, whichever was drawn first.
    data.captions_per_example = 2
    mean = batch_of(data)
    number = int(mean["image"][0, 4, -1, 0]) // 10
    texts = (f"picture number {number}", f"the gray one, {number}")
    known = np.mean([rows[t]["sentence"].astype(np.float16).astype(np.float32) for t in texts], 0)
    np.testing.assert_allclose(mean["sentence"][0], known, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"words": np.ones((2, 3)), "sentence": np.ones(9)}, "are 3 and 9 wide"),
        ({"words": np.ones(3), "sentence": np.ones(4)}, "must have 2 axes"),
        ({"words": np.ones((2, 3)), "sentence": np.full(4, 1e6)}, "float16 cannot hold"),
        ({"words": np.full((2, 3), np.nan), "sentence": np.ones(4)}, "float16 cannot hold"),
    ],
)
def test_impossible_features_leave_no_file(row, says, tmp_path):
    good = {"caption": "one", "words": np.ones((1, 3)), "sentence": np.ones(4)}
    with pytest.raises(UserError, match=says):
        embeddings.write(tmp_path / "f", [good, {"caption": "two", **row}], {})
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        embeddings.Embeddings(tmp_path / "none")
    (tmp_path / "text").write_text("not features")
    with pytest.raises(UserError, match="no file of text features"):
        embeddings.Embeddings(tmp_path / "text")
