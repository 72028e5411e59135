"""`jaxgen prepare embeddings`: from a trained text encoder to a run that trains on its features."""

import jax
import numpy as np
import pytest
from helpers import REPOSITORY

import jaxgen
from jaxgen import config as configs
from jaxgen.data import pipeline
from jaxgen.data.captioned import tokenizers
from jaxgen.data.captioned.records import open_records
from jaxgen.data.shard import Shard
from jaxgen.data.text import features as embeddings
from jaxgen.errors import UserError
from jaxgen.runs import precompute as text_features
from jaxgen.runs.model import Model
from jaxgen.train import loop
from jaxgen.train.family import load_task, resolve
from jaxgen.weights.nets import open_nets

CONFIG = f"{REPOSITORY}/configs/gan_cls.py:tiny"
SHORT = {"train.steps": 2, "train.eval_every": -1, "data.count": 16}
FIXED = {"model.text.trained_by": "none", "model.damsm_steps": 0}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """An exported model, as it was before training: that would take longer and change nothing."""
    # Unlike the order of shapes' own words, so that only the file can tell it.
    vocabulary = tuple(reversed(tokenizers.resolve(configs.load(CONFIG)).data.vocabulary))
    config = resolve(configs.load(CONFIG, {**SHORT, "data.vocabulary": vocabulary}))
    task = load_task(config)
    params, state = jax.jit(task.init)(jax.random.key(3), _batch(task))
    nets = {net: {"params": params[net], **state.get(net, {})} for net in params}
    return Model("first", config, nets, 0).export(tmp_path_factory.mktemp("first") / "model")


def _batch(task):
    records, transform = task.train_data()
    return pipeline.train_dataset(records, transform, batch_size=4, seed=0)[0]


@pytest.fixture(scope="module")
def features(first):
    path = first.parent / "features.array_record"
    seen = []
    tower = text_features.of_model(first)
    count = text_features.write(
        configs.load(CONFIG, SHORT), tower, path, lambda *now: seen.append(now)
    )
    assert seen[-1] == (count, count)
    return path


@pytest.mark.slow
def test_from_the_encoder_to_pictures(first, tmp_path, jaxgen_command):
    args = ("prepare", "embeddings", "--config", CONFIG, "--set", "data.count=16")
    code, out, err = jaxgen_command(*args, "--model", first, "-o", "f.array_record")
    assert code == 0, err
    assert "f.array_record" in out
    assert f"--config.train.init_from.text={first}" in out
    overrides = SHORT | FIXED | {
        "data.embeddings": str(tmp_path / "f.array_record"), "train.init_from.text": str(first)
    }  # fmt: skip
    result = loop.train(configs.load(CONFIG, overrides), tmp_path / "second")
    assert result.step == 2
    before, model = jaxgen.load(first), jaxgen.load(tmp_path / "second")
    # The encoder came along, with its own words, and nothing trained it.
    assert model.config.data.vocabulary == before.config.data.vocabulary
    jax.tree.map(np.testing.assert_array_equal, model.nets["text"], before.nets["text"])
    assert not model.generate.read("a large red circle").unknown
    assert model.generate("a large red circle", n=2, seed=1).shape == (2, 16, 16, 3)


def test_features_are_those_of_the_encoder(first, features):
    from jaxgen.tasks.t2i.task import make_text_encoder

    records = open_records(configs.load(CONFIG, SHORT).data, "train")
    texts = {text for captions in records.captions() for text in captions}
    assert texts == {text for i in range(16) for text in records[i]["_captions"]}
    file = embeddings.Embeddings(features)
    assert len(file) == len(texts)
    config = configs.from_json(first / "config.json")
    variables = open_nets(first, ("text",)).nets["text"]
    for text in sorted(texts)[:3]:
        prompt = tokenizers.make_tokenizer(config.data).encode(text)
        own = make_text_encoder(config).apply(variables, prompt.tokens[None], prompt.mask[None])
        words, sentence = file.read(text)
        np.testing.assert_allclose(sentence, own.sentence[0], atol=2e-3)
        np.testing.assert_allclose(words, own.words[0][prompt.mask], atol=2e-3)


@pytest.mark.parametrize("family", ["dfgan", "gan_cls", "ssagan", "stackgan"])
def test_every_family_starts_from_features(family, first, features):
    changes = {"data.embeddings": str(features), "train.init_from.text": str(first), **FIXED}
    config = configs.load(f"{REPOSITORY}/configs/{family}.py:tiny", {"data.count": 16} | changes)
    task = load_task(resolve(config))
    batch = _batch(task)
    assert "tokens" not in batch
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    assert {"text", "g", "d"} <= set(params)
    assert not any("text" in phase.nets for phase in task.phases)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.text.trained_by": "d"}, "set model.text.trained_by=none"),
        ({"model.damsm_steps": 5}, "model.damsm_steps=0"),
        ({"data.tokenizer": "bpe"}, "set data.tokenizer=words"),
        ({"model.text.width": 6}, "sentences of 8 and 8, model.text of 6 and 6"),
    ],
)
def test_settings_that_do_not_go_with_features(changes, message, features, tmp_path):
    overrides = SHORT | FIXED | {"data.embeddings": str(features)} | changes
    with pytest.raises(UserError, match=message):
        loop.train(configs.load(CONFIG, overrides), tmp_path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("embeddings", "--config", CONFIG), "jaxgen prepare embeddings --config FILE --model RUN"),
        (("photos", "--model", "x"), "are for `jaxgen prepare embeddings`"),
        (("embeddings", "--config", CONFIG, "--model", "srgan_x4", "-o", "f"), "no text encoder"),
        (("emoji/big",), "the side of the pictures"),
        (("captioned_shapes/64",), "captioned_shapes/64_three"),
    ],
)
def test_mistakes_on_the_command_line(args, message, jaxgen_command):
    code, _, err = jaxgen_command("prepare", *args)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_datasets_that_are_drawn_are_prepared_by_name(jaxgen_command, tmp_path):
    name = "captioned_shapes/16_two_3"
    code, out, err = jaxgen_command("prepare", name, "--data-dir", "tfds")
    assert code == 0, err
    folder = tmp_path / "tfds" / "captioned_shapes" / "16_two_3" / "1.0.0"
    assert str(folder.relative_to(tmp_path)) in out
    assert any("array_record" in file.name for file in folder.iterdir())


# ---- by shares -----------------------------------------------------------------------------------


@pytest.fixture
def shares(tmp_path, monkeypatch):
    """(config, tower, files of three shares, file of the whole); batches of 4 captions."""
    monkeypatch.setattr(text_features, "BATCH", 4)

    def encode(texts):
        rows = [np.random.default_rng(list(text.encode())) for text in texts]
        return [(rng.normal(size=(3, 3)), rng.normal(size=5)) for rng in rows]

    config, tower = configs.load(CONFIG, SHORT), text_features.TextTower(encode, {"encoder": "toy"})
    files = [tmp_path / f"{number}.part" for number in (1, 2, 3)]
    counts = [
        text_features.write(config, tower, file, shard=Shard(number, 3))
        for number, file in enumerate(files, 1)
    ]
    whole = tmp_path / "whole"
    assert text_features.write(config, tower, whole) == sum(counts)
    assert min(counts) > 0
    return config, tower, files, whole


def test_joined_shares_are_the_whole_byte_for_byte(shares, tmp_path, jaxgen_command):
    *_, files, whole = shares
    args = ("prepare", "embeddings", "--join", files[2], files[0], files[1], "-o", "joined")
    code, out, err = jaxgen_command(*args)
    assert code == 0, err
    assert "captions" in out
    assert (tmp_path / "joined").read_bytes() == whole.read_bytes()


def test_a_share_that_is_there_is_left(shares):
    config, tower, files, _ = shares
    never = text_features.TextTower(lambda texts: pytest.fail("encoded again"), tower.about)
    text_features.write(config, never, files[0], shard=Shard(1, 3))
    with pytest.raises(UserError, match="holds other features or another share"):
        text_features.write(config, never, files[0], shard=Shard(2, 3))
    with pytest.raises(UserError, match="share 999/999 is empty"):
        text_features.write(config, never, files[0], shard=Shard(999, 999))


def test_shares_that_make_no_whole(shares, tmp_path):
    config, tower, files, whole = shares
    out = tmp_path / "out"
    other = tmp_path / "other"
    text_features.write(
        config, text_features.TextTower(tower.encode, {"encoder": "b"}), other, shard=Shard(3, 3)
    )
    again = tmp_path / "again"
    again.write_bytes(files[0].read_bytes())
    for paths, message in [
        ([], "needs the files"),
        (files[:2], "are missing: 3"),
        ([*files, again], "are the same share, 1"),
        ([*files[:2], whole], "holds no share"),
        ([*files[:2], other], "not of one encoder"),
        ([*files[:2], tmp_path / "absent"], "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            text_features.join(paths, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("emoji/32", "--shard", "1/2"), "only embeddings, codes, latents can be made by shares"),
        (("emoji/32", "--join"), "only embeddings"),
        (("embeddings", "x"), "files are given with --join alone"),
        (("embeddings", "x", "--join"), "--join FILE... -o FILE"),
        (("latents", "--join", "-o", "f"), "needs the files of all shares"),
        (("codes", "--shard", "1/2"), "give: jaxgen prepare codes --config FILE --model RUN"),
    ],
)
def test_mistakes_with_shares(args, message, jaxgen_command):
    code, _, err = jaxgen_command("prepare", *args)
    assert code == 2
    assert message in err
