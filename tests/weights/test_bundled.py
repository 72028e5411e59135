"""Each bundled model has a digest of its weights, which is right."""

import shutil

import pytest

from jaxgen.errors import UserError
from jaxgen.weights import digests
from jaxgen.weights.files import read_tree
from jaxgen.weights.places import BUNDLED, WEIGHTS, bundled_names


@pytest.mark.parametrize("name", bundled_names())
def test_digest_is_there_and_right(name, tmp_path):
    path = BUNDLED / name / WEIGHTS
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
