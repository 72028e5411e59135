"""PIE-Bench and TEdBench in miniature: their numbers, what is missing, going on, mistakes."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import noise
from PIL import Image
from support.dino_weights import random_dino
from support.lpips_weights import random_heads, random_trunk
from support.tiny_ldm import tiny_ldm

from jaxgen import weights
from jaxgen.data.edit_lists import mask_of, read_edit_list
from jaxgen.data.picture_drawn import read_note
from jaxgen.errors import UserError
from jaxgen.evaluation.edit_judge import EditJudge, Shown, part
from jaxgen.evaluation.edit_lists import How, evaluate, mean

RED, BLUE, SQUARE = "a large red circle", "a large blue circle", "a large red square"
PIXELS = ["psnr_unedit_part", "mse_unedit_part", "ssim_unedit_part"]
CLIP = [f"clip_similarity_{name}" for name in
        ("source_image", "target_image", "target_image_edit_part")]  # fmt: skip


def patterns():
    """Two pictures of integers, uint8 (48, 40, 3), and a mask of runs."""
    y, x = np.mgrid[0:48, 0:40]

    def pattern(kind):
        values = [
            (x * (3 + kind + c) + y * (2 + c) * (1 + kind) + (x * y) // (7 + c + kind)) % 256
            for c in range(3)
        ]
        return np.stack(values, axis=-1)

    source = pattern(0)
    edited = np.clip(source + pattern(1) // 8 - 16, 0, 255)
    mask = mask_of((410, 12, 450, 12, 490, 12, 1900, 500), 48, 40)
    return Shown(source.astype(np.uint8), edited.astype(np.uint8), mask, RED, BLUE)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights of all networks."""
    folder = tmp_path_factory.mktemp("weights")
    for name, tensors in (
        ("trunk", random_trunk("squeeze")), ("heads", random_heads("squeeze")),
        ("dino", random_dino(64, 2, 8, 32)),
    ):  # fmt: skip
        weights.write_tensors(folder / f"{name}.safetensors", tensors)
    return folder


def known_clip():
    """Its pictures' features are their mean colours, its texts' those of the word."""
    colours = {RED: (1, 0, 0), BLUE: (0, 0, 1)}
    return SimpleNamespace(
        name="known", variables={"g": {"scale": np.ones(1)}},
        pictures=lambda pictures: np.stack([one.mean((0, 1)) for one in pictures]),
        texts=lambda texts: np.array([colours[text] for text in texts], float),
    )  # fmt: skip


# ---- numbers -------------------------------------------------------------------------------------


def test_parts_of_pictures_are_torchmetrics():
    """The numbers are torchmetrics 1.2.0's of both pictures times one minus the mask."""
    (found,) = EditJudge().numbers([patterns()])
    assert found == {
        "psnr_unedit_part": pytest.approx(29.523212432861328, rel=1e-6),
        "mse_unedit_part": pytest.approx(0.0011160371359437704, rel=1e-6),
        "ssim_unedit_part": pytest.approx(0.9229649305343628, rel=1e-6),
    }


def test_all_numbers_and_their_names(files):
    one = patterns()
    trunk, heads, dino = (files / f"{name}.safetensors" for name in ("trunk", "heads", "dino"))
    judge = EditJudge(known_clip(), (trunk, heads), dino)
    assert judge.left_out == {}
    (found,) = judge.numbers([one])
    names = ["structure_distance", PIXELS[0], "lpips_squeeze_unedit_part", *PIXELS[1:], *CLIP]
    assert list(found) == names
    black = one.edited * one.mask[..., None]
    for name, picture, channel in zip(
        CLIP, (one.source, one.edited, black), (0, 2, 2), strict=True
    ):
        colour = picture.mean((0, 1))
        assert found[name] == pytest.approx(100 * colour[channel] / np.linalg.norm(colour))
    # Without a mask it is all of the picture; of the changed part alone nothing is asked.
    (whole,) = judge.numbers([one._replace(mask=None, text="")])
    assert list(whole) == ["structure_distance", "lpips_squeeze", CLIP[1]]
    assert whole["structure_distance"] == found["structure_distance"]
    assert whole["lpips_squeeze"] != found["lpips_squeeze_unedit_part"]
    (published,) = EditJudge(dino_file=dino, published=True).numbers([one])
    assert published["structure_distance_published"] != found["structure_distance"]


def test_what_has_no_number():
    one = patterns()
    judge = EditJudge()
    assert {name: what.split(",")[0] for name, what in judge.left_out.items()} == {
        "clip_similarity": "give --clip", "lpips": "give --lpips twice",
        "structure_distance": "give --dino",
    }  # fmt: skip
    (nothing_kept,) = judge.numbers([one._replace(mask=np.ones_like(one.mask))])
    assert nothing_kept == {}
    equal = one._replace(edited=np.where(one.mask[..., None], one.edited, one.source))
    (numbers,) = judge.numbers([equal])
    assert numbers == {PIXELS[0]: math.inf, PIXELS[1]: 0, PIXELS[2]: pytest.approx(1)}
    assert mean([numbers, {PIXELS[0]: 30.0, PIXELS[1]: 1.0}, {}]) == {
        PIXELS[0]: 30, PIXELS[1]: 0.5, PIXELS[2]: pytest.approx(1),
    }  # fmt: skip
    assert part(one.edited, one.mask)[~one.mask].max() == 0
    with pytest.raises(UserError, match="give --dino"):
        EditJudge(published=True)


# ---- a model on a list ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return tiny_ldm()


def make_pie(folder):
    """Four edits of two types; of one the picture is missing."""
    (folder / "annotation_images").mkdir(parents=True)
    entries = {}
    for i, (target, kind, words) in enumerate(
        ((BLUE, "6", "red blue"), (SQUARE, "1", "circle cat"), (BLUE, "6", ""), (BLUE, "6", ""))
    ):
        if i < 3:
            picture = Image.fromarray(noise(16, 16, seed=i))
            picture.save(folder / "annotation_images" / f"{i}.png")
        entries[f"{i:012d}"] = {
            "image_path": f"{i}.png", "original_prompt": RED, "editing_prompt": f"[{target}]",
            "editing_instruction": "", "editing_type_id": kind, "blended_word": words,
            "mask": [17, 5, 33, 5],
        }  # fmt: skip
    (folder / "mapping_file.json").write_text(json.dumps(entries))
    return folder


def make_ted(folder):
    (folder / "originals").mkdir(parents=True)
    Image.fromarray(noise(24, 20)).save(folder / "originals" / "a.png")
    said = [{"img_name": "a.png", "target_text": text} for text in (BLUE, SQUARE)]
    (folder / "input_list.json").write_text(json.dumps(said))
    return folder


def scores_of(out):
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def test_pie_bench_in_miniature(model, tmp_path):
    listed, out = read_edit_list(make_pie(tmp_path / "pie")), tmp_path / "out"
    found = evaluate(model.edit, listed, out, EditJudge(), How("p2p", {"steps": 2}))
    assert (found["pictures"], found["failed"]) == (3, {})
    assert found["missing"] == {
        "000000000003": f"no picture {tmp_path}/pie/annotation_images/3.png"
    }
    assert {key: one["pictures"] for key, one in found["by type"].items()} == {"1": 1, "6": 2}
    assert found["by type"]["6"]["type"] == "change colour"
    assert list(found["mean"]) == PIXELS
    lines = scores_of(out)[1:]
    assert [line["name"] for line in lines] == ["000000000000", "000000000001", "000000000002"]
    assert lines[0]["edited share"] == pytest.approx((60 + 5 + 5 - 2 - 0) / 256, abs=5 / 256)
    for name in PIXELS:
        numbers = [line["numbers"][name] for line in lines]
        assert found["mean"][name] == pytest.approx(np.mean(numbers))
    # The list's words are asked for, where they are words of its texts.
    said = [json.loads(read_note(out / f"edits/{line['name']}.png")) for line in lines]
    assert [one["options"] for one in said] == [
        {"steps": 2, "blend": "red:blue", "weight": "blue:2"}, {"steps": 2}, {"steps": 2},
    ]  # fmt: skip
    assert (said[1]["source"], said[1]["target"], said[1]["picture"]) == (RED, SQUARE, "1.png")
    assert (out / "edits/000000000000_sheet.png").exists()


def test_it_goes_on_where_it_was_stopped(model, tmp_path):
    listed, out = read_edit_list(make_pie(tmp_path / "pie")), tmp_path / "out"
    how, done = How("p2p", {"steps": 2}), []

    def stop(what, now, whole):
        done.append((what, now, whole))
        if what == "measured":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model.edit, listed, out, EditJudge(), how, count=2, progress=stop)
    assert done == [("edited", 1, 2), ("edited", 2, 2), ("measured", 2, 2)]
    # Half a line, as of a process that was killed.
    half = (out / "scores.jsonl").read_text()[:-30]
    (out / "scores.jsonl").write_text(half)
    before = {path: path.stat().st_mtime_ns for path in (out / "edits").glob("*.png")}
    done.clear()
    progress = lambda *now: done.append(now)  # noqa: E731
    whole = evaluate(model.edit, listed, out, EditJudge(), how, progress=progress)
    assert done == [("edited", 1, 1), ("measured", 2, 2)]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    fresh = evaluate(model.edit, listed, tmp_path / "fresh", EditJudge(), how)
    assert whole == fresh
    assert sorted(map(str, scores_of(out))) == sorted(map(str, scores_of(tmp_path / "fresh")))
    # Other weights of the judge: all are measured again, and nothing is edited.
    done.clear()
    clip = known_clip()
    again = evaluate(model.edit, listed, out, EditJudge(clip), how, count=1, progress=progress)
    assert done == [("measured", 1, 1)]
    assert list(again["mean"]) == [*PIXELS, *CLIP]
    with pytest.raises(UserError, match=r"holds edits of other settings \(options, seed\): give"):
        evaluate(model.edit, listed, out, EditJudge(), How("p2p", {"steps": 3}, seed=1))


def test_tedbench_in_miniature(model, tmp_path):
    listed = read_edit_list(make_ted(tmp_path / "ted"))
    with pytest.raises(UserError, match='give --source, such as "a photo", or --method pnp or sd'):
        evaluate(model.edit, listed, tmp_path / "out", EditJudge())
    assert not (tmp_path / "out").exists()
    clip = known_clip()
    clip.texts = lambda texts: np.ones((len(texts), 3))
    found = evaluate(
        model.edit, listed, tmp_path / "out", EditJudge(clip), How("sdedit", {"steps": 2})
    )
    assert found["pictures"] == 2
    assert list(found["mean"]) == [CLIP[1]]
    assert "by type" not in found
    with pytest.raises(UserError, match="the list has no instructions: leave out"):
        evaluate(
            model.edit, listed, tmp_path / "o", EditJudge(), How("sdedit", instructed=True)
        )  # fmt: skip


def test_what_cannot_be_edited_is_named(model, tmp_path):
    listed = read_edit_list(make_ted(tmp_path / "ted"))
    how = How("p2p", {"weight": "circle:2", "steps": 2}, RED)
    found = evaluate(model.edit, listed, tmp_path / "out", EditJudge(), how)
    assert found["pictures"] == 1
    assert list(found["failed"]) == ["001"]
    assert "circle" in found["failed"]["001"]
    wrong = How("p2p", {"weight": "cat:2", "steps": 2}, RED)
    with pytest.raises(UserError, match=r"none could be edited: .*cat"):
        evaluate(model.edit, listed, tmp_path / "other", EditJudge(), wrong)
    gone = listed._replace(
        cases=[case._replace(picture=tmp_path / "gone.png") for case in listed.cases]
    )
    with pytest.raises(UserError, match=r"none of the 2 pictures is there: .*gone.png is not"):
        evaluate(model.edit, gone, tmp_path / "other2", EditJudge(), how)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command(model, files, jaxgen_command, tmp_path):
    make_pie(tmp_path / "pie")
    model.export(tmp_path / "ldm")
    arguments = (
        "--list", "pie", "-o", "out", "--option", "steps=2", "--clip", "clip_shapes",
        "--dino", files / "dino.safetensors", "--json", "report.json",
    )  # fmt: skip
    code, out, err = jaxgen_command("eval", "--model", "ldm", *arguments)
    assert (code, err) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["mean"]) == ["structure_distance", *PIXELS, *CLIP]
    assert (report["list"], report["method"], report["pictures"]) == ("PIE-Bench", "p2p", 3)
    assert list(report["missing"]) == ["000000000003"]
    assert "ldm by p2p on PIE-Bench (pie)" in out
    assert "3 pictures; 1 change object: 1; 6 change colour: 2" in out
    assert "left out: lpips: give --lpips twice" in out
    assert "missing: 000000000003: no picture pie/annotation_images/3.png" in out
    for given, says in (
        (("edit", "--list", "pie"), "need a folder: give one to -o"),
        (("edit", "--clip", "clip_shapes"), "--clip is for a list of edits: give --list"),
        (("--list", "pie", "-o", "out", "-n", "3"), "-n is for generated pictures, not for --list"),
        (("edit", "--list", "none", "-o", "out"), "none"),
    ):
        code, _, err = jaxgen_command("eval", *given, "--model", "ldm")
        assert (code, says in err) == (2, True), err
