"""CVAT for images 1.1.

The fixture is the example of docs.cvat.ai/docs/other/xml_format (its task, its box "plate", its other shapes) with the
attributes that the same page describes. That positive angles turn a box clockwise about its centre is what CVAT itself
does when it makes polygons of boxes (class RotatedBoxesToPolygons of its dataset manager).
"""

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from transformers_tcm.data.importing import ImportedLabels, import_photos, read_export
from transformers_tcm.data.importing.cvat import parse_xml

EXPORT = Path(__file__).parents[2] / "fixtures" / "label_exports" / "cvat_images_1.1.xml"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("filename000.jpg", (1600, 1200)), ("filename001.jpg", (1600, 1200))):
        PIL.Image.new("L", size).save(folder / name)
    return folder


def load(photos: Path, export: Path = EXPORT, **settings: object) -> ImportedLabels:
    return import_photos(read_export(export, **settings), photos)


def test_boxes_and_polygons(photos: Path) -> None:
    labels = load(photos)
    assert labels.images == [photos / "filename000.jpg", photos / "filename001.jpg"]
    box, turned, polygon = labels.annotations[0].polygons
    np.testing.assert_allclose(box, [[797.33, 870.92], [965.52, 870.92], [965.52, 928.94], [797.33, 928.94]])
    # 80 x 20 about (140, 210), a quarter turn clockwise: the text now runs downwards.
    np.testing.assert_allclose(turned, [[150, 170], [150, 250], [130, 250], [130, 170]], rtol=1e-6)
    # Drawn clockwise, so kept.
    np.testing.assert_allclose(
        polygon, [[561.30, 916.23], [561.30, 842.77], [654.72, 861.63], [653.62, 926.67]], rtol=1e-6
    )
    assert len(labels.annotations[1]) == 0


def test_the_text_attribute_is_the_word(photos: Path) -> None:
    assert load(photos).annotations[0].texts == ["B & C 12", "TAXI", None]
    assert load(photos, text_field="characters").annotations[0].texts == ["B & C 12", "TAXI", None]
    with pytest.raises(ValueError, match=r"no text field 'word'; there are characters"):
        load(photos, text_field="word")


def test_labels_and_checkboxes_mark_what_does_not_count(photos: Path) -> None:
    assert load(photos).annotations[0].ignored.tolist() == [False, False, False]
    assert load(photos, ignore=["illegible"]).annotations[0].ignored.tolist() == [False, False, True]
    assert load(photos, ignore=["plate"]).annotations[0].ignored.tolist() == [True, True, True]


def test_what_is_left_out_is_reported(photos: Path) -> None:
    assert load(photos).problems == [
        "image 0 (street/filename000.jpg), polyline 4: only boxes and polygons can be taken over",
        f"image 2 (filename002.jpg): no photo 'filename002.jpg' in {photos}",
    ]


def test_reorder_starts_where_upright_text_starts(photos: Path) -> None:
    # The polygon was drawn from its bottom-left corner.
    assert load(photos).annotations[0].polygons[2][0].tolist() == pytest.approx([561.30, 916.23])
    reordered = import_photos(read_export(EXPORT), photos, reorder=True)
    assert reordered.annotations[0].polygons[2][0].tolist() == pytest.approx([561.30, 842.77])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('xtl="797.33"', "", r"box 1: cannot be read: KeyError\('xtl'\)"),
        ('xtl="797.33"', 'xtl="left"', "box 1: cannot be read: ValueError"),
        ('xtl="797.33"', 'xtl="nan"', "box 1: a coordinate is NaN or infinite"),
        ('points="561.30,916.23;561.30,842.77;654.72,861.63;653.62,926.67"', 'points="1,2;3"', "polygon 3: cannot be"),
        ('points="561.30,916.23;561.30,842.77;654.72,861.63;653.62,926.67"', 'points="1,2;3,4"', "at least 3 points"),
        ('name="street/filename000.jpg" width="1600"', 'name="filename000.jpg" width="wide"', "are no numbers"),
        (
            'name="street/filename000.jpg" width="1600"',
            'name="filename000.jpg" width="800"',
            "labels are for 800 x 1200",
        ),
        ('name="street/filename000.jpg"', "", "the photo has no name"),
    ],
)
def test_what_cannot_be_taken_over_is_named(photos: Path, tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = EXPORT.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "changed.xml").write_text(text.replace(old, new), encoding="utf-8")
    assert not any(re.search(problem, line) for line in load(photos).problems)
    assert any(re.search(problem, line) for line in load(photos, tmp_path / "changed.xml").problems)


BOMB = (
    '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;&x;&x;">]><annotations>&y;</annotations>'
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'
PARAMETER = '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><annotations></annotations>'


@pytest.mark.parametrize("content", [BOMB, EXTERNAL, PARAMETER])
def test_entities_are_refused_before_anything_expands(tmp_path: Path, content: str) -> None:
    (tmp_path / "bomb.xml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bomb\.xml: a document type declaration is not allowed"):
        read_export(tmp_path / "bomb.xml")


def test_characters_and_predefined_entities_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<a name="&quot;"><b>caf&#233; &lt;&amp;</b> tail</a>', encoding="utf-8")
    root = parse_xml(tmp_path / "a.xml")
    assert (root.get("name"), root.findtext("b"), root[0].tail) == ('"', "café <&", " tail")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotations>", "not well-formed XML"),
        ("<html></html>", "the root is <html>; expected the <annotations> of CVAT"),
        ("<annotations></annotations>", 'no images; export the task as "CVAT for images 1.1"'),
        ("<annotations><track/></annotations>", "tracks of a video"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "other.xml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"other\.xml: {message}"):
        read_export(tmp_path / "other.xml")


SELECTED = """<annotations><version>1.1</version>{meta}
<image id="0" name="filename000.jpg" width="1600" height="1200">
<box label="text" xtl="40" ytl="20" xbr="110" ybr="45">
<attribute name="transcription">OPEN</attribute><attribute name="legibility">{value}</attribute>
<attribute name="seen">{seen}</attribute></box></image></annotations>"""
META = """<meta><job><labels><label><name>text</name><attributes>
<attribute><name>transcription</name><input_type>text</input_type></attribute>
<attribute><name>legibility</name><input_type>select</input_type><values>legible\nillegible</values></attribute>
<attribute><name>seen</name><input_type>checkbox</input_type></attribute>
</attributes></label></labels></job></meta>"""


@pytest.mark.parametrize("meta", [META, "<meta></meta>", ""])
@pytest.mark.parametrize("name", ["illegible", "Illegible", "legibility=illegible", "seen", "text", "seen=true"])
def test_selections_mark_what_does_not_count_with_and_without_meta(
    photos: Path, tmp_path: Path, meta: str, name: str
) -> None:
    path = tmp_path / "selected.xml"
    path.write_text(SELECTED.format(meta=meta, value="illegible", seen="true"), encoding="utf-8")
    labels = load(photos, path, ignore=[name])
    assert labels.annotations[0].texts == ["OPEN"]
    assert labels.annotations[0].ignored.tolist() == [True]
    assert labels.unmatched([name, "OPEN"]) == ["OPEN"]
    path.write_text(SELECTED.format(meta=meta, value="legible", seen="false"), encoding="utf-8")
    assert load(photos, path, ignore=[name]).annotations[0].ignored.tolist() == [name == "text"]


def test_without_meta_the_text_field_can_be_named(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.xml"
    text = SELECTED.format(meta="", value="legible", seen="true").replace("transcription", "wording")
    path.write_text(text, encoding="utf-8")
    assert load(photos, path, text_field="wording").annotations[0].texts == ["OPEN"]
    with pytest.raises(ValueError, match="several text fields, legibility, wording"):
        load(photos, path)
