"""CVAT for images 1.1: `annotations.xml` of an exported task."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from .exports import ExportedPhoto, ExportedWord, is_usual_text_field, rectangle, text_field_of, word_or_none

__all__ = ["parse_xml", "read_cvat"]


def read_cvat(source: Path, text_field: str | None = None) -> list[ExportedPhoto]:
    """Boxes, turned or not, and polygons of all images, see `read_export`.

    Which attribute holds the word stands in `<meta>`. Without it, as other tools and scripts write the format, the
    attributes of the shapes are looked at. A word is marked with its label, its checked boxes, and what was selected,
    as `value` and as `name=value`.

    Raises:
        ValueError: if the file is no XML, has a document type declaration, or is no export of images.
    """
    root = parse_xml(source)
    if root.tag != "annotations":
        raise ValueError(f"{source}: the root is <{root.tag}>; expected the <annotations> of CVAT")
    images = root.findall("image")
    if not images:
        what = "tracks of a video" if root.find("track") is not None else "no images"
        raise ValueError(f'{source}: {what}; export the task as "CVAT for images 1.1"')
    free_text = _text_attributes(root)
    attribute = text_field_of(source, free_text, text_field)
    return [_photo(image, index, attribute, free_text) for index, image in enumerate(images)]


def parse_xml(source: Path) -> Element:
    """The root of an XML file.

    A document type declaration is refused, for with it come entities: nested ones make gigabytes out of a small file,
    external ones read other files. No labelling tool writes any.

    Raises:
        ValueError: if there is one, or the file is not well-formed.
    """
    try:
        root: Element = ElementTree.parse(source, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ValueError(f"{source}: a document type declaration is not allowed in labels") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"{source}: not well-formed XML ({error})") from error
    return root


def _text_attributes(root: Element) -> set[str]:
    """Names of the attributes that take free text."""
    declared = root.findall("meta//label/attributes/attribute")
    if declared:
        return {one.findtext("name", "") for one in declared if one.findtext("input_type", "").strip() == "text"}
    used = [(one.get("name", ""), (one.text or "").strip()) for one in root.iterfind("image/*/attribute")]
    boxes = {
        name for name, _ in used if all(value.casefold() in ("true", "false") for key, value in used if key == name)
    }
    free = {name for name, _ in used} - boxes
    # Selections and texts look alike: one with the usual name is the word, the others may be anything.
    usual = {name for name in free if is_usual_text_field(name)}
    return usual or free


def _photo(image: Element, index: int, text_field: str | None, free_text: set[str]) -> ExportedPhoto:
    name = image.get("name", "")
    place = f"image {image.get('id', index)} ({name})"
    try:
        size = (int(image.attrib["width"]), int(image.attrib["height"])) if "width" in image.attrib else None
    except (KeyError, ValueError):
        return ExportedPhoto(place, problem="its width and height are no numbers")

    def words(width: int, height: int) -> Iterator[ExportedWord]:
        for number, shape in enumerate((shape for shape in image if shape.tag != "tag"), start=1):
            yield _word(shape, f"{shape.tag} {number}", text_field, free_text)

    return ExportedPhoto(place, (name,) if name else (), words, size)


def _word(shape: Element, name: str, text_field: str | None, free_text: set[str]) -> ExportedWord:
    if shape.tag not in ("box", "polygon"):
        return ExportedWord(name, problem="only boxes and polygons can be taken over")
    try:
        points = _box(shape) if shape.tag == "box" else _polygon(shape)
    except (KeyError, ValueError) as error:
        return ExportedWord(name, problem=f"cannot be read: {error!r}")
    attributes = {attribute.get("name", ""): attribute.text or "" for attribute in shape.findall("attribute")}
    text = None if text_field is None else word_or_none(attributes.get(text_field))
    marks = {shape.get("label", "")}
    for key, value in attributes.items():
        if key not in free_text:
            marks |= {f"{key}={value.strip()}", key if value.strip().casefold() == "true" else value.strip()}
    return ExportedWord(name, points, text, marks=frozenset(marks - {"", "false", "False"}))


def _box(shape: Element) -> np.ndarray:
    """A box is turned about its centre."""
    left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    return rectangle(left, top, right - left, bottom - top, float(shape.get("rotation", 0)), pivot=(0.5, 0.5))


def _polygon(shape: Element) -> np.ndarray:
    """Points such as `12.00,30.50;80.10,31.00;…`."""
    return np.array([[float(value) for value in point.split(",")] for point in shape.attrib["points"].split(";")])
