"""Each bundled model has a digest of its weights, which is right."""

import shutil

import pytest

from jaxgen.errors import UserError
from jaxgen.weights import digests
from jaxgen.weights.files import read_tree
from jaxgen.weights.places import BUNDLED, WEIGHTS, bundled_names

ALL = sorted(str(path.relative_to(BUNDLED)) for path in BUNDLED.rglob(WEIGHTS))  # parts', too
MOST, MOST_IN_ALL = 8e6, 40e6  # bytes


def test_bundled_models_stay_small_and_name_no_machine():
    sizes = {
        name: sum(path.stat().st_size for path in (BUNDLED / name).rglob(WEIGHTS))
        for name in bundled_names()
    }
    assert all(size < MOST for size in sizes.values()), sizes
    assert sum(sizes.values()) < MOST_IN_ALL
    for path in BUNDLED.rglob("*.json"):
        assert '"/' not in path.read_text(), path


@pytest.mark.parametrize("name", ALL)
def test_digest_is_there_and_right(name, tmp_path):
    path = BUNDLED / name
    data = path.read_bytes()
    header = data[: 8 + int.from_bytes(data[:8], "little")]
    assert header.count(b'"digest":"sha256:') == 1
    digests.check_signed(path, data)
    copy = shutil.copy(path, tmp_path / WEIGHTS)
    changed = bytearray(data)
    changed[-1] ^= 1
    copy.write_bytes(changed)
    with pytest.raises(UserError, match="its digest is another"):
        read_tree(copy)
