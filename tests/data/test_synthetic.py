import json
import pickle

import numpy as np
import pytest
from PIL import Image, ImageFont
from torch.utils.data import DataLoader

from transformers_tcm.data.rendering.block import SceneStyle
from transformers_tcm.data.rendering.fonts import FontCache
from transformers_tcm.data.rendering.layout import Spacing, lay_out
from transformers_tcm.data.rendering.legibility import Legibility
from transformers_tcm.data.rendering.warp import Bend, view_matrix, word_polygon
from transformers_tcm.data.rendering.words import PlainWordSampler, WordSampler, street_words
from transformers_tcm.data.rendering.writer import main
from transformers_tcm.data.synthetic import PRINTABLE_ASCII, SceneTextRenderer, SyntheticTextDataset, find_fonts
from transformers_tcm.geometry import signed_area, transform_points

SIZE = (320, 256)
# Nothing but letters: boards, shadows, patterns and the camera change pixels outside of words.
PLAIN = {"board": 0.0, "shadow": 0.0, "glow": 0.0, "pattern": 0.0, "camera": False}


@pytest.fixture(scope="session")
def font_folder(tmp_path_factory):
    """Pillow's own font as a file, so that no installed one is needed."""
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "aileron.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    (folder / "broken.ttf").write_bytes(b"not a font")
    return folder


@pytest.fixture(scope="session")
def background_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backgrounds")
    y, x = np.mgrid[:240, :300]
    for index in range(3):
        smooth = np.stack([x / 3 + 20 * index, y / 3 + 60, (x + y) / 5 + 40], axis=-1)
        Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def make_renderer(font_folder, background_folder):
    def make(words=None, charset=PRINTABLE_ASCII, size=SIZE, **style):
        return SceneTextRenderer(
            sorted(background_folder.iterdir()),
            find_fonts(font_folder),
            words=words,
            size=size,
            charset=charset,
            style=SceneStyle(**style),
        )

    return make


def grown_mask(instances, size, margin):
    import cv2

    mask = np.zeros(size[::-1], np.uint8)
    for polygon in instances.polygons:
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 1)
    return cv2.dilate(mask, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)).astype(bool)


def test_scene_has_the_size_and_types_of_the_contract(make_renderer):
    renderer = make_renderer()
    for seed in range(4):
        image, instances = renderer.render(seed)
        assert image.shape == (256, 320, 3)
        assert image.dtype == np.uint8
        assert len(instances) == len(instances.texts) == len(instances.ignore)
        assert {len(polygon) for polygon in instances.polygons} <= {4, 14}


def test_same_seed_gives_the_same_scene_whatever_was_rendered_before(make_renderer):
    renderer = make_renderer()
    image, instances = renderer.render(3)
    renderer.render(4)
    for other in (renderer, make_renderer(), pickle.loads(pickle.dumps(renderer))):
        again, again_instances = other.render(3)
        np.testing.assert_array_equal(image, again)
        assert instances.to_json() == again_instances.to_json()
    assert not np.array_equal(image, renderer.render(4)[0])


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_polygons_contain_the_ink(make_renderer, bend):
    with_text = make_renderer(bend=bend, outline=0.5, faint=0.0, **PLAIN)
    without_text = make_renderer(blocks=(0, 0), **PLAIN)
    words = 0
    for seed in range(12):
        image, instances = with_text.render(seed)
        empty, nothing = without_text.render(seed)
        assert len(nothing) == 0
        changed = np.abs(image.astype(int) - empty).max(axis=2) > 16
        # Letters may be out of focus by up to 0.12 of their height.
        assert not (changed & ~grown_mask(instances, SIZE, margin=6)).any()
        for index in np.flatnonzero(~instances.ignored):
            assert changed[grown_mask(instances.select([index]), SIZE, margin=0)].mean() > 0.1
            words += 1
    assert words > 10


def test_boxes_of_a_flat_block_touch_the_ink_on_all_sides(font_folder):
    fonts = FontCache(find_fonts(font_folder))
    lines = [["Ag", "street"], ["1:30", "jy,", "_x"]]
    for tracking in (0.0, 0.2):
        flat = lay_out(lines, [fonts.get(0, 40), fonts.get(0, 24)], Spacing(align=0.5, tracking=tracking))
        assert flat.words == ["Ag", "street", "1:30", "jy,", "_x"]
        assert flat.lines.tolist() == [0, 0, 1, 1, 1]
        covered = np.zeros_like(flat.ink)
        for left, top, right, bottom in flat.boxes.astype(int):
            ink = flat.ink[top:bottom, left:right] > 0
            assert ink.any(axis=0)[[0, -1]].all()
            assert ink.any(axis=1)[[0, -1]].all()
            covered[top:bottom, left:right] += 1
        assert (covered[flat.ink > 24] == 1).all()


def test_bent_lines_have_fourteen_points(make_renderer):
    renderer = make_renderer(bend=1.0, **PLAIN)
    counts = [len(polygon) for seed in range(12) for polygon in renderer.render(seed)[1].polygons]
    assert 14 in counts
    straight = make_renderer(bend=0.0, **PLAIN)
    assert {len(polygon) for seed in range(6) for polygon in straight.render(seed)[1].polygons} == {4}


def test_polygons_are_clockwise_inside_the_image_and_do_not_overlap(make_renderer):
    import shapely

    renderer = make_renderer(bend=0.5, steep=0.3, blocks=(20, 30))
    for seed in range(10):
        polygons = renderer.render(seed)[1].polygons
        for polygon in polygons:
            assert (polygon >= 0).all()
            assert (polygon <= SIZE).all()
            assert signed_area(polygon) > 0
        shapes = [shapely.Polygon(polygon) for polygon in polygons]
        for index, shape in enumerate(shapes):
            for other in shapes[:index]:
                assert shape.intersection(other).area <= 0.25 * min(shape.area, other.area)


def test_words_consist_of_the_charset(make_renderer):
    for charset in ("0123456789", "abcdef", PRINTABLE_ASCII):
        renderer = make_renderer(charset=charset)
        texts = [text for seed in range(6) for text in renderer.render(seed)[1].texts]
        assert texts
        assert set("".join(texts)) <= set(charset)


def test_given_words_are_the_only_ones(make_renderer):
    renderer = make_renderer(words=["Exit", "Café 24"])
    texts = {text.lower() for seed in range(6) for text in renderer.render(seed)[1].texts}
    assert texts == {"exit"}
    with pytest.raises(ValueError, match="none of the 1 words"):
        make_renderer(words=["Ünder"])


def test_word_list_is_plain_and_large():
    words = street_words()
    assert len(words) == len(set(words)) > 1000
    assert all(word.isascii() and word.isalpha() and word == word.lower() for word in words)


def test_word_sampler_shares_the_case_of_a_line():
    sampler = WordSampler(PRINTABLE_ASCII, ["street"])
    lines = [sampler.line(np.random.default_rng(seed), 3) for seed in range(40)]
    assert {word for line in lines for word in line} >= {"STREET", "Street", "street"}
    assert all(len({word.isupper() for word in line}) == 1 for line in lines if "STREET" in line)


@pytest.mark.parametrize(("height", "ignored"), [(4.0, True), (40.0, False)])
def test_tiny_words_are_ignored(make_renderer, height, ignored):
    renderer = make_renderer(
        words=["HOME"], min_height=height, max_height=height, bend=0.0, faint=0.0, outline=0.0, **PLAIN
    )
    flags = np.concatenate([renderer.render(seed)[1].ignored for seed in range(10)])
    # A large word may still be blurred, and a tiny one of capitals and small letters is never read.
    assert flags.mean() == 1.0 if ignored else flags.mean() < 0.2


def test_legibility_judges_contrast_clutter_noise_and_blur():
    quad = np.array([[10, 10], [50, 10], [50, 30], [10, 30]], np.float32)
    wall = np.full((40, 60, 3), 120, np.float32)
    ink = np.zeros((40, 60), bool)
    ink[12:28, 12:48:6] = True

    def accepts(change, before=wall, blur=0.5, noise=0.0):
        after = before + change * ink[..., None]
        return Legibility().accepts(before, after, quad, blur, noise)

    assert accepts(60.0)
    assert not accepts(8.0)
    assert not accepts(60.0, blur=5.0)
    assert not accepts(60.0, noise=40.0)
    assert not accepts(60.0, before=wall + 120 * (np.indices((40, 60)).sum(axis=0) // 3 % 2)[..., None])
    assert not accepts(np.array([0.0, 0.0, 40.0]))


def test_lines_group_neighbouring_words(make_renderer):
    renderer = make_renderer(bend=0.0, steep=0.0, **PLAIN)
    longest = 0
    for seed in range(8):
        scene = renderer.render_scene(seed)
        assert len(scene.lines) == len(scene.instances)
        for line in np.unique(scene.lines):
            lefts = [scene.instances.polygons[index][0, 0] for index in np.flatnonzero(scene.lines == line)]
            assert lefts == sorted(lefts)
            longest = max(longest, len(lefts))
    assert longest > 1


@pytest.mark.parametrize("radius", [150.0, -150.0])
def test_bend_moves_ink_and_points_alike(radius):
    layers = np.zeros((60, 200, 4), np.uint8)
    for x in (30, 100, 170):
        layers[20:30, x : x + 10, 0] = 255
    bend = Bend(100.0, 30.0, radius)
    ink = bend.apply(layers)[..., 0] > 127
    centres = bend.forward(np.array([[35.0, 25.0], [105.0, 25.0], [175.0, 25.0]]))
    for x, y in np.rint(centres).astype(int):
        assert ink[y, x]
    assert len(word_polygon(np.array([30, 20, 40, 30]), bend)) == 14
    assert abs(signed_area(word_polygon(np.array([30, 20, 40, 30]), bend)) - 100) < 15


def test_view_keeps_the_middle_and_scales_it():
    matrix = view_matrix(100, 40, 0.5, yaw=0.6, pitch=0.2, roll=0.3, distance=1.0)
    np.testing.assert_allclose(transform_points(np.array([[50.0, 20.0]]), matrix), [[0.0, 0.0]], atol=1e-5)
    flat = view_matrix(100, 40, 0.5, yaw=0.0, pitch=0.0, roll=0.0, distance=1.0)
    np.testing.assert_allclose(transform_points(np.array([[100.0, 40.0]]), flat), [[25.0, 10.0]], atol=1e-5)


def seeds_of(image, instances):
    return hash(image.tobytes())


def test_workers_render_disjoint_scenes_that_are_the_same_for_any_number_of_workers(make_renderer):
    renderer = make_renderer(size=(96, 64))
    expected = [seeds_of(*renderer.render(seed)) for seed in range(5, 12)]
    assert len(set(expected)) == 7
    for workers in (0, 2):
        dataset = SyntheticTextDataset(renderer, length=7, start=5, transform=seeds_of)
        # Byte hashes are salted for each process but inherited by forked workers.
        found = list(DataLoader(dataset, batch_size=None, num_workers=workers))
        assert sorted(found) == sorted(expected)


def test_dataset_without_length_is_endless(make_renderer):
    stream = iter(SyntheticTextDataset(make_renderer(size=(64, 64))))
    assert [next(stream)[0].shape for _ in range(3)] == [(64, 64, 3)] * 3


def test_find_fonts_keeps_faces_that_draw_the_charset(font_folder, tmp_path):
    assert [path.name for path in find_fonts(font_folder)] == ["aileron.ttf"]
    with pytest.raises(FileNotFoundError, match="install fonts"):
        find_fonts(font_folder, charset="aж漢")
    with pytest.raises(FileNotFoundError, match="install fonts"):
        find_fonts(tmp_path)


def test_find_fonts_drops_copies(font_folder, tmp_path):
    for name in ("a.ttf", "b.otf", "c-Symbol.ttf"):
        (tmp_path / name).write_bytes((font_folder / "aileron.ttf").read_bytes())
    assert [path.name for path in find_fonts(tmp_path)] == ["a.ttf"]


def test_empty_lists_and_missing_backgrounds_are_reported(font_folder, tmp_path):
    fonts = find_fonts(font_folder)
    with pytest.raises(ValueError, match="`backgrounds` is empty"):
        SceneTextRenderer([], fonts)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        SceneTextRenderer([tmp_path / "nowhere.jpg"], fonts).render(0)


def test_command_writes_images_annotations_and_a_contact_sheet(font_folder, background_folder, tmp_path):
    output = tmp_path / "scenes"
    folders = ["--backgrounds", str(background_folder), "--fonts", str(font_folder), "--output", str(output)]
    main([*folders, "--count", "5", "--seed", "7", "--size", "160", "128"])
    rows = [json.loads(line) for line in (output / "annotations.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["image"] for row in rows] == [f"images/{seed:08d}.jpg" for seed in range(7, 12)]
    for row in rows:
        assert Image.open(output / row["image"]).size == (160, 128)
        assert len(row["polygons"]) == len(row["texts"]) == len(row["ignore"]) == len(row["lines"])
    assert Image.open(output / "contact_sheet.jpg").size == (4 * 160, 2 * 128)


@pytest.fixture
def numbered_backgrounds(background_folder, tmp_path):
    """Photos 8 to 10."""
    folder = tmp_path / "numbered"
    folder.mkdir()
    for number, path in enumerate(sorted(background_folder.iterdir()), start=8):
        (folder / f"{number:04d}.png").write_bytes(path.read_bytes())
    return folder


def test_command_renders_onto_the_photos_of_a_part(font_folder, numbered_backgrounds, tmp_path, monkeypatch, capsys):
    used = []
    renderer = "transformers_tcm.data.rendering.writer.SceneTextRenderer"
    monkeypatch.setattr(renderer, lambda backgrounds, *_, **__: used.append([path.stem for path in backgrounds]))
    monkeypatch.setattr("transformers_tcm.data.rendering.writer.write_scenes", lambda *_: None)
    folders = ["--backgrounds", str(numbered_backgrounds), "--fonts", str(font_folder), "--output", str(tmp_path / "o")]
    for part in ("all", "training", "validation"):
        main([*folders, "--count", "1", "--part", part])
    assert used == [["0008", "0009", "0010"], ["0008", "0010"], ["0009"]]
    (numbered_backgrounds / "0009.png").unlink()
    with pytest.raises(SystemExit):
        main([*folders, "--count", "1", "--part", "validation"])
    assert "no photograph for validation" in capsys.readouterr().err


def test_plain_words_are_words_and_numbers_in_a_single_case():
    sampler, rng, known = PlainWordSampler(PRINTABLE_ASCII), np.random.default_rng(0), set(street_words())
    words = [word for _ in range(100) for word in sampler.line(rng, 3)]
    letters = [word for word in words if word.strip(".,!?:").isalpha()]
    assert len(letters) > 200
    for word in letters:
        assert word.strip(".,!?:").lower() in known
        assert word.isupper() or word.islower() or word.istitle()


def test_a_scene_takes_words_from_a_sampler(font_folder, background_folder):
    sampler = PlainWordSampler("ABab", ["abba"])
    fonts, backgrounds = find_fonts(font_folder), sorted(background_folder.iterdir())
    renderer = SceneTextRenderer(backgrounds, fonts, sampler, size=SIZE, style=SceneStyle(pattern=0.0))
    texts = {text for seed in range(3) for text in renderer.render(seed)[1].texts}
    assert texts <= {"ABBA", "Abba", "abba"}
    assert texts
