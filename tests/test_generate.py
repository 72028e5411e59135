"""Pictures of texts: what each one depends on, and what the command writes and says."""

import os
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tiny_model import ROOT, tiny_model

from jaxgen import generate, generate_files, grid, places, run, verbs
from jaxgen.data.tokens import WordTokenizer
from jaxgen.errors import UserError
from jaxgen.generate import Draw
from jaxgen.task import Generate

FAMILY = "daubs"  # a family of these tests: colour fields and one mask or none
SIZE = 16
WORDS = ("a", "large", "red", "blue", "circle", "square")


def make_verb(config):
    tokenizer = WordTokenizer(WORDS, 6)

    def embed(nets, tokens, mask):
        words = jnp.take(nets["text"]["params"]["table"], tokens, axis=0) * mask[..., None]
        return {"words": words, "mask": mask, "sentence": words.sum(axis=1)}

    def draw(nets, text, z):
        params = nets["g"]["params"]
        x = z @ params["noise"] + text["sentence"] @ params["text"]
        x = jnp.tanh(x).reshape(-1, SIZE, SIZE, 3)
        masks = (jax.nn.sigmoid(x[:, ::4, ::4, 0]), jax.nn.sigmoid(x[..., 1]))
        return x, masks if config.model.masks else ()

    return Generate(("text", "g"), SIZE, (4,), tokenizer.encode, embed, draw)


@pytest.fixture(autouse=True)
def family(monkeypatch, tmp_path):
    module = types.ModuleType(f"jaxgen.models.{FAMILY}")
    module.verbs = lambda config: {"generate": make_verb(config)}
    module.resolve = lambda config: config
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / ".cache"))


def daubs(masks=False, name="daubs"):
    rng = np.random.default_rng(0)
    pixels = SIZE * SIZE * 3
    arrays = {
        "table": rng.normal(0, 1, (3 + len(WORDS), 8)),
        "noise": rng.normal(0, 0.2, (4, pixels)),
        "text": rng.normal(0, 0.2, (8, pixels)),
    }
    arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
    nets = {
        "text": {"params": {"table": arrays["table"]}},
        "g": {"params": {"noise": arrays["noise"], "text": arrays["text"]}},
        "d": {"params": {"unused": np.zeros(3)}},
    }
    config = ConfigDict(
        {"family": FAMILY, "data": {"source": "shapes"}, "model": {"masks": masks}, "train": {}}
    )
    config.train.dtype = "float32"
    offered = {"generate": make_verb(config)}
    return run.Model(name, config, nets, step=9, metrics={"whole": 0.875}, verbs=offered)


@pytest.fixture(scope="module")
def model():
    return daubs()


# ---------------------------------------------------------------------- what a picture depends on


def test_one_text_or_several(model):
    one = model.generate("a red circle", 3, seed=1)
    assert (one.shape, one.dtype) == ((3, SIZE, SIZE, 3), np.uint8)
    several = model.generate(["a blue square", "a red circle"], 3, seed=1)
    assert several.shape == (2, 3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(several[1], one)
    assert np.unique(several.reshape(6, -1), axis=0).shape[0] == 6


def test_a_picture_depends_on_seed_text_and_number_alone(model):
    eight = model.generate("a red circle", 8, seed=1, batch=3)
    np.testing.assert_array_equal(model.generate("a red circle", 4, seed=1, batch=3), eight[:4])
    np.testing.assert_array_equal(model.generate("A  red circle!", seed=1, first=5)[0], eight[5])
    other = model.generate("a red circle", 8, seed=1, batch=5)
    assert np.abs(other.astype(int) - eight).max() <= 1
    assert np.any(model.generate("a red circle", 4, seed=2) != eight[:4])


def test_noise_is_each_texts_own_or_shared(model):
    verb = model.verbs["generate"]
    texts = ["a red circle", "a blue square"]
    one, other = (generate.text_number(model.read_prompt(text)) for text in texts)
    assert one != other
    assert np.any(generate.noise(verb, Draw(1, one, 0)) != generate.noise(verb, Draw(1, other, 0)))
    own, shared = (model.generate(texts, seed=1, same_noise=same) for same in (False, True))
    assert np.any(own != shared)
    np.testing.assert_array_equal(shared[1], model.generate(texts[1], seed=1, same_noise=True))


def test_noise_is_normal_and_truncation_keeps_its_order(model):
    verb = Generate((), SIZE, (20_000,), None, None, None)
    whole, cut, half = (generate.noise(verb, Draw(3, 4, 5), t) for t in (1.0, 1 - 1e-7, 0.5))
    assert abs(whole.mean()) < 0.02
    assert abs(whole.std() - 1) < 0.02
    assert np.abs(whole).max() > 3
    assert np.abs(cut).max() <= 2
    assert np.abs(cut).max() > 1.99
    np.testing.assert_allclose(half, 0.5 * cut, rtol=1e-6)
    np.testing.assert_array_equal(np.argsort(whole, kind="stable"), np.argsort(cut, kind="stable"))
    assert np.all(whole * cut >= 0)


def test_lower_truncation_varies_less(model):
    spread = [model.generate("a red circle", 16, truncation=t).std(axis=0).mean() for t in (1, 0.3)]
    assert spread[1] < 0.5 * spread[0]


def test_masks_come_with_the_pictures(model):
    masked = daubs(masks=True)
    masked.check_masks()
    pictures, masks = masked.generate_with_masks(["a red circle", "a square"], 3)
    assert [m.shape for m in masks] == [(2, 3, 4, 4), (2, 3, SIZE, SIZE)]
    assert all(m.min() >= 0 and m.max() <= 1 and m.dtype == np.float32 for m in masks)
    np.testing.assert_array_equal(pictures, masked.generate(["a red circle", "a square"], 3))
    assert masked.generate_with_masks("a red circle", 3)[1][0].shape == (3, 4, 4)
    assert model.generate_with_masks("a red circle")[1] == ()
    with pytest.raises(UserError, match="has no masks to show"):
        model.check_masks()


def test_progress_counts_pictures(model):
    seen = []
    model.generate(["a", "red"], 3, batch=4, progress=lambda *at: seen.append(at))
    assert seen == [(4, 6), (6, 6)]


def test_unknown_and_cut_words_are_named(model, caplog):
    model.generate(["a rad circle", "a a a a a large red"], batch=2)
    assert "the model does not know rad (nearest: red)" in caplog.text
    assert "left out: large red" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**32}, "seed must be"),
        ({"n": 0}, "at least 1 picture"),
        ({"first": -1}, "numbered from 0"),
        ({"truncation": 0}, "truncation must be"),
        ({"truncation": 1.5}, "truncation must be"),
        ({"truncation": float("nan")}, "truncation must be"),
        ({"batch": 0}, "batch must be"),
        ({"prompts": []}, "at least one text"),
    ],
)
def test_settings_out_of_range(model, changes, message):
    with pytest.raises(UserError, match=message):
        model.generate(**{"prompts": "a red circle", **changes})


# ------------------------------------------------------------------------------------ interpolation


def test_between_texts_the_noise_stays(model):
    way = model.interpolate("a red circle", "a blue square", 5, seed=1, first=2)
    assert way.shape == (5, SIZE, SIZE, 3)
    np.testing.assert_array_equal(way[0], model.generate("a red circle", seed=1, first=2)[0])
    # Linear in the features: this family's atanh of a picture is linear in them, too.
    line = np.arctanh(np.clip(way / 127.5 - 1, -0.99, 0.99))
    inner = np.abs(line).max(axis=0) < 2
    assert inner.mean() > 0.5
    np.testing.assert_allclose(line[2][inner], (line[0] + line[4])[inner] / 2, atol=0.15)


def test_between_noises_the_text_stays(model):
    way = model.interpolate("a red circle", steps=4, seed=1, first=2)
    ends = model.generate("a red circle", 2, seed=1, first=2)
    np.testing.assert_array_equal(way[[0, 3]], ends)
    z = [np.random.default_rng(s).normal(0, 1, (3, 50)).astype(np.float32) for s in (0, 1)]
    middle = generate.between_noises(*z, 0.5)
    assert (middle.shape, middle.dtype) == ((3, 50), np.float32)
    length = np.linalg.norm(middle)
    assert abs(length - np.sqrt(150)) < 1.5  # on the straight line it would be 8.7, not 12.2
    np.testing.assert_allclose(generate.between_noises(z[0], z[0], 0.3), z[0], rtol=1e-6)
    np.testing.assert_array_equal(generate.between_noises(*z, 1.0), z[1])


def test_a_way_needs_two_steps(model):
    with pytest.raises(UserError, match="at least 2 steps"):
        model.interpolate("a red circle", steps=1)


# ---------------------------------------------------------------------------- export, load, list


def test_exported_with_what_the_verb_needs(model, tmp_path):
    folder = model.export(tmp_path / "out")
    again = run.load(folder)
    assert sorted(again.nets) == ["g", "text"]
    np.testing.assert_array_equal(again.generate("a square", 2), model.generate("a square", 2))
    card = (folder / "README.md").read_text()
    assert f"Text to image, {SIZE} x {SIZE} pixels, family daubs" in card
    assert 'model.generate("a large red circle", n=8)' in card
    assert 'jaxgen generate "a large red circle" --model out -n 8 --seed 1 -o out.png' in card
    assert "upscale" not in card


def test_weights_that_do_not_fit_are_refused_in_one_line(model, tmp_path):
    def damaged(nets):
        folder = tmp_path / "damaged"
        broken = run.Model("damaged", model.config, nets, 1, verbs={})
        broken.export(folder, overwrite=True)
        with pytest.raises(UserError) as caught:
            run.load(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "lacks the net 'text'" in damaged({"g": model.nets["g"]})
    wrong = {"params": {"table": np.zeros((9, 5), np.float32)}}
    assert "do not fit its config.json" in damaged({**model.nets, "text": wrong})


def test_a_converted_generator_alone_is_for_training(model):
    config = model.config.copy_and_resolve_references()
    config.origin = ConfigDict({"net": "g", "file": "netG.pth", "layout": "x", "sizes": {}})
    assert verbs.verbs_of(config) == {}
    alone = run.Model("netG.pth", config, {"g": model.nets["g"]}, 0)
    assert list(alone.nets) == ["g"]
    with pytest.raises(UserError, match="does not generate"):
        alone.generate("a red circle")


def test_models_lists_both_kinds(model, jaxgen_command, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    model.export(places.BUNDLED / "dfgan_shapes")
    tiny_model().export(places.BUNDLED / "srgan_x4")
    code, out, _ = jaxgen_command("models")
    assert code == 0
    lines = {line.split()[1]: line for line in out.splitlines() if "_" in line}
    assert "generate" in lines["dfgan_shapes"]
    assert "16x16" in lines["dfgan_shapes"]
    assert "upscale" in lines["srgan_x4"]
    assert " x4 " in lines["srgan_x4"]
    assert jaxgen_command("generate", "a red circle", "-o", "o.png")[0] == 0  # the default


def test_each_verb_refuses_the_other_kind(model, jaxgen_command, tmp_path):
    model.export(tmp_path / "daubs")
    tiny_model().export(tmp_path / "sr")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, err = jaxgen_command("upscale", "a.png", "-o", "o.png", "--model", "daubs")
    assert (code, err) == (2, "error: daubs (family daubs) does not upscale; it can: generate\n")
    code, _, err = jaxgen_command("generate", "a", "-o", "o.png", "--model", "sr")
    assert (code, err) == (2, "error: sr (family srgan) does not generate; it can: upscale\n")


# -------------------------------------------------------------------------------------- the command


@pytest.fixture
def call(jaxgen_command, model, tmp_path):
    model.export(tmp_path / "daubs")
    daubs(masks=True).export(tmp_path / "masked")

    def generate(*args, model="daubs"):
        return jaxgen_command("generate", *args, "--model", model)

    return generate


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_sheet_of_all_pictures(call, model, tmp_path):
    code, out, err = call("a red circle", "a blue square", "-n", 3, "--seed", 1, "-o", "o.png")
    assert (code, err) == (0, "")
    assert out.startswith("o.png  6 pictures")
    sheet = read(tmp_path / "o.png")
    # Every picture is in it, enlarged eight times.
    for picture in model.generate(["a red circle", "a blue square"], 3, seed=1).reshape(
        -1, 16, 16, 3
    ):
        large = grid.enlarge(picture)
        assert large.shape == (128, 128, 3)
        corners = np.argwhere((sheet == large[0, 0]).all(axis=-1))
        assert any(np.array_equal(sheet[y : y + 128, x : x + 128], large) for y, x in corners), (
            "a picture is not in the sheet"
        )
    code, _, err = call("a red circle", "-o", "o.png")
    assert (code, err) == (2, "error: o.png exists; give --overwrite to replace it\n")
    assert call("a red circle", "-o", "o.png", "--overwrite")[0] == 0
    assert read(tmp_path / "o.png").shape[0] < sheet.shape[0]


def test_a_folder_of_pictures(call, model, tmp_path):
    code, out, _ = call("a red circle", "a blue square", "-n", 2, "--seed", 7, "-o", "out")
    assert code == 0
    assert out.startswith("out/grid.png\nout  4 pictures")
    names = [f"{text}_seed7_{k}.png" for text in ("a_blue_square", "a_red_circle") for k in (0, 1)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*names, "grid.png"]
    expected = model.generate("a red circle", 2, seed=7)
    np.testing.assert_array_equal(read(tmp_path / "out" / names[3]), expected[1])

    # The same again does what is missing, and no more.
    (tmp_path / "out" / names[1]).unlink()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "out" / names[0])
    code, out, _ = call("a red circle", "a blue square", "-n", 2, "--seed", 7, "-o", "out")
    assert "out  1 pictures" in out
    assert "3 of 4 were there already" in out
    assert read(tmp_path / "out" / names[0]).max() == 0
    again = model.generate("a blue square", 2, seed=7)
    np.testing.assert_array_equal(read(tmp_path / "out" / names[1]), again[1])
    call("a red circle", "a blue square", "-n", 2, "--seed", 7, "-o", "out", "--overwrite")
    np.testing.assert_array_equal(read(tmp_path / "out" / names[0]), again[0])


def test_prompts_from_a_file(call, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\n\n  a blue square \na red circle\n", "utf-8-sig")
    code, out, _ = call("--prompts", "p.txt", "a square", "-n", 1, "-o", "out")
    assert code == 0
    assert "3 pictures" in out  # the same prompt twice is one
    for text in ("a_square", "a_red_circle", "a_blue_square"):
        assert (tmp_path / "out" / f"{text}_seed0_0.png").exists()


def test_one_picture_again(call, model, tmp_path):
    assert call("a red circle", "-n", 1, "--first", 3, "--seed", 1, "-o", "out")[0] == 0
    found = read(tmp_path / "out" / "a_red_circle_seed1_3.png")
    np.testing.assert_array_equal(found, model.generate("a red circle", 4, seed=1)[3])


def test_masks_beside_the_pictures(call, tmp_path):
    code, _, err = call("a red circle", "-n", 2, "-o", "out", "--show-masks", model="masked")
    assert (code, err) == (0, "")
    wide = read(tmp_path / "out" / "a_red_circle_seed0_1_masks.png")
    assert wide.shape == (128, 3 * 128 + 2 * generate_files.GAP, 3)
    picture = read(tmp_path / "out" / "a_red_circle_seed0_1.png")
    np.testing.assert_array_equal(wide[:, :128], grid.enlarge(picture))
    sheets = [tmp_path / "wide.png", tmp_path / "plain.png"]
    call("a red circle", "-n", 2, "-o", sheets[0], "--show-masks", model="masked")
    call("a red circle", "-n", 2, "-o", sheets[1], model="masked")
    assert read(sheets[0]).shape[1] > 2 * read(sheets[1]).shape[1]
    code, _, err = call("a red circle", "-o", "no.png", "--show-masks")
    assert code == 2
    assert "has no masks to show" in err


def test_strips_between_texts_and_between_noises(call, model, tmp_path):
    code, _, _ = call("a red circle", "a blue square", "--interpolate", 4, "--seed", 1, "-o", "out")
    assert code == 0
    names = [f"a_red_circle_to_a_blue_square_seed1_0_{i:03d}.png" for i in range(4)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*names, "grid.png"]
    way = model.interpolate("a red circle", "a blue square", 4, seed=1)
    for name, picture in zip(names, way, strict=True):
        np.testing.assert_array_equal(read(tmp_path / "out" / name), picture)
    code, out, _ = call("a red circle", "--interpolate", 3, "-n", 2, "-o", "noise.png")
    assert code == 0
    assert out.startswith("noise.png  6 pictures")


def test_unknown_words_are_a_warning(call):
    code, _, err = call("a rad circle", "-o", "o.png")
    assert code == 0
    assert err == "warning: the model does not know rad (nearest: red)\n"
    _, _, err = call(*(f"a red thing{i}" for i in range(8)), "-n", 1, "-o", "out")
    assert err.count("\n") == 6
    assert "'a red thing0': the model does not know thing0" in err
    assert "and so in 3 more prompts" in err


def test_mistakes_are_one_line(call, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "file").write_text("x")
    for args, message in (
        (["-o", "o.png"], "say what to draw"),
        (["--prompts", "nowhere.txt", "-o", "o.png"], "cannot read nowhere.txt"),
        (["--prompts", "empty.txt", "-o", "o.png"], "holds no text"),
        (["--prompts", "bytes.txt", "-o", "o.png"], "not a text file"),
        (["a", "-o", "o.gif"], "cannot write .gif"),
        (["a", "-o", "file/o.png"], "cannot write to file"),
        (["a", "-o", "o.png", "-n", 600], "600 pictures are too many for one file"),
        (["a", "-o", "o.png", "--truncation", 2], "truncation must be"),
        (["a", "-o", "o.png", "--truncation", "nan"], "truncation must be"),
        (["a", "b", "c", "-o", "o.png", "--interpolate", 3], "between two prompts, not 3"),
        (["a", "-o", "o.png", "--interpolate", 3, "--same-noise"], "exclude each other"),
    ):
        code, _, err = call(*args)
        assert code == 2, args
        assert message in err, args
        assert err.count("\n") == 1, args


def test_without_a_bundled_model_the_message_says_so(jaxgen_command, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "none")
    code, _, err = jaxgen_command("generate", "a red circle", "-o", "o.png")
    assert code == 2
    assert "no text-to-image model is bundled with this installation; give --model" in err


def test_names_of_files():
    long = "a large red circle " * 5
    names = generate_files.stems(["A red circle!", "a RED circle", long, "", "中文 字"])
    assert names[0].startswith("a_red_circle_")
    assert names[1].startswith("a_red_circle_")
    assert names[0] != names[1]
    assert len(names[2]) == generate_files.NAME + 9
    assert names[3:] == ["empty", "中文_字"]


def test_an_interrupt_ends_the_command(call, monkeypatch, tmp_path):
    def press(path, *args):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(generate_files, "write_image", press)
    assert call("a red circle", "-o", "out")[0] == 130


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, "-m", "jaxgen", "generate", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for option in ("--prompts", "--first", "--same-noise", "--truncation", "--show-masks"):
        assert option in done.stdout
