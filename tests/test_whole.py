"""Files that are there whole or not at all."""

import pytest

from jaxgen.errors import UserError
from jaxgen.whole import replacing


@pytest.mark.parametrize("name", ["a.npz", "n" * 251 + ".npz"], ids=["short", "longest"])
def test_what_is_written_takes_the_place_of_the_older(name, tmp_path):
    path = tmp_path / name
    for text in ("older", "newer"):
        with replacing(path) as part:
            part.write_text(text)
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("raised", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), UserError)]
)
def test_the_older_stays_where_anything_is_raised(raised, seen, tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("older")

    def fail():
        with replacing(path) as part:
            part.write_text("half")
            raise raised

    with pytest.raises(seen):
        fail()
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]
