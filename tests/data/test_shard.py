"""Shares of a list, and putting them together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.data.shard import Shard, digest, read_shard, together
from jaxgen.errors import UserError


@given(st.lists(st.integers()), st.integers(1, 20))
def test_shares_are_the_whole_and_equally_long(items, count):
    shares = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert together(shares) == items
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    "text", ["3", *["0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "/", "²/3"], "", "1/ 2"]
)
def test_mistakes(text):
    with pytest.raises(UserError, match="--shard"):
        read_shard(text)


def test_reading_and_its_text():
    assert read_shard("3/16") == Shard(3, 16)
    assert str(Shard(3, 16)) == "3/16"


def test_shares_of_two_lists_do_not_go_together():
    with pytest.raises(ValueError, match="share 1 has 1 items, not 2"):
        together([[1], [2, 3]])


def test_the_digest_tells_lists_apart():
    assert digest(["a", "b"]) != digest(["b", "a"]) != digest(["ab"])
