"""Runs feed runs: a part is copied, fingerprinted, used, resumed with, exported, and guarded."""

import json
import logging
import random
import shutil

import numpy as np
import pytest
from helpers import REPOSITORY, checkpoint_arrays, run, two_hosts
from support.stacked_families import (  # noqa: F401 (a fixture)
    daubs_config,
    hues_config,
    stacked_families,
)

import jaxgen
from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.train import loop, start
from jaxgen.weights import parts
from jaxgen.weights.checkpoints import complete_steps, read_metrics


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "hues"
    run(hues_config(), folder)
    return folder


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """A run made of `first`, which is gone afterwards: its own copy is left."""
    source = shutil.copytree(first, tmp_path_factory.mktemp("parts") / "hues")
    folder = tmp_path_factory.mktemp("parts") / "daubs"
    run(daubs_config(source), folder)
    shutil.rmtree(source)
    return folder


@pytest.fixture
def copy(second, tmp_path):
    return shutil.copytree(second, tmp_path / "run")


def config_of(folder, **train):
    config = configs.from_json(folder / "config.json")
    config.train.update(train)
    return config


def one_line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_task_reads_the_part_and_no_checkpoint_holds_it(first, second):
    hue = checkpoint_arrays(first, 3)["net_decoder/params/hue"]
    logged = [line["g/hue"] for line in read_metrics(second) if line["kind"] == "train"]
    np.testing.assert_allclose(logged, hue.mean(), rtol=1e-6)
    names = {key.split("/")[0] for key in checkpoint_arrays(second, 4)}
    assert names == {"net_g", "opt"}


def test_the_copy_is_an_exported_model_with_a_note(first, second):
    folder = second / "parts" / "first_stage"
    assert {p.name for p in folder.iterdir()} == {"config.json", "weights.safetensors", "part.json"}
    note = json.loads((folder / "part.json").read_text())
    assert (note["family"], note["step"], len(note["sha256"])) == ("hues", 3, 64)
    assert list(weights.read_tree(folder / "weights.safetensors")) == ["decoder"]  # no critic
    picture, wanted = (jaxgen.load(f).generate("red") for f in (folder, first))
    np.testing.assert_array_equal(picture, wanted)


def test_run_and_export_work_without_the_source(second, tmp_path):
    model = jaxgen.load(second)
    assert sorted(model.nets) == ["first_stage/decoder", "g"]
    pictures = model.generate("red", n=2, seed=3)
    exported = model.export(tmp_path / "daubs")
    assert (exported / "parts" / "first_stage" / "part.json").is_file()
    assert list(weights.read_tree(exported / "weights.safetensors")) == ["g"]
    moved = exported.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(jaxgen.load(moved).generate("red", n=2, seed=3), pictures)
    jaxgen.load(moved).export(moved, overwrite=True)
    np.testing.assert_array_equal(jaxgen.load(moved).generate("red", n=2, seed=3), pictures)


def test_a_run_resumes_with_its_own_copy(first, second, tmp_path):
    whole = tmp_path / "whole"
    run(daubs_config(first, steps=6), whole)
    resumed = shutil.copytree(second, tmp_path / "resumed")
    run(config_of(resumed, steps=6), resumed)
    a, b = checkpoint_arrays(whole, 6), checkpoint_arrays(resumed, 6)
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[key], b[key]) for key in a)


def test_a_changed_source_is_logged_and_not_taken(first, tmp_path, caplog):
    source = shutil.copytree(first, tmp_path / "hues")
    run(daubs_config(source, steps=2), tmp_path / "run")
    before = jaxgen.load(tmp_path / "run").made_of["first_stage"].fingerprint
    run(hues_config(steps=5), source)
    with caplog.at_level(logging.INFO):
        run(daubs_config(source, steps=4), tmp_path / "run")
    assert "has changed since (step 5, then 3)" in caplog.text
    assert jaxgen.load(tmp_path / "run").made_of["first_stage"].fingerprint == before


def alter_weights(part):
    tree = weights.read_tree(part / "weights.safetensors")
    hue = tree["decoder"]["params"]["hue"] + 1
    weights.write_safetensors(
        part / "weights.safetensors", {"decoder": {"params": {"hue": hue}}}, {"family": "hues"}
    )


def alter_config(part):
    text = (part / "config.json").read_text()
    (part / "config.json").write_text(text.replace("0.75", "0.25"))


def alter_note(part):
    (part / "part.json").write_text("{")


def cut_weights(part):
    data = (part / "weights.safetensors").read_bytes()
    (part / "weights.safetensors").write_bytes(data[:-2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (alter_weights, "was altered since"),
        (alter_config, "was altered since"),
        (alter_note, "was altered since"),
        (cut_weights, "cannot read weights"),
        (shutil.rmtree, "put that folder back"),
    ],
)
def test_a_damaged_part_is_one_line(copy, damage, message):
    damage(copy / "parts" / "first_stage")
    for use in (lambda: jaxgen.load(copy), lambda: run(config_of(copy, steps=6), copy)):
        with pytest.raises(UserError, match=message) as caught:
            use()
        assert "first_stage" in one_line(caught)
    assert complete_steps(copy) == [2, 4]


def test_what_a_family_cannot_be_made_of(first, second, tmp_path):
    lone = tmp_path / "lone.safetensors"
    weights.write_safetensors(lone, {"decoder": {"params": {"hue": np.zeros(3, np.float32)}}})
    for source, message in (
        (tmp_path / "nothing", "parts.first_stage: .*neither a run, nor an exported"),
        (second, "parts.first_stage: .*lacks the net 'decoder'"),
        ("srgan_x4", "lacks the net 'decoder'"),
        (lone, "is of no family, but must be of hues"),
        ("", "needs a trained model as parts.first_stage"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            run(daubs_config(source), tmp_path / "run")
        one_line(caught)
    other = shutil.copytree(first, tmp_path / "other")
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"hues"', '"hums"'))
    with pytest.raises(UserError, match="is of hums family, but must be of hues"):
        run(daubs_config(other), tmp_path / "run")
    config = hues_config()
    config.parts = {"second_stage": str(first)}
    with pytest.raises(UserError, match="takes no part 'second_stage'; it takes none"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()  # the mistake leaves nothing behind


def test_a_copy_that_was_cut_off_is_made_again(first, tmp_path):
    left = tmp_path / "run" / "parts" / ".first_stage.1.partial"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{")
    half = tmp_path / "run" / "parts" / "first_stage"
    half.mkdir()
    run(daubs_config(first, steps=2), tmp_path / "run")
    assert not left.exists()
    assert jaxgen.load(tmp_path / "run").step == 2


def test_the_run_is_evaluated_with_its_part(first, copy):
    hue = checkpoint_arrays(first, 3)["net_decoder/params/hue"]
    assert loop.evaluate(config_of(copy), copy)["hue"] == pytest.approx(hue.mean())


def test_exports_files_and_models_that_are_made_of_models(first, second, tmp_path):
    exported = jaxgen.load(first).export(tmp_path / "hues")
    wanted = parts.Wanted(nets=("decoder",))
    found = {}
    lone = tmp_path / "lone.safetensors"
    shutil.copy(exported / "weights.safetensors", lone)
    for source in (first, exported, exported / "weights.safetensors", lone):
        found[source] = parts.take("x", str(source), wanted)
        assert (found[source].family, found[source].step) == ("hues", 3)
    assert found[first].fingerprint == found[exported].fingerprint
    assert found[exported / "weights.safetensors"].card.startswith("# hues")
    assert found[lone].config is None

    made_of = {"x": parts.take("x", str(second), parts.Wanted())}
    assert sorted(parts.named(parts.arrays(made_of))) == ["x/first_stage/decoder", "x/g"]
    parts.keep(made_of, tmp_path / "new")
    again = parts.read(tmp_path / "new", "x")
    assert again.fingerprint == made_of["x"].fingerprint
    alter_weights(tmp_path / "new" / "parts" / "x" / "parts" / "first_stage")
    with pytest.raises(UserError, match="altered"):
        parts.read(tmp_path / "new", "x")


def test_old_configs_have_no_parts():
    config = hues_config()
    with config.unlocked():
        del config["parts"]
    configs.check(config)
    assert parts.of_model("anywhere", config, {}) == {}
    assert start.find_parts(config, "anywhere") == {}
    with config.unlocked():
        config.parts = {"x": 3}
    with pytest.raises(UserError, match=r"parts\.x must be a text, not 3"):
        configs.check(config)


TOGETHER = """
import sys
from support.stacked_families import daubs_config, modules
sys.modules.update(modules())
from jaxgen.train import distributed, loop
distributed.initialize()
loop.train(daubs_config(sys.argv[1], steps=2), sys.argv[2])
"""


def test_two_hosts_share_one_copy(first, tmp_path):
    two_hosts(
        ["-c", TOGETHER, str(first), str(tmp_path / "run")],
        tmp_path,
        PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests'}",
    )
    assert [p.name for p in (tmp_path / "run" / "parts").iterdir()] == ["first_stage"]
    assert jaxgen.load(tmp_path / "run").step == 2


@pytest.mark.parametrize(
    "text",
    [b"[]", b"{}", b"null", b"1", b'{"source": 1}', b'{"a": "\xff"}', b'{"sou', b"[" * 99999],
)
def test_touched_note_is_one_line(copy, text):
    (copy / "parts" / "first_stage" / "part.json").write_bytes(text)
    with pytest.raises(UserError, match="was altered since it was copied") as caught:
        jaxgen.load(copy)
    one_line(caught)


def test_flipped_bits_of_a_part_are_named(copy):
    folder = copy / "parts" / "first_stage"
    fingerprint = parts.read(copy, "first_stage").fingerprint
    rng = random.Random(0)
    for name in ("weights.safetensors", "config.json", "part.json"):
        whole = (folder / name).read_bytes()
        for _ in range(15):
            data, bit = bytearray(whole), rng.randrange(8 * len(whole))
            data[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(data)
            try:
                part, said = parts.read(copy, "first_stage"), ""
            except UserError as error:
                part, said = None, str(error)
            (folder / name).write_bytes(whole)
            assert "\n" not in said
            # Not named: a blank of the JSON, or a word that is only told.
            assert said or name != "weights.safetensors"
            assert said or part.fingerprint == fingerprint
