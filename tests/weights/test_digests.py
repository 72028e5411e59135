"""One flipped bit in a checkpoint's folder or an exported file is named."""

import json
import random

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.weights import digests
from jaxgen.weights.files import read_metadata, read_tree, write_safetensors


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "weights.safetensors"
    values = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    write_safetensors(path, {"g": {"params": {"kernel": values}}}, {"family": "srgan", "step": "7"})
    return path


@pytest.fixture
def folder(tmp_path):
    step = tmp_path / "4"
    for name in ("net_g/d/0", "ema_g/d/0", "ema_g/_METADATA", "meta/metadata"):
        (step / name).parent.mkdir(parents=True, exist_ok=True)
        (step / name).write_bytes(name.encode() * 20)
    digests.write_digests(step)
    return step


def test_whole_export_reads(export):
    assert read_tree(export)["g"]["params"]["kernel"].shape == (40, 5)
    assert read_metadata(export)["step"] == "7"


def test_every_kind_of_flip_in_an_export_is_seen(export):
    whole = export.read_bytes()
    header = 8 * (8 + int.from_bytes(whole[:8], "little"))
    # All of the header's bits, and some of the tensors'.
    chosen = [*range(header), *random.Random(0).sample(range(header, 8 * len(whole)), 200)]
    for bit in chosen:
        flip(export, bit)
        with pytest.raises(UserError):
            read_tree(export)
        export.write_bytes(whole)


def test_every_kind_of_flip_in_a_folder_is_seen(folder):
    assert digests.check_digests(folder)
    rng = random.Random(0)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        for bit in rng.sample(range(8 * len(whole)), 60):
            flip(path, bit)
            if path.name == digests.DIGESTS:  # a space that became another one is no damage
                try:
                    same = json.loads(path.read_bytes()) == json.loads(whole)
                except ValueError:
                    same = False
                if same:
                    path.write_bytes(whole)
                    continue
            with pytest.raises(UserError) as caught:
                digests.check_digests(folder)
            assert "\n" not in str(caught.value)
            path.write_bytes(whole)


def test_only_what_is_read_is_hashed(folder):
    flip(folder / "net_g" / "d" / "0", 5)
    assert digests.check_digests(folder, ["ema_g"])
    with pytest.raises(digests.DamagedError, match="net_g/d/0 is damaged"):
        digests.check_digests(folder, ["net_g"])


def test_missing_and_added_files_are_named(folder):
    (folder / "more").write_text("")
    with pytest.raises(digests.DamagedError, match="more was not there"):
        digests.check_digests(folder)
    (folder / "more").unlink()
    (folder / "meta" / "metadata").unlink()
    with pytest.raises(digests.DamagedError, match="meta/metadata is missing"):
        digests.check_digests(folder)


def test_later_format_is_no_damage(folder):
    note = json.loads((folder / digests.DIGESTS).read_text()) | {"version": 99}
    (folder / digests.DIGESTS).write_text(json.dumps(note))
    with pytest.raises(digests.NewerFormatError, match="update jaxgen"):
        digests.check_digests(folder)


def test_without_digests_and_skipped(folder, export, monkeypatch):
    flip(folder / "net_g" / "d" / "0", 5)
    flip(export, 8 * (export.stat().st_size - 1))
    monkeypatch.setenv("JAXGEN_SKIP_DIGESTS", "1")
    assert not digests.check_digests(folder)
    read_tree(export)
    monkeypatch.delenv("JAXGEN_SKIP_DIGESTS")
    (folder / digests.DIGESTS).unlink()  # an older run's
    assert not digests.check_digests(folder)


def test_forbidden_file_is_not_called_damaged(export, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(export), "read_bytes", forbidden)
    with pytest.raises(UserError, match=r"cannot read .*Permission denied; nothing was changed"):
        read_tree(export)
