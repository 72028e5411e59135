"""CUB's birds: their classes' split, the crops around their boxes, their captions."""

import io

import numpy as np
import pytest
from helpers import captioned_settings as settings
from helpers import said
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.data.captioned import cub, examples, tokenizers
from jaxgen.data.captioned.records import validation_data
from jaxgen.errors import UserError

# Pictures of each of the 200 classes of CUB-200-2011: 60, but for these.
_FEWER = {
    3: 58, 5: 44, 6: 41, 7: 53, 8: 48, 9: 59, 12: 56, 15: 58, 16: 58, 17: 57, 18: 45, 19: 59,
    20: 59, 22: 56, 23: 59, 24: 52, 28: 59, 32: 53, 33: 59, 34: 59, 37: 59, 39: 59, 43: 59, 58: 58,
    60: 59, 65: 50, 75: 57, 78: 59, 84: 53, 97: 59, 101: 50, 105: 49, 107: 59, 113: 50, 115: 59,
    117: 59, 119: 59, 124: 59, 125: 59, 126: 59, 135: 59, 141: 58, 149: 59, 151: 51, 153: 59,
    157: 59, 160: 59, 166: 59, 168: 59, 169: 59, 178: 56, 179: 59, 181: 59, 187: 50, 190: 58,
    196: 59,
}  # fmt: skip


def test_the_test_classes_are_those_of_the_published_split():
    sizes = {number: _FEWER.get(number, 60) for number in range(1, 201)}
    assert sum(sizes.values()) == 11_788
    assert len(cub.TEST_CLASSES) == 50
    assert sum(sizes[number] for number in cub.TEST_CLASSES) == 2_933
    assert sum(n for number, n in sizes.items() if number not in cub.TEST_CLASSES) == 8_855


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((40, 60, 20, 10), (35, 65, 50, 80)),  # half side: 15
        ((0, 0, 60, 40), (0, 75, 0, 65)),  # clipped at the left and the top
        ((100, 150, 50, 50), (88, 150, 138, 200)),  # at the right and the bottom; half side 37
    ],
)
def test_the_crop_around_a_box(box, square):
    y, x = np.mgrid[:150, :200].astype(np.uint8)
    image = np.stack([y, x, x], axis=-1)
    top, left, height, width = box
    share = np.array(
        [top / 150, left / 200, (top + height) / 150, (left + width) / 200], np.float32
    )
    cut = cub.around(image, share)
    low, high, west, east = square
    np.testing.assert_array_equal(cut, image[low:high, west:east])


def _png(level: int) -> io.BytesIO:
    file = io.BytesIO()
    pixels = np.full((30, 40, 3), 250, np.uint8)
    pixels[10:20, 20:30] = level  # what the box surrounds
    Image.fromarray(pixels).save(file, format="PNG")
    file.seek(0)
    return file


@pytest.fixture
def birds(tmp_path, monkeypatch):
    """TFDS's real builder, its files written from six pictures: classes 1, 4 (test), 2, 3, 5, 7."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("caltech_birds2011", data_dir=str(tmp_path))

    def examples(numbers):
        for number in numbers:
            mask = io.BytesIO()
            Image.new("L", (40, 30)).save(mask, format="PNG")
            mask.seek(0)
            name = f"CUB_200_2011/images/{number:03d}.Bird/Bird_{number:04d}_1.jpg"
            yield name, {
                "image": _png(20 * number), "image/filename": name, "label": number - 1,
                "label_name": "bird", "segmentation_mask": mask,
                "bbox": tfds.features.BBox(ymin=10 / 30, xmin=20 / 40, ymax=20 / 30, xmax=30 / 40),
            }  # fmt: skip

    split = {"train": examples([1, 2, 3]), "test": examples([4, 5, 7])}
    monkeypatch.setattr(type(builder), "_split_generators", lambda self, manager: split)
    builder.download_and_prepare(file_format="array_record")
    for number in (1, 2, 3, 4, 5):
        folder = tmp_path / "text" / f"{number:03d}.Bird"
        folder.mkdir(parents=True)
        lines = [f"bird {number} has line {i}" for i in range(10)]
        (folder / f"Bird_{number:04d}_1.txt").write_text("\n".join(lines) + "\n")
    return settings("cub", data_dir=str(tmp_path), captions=str(tmp_path / "text"), crop="bbox")


def test_birds_are_split_by_class_and_cut_by_box(birds, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        train = cub.open_records(birds, "train")
    assert "1 birds have no captions in" in said(caplog)
    assert "Bird_0007_1" in said(caplog)
    held = cub.open_records(birds, "validation")
    assert sorted(train[i]["meaning"] for i in range(len(train))) == [2, 3, 5]
    assert sorted(held[i]["meaning"] for i in range(len(held))) == [1, 4]
    for record in map(train.__getitem__, range(3)):
        number = record["meaning"]
        assert record["_captions"][3] == f"bird {number} has line 3"
        assert len(record["_captions"]) == 10
        # Half a side of 7 about the middle of the box, at 8 pixels.
        assert record["image"].shape == (8, 8, 3)
        assert abs(int(record["image"][4, 4, 0]) - 20 * number) < 12
    birds.crop = "center"
    assert cub.open_records(birds, "train")[0]["image"].shape == (8, 11, 3)
    birds.on_bad = "error"
    with pytest.raises(UserError, match="1 birds have no captions"):
        cub.open_records(birds, "train")


def test_birds_as_training_data(birds):
    from jaxgen.data import pipeline

    birds.enlarge, birds.flip = 76 / 64, True
    data = tokenizers.resolve(ConfigDict({"data": birds})).data
    assert data.vocabulary[:4] == ("bird", "has", "line", "2")
    records, transform = examples.train_data(data)
    assert records[0]["image"].shape == (10, 10, 3)  # 8 * 76 / 64, rounded
    batch = pipeline.train_dataset(records, transform, batch_size=8, seed=0)[0]
    assert batch["image"].shape == (8, 8, 8, 3)
    assert set(batch["meaning"].tolist()) <= {2, 3, 5}
    assert validation_data(data)[0]["image"].shape == (8, 8, 3)


def test_birds_that_are_not_prepared_or_have_no_texts(tmp_path):
    with pytest.raises(UserError, match=r"needs data\.captions"):
        cub.open_records(settings("cub"), "train")
    with pytest.raises(UserError, match="no such folder"):
        cub.open_records(settings("cub", captions=str(tmp_path / "none")), "train")
    data = settings("cub", captions=str(tmp_path), data_dir=str(tmp_path))
    with pytest.raises(UserError, match="not prepared; run: jaxgen prepare caltech_birds2011"):
        cub.open_records(data, "train")
