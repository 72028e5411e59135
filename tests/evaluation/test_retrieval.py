"""Recall by each data set's protocol: equal to the originals' golden numbers and files."""

import json

import numpy as np
import pytest

from jaxgen.data.triplets import css, section
from jaxgen.data.triplets.source import Query
from jaxgen.errors import UserError
from jaxgen.evaluation import retrieval as evaluation
from jaxgen.metrics import retrieval

KS = (1, 5, 10, 50, 100)


@pytest.fixture(scope="module")
def tirg(fixtures_dir):
    return np.load(fixtures_dir / "retrieval" / "tirg_eval.npz")


@pytest.fixture(scope="module")
def cir(fixtures_dir):
    return np.load(fixtures_dir / "retrieval" / "cir_metrics.npz")


@pytest.mark.parametrize("case", range(6))
def test_recall_equals_tirg_s(tirg, case):
    about = json.loads(str(tirg["cases"]))[case]
    gallery, queries, sources, nn = (
        tirg[f"{case}:{name}"] for name in ("gallery", "queries", "source_ids", "nn")
    )
    captions, targets, _ = retrieval.numbered(about["captions"], about["target_captions"])
    before = retrieval.first_right(queries, gallery, captions, targets, sources)
    for k, value in retrieval.recall(before, KS).items():
        least, most = (about[f"recall_{end}_over_tie_orders"][str(k)] for end in ("min", "max"))
        assert least - 1e-9 <= value <= most + 1e-9
    ours = retrieval.nearest(queries, gallery, nn.shape[1], sources)
    if about["kind"] not in ("ties", "css_labels"):  # there equal pictures stand in any order
        np.testing.assert_array_equal(ours, nn)
    for place, name in enumerate(("adj", "noun") if about["kind"] == "mitstates" else ()):
        own, wanted, _ = retrieval.numbered(
            [c.split()[place] for c in about["captions"]],
            [c.split()[place] for c in about["target_captions"]],
        )
        found = retrieval.first_right(queries, gallery, own, wanted, sources)
        for k, value in retrieval.recall(found, KS).items():
            assert value == pytest.approx(about["recalls"][f"recall_top{k}_correct_{name}"])


def test_ties_go_to_the_lower_number():
    gallery = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)
    query = np.array([[2, 0]], np.float32)
    captions = np.arange(4)
    for target, place in ((0, 0), (2, 1), (3, 2), (1, 3)):
        found = retrieval.first_right(query, gallery, captions, np.array([target]))
        assert found.tolist() == [place]
    assert retrieval.nearest(query, gallery, 9).tolist() == [[0, 2, 3, 1]]
    without = retrieval.first_right(query, gallery, captions, np.array([2]), np.array([0]))
    assert without.tolist() == [0]
    assert retrieval.mean_rank(np.array([0, 3])) == 2.5


def test_fashion_iq_cirr_and_circo_equal_the_originals(cir):
    queries, gallery = cir["predicted"], cir["gallery"]
    each = np.arange(len(gallery))
    kept = retrieval.first_right(queries, gallery, each, cir["target"])
    wanted = json.loads(str(cir["fiq"]))
    for k, value in retrieval.recall(kept, (10, 50)).items():
        assert 100 * value == pytest.approx(wanted[f"recall_at{k}"], abs=1e-4)
    removed = retrieval.first_right(queries, gallery, each, cir["target"], cir["reference"])
    wanted = json.loads(str(cir["cirr_val"]))
    for k, value in retrieval.recall(removed, (1, 5, 10, 50)).items():
        assert 100 * value == pytest.approx(wanted[f"recall_at{k}"], abs=1e-4)
    groups = cir["group"].tolist()
    found = retrieval.subset_recall(
        queries, gallery, groups, cir["target"], cir["reference"], (1, 2, 3)
    )
    for k, value in found.items():
        assert 100 * value == pytest.approx(wanted[f"group_recall_at{k}"], abs=1e-4)
    names = cir["names"]
    lists = names[retrieval.nearest(queries, gallery, 50)].tolist()
    truths = json.loads(str(cir["circo_ground_truths"]))
    wanted = json.loads(str(cir["circo"]))
    for k in (5, 10, 25, 50):
        value = retrieval.mean_average_precision(lists, truths, k)
        assert 100 * value == pytest.approx(wanted[f"circo_map_at{k}"], abs=1e-4)


class Photos:
    """What a submission asks of a split."""

    keep_source = False

    def __init__(self, names):
        self.names = self.captions = names


def test_submission_files_equal_the_original_s(cir, fixtures_dir, tmp_path):
    queries = [
        Query(int(source), "", "", "", tuple(group), str(name))
        for source, group, name in zip(
            cir["reference"], cir["group"].tolist(), cir["pair_id"], strict=True
        )
    ]
    photos = Photos(cir["names"].tolist())
    files = evaluation.submit(tmp_path, photos, queries, cir["gallery"], cir["predicted"])
    for metric, path in files.items():
        theirs = fixtures_dir / "retrieval" / f"cirr_{metric}_submission.json"
        assert path.read_text() == theirs.read_text()
    with pytest.raises(UserError, match="a submission is of CIRR"):
        evaluation.submit(tmp_path, photos, [Query(0, "", "")], cir["gallery"], cir["predicted"])


def test_an_oracle_s_features_reach_what_css_allows():
    """Features that are the scene itself: every certain text finds its target first."""
    data = section.defaults()
    data.update(scenes=20, changes=6)
    split = css.open_split(data, "test")
    rng = np.random.default_rng(0)
    known = {caption: rng.normal(size=64) for caption in dict.fromkeys(split.captions)}
    gallery = np.array([known[caption] for caption in split.captions])
    asked = np.array([known[query.target] for query in split.queries])
    found = evaluation.scores(split, split.queries, gallery, asked, (1, 5))
    assert found["recall_at_1"] == found["held_out_at_1"] == found["remove_at_1"] == 1
    assert found["mean_rank"] == 1
    assert 0.5 < found["ceiling_at_1"] < 1
    # What was drawn is judged as a picture: here the target itself, and the source unchanged.
    numbers = {caption: number for number, caption in enumerate(split.captions)}

    class Known:
        def pictures(self, drawn):
            return np.array([gallery[number] for number in drawn])

    for drawn, right in (
        ([numbers[query.target] for query in split.queries], 1.0),
        ([query.source for query in split.queries], 0.0),
    ):
        args = (Known(), drawn, split.queries, split, gallery, (1,))
        assert evaluation.retrieval_success(*args)[1] == right
    half = evaluation.chosen(split.queries, 60)
    assert len(half) == 60
    assert evaluation.scores(split, half, gallery, asked[::2], (1,))["recall_at_1"] == 1
