"""Distances between sets of pictures: known values, referees' numbers, streaming, files.

Numbers marked "referees" were printed by pytorch-fid 0.3.0, clean-fid 0.1.35 and torch-fidelity
0.4.0 for the same arrays.
"""

import jax
import numpy as np
import pytest
import scipy.linalg

from jaxgen.encoders import inception
from jaxgen.errors import UserError
from jaxgen.evaluation import sets as generation
from jaxgen.metrics import clip_score, diversity, features, frechet, kid
from jaxgen.metrics import statistics as stats
from jaxgen.metrics.inception_score import inception_score
from jaxgen.metrics.precision_recall import precision_recall


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(600, 64)).astype(np.float32)
    return a, (rng.normal(size=(500, 64)) * 1.1 + 0.2).astype(np.float32)


def test_moments_stream_and_merge_exactly(sets):
    # A mean a thousand times the spread: uncentred sums would lose it.
    x = sets[0].astype(np.float64) + 1000.0
    streamed = stats.no_moments(64)
    for part in np.split(x, [1, 1, 200, 599]):
        streamed = stats.add(streamed, part)
    assert streamed.n == 600
    np.testing.assert_allclose(streamed.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(streamed.covariance, np.cov(x, rowvar=False), atol=1e-10)
    halves = [stats.add(stats.no_moments(64), part) for part in (x[:50], x[50:])]
    merged = stats.merge(*halves)
    np.testing.assert_allclose(merged.scatter, streamed.scatter, atol=1e-8)
    with pytest.raises(UserError, match="two pictures or more"):
        _ = stats.add(stats.no_moments(64), x[:1]).covariance


def test_many_hosts_give_the_same(monkeypatch, sets):
    """Three hosts of 300, 300 and 0 pictures, of which this process is the last to speak."""
    shares = [sets[0][:300], sets[0][300:], sets[0][:0]]
    moments = [stats.add(stats.no_moments(64), share) for share in shares]
    said = []

    def gather(mine):
        """What all hosts would send: each call is one collective."""
        kind = len(said)
        said.append(mine.dtype)
        if mine.dtype == np.uint32:
            each = [(np.array([m.n], np.float64), m.mean, m.scatter)[kind] for m in moments]
            return np.stack([np.ascontiguousarray(x).view(np.uint32) for x in each])
        if mine.dtype == np.int32:
            return np.array([[len(share)] for share in shares], np.int32)
        filled = [np.pad(s, ((0, len(mine) - len(s)), (0, 0))) for s in shares]
        return np.stack(filled)

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr("jax.experimental.multihost_utils.process_allgather", gather)
    together = stats.over_hosts(moments[2])
    assert said == [np.uint32] * 3
    assert together.n == 600
    whole = stats.add(stats.no_moments(64), sets[0])
    np.testing.assert_allclose(together.covariance, whole.covariance, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(stats.rows_of_hosts(shares[2]), sets[0])


def test_frechet_of_known_gaussians():
    eye = np.eye(3)
    distance = frechet.frechet_of_moments(np.zeros(3), 4 * eye, np.ones(3), 9 * eye)
    assert distance == pytest.approx(3 + 3 * (2 - 3) ** 2)
    # Covariances that do not commute, by the eigenvalues of the product itself.
    rng = np.random.default_rng(1)
    first, second = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    cross = np.sqrt(np.linalg.eigvals(first @ second)).real.sum()
    expected = np.trace(first) + np.trace(second) - 2 * cross
    zero = np.zeros(5)
    assert frechet.frechet_of_moments(zero, first, zero, second) == pytest.approx(expected)
    singular = np.outer(np.arange(5.0), np.arange(5.0))
    assert frechet.frechet_of_moments(zero, singular, zero, singular) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "referees"),
    [(600, 500, 7.5023587248460615), (40, 500, 47.10129393181596), (30, 50, 67.66895756547024)],
)
def test_frechet_equals_the_referees(sets, n, m, referees):
    a, b = (stats.of_features(x[:k]) for x, k in zip(sets, (n, m), strict=True))
    by_moments = frechet.frechet_of_moments(a.mean, a.covariance, b.mean, b.covariance)
    by_features = frechet.frechet_of_features(a.features, b.features)
    # Singular covariances: the referees' own roots are good to 2e-8.
    assert by_moments == pytest.approx(referees, rel=3e-8)
    assert by_features == pytest.approx(referees, rel=3e-8)
    assert frechet.frechet_distance(a, b) == (by_features if n <= 64 else by_moments)
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [20, 64, 65, 600])
def test_the_same_pictures_are_no_distance_apart(sets, n):
    """By features or stored moments, singular or not, also where they were added up otherwise."""
    whole = stats.of_features(sets[0][:n])
    halves = stats.add(stats.add(stats.no_moments(64), sets[0][: n // 3]), sets[0][n // 3 : n])
    other = stats.Statistics(n, halves.mean, halves.covariance)
    for one in (whole, other, whole._replace(features=sets[0][:n][::-1])):
        assert 0 <= frechet.frechet_distance(whole, one) < 1e-9
        assert 0 <= frechet.frechet_distance(one, whole) < 1e-9
    assert 0 <= frechet.frechet_of_features(sets[0][:n], sets[0][:n]) < 1e-9


def test_a_kernel_distance_below_zero_is_reported_as_zero(sets):
    same = features.Measured(stats.of_features(sets[0]), None)
    net = mean_colour_net()._replace(size=64)
    report = generation.report(net, same, same.statistics)
    assert report["scores"]["kd_mean_colour_all"] == 0
    assert any("the unbiased estimate is -" in remark for remark in report["remarks"])
    assert all(value >= 0 for value in report["scores"].values())


def test_frechet_of_few_features_equals_scipys_root(sets):
    a, b = (stats.of_features(x[:, :16]) for x in sets)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(UserError, match="16 and of 64"):
        frechet.frechet_distance(a, stats.of_features(sets[0]))


def test_kernel_distance(sets, monkeypatch):
    a, b = sets
    # Referees: torch-fidelity, 100 subsets of 300, in float32.
    mean, std = kid.kernel_distance_of_subsets(a, b, 100, 300)
    assert mean == pytest.approx(0.11870808362960815, rel=1e-6)
    assert std == pytest.approx(0.009678939447642743, rel=1e-5)
    # By the definition, pair by pair.
    x, y = a[:6].astype(np.float64), b[:5].astype(np.float64)

    def kernel(u, v):
        return (u @ v / 64 + 1) ** 3

    within = sum(kernel(x[i], x[j]) for i in range(6) for j in range(6) if i != j) / 30
    within += sum(kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(kernel(u, v) for u in x for v in y) / 30
    assert kid.kernel_distance(x, y) == pytest.approx(within - 2 * across)
    whole = kid.kernel_distance(a, b)
    monkeypatch.setattr(kid, "_BLOCK", 128)
    assert kid.kernel_distance(a, b) == pytest.approx(whole, rel=1e-9)
    # Unbiased: halves of one set differ by nothing but chance, and may be below zero.
    assert abs(kid.kernel_distance(a[:300], a[300:])) < 0.02


def test_inception_score(sets):
    logits = sets[0]
    assert inception_score(logits) == pytest.approx((1.5900165478198205, 0.03748013285039972))
    ordered = inception_score(logits, shuffle_seed=None)  # referees, as above
    assert ordered == pytest.approx((1.588615991254525, 0.030050763486505122))
    # Ten classes, each picture sure of its own: the score is ten; of one class, one.
    sure = np.tile(100 * np.eye(10, dtype=np.float32), (20, 1))
    assert inception_score(sure, splits=1)[0] == pytest.approx(10)
    assert inception_score(sure[np.arange(200) % 10 == 3], splits=2) == pytest.approx((1, 0))
    with pytest.raises(UserError, match="3 pictures in 10 splits"):
        inception_score(logits[:3])


def test_precision_and_recall(sets, monkeypatch):
    a, b = (x[:, :8] for x in sets)
    assert precision_recall(a, b) == pytest.approx((0.93, 0.828))  # torch-fidelity
    module = __import__("jaxgen.metrics.precision_recall", fromlist=["_BLOCK"])
    monkeypatch.setattr(module, "_BLOCK", 77)
    assert precision_recall(a, b) == pytest.approx((0.93, 0.828))
    # On a line, k = 1: reference 0, 1, 10 has the radii 1, 1, 9.
    reference = np.array([[0.0], [1.0], [10.0]])
    generated = np.array([[2.0], [-1.0], [-1.5], [30.0]])  # the surface is inside
    precision, recall = precision_recall(generated, reference, k=1)
    assert precision == 0.5
    # generated has the radii 3, 0.5, 0.5, 28: within 3 of 2 are 0 and 1, within 28 of 30 is 10.
    assert recall == 1.0
    # Equal sets cover each other, also where all points are far from zero or the same.
    assert precision_recall(1e4 + a, 1e4 + a) == (1, 1)
    assert precision_recall(np.full((9, 4), 0.3), np.full((9, 4), 0.3)) == (1, 1)
    with pytest.raises(UserError, match="more than 3 pictures"):
        precision_recall(a[:3], b)


def test_clip_score_and_r_precision():
    texts = np.eye(4)
    images = np.array([[2.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, -3, 0], [1, 0, 0, 1]])
    np.testing.assert_allclose(
        clip_score.cosines(images, texts), [1, 0.5**0.5, -1, 0.5**0.5], atol=1e-12
    )
    assert clip_score.clip_score(images, texts) == pytest.approx((1 + 2**0.5) / 4)
    assert clip_score.clip_score(images[:1], texts[:1], weight=2.5) == 2.5
    # Own text against: 0 wins; 1 ties with text 2, a miss; 2 loses; 3 wins against 1 and 2.
    candidates = np.array([[1, 2], [2, 3], [0, 1], [1, 2]])
    assert clip_score.r_precision(images, texts, candidates, folds=1) == (0.5, 0)
    assert clip_score.r_precision(images, texts, candidates, folds=2) == (0.5, 0)
    assert clip_score.r_precision(images, texts, candidates, folds=4) == (0.5, 0.5)
    meanings = np.array([0, 0, 1, 2, 3, 3, 4])
    drawn = clip_score.mismatched_candidates(meanings, count=4, seed=1)
    for row, meaning in zip(drawn, meanings, strict=True):
        assert len(set(row)) == 4
        assert meaning not in meanings[row]
    np.testing.assert_array_equal(drawn, clip_score.mismatched_candidates(meanings, 4, seed=1))
    with pytest.raises(UserError, match="only 5 have another meaning"):
        clip_score.mismatched_candidates(meanings, count=6)
    with pytest.raises(UserError, match="do not pair"):
        clip_score.clip_score(images, texts[:2])
    with pytest.raises(UserError, match="candidates for 2"):
        clip_score.r_precision(images, texts, candidates[:2], folds=1)


def test_chance_of_r_precision_is_one_percent():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 2000, 8))
    candidates = clip_score.mismatched_candidates(np.arange(2000))
    mean, std = clip_score.r_precision(images, texts, candidates)
    assert 0.003 < mean < 0.02
    assert std < 0.02


def test_diversity_of_a_collapsed_generator_is_zero():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    assert diversity.pixel_diversity(one.repeat(4, axis=0)) == 0.0
    black_white = np.stack([np.zeros((8, 8, 3)), np.full((8, 8, 3), 255)]).astype(np.uint8)
    assert diversity.pixel_diversity(black_white) == pytest.approx(1.0)
    # Pairs 0-0, 0-1, 0-1: two of three differ.
    assert diversity.pixel_diversity(black_white[[0, 0, 1]]) == pytest.approx(2 / 3)
    assert diversity.feature_diversity(np.array([[0.0, 0], [3, 4]])) == 5
    for bad, message in ((one, "two pictures"), (black_white / 255, "uint8")):
        with pytest.raises(UserError, match=message):
            diversity.pixel_diversity(bad)


def test_files_of_statistics(tmp_path, sets):
    about = {"features": "f", "resize": "tf1", "weights": "w", "n": 600}
    ours = stats.of_features(sets[0], about)
    path = tmp_path / "ours.npz"
    stats.write_statistics(path, ours)
    again = stats.read_statistics(path)
    assert (again.n, again.about) == (600, about)
    np.testing.assert_array_equal(again.mean, ours.mean)
    np.testing.assert_array_equal(again.covariance, ours.covariance)
    np.testing.assert_array_equal(again.features, sets[0])
    # pytorch-fid's and TTUR's have mu and sigma alone; clean-fid's for KID the features alone.
    np.savez(tmp_path / "theirs.npz", mu=ours.mean, sigma=ours.covariance)
    theirs = stats.read_statistics(tmp_path / "theirs.npz")
    assert (theirs.n, theirs.features, dict(theirs.about)) == (0, None, {})
    b = stats.of_features(sets[1])
    assert frechet.frechet_distance(b, theirs) == frechet.frechet_distance(b, ours)
    np.savez(tmp_path / "feats.npz", feats=sets[0])
    of_feats = stats.read_statistics(tmp_path / "feats.npz")
    np.testing.assert_array_equal(of_feats.covariance, ours.covariance)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "nan.npz", mu=np.full(2, np.nan), sigma=np.eye(2))
    (tmp_path / "text.npz").write_text("no zip")
    for name, message in (
        ("other", "holds no statistics"),
        ("nan", "not finite"),
        ("text", "cannot read statistics"),
        ("absent", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            stats.read_statistics(tmp_path / f"{name}.npz")
    with pytest.raises(UserError, match=r"end in \.npz"):
        stats.write_statistics(tmp_path / "x.txt", ours)


def mean_colour_net(label="mean_colour"):
    """Three features, the mean colour; no logits."""
    return features.FeatureNet(
        label=label,
        about={"features": "mean colour", "resize": "none", "weights": "none"},
        size=3,
        variables=np.float32(2.0),
        prepare=lambda pictures: pictures[:, :4, :4].astype(np.float32),
        prepare_there=None,
        apply=jax.jit(lambda v, x: (v * x.mean(axis=(1, 2)), None)),
    )


def test_measure_streams_any_sizes_in_order_and_masks_the_tail():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (4 + i % 3, 5, 3), dtype=np.uint8) for i in range(11)]
    done = []
    measured = features.measure(
        mean_colour_net(), iter(pictures), {"pictures": "p"}, batch=4, progress=done.append
    )
    expected = np.stack([2.0 * p[:4, :4].mean(axis=(0, 1)) for p in pictures])
    np.testing.assert_allclose(measured.statistics.features, expected, rtol=1e-6)
    np.testing.assert_allclose(measured.statistics.mean, expected.mean(axis=0), rtol=1e-6)
    covariance = np.cov(expected, rowvar=False)
    np.testing.assert_allclose(measured.statistics.covariance, covariance, rtol=1e-5)
    assert done == [4, 8, 11]
    assert measured.logits is None
    assert measured.statistics.about["n"] == 11
    assert measured.statistics.about["pictures"] == "p"
    with pytest.raises(UserError, match="two pictures or more"):
        features.measure(mean_colour_net(), pictures[:1])


def test_no_other_network_says_fid(tmp_path):
    """Names of the numbers follow the network, and the record says which it was."""
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, 256, (9, 4, 4, 3), dtype=np.uint8) for _ in range(2)]
    net = mean_colour_net()
    measured = [features.measure(net, pictures) for pictures in sets]
    report = generation.report(net, measured[0], measured[1].statistics)
    assert set(report["scores"]) == {
        *("fd_mean_colour", "kd_mean_colour", "kd_mean_colour_std", "kd_mean_colour_all"),
        *("precision_mean_colour", "recall_mean_colour"),
    }
    assert report["settings"]["kernel_subset_size"] == 9
    assert any("9 pictures" in remark for remark in report["remarks"])
    # Statistics alone leave the Fréchet distance; those of another network leave nothing.
    bare = measured[1].statistics._replace(features=None)
    assert set(generation.report(net, measured[0], bare)["scores"]) == {"fd_mean_colour"}
    other = measured[1].statistics._replace(about={**net.about, "resize": "clean"})
    with pytest.raises(UserError, match="resize 'clean', the pictures with 'none'"):
        generation.report(net, measured[0], other)
    with pytest.raises(UserError, match="features of 64 numbers"):
        generation.report(net, measured[0], stats.of_features(rng.normal(size=(9, 64))))


def test_random_net_is_the_same_everywhere():
    net = features.random_net()
    assert net.label == "random_vgg19"
    assert net.size == 32 + 64 + 128 + 256
    again = features.random_net()
    jax.tree.map(np.testing.assert_array_equal, net.variables, again.variables)
    # 96 pixels are made 64: the batch has one shape.
    pictures = np.full((1, 96, 80, 3), 255, np.uint8)
    assert net.prepare(pictures).shape == (1, 64, 64, 3)
    np.testing.assert_allclose(net.prepare(pictures), 1.0, atol=1e-6)


def test_inception_net_names_file_and_hash(tmp_path):
    from jaxgen import weights

    narrow = inception.init_variables(0, 1 / 16)
    path = tmp_path / "w.safetensors"
    weights.write_safetensors(path, {inception.ARCH: narrow})
    net = features.inception_net(path, "clean")
    assert net.label == ""
    assert net.size == 128
    assert net.about["resize"] == "clean"
    assert net.about["weights"].startswith("w.safetensors sha256:")
    assert net.prepare_there is None
    assert features.inception_net(path).prepare_there is not None
