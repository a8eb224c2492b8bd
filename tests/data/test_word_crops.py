"""Lists of word crops, single words, collages of many, mixtures of data sets."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from transformers_tcm.bezier import fit_bezier
from transformers_tcm.data.collation import TextDetectionCollator, labels_by_image, labels_to_instances
from transformers_tcm.data.photometric import PhotometricJitter
from transformers_tcm.data.word_crops import MixedDataset, WordCollages, WordCrop, WordPhotos, load_word_crops
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


@pytest.fixture
def crops(tmp_path: Path) -> list[WordCrop]:
    """Pictures of one colour each, called by it, of several shapes; the blue one is a slanted word on black."""
    sizes = {"red": (60, 20), "green": (35, 24), "blue": (80, 30)}
    (tmp_path / "images").mkdir()
    for name, size in sizes.items():
        PIL.Image.new("RGB", size, COLOURS[name]).save(tmp_path / "images" / f"{name}.png")
    blue = PIL.Image.new("RGB", (80, 30))
    blue.paste(COLOURS["blue"], (0, 10, 80, 30))
    blue.save(tmp_path / "images" / "blue.png")
    (tmp_path / "words.tsv").write_text("red.png\tred\ngreen.png\tgreen\nblue.png\tblue\t0,10,80,10,80,30,0,30\n")
    return load_word_crops(tmp_path / "words.tsv")


def collages(crops: list[WordCrop], **changes: Any) -> WordCollages:
    settings = {"length": 20, "canvas_size": (128, 160), "enlargement": (1.0, 1.0), "photometric": None}
    return WordCollages(crops, image_processor=TCMImageProcessorPil(), **{**settings, **changes})


def test_lists_of_crops(crops: list[WordCrop], tmp_path: Path) -> None:
    assert [crop.text for crop in crops] == ["red", "green", "blue"]
    assert crops[0].image == tmp_path / "images" / "red.png"
    assert crops[0].corners(60, 20).tolist() == [[0, 0], [60, 0], [60, 20], [0, 20]]
    assert crops[2].corners(80, 30).tolist() == [[0, 10], [80, 10], [80, 30], [0, 30]]
    assert [crop.text for crop in load_word_crops(tmp_path / "words.tsv", exclude=["red", "blue.png"])] == ["green"]


def test_lines_as_they_come(crops: list[WordCrop], tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, empty lines, words with spaces, commas and rare characters."""
    (tmp_path / "other.tsv").write_bytes("\ufeffred.png\tOne, two\r\n\r\ngreen.png\tä\u2028日\r\n".encode())
    assert [crop.text for crop in load_word_crops(tmp_path / "other.tsv")] == ["One, two", "ä\u2028日"]


def test_pictures_in_other_places(crops: list[WordCrop], tmp_path: Path) -> None:
    elsewhere = tmp_path / "images" / "list.tsv"
    elsewhere.write_text("red.png\tred\n")
    assert load_word_crops(elsewhere)[0].image == tmp_path / "images" / "red.png"
    (tmp_path / "far.tsv").write_text(f"{tmp_path / 'images' / 'red.png'}\tred\n")
    assert load_word_crops(tmp_path / "far.tsv", images=tmp_path)[0].image == tmp_path / "images" / "red.png"


@pytest.mark.parametrize(
    "line",
    ["red.png", "red.png red", "red.png\t", "red.png\tred\t1,2,3", "red.png\tred\t1,2,3,4,5,6,7,x", "a\tb\tc\td"],
)
def test_bad_lines_are_named(crops: list[WordCrop], tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.tsv").write_text(f"green.png\tgreen\n{line}\n")
    with pytest.raises(ValueError, match=r"bad\.tsv, line 2: expected `file<tab>word` or"):
        load_word_crops(tmp_path / "bad.tsv")


def test_missing_files_are_named(crops: list[WordCrop], tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("red.png\tred\npurple.png\tpurple\npink.png\tpink\n")
    with pytest.raises(FileNotFoundError, match=r"2 pictures of .*bad\.tsv are missing, the first is .*purple\.png"):
        load_word_crops(tmp_path / "bad.tsv")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tsv"):
        load_word_crops(tmp_path / "nowhere.tsv")


def test_single_words(crops: list[WordCrop]) -> None:
    photos = WordPhotos(crops, TCMImageProcessorPil(), height=48)
    assert len(photos) == 3
    red, _, blue = (photos[index] for index in range(3))
    assert red["pixel_mask"].sum() == 48 * 144
    assert labels_to_instances(red["labels"]).polygons[0].tolist() == [[0, 0], [144, 0], [144, 48], [0, 48]]
    assert "".join(map(chr, red["labels"]["char_ids"][0])) == "red"
    assert labels_to_instances(blue["labels"]).polygons[0].tolist() == [[0, 24], [192, 24], [192, 72], [0, 72]]


def test_tall_words_are_as_high_as_others(tmp_path: Path) -> None:
    """A word that runs down has the height of its letters, not of its picture."""
    PIL.Image.new("RGB", (20, 60)).save(tmp_path / "down.png")
    words = [WordCrop(tmp_path / "down.png", text) for text in ("down", "I")]
    assert words[0].corners(20, 60).tolist() == [[20, 0], [20, 60], [0, 60], [0, 0]]
    photos = WordPhotos(words, TCMImageProcessorPil(), height=40)
    heights = [photos[index]["pixel_mask"].any(dim=1).sum().item() for index in range(2)]
    assert heights == [120, 40]


def test_single_words_have_a_bounded_size(tmp_path: Path) -> None:
    for name, size in (("wide", (2000, 10)), ("narrow", (1, 400))):
        PIL.Image.new("RGB", size).save(tmp_path / f"{name}.png")
    words = [WordCrop(tmp_path / f"{name}.png", name) for name in ("wide", "narrow")]
    masks = [item["pixel_mask"] for item in WordPhotos(words, TCMImageProcessorPil(), height=32)]
    sizes = [(int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())) for mask in masks]
    assert sizes == [(5, 1024), (1024, 3)]


def test_a_collage_depends_on_seed_and_index_only(crops: list[WordCrop]) -> None:
    first, again, other = collages(crops), collages(crops, length=100), collages(crops, seed=1)
    assert len(first) == 20
    for index in (0, 5, 19):
        assert torch.equal(first[index]["pixel_values"], again[index]["pixel_values"])
        assert torch.equal(first[index]["labels"]["char_ids"], again[index]["labels"]["char_ids"])
    assert not torch.equal(first[0]["pixel_values"], first[1]["pixel_values"])
    assert not torch.equal(first[0]["pixel_values"], other[0]["pixel_values"])


@pytest.mark.parametrize("settings", [{}, {"warp": 0.0, "stretch": 1.0}, {"word_heights": (8, 100), "stretch": 2.0}])
def test_words_are_where_the_label_says(crops: list[WordCrop], settings: dict) -> None:
    """Within each quad there is the word's colour, and every pixel of that colour is within one."""
    many = collages(crops, **settings)
    found = 0
    for index in range(8):
        canvas, instances = many.draw(np.random.default_rng(index))
        assert canvas.shape == (128, 160, 3)
        assert instances.texts is not None
        covered = np.zeros((128, 160), bool)
        for polygon, text in zip(instances.polygons, instances.texts, strict=True):
            assert (polygon >= -0.01).all()
            assert (polygon <= [160.01, 128.01]).all()
            inside = eroded(polygon)
            assert np.abs(canvas[inside].astype(int) - COLOURS[text]).max(initial=0) <= 12
            covered |= eroded(polygon, -2)
            found += 1
        for colour in COLOURS.values():
            alike = (np.abs(canvas.astype(int) - colour) <= 3).all(axis=2)
            background = (np.abs(canvas[0, 0].astype(int) - colour) <= 3).all()
            assert background or not (alike & ~covered).any()
    assert found > 20


def eroded(polygon: np.ndarray, margin: float = 1.5) -> np.ndarray:
    """Pixels (128, 160) further inside a convex quad than `margin` pixels."""
    x, y = np.meshgrid(np.arange(160) + 0.5, np.arange(128) + 0.5)
    inside = np.ones(x.shape, bool)
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        edge = (end - start) / max(np.linalg.norm(end - start), 1e-6)
        inside &= edge[0] * (y - start[1]) - edge[1] * (x - start[0]) > margin
    return inside


@pytest.mark.parametrize("enlargement", [(1.5, 1.5), (1.0, 2.5)])
def test_enlarged_collages_keep_size_and_labels(crops: list[WordCrop], enlargement: tuple[float, float]) -> None:
    """In the middle of each word there is its colour, and rows are as high as without enlargement."""
    heights = []
    for index in range(8):
        canvas, instances = collages(crops, enlargement=enlargement).draw(np.random.default_rng(index))
        assert canvas.shape == (128, 160, 3)
        for polygon, text in zip(instances.polygons, instances.texts or [], strict=True):
            x, y = polygon.mean(axis=0)
            assert np.abs(canvas[int(y), int(x)].astype(int) - COLOURS[str(text)]).max() <= 12
            heights.append(polygon[3, 1] - polygon[0, 1])
    assert len(heights) > 20
    assert min(heights) > 14 * (1 - 2 * 0.12) - 1
    assert max(heights) < 56.5


def test_number_of_words_is_bounded(crops: list[WordCrop]) -> None:
    few = collages(crops, max_words=2, word_heights=(8, 10))
    assert [len(few.draw(np.random.default_rng(i))[1]) for i in range(5)] == [2] * 5


def test_words_too_large_for_the_canvas_are_left_out(crops: list[WordCrop]) -> None:
    canvas, instances = collages(crops, canvas_size=(32, 32), word_heights=(30, 31)).draw(np.random.default_rng(0))
    assert canvas.shape == (32, 32, 3)
    assert len(instances) == 0


def test_colours_change_with_the_photometric_jitter(crops: list[WordCrop]) -> None:
    plain = collages(crops)[0]["pixel_values"]
    jittered = WordCollages(crops, TCMImageProcessorPil(), length=20, canvas_size=(128, 160))[0]["pixel_values"]
    assert plain.shape == jittered.shape
    assert not torch.equal(plain, jittered)


def test_words_change_their_colours_one_by_one(crops: list[WordCrop]) -> None:
    """Half of the words become their negatives; labels and the canvas around them stay."""
    nothing = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "grey_probability": 0}
    still = {"blur_probability": 0, "noise_probability": 0, "jpeg_probability": 0}
    jitter = PhotometricJitter(**nothing, **still, invert_probability=0.5)
    seen = set()
    for index in range(10):
        canvas, words = collages(crops, warp=0.0, word_photometric=jitter).draw(np.random.default_rng(index))
        for polygon, text in zip(words.polygons, words.texts or [], strict=True):
            x, y = polygon.mean(axis=0).astype(int)
            colour = canvas[y, x].astype(int)
            negative = np.abs(colour - (255 - np.array(COLOURS[text]))).max() <= 2
            assert negative or np.abs(colour - COLOURS[text]).max() <= 2
            seen.add((text, bool(negative)))
    assert len(seen) == 6


def test_collages_need_words() -> None:
    with pytest.raises(ValueError, match="no words to make collages of"):
        collages([])


def test_collages_train_a_recogniser_alone(crops: list[WordCrop]) -> None:
    """With several workers, in batches with control points and characters of every word."""
    config = TCMConfig.from_preset("tiny", recognizer={})
    loader = DataLoader(collages(crops, length=4), 2, collate_fn=TextDetectionCollator(config), num_workers=2)
    for number, batch in enumerate(loader):
        assert batch["pixel_values"].shape == (2, 3, 128, 160)
        assert batch["train_detection"].tolist() == [False, False]
        _, instances = collages(crops).draw(np.random.default_rng([0, 2 * number]))
        np.testing.assert_allclose(batch["labels"]["control_points"][0], fit_bezier(instances.polygons[0]), atol=1e-3)
        first = labels_by_image(batch["labels"])[0]
        words = ["".join(chr(code) for code in row if code) for row in first["char_ids"]]
        assert words == instances.texts


class Numbers:
    """Items `name`-`index`."""

    def __init__(self, name: str, length: int):
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> str:
        return f"{self.name}-{index}"


def test_mixtures_depend_on_seed_and_index_only() -> None:
    sources = [Numbers("a", 500), Numbers("b", 600)]
    first, again, other = (MixedDataset(sources, [3, 1], n, seed) for n, seed in ((400, 0), (500, 0), (400, 1)))
    assert len(first) == 400
    items = [first[index] for index in range(400)]
    assert items == [again[index] for index in range(400)]
    assert items != [other[index] for index in range(400)]
    assert all(item.endswith(f"-{index}") for index, item in enumerate(items))
    assert 270 < sum(item.startswith("a") for item in items) < 330


def test_a_weight_of_nothing_is_never_drawn() -> None:
    mixed = MixedDataset([Numbers("a", 50), Numbers("b", 50)], [0, 2], 50)
    assert {mixed[index][0] for index in range(50)} == {"b"}


@pytest.mark.parametrize(
    ("lengths", "weights"), [([], []), ([50, 50], [1]), ([50, 10], [1, 1]), ([50], [-1]), ([50, 50], [0, 0])]
)
def test_bad_mixtures_are_named(lengths: list[int], weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected a weight for each data set.*got"):
        MixedDataset([Numbers("a", length) for length in lengths], weights, 20)
