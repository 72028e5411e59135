"""An index of pictures: what is new is looked at, a kill loses nothing, the answers are exact."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.metrics.retrieval import unit
from jaxgen.verbs.retrieve import build, engines
from jaxgen.verbs.retrieve.index import Index, writing
from jaxgen.verbs.retrieve.search import search, sheet


class Fake:
    """Features that follow from the picture alone, and a count of what was looked at."""

    name, fingerprint, width = "fake", "f" * 64, 8

    def __init__(self):
        self.seen = 0

    def pictures(self, images):
        self.seen += len(images)
        rows = [
            np.random.default_rng(list(image.tobytes()[:64])).normal(size=8) for image in images
        ]
        return unit(np.array(rows, np.float32))


def put(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (6, 7, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        put(tmp_path / "pictures" / f"{'deep/' * (number % 2)}{number}.png", number)
    return tmp_path / "pictures"


def features(index):
    return {path: index.vectors[entry.row].tobytes() for path, entry in index.entries.items()}


def test_only_what_is_new_is_looked_at(folder, tmp_path):
    place, fake = tmp_path / "index", Fake()
    (folder / "broken.png").write_bytes(b"no picture")
    report = build.update(folder, place, fake)
    assert (report.looked_at, len(report.broken)) == (7, 1)
    assert "broken.png" in report.broken[0]
    first = features(Index(place))
    assert build.update(folder, place, fake).kept == 7
    assert fake.seen == 7

    put(folder / "new.png", 100)
    put(folder / "2.png", 101)  # changed
    (folder / "4.png").unlink()
    os.utime(folder / "0.png", (1, 1))  # touched
    (folder / "deep" / "1.png").rename(folder / "moved.png")
    report = build.update(folder, place, fake)
    assert (report.looked_at, report.known, report.kept) == (2, 2, 3)
    assert report.removed == 2
    assert fake.seen == 9
    now = features(Index(place))
    assert now["moved.png"] == first["deep/1.png"]
    assert now["0.png"] == first["0.png"]
    assert now["2.png"] != first["2.png"]
    assert not {"4.png", "deep/1.png"} & now.keys()
    assert Index(place).broken_rows() == []


def test_one_process_writes_at_a_time(folder, tmp_path):
    build.update(folder, tmp_path / "index", Fake())
    header = Index(tmp_path / "index").header
    with (
        writing(tmp_path / "index", header),
        pytest.raises(UserError, match="is being written by another process"),
    ):
        build.update(folder, tmp_path / "index", Fake())


def test_rows_that_nothing_names_are_cleared_away(folder, tmp_path):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    before = features(Index(place))
    for number in (0, 2, 4):
        (folder / f"{number}.png").unlink()
    build.update(folder, place, Fake())
    index = Index(place)
    assert index.generation == 1
    assert len(index.vectors) == 4
    assert features(index) == {p: v for p, v in before.items() if p in index.entries}
    assert sorted(p.name for p in place.iterdir()) == ["lock", "rows-1.jsonl", "vectors-1.f16"]


def test_a_kill_at_any_moment_loses_nothing(folder, tmp_path, monkeypatch):
    """Every state that a kill can leave goes on to the same index, without starting over."""
    monkeypatch.setattr(build, "BATCH", 3)
    whole = tmp_path / "whole"
    build.update(folder, whole, Fake())
    wanted = features(Index(whole))
    rows = (whole / "rows-0.jsonl").read_bytes()
    vectors = (whole / "vectors-0.f16").read_bytes()
    ends = [i + 1 for i, byte in enumerate(rows) if byte == ord("\n")]
    states = [(cut, len(vectors)) for cut in range(ends[0], len(rows), 61)]
    # Features of a batch that no line names yet, whole and cut.
    states += [(ends[0], cut) for cut in (0, 5, 3 * 16, 3 * 16 + 7)]
    states += [(ends[3], cut) for cut in (3 * 16, 3 * 16 + 1, 5 * 16)]
    for number, (cut, size) in enumerate(states):
        place = tmp_path / f"killed_{number}"
        place.mkdir()
        (place / "rows-0.jsonl").write_bytes(rows[:cut])
        (place / "vectors-0.f16").write_bytes(vectors[:size])
        named = sum(1 for end in ends[1:] if end <= cut)
        assert len(Index(place).entries) == named
        fake = Fake()
        build.update(folder, place, fake)
        assert features(Index(place)) == wanted
        assert fake.seen == 7 - named


class Stop(Exception):
    pass


def test_stopped_it_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BATCH", 2)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    with pytest.raises(Stop):
        build.update(folder, tmp_path / "index", Fake(), check)
    fake = Fake()
    report = build.update(folder, tmp_path / "index", fake)
    assert (report.kept, fake.seen) == (4, 3)


def test_damage_is_mended_where_it_is(folder, tmp_path):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    wanted = features(Index(place))
    lines = (place / "rows-0.jsonl").read_text().splitlines(keepends=True)
    lines[2] = lines[2][:20] + "\n"
    (place / "rows-0.jsonl").write_text("".join(lines))
    with open(place / "vectors-0.f16", "r+b") as file:
        file.seek(4 * 16 + 3)
        file.write(b"\xff\xff\xff")
    index = Index(place)
    assert index.damaged == 1
    assert len(index.broken_rows()) == 1
    fake = Fake()
    report = build.update(folder, place, fake)
    assert (report.rebuilt, fake.seen) == (2, 2)
    assert features(Index(place)) == wanted
    assert Index(place).damaged == 0
    assert build.update(folder, place, fake).rebuilt == 0


def test_the_order_of_lines_is_no_damage(folder, tmp_path):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    header, *lines = (place / "rows-0.jsonl").read_text().splitlines(keepends=True)
    (place / "rows-0.jsonl").write_text("".join([header, *reversed(lines)]))
    assert Index(place).broken_rows() == []


def entry_line(**changes):
    entry = {"path": "x.png", "row": 1, "size": 1, "mtime": 1, "sha": "f" * 64, "crc": 1}
    return json.dumps({**entry, **changes})


@pytest.mark.parametrize(
    "line",
    [
        "1", "[]", "null", '"gone"', '{"gone": [1]}', "{}", 5000 * "[", 5000 * "9", "\udcff",
        entry_line(path=5), entry_line(path=["a"]), entry_line(row=-1), entry_line(row=True),
        entry_line(row=10**30), entry_line(size="1"), entry_line(sha=["f"]), entry_line(crc=None),
        entry_line(more=1),
    ],
)  # fmt: skip
def test_lines_that_a_person_touched_are_damaged_and_no_more(folder, tmp_path, line):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    wanted = features(Index(place))
    with open(place / "rows-0.jsonl", "ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    index = Index(place)
    assert index.damaged == 1
    assert features(index) == wanted
    assert len(search(index, np.full(8, 8**-0.5, np.float32))) == 7
    build.update(folder, place, Fake())
    assert (features(Index(place)), Index(place).damaged) == (wanted, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", "8"), ("width", 0), ("width", -8), ("width", 10**30), ("width", True), ("model", 1),
     ("folder", None), ("fingerprint", [])],
)  # fmt: skip
def test_a_header_that_a_person_touched_is_one_line(folder, tmp_path, key, value):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    header, _, rest = (place / "rows-0.jsonl").read_text().partition("\n")
    header = json.dumps({**json.loads(header), key: value})
    (place / "rows-0.jsonl").write_text(f"{header}\n{rest}")
    with pytest.raises(UserError, match="no readable first line: remove"):
        Index(place)


def test_a_flipped_bit_of_features_is_seen(folder, tmp_path):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    vectors = (place / "vectors-0.f16").read_bytes()
    for bit in range(0, 8 * len(vectors), 37):
        held = bytearray(vectors)
        held[bit // 8] ^= 1 << bit % 8
        (place / "vectors-0.f16").write_bytes(held)
        index = Index(place)
        index.leave_out_broken()
        assert (index.damaged, len(index.entries)) == (1, 6)


def test_what_is_left_out_after_a_search_is_not_found_any_more(folder, tmp_path):
    place = tmp_path / "index"
    build.update(folder, place, Fake())
    index = Index(place)
    query = np.asarray(index.vectors[0], np.float32)
    found = search(index, query, 7)
    with open(place / "vectors-0.f16", "r+b") as file:
        file.write(b"\x01\x3c")
    again = Index(place)
    assert len(search(again, query, 7)) == len(found)
    again.leave_out_broken()
    assert {one.path for one in search(again, query, 7)} < {one.path for one in found}


def test_what_is_no_index_or_another_s_is_one_line(folder, tmp_path):
    place, fake = tmp_path / "index", Fake()
    with pytest.raises(UserError, match="is no index: make one by jaxgen index"):
        Index(place)
    build.update(folder, place, fake)
    other = Fake()
    other.fingerprint, other.name = "e" * 64, "other"
    with pytest.raises(UserError, match="made by fake with other weights than other has"):
        build.update(folder, place, other)
    put(tmp_path / "elsewhere" / "1.png", 1)
    with pytest.raises(UserError, match=r"index .*elsewhere into another one"):
        build.update(tmp_path / "elsewhere", place, fake)
    with pytest.raises(UserError, match="holds other files"):
        build.update(folder, tmp_path / "elsewhere", fake)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        build.update(tmp_path / "empty", tmp_path / "index2", fake)
    assert not (tmp_path / "index2").exists()
    rows = place / "rows-0.jsonl"
    header, _, rest = rows.read_text().partition("\n")
    rows.write_text(header.replace('index": 1', 'index": 2') + "\n" + rest)
    with pytest.raises(UserError, match="is an index of version 2, this jaxgen has 1"):
        Index(place)
    rows.write_text("{\n" + rest)
    with pytest.raises(UserError, match="no readable first line: remove"):
        Index(place)


@pytest.fixture
def index(folder, tmp_path):
    shutil.copy(folder / "2.png", folder / "twin.png")
    build.update(folder, tmp_path / "index", Fake())
    return Index(tmp_path / "index")


def test_search_is_exact_and_folds_equal_pictures(index):
    query = np.asarray(index.vectors[index.entries["2.png"].row], np.float32)
    found = search(index, query, 20)
    assert len(found) == 7, "k above the gallery gives all of it"
    assert (found[0].path, found[0].twins) == ("2.png", ("twin.png",))
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    exact = {p: float(np.float32(index.vectors[e.row]) @ query) for p, e in index.entries.items()}
    for one in found:
        assert one.score == pytest.approx(exact[one.path], abs=1e-6)
    own = index.entries["2.png"].sha
    assert "2.png" not in [one.path for one in search(index, query, 20, left_out=[own])]
    deep = search(index, query, 20, where="deep/*")
    assert {one.path for one in deep} == {"deep/1.png", "deep/3.png", "deep/5.png"}
    assert search(index, query, 20, least=2.0) == []
    with pytest.raises(UserError, match="no picture of the index matches --where nowhere"):
        search(index, query, where="nowhere")
    with pytest.raises(UserError, match="-k must be 1 or more"):
        search(index, query, 0)
    with pytest.raises(UserError, match="the least score must be a number"):
        search(index, query, least=float("nan"))
    assert len(search(index, query, 10**30)) == 7
    folder = index.header.folder
    assert sheet(folder_of(folder), found, [("q", np.zeros((5, 5, 3), np.uint8))]).width > 100


def folder_of(text):
    from pathlib import Path

    return Path(text)


def test_equal_scores_come_by_their_row():
    vectors = np.zeros((9, 4), np.float16)
    vectors[[1, 3, 4, 8], 0] = 1
    rows, scores = engines.Exact(vectors).search(
        np.array([1, 0, 0, 0], np.float32), 3, np.ones(9, bool)
    )
    assert rows.tolist() == [1, 3, 4]
    assert scores.tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_equal_rows_have_equal_scores_wherever_they_are(count):
    rng = np.random.default_rng(count)
    vectors = np.tile(unit(rng.normal(size=(1, 77))).astype(np.float16), (count, 1))
    query = unit(rng.normal(size=(1, 77)).astype(np.float32))[0]
    found, scores = engines.Exact(vectors).search(query, count, np.ones(count, bool))
    assert found.tolist() == list(range(count))
    right = vectors[0].astype(np.float64) @ query.astype(np.float64)
    assert len(set(scores.tolist())) == 1
    np.testing.assert_allclose(scores[0], right, atol=1e-6)


def test_every_block_is_looked_at():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40_000, 8)).astype(np.float16)
    query = rng.normal(size=8).astype(np.float32)
    allowed = np.ones(40_000, bool)
    allowed[16_384:32_768] = False  # a whole block: it is passed over
    found, scores = engines.Exact(vectors).search(query, 40_000, allowed)
    right = vectors.astype(np.float64) @ query.astype(np.float64)
    assert sorted(found.tolist()) == np.flatnonzero(allowed).tolist()
    np.testing.assert_allclose(scores, right[found], atol=1e-5)
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("kind", ["ann", "qdrant"])
def test_other_engines_agree_with_the_exact_one(kind, tmp_path):
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(300, 16)).astype(np.float32)).astype(np.float16)
    file = tmp_path / "graph.usearch"
    engine = engines.Ann(vectors, file) if kind == "ann" else engines.Qdrant(vectors, ":memory:")
    allowed = np.ones(300, bool)
    allowed[:50] = False
    query = unit(rng.normal(size=(1, 16)).astype(np.float32))[0]
    exact = engines.Exact(vectors).search(query, 5, allowed)
    rows, scores = engine.search(query, 5, allowed)
    assert rows.tolist() == exact[0].tolist()
    np.testing.assert_allclose(scores, exact[1], atol=2e-3)
    if kind == "ann":
        assert engine.recall() == 1  # one thread adds so few rows, whatever else runs
        again = engines.Ann(np.concatenate([vectors, vectors[:10]]), file)
        assert len(again.graph) == 310


def test_an_engine_that_is_not_installed_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "usearch.index", None)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    for make in (lambda v: engines.Ann(v), lambda v: engines.Qdrant(v, ":memory:")):
        with pytest.raises(UserError, match="pip install"):
            make(np.zeros((2, 4), np.float16))


def test_lines_are_json(index):
    lines = index.rows_file.read_text().splitlines()
    assert json.loads(lines[0])["model"] == "fake"
    assert {"path", "row", "size", "mtime", "sha", "crc"} == json.loads(lines[1]).keys()
