"""Latent diffusion of what was computed beforehand: latents, and features of texts."""

import jax
import numpy as np
import pytest
from support.tiny_ldm import tiny_ldm_config, tiny_vae

from jaxgen.data import cached
from jaxgen.data.captioned.records import open_records
from jaxgen.data.pipeline import train_dataset
from jaxgen.data.shard import Shard
from jaxgen.errors import UserError
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.models.ldm.space import sample
from jaxgen.runs import codes
from jaxgen.train import loop
from jaxgen.weights import parts


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return str(tiny_vae().export(tmp_path_factory.mktemp("models") / "vae"))


@pytest.fixture(scope="module")
def file(vae, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "latents"
    config = tiny_ldm_config()
    assert codes.write(config, vae, path, kind=cached.Latents) == 64
    return str(path)


def make_config(vae, file, **changes):
    return tiny_ldm_config(
        model__denoiser__patch=1, parts__first_stage=vae, model__latents=file, **changes
    )


def make_task(config, folder):
    return loop.load_task(config, loop.find_parts(config, folder))


def test_latents_are_those_of_the_step(vae, file, tmp_path):
    held = cached.Latents(file)
    config = make_config(vae, file)
    task = make_task(config, tmp_path)
    records, transform = task.train_data()
    batch = train_dataset(records, transform, batch_size=8, seed=0)[0]
    assert sorted(batch) == ["mask", "meaning", "moments", "tokens"]
    assert batch["moments"].shape == (8, *held.about["grid"])

    pictures = open_records(config.data, "train")
    chosen = [3, 40]
    moments = np.stack([held.read(i)[1] for i in chosen])
    space = LDMLosses(parts.filled(config, loop.find_parts(config, tmp_path))).space
    image = np.stack([pictures[i]["image"] for i in chosen]) / 127.5 - 1.0
    key = jax.random.key(1)
    drawn = jax.jit(space.drawn)(task.frozen["first_stage"], image.astype(np.float32), key)
    np.testing.assert_allclose(sample(moments, key), drawn, atol=1e-5 * np.abs(drawn).max())
    assert np.abs(sample(moments, jax.random.key(2)) - drawn).max() > 1e-3


def test_latents_of_something_else_are_one_line(vae, file, tmp_path):
    with pytest.raises(UserError, match=r"model\.latents=.* is of other pictures .*count 64"):
        make_task(make_config(vae, file, data__count=65), tmp_path / "a").train_data()
    with pytest.raises(UserError, match=r"data\.crop=random needs the pictures in each"):
        make_task(make_config(vae, file, data__crop="random"), tmp_path / "b")
    other = tiny_vae()
    other.nets["g"]["params"]["quant_conv"]["bias"] += 1.0
    there = str(other.export(tmp_path / "other"))
    with pytest.raises(UserError, match=r"another first stage than parts\.first_stage"):
        make_task(make_config(there, file), tmp_path / "c")
    with pytest.raises(UserError, match="an autoencoder that encodes photos as latents"):
        codes.write(tiny_ldm_config(), "dfgan_shapes", tmp_path / "x", kind=cached.Latents)


# ---- by shares -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shares(vae, tmp_path_factory):
    """(the whole, files of three shares) of 64 pictures, by batches of 8."""
    folder = tmp_path_factory.mktemp("shares")
    files = [folder / f"{number}.part" for number in (1, 2, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "BATCH", 8)
        counts = [share_of(vae, file, number) for number, file in enumerate(files, 1)]
        assert counts == [24, 24, 16]
        codes.write(tiny_ldm_config(), vae, folder / "whole", kind=cached.Latents)
    return folder / "whole", files


def share_of(vae, path, number, moved=None):
    return codes.write(tiny_ldm_config(), vae, path, moved, cached.Latents, Shard(number, 3))


def test_joined_shares_are_the_whole_byte_for_byte(
    vae, shares, tmp_path, jaxgen_command, monkeypatch
):
    monkeypatch.setattr(codes, "BATCH", 8)
    whole, (first, second, third) = shares
    args = ("prepare", "latents", "--join", third, first, second, "-o", "joined")
    code, out, err = jaxgen_command(*args)
    assert code == 0, err
    assert "joined  64 pictures" in out
    assert (tmp_path / "joined").read_bytes() == whole.read_bytes()


def test_a_share_that_is_there_is_left(vae, shares, monkeypatch):
    monkeypatch.setattr(codes, "BATCH", 8)
    _, files = shares
    never = lambda *_: pytest.fail("encoded again")  # noqa: E731
    assert share_of(vae, files[0], 1, never) == 24
    with pytest.raises(UserError, match="holds other latents or another share"):
        share_of(vae, files[0], 2, never)
    monkeypatch.setattr(codes, "BATCH", 32)
    with pytest.raises(UserError, match="share 3/3 is empty: 64 pictures are 2 batches"):
        share_of(vae, files[2], 3, never)


def test_shares_that_make_no_whole(vae, shares, tmp_path):
    whole, files = shares
    for paths, message in [
        (files[:2], "are missing: 3"),
        ([*files, files[0]], "are the same share, 1"),
        ([*files[:2], whole], "holds no share"),
        ([*files[:2], tmp_path / "absent"], "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            codes.join(paths, tmp_path / "out", cached.Latents)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"is share 1 of 3: put all together: .* latents --join"):
        make_task(make_config(vae, str(files[0])), tmp_path / "run").train_data()
