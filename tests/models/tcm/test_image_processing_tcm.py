"""Image processors of TCM: sizes, padding, annotations, post-processing, saving, and that both backends agree."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spotting_fakes import Word, spotting_output, upright
from transformers import AutoImageProcessor, PreTrainedConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, SizeDict

from transformers_tcm.geometry import signed_area
from transformers_tcm.instances import TextInstances
from transformers_tcm.lexicon import Lexicon
from transformers_tcm.models.tcm.backends import image_processor_class, torchvision_works
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.heads.abcnet import ABCNetDecoding
from transformers_tcm.models.tcm.heads.base import Regions
from transformers_tcm.models.tcm.heads.dbnet import DBNetDecoding, DBNetHead, DBNetOutput
from transformers_tcm.models.tcm.image_processing_common_tcm import padded_size, resized_size
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.image_processing_tcm import TCMImageProcessor
from transformers_tcm.models.tcm.modeling_tcm import TCMTextDetectionOutput

TESTS = Path(__file__).parents[2]
BACKENDS = {"pil": TCMImageProcessorPil, **({"torchvision": TCMImageProcessor} if torchvision_works() else {})}
SMALL = {"shortest_edge": 64, "longest_edge": 160}
QUAD = [[10, 4], [30, 4], [30, 12], [10, 12]]

pixels = st.integers(1, 20_000)
edges = st.integers(1, 2_000)


@pytest.fixture(params=BACKENDS)
def processor(request):
    return BACKENDS[request.param](size=SMALL)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalized(image):
    """(h, w, 3) uint8 -> (3, h, w) as CLIP wants it."""
    values = (image / 255 - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    return torch.tensor(values.transpose(2, 0, 1), dtype=torch.float32)


# --- sizes -----------------------------------------------------------------------------------------------------------


@given(pixels, pixels, edges, edges)
def test_resizing_keeps_the_aspect_ratio_and_the_longest_edge_wins(height, width, shortest, longest):
    new_height, new_width = resized_size(height, width, SizeDict(shortest_edge=shortest, longest_edge=longest))
    assert min(new_height, new_width) >= 1
    assert max(new_height, new_width) <= longest
    factor = min(shortest / min(height, width), longest / max(height, width))
    assert abs(new_height - height * factor) <= max(0.5, 1 - height * factor) + 1e-6
    assert abs(new_width - width * factor) <= max(0.5, 1 - width * factor) + 1e-6


@given(pixels, pixels, edges)
def test_longest_edge_alone_gives_the_longer_side_that_length(height, width, longest):
    assert max(resized_size(height, width, SizeDict(longest_edge=longest))) == longest


@given(pixels, pixels, edges, edges)
def test_fixed_size_is_the_only_policy_that_stretches(height, width, new_height, new_width):
    assert resized_size(height, width, SizeDict(height=new_height, width=new_width)) == (new_height, new_width)


@given(st.lists(st.tuples(edges, edges), min_size=1, max_size=4), st.integers(1, 64))
def test_padding_is_the_least_that_holds_the_batch(sizes, divisor):
    for padded, sides in zip(padded_size(sizes, divisor), zip(*sizes, strict=True), strict=True):
        assert padded % divisor == 0
        assert padded - divisor < max(sides) <= padded


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ({"shortest_edge": 64, "longest_edge": 160}, (64, 128)),
        ({"shortest_edge": 64, "longest_edge": 100}, (50, 100)),
        ({"longest_edge": 96}, (48, 96)),
        (96, (48, 96)),
        ({"height": 40, "width": 56}, (40, 56)),
    ],
)
def test_resize_policies(processor, size, shape):
    features = processor(noise(100, 200), size=size)
    assert features["pixel_mask"].sum(1).max() == shape[0]
    assert features["pixel_mask"].sum(2).max() == shape[1]
    assert features["target_sizes"].tolist() == [[100, 200]]


# --- images ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_normalised_padded_with_zeros_and_masked(processor):
    images = [noise(50, 70, 1), noise(64, 33, 2)]
    features = processor(images, do_resize=False)
    assert features["pixel_values"].shape == (2, 3, 64, 96)
    assert features["pixel_values"].dtype == torch.float32
    assert features["pixel_mask"].dtype == features["target_sizes"].dtype == torch.int64
    assert features["target_sizes"].tolist() == [[50, 70], [64, 33]]
    for values, mask, image in zip(features["pixel_values"], features["pixel_mask"], images, strict=True):
        expected, expected_mask = torch.zeros(3, 64, 96), torch.zeros(64, 96, dtype=torch.int64)
        expected[:, : image.shape[0], : image.shape[1]] = normalized(image)
        expected_mask[: image.shape[0], : image.shape[1]] = 1
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(mask, expected_mask)


def test_rescaling_and_normalising_can_be_switched_off(processor):
    image = noise(32, 32)
    raw = processor(image, do_resize=False, do_rescale=False, do_normalize=False)["pixel_values"][0]
    assert raw.dtype == torch.uint8
    assert torch.equal(raw, torch.tensor(image.transpose(2, 0, 1)).float())
    rescaled = processor(image, do_resize=False, do_normalize=False)["pixel_values"][0]
    torch.testing.assert_close(rescaled, raw / 255)


def test_bytes_stay_bytes_only_where_all_images_are(processor):
    images, settings = [noise(50, 70, 1), noise(64, 33, 2)], {"do_rescale": False, "do_normalize": False}
    features = processor(images, do_resize=False, **settings)
    assert features["pixel_values"].dtype == torch.uint8
    outside = features["pixel_mask"][:, None].expand_as(features["pixel_values"]) == 0
    assert outside.any()
    assert not features["pixel_values"][outside].any()
    resized = processor(images[0], size={"longest_edge": 64}, **settings)["pixel_values"]
    assert resized.dtype == torch.uint8
    mixed = processor([images[0], images[1].astype(np.float32)], do_resize=False, **settings)
    assert mixed["pixel_values"].dtype == torch.float32
    assert torch.equal(mixed["pixel_values"], features["pixel_values"].float())


def test_resizing_is_antialiased_bilinear():
    image = PIL.Image.fromarray(noise(200, 120))
    values = TCMImageProcessorPil(size=SMALL)(image)["pixel_values"][0, :, :107, :64]
    expected = normalized(np.array(image.resize((64, 107), PIL.Image.Resampling.BILINEAR)))
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)


def test_every_kind_of_input_gives_the_same_values(processor, tmp_path):
    image = noise(40, 60)
    path = tmp_path / "image.png"
    PIL.Image.fromarray(image).save(path)
    read_only = image.copy()
    read_only.setflags(write=False)
    inputs = [path, str(path), PIL.Image.open(path), image, image.transpose(2, 0, 1), torch.tensor(image)]
    if isinstance(processor, TCMImageProcessorPil):  # torch knows neither of these
        inputs += [read_only, image[::-1].copy()[::-1]]
    expected = processor(image)["pixel_values"]
    for one in inputs:
        assert torch.equal(processor(one)["pixel_values"], expected)
        assert torch.equal(processor([one])["pixel_values"], expected)


def test_exif_orientation_is_applied(processor, tmp_path):
    upright = noise(40, 90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    lying = PIL.Image.fromarray(np.rot90(upright))
    lying.save(tmp_path / "turned.png", exif=exif)
    for image in (tmp_path / "turned.png", PIL.Image.open(tmp_path / "turned.png")):
        features = processor(image, TextInstances([np.array(QUAD)]), do_resize=False)
        assert features["target_sizes"].tolist() == [[40, 90]]
        assert features["labels"][0]["orig_size"].tolist() == [40, 90]
        assert torch.equal(features["pixel_values"], processor(upright, do_resize=False)["pixel_values"])


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [(1, 1, (64, 64)), (10, 20_000, (1, 160)), (20_000, 10, (160, 1)), (1, 7, (23, 160))],
)
def test_extreme_shapes_stay_small_and_not_empty(processor, height, width, resized):
    features = processor(PIL.Image.fromarray(noise(height, width)))
    assert features["pixel_mask"].sum() == resized[0] * resized[1]
    assert features["pixel_values"].shape[2:] == padded_size([resized], 32)
    assert features["pixel_values"].isfinite().all()


def test_without_padding_sizes_must_agree(processor):
    features = processor([noise(50, 70), noise(50, 70)], do_resize=False, do_pad=False)
    assert features["pixel_values"].shape == (2, 3, 50, 70)
    assert features["pixel_mask"].all()
    with pytest.raises(ValueError, match=r"\(50, 70\), \(50, 71\).*do_pad"):
        processor([noise(50, 70), noise(50, 71)], do_resize=False, do_pad=False)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"size": {"shortest_edge": 64}}, "`size` is .*shortest_edge.*expected"),
        ({"size": {"longest_edge": 0}}, "`size` is .*expected positive"),
        ({"size_divisor": 0}, "`size_divisor` is 0"),
        ({"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}, "do_center_crop"),
        ({"pad_size": {"height": 640, "width": 640}}, "pad_size"),
        ({"annotations": []}, "0 annotations for 1 images"),
    ],
)
def test_bad_arguments_are_named(processor, arguments, error):
    with pytest.raises(ValueError, match=error):
        processor(noise(40, 60), **arguments)


def test_bad_images_are_named(processor):
    with pytest.raises(ValueError, match=r"\[5\] channels; expected 3"):
        processor(np.zeros((5, 40, 60), np.uint8), input_data_format="channels_first")
    with pytest.raises(ValueError, match="0 x 60 pixels"):
        processor(np.zeros((0, 60, 3), np.uint8), input_data_format="channels_last")
    with pytest.raises(ValueError, match="no images"):
        processor([])
    with pytest.raises(TypeError, match="sizee"):
        processor(noise(40, 60), sizee=SMALL)


# --- annotations -----------------------------------------------------------------------------------------------------


def test_annotations_are_scaled_as_the_image_is(processor):
    curved = np.array([[0, 0], [50, 0], [99, 9], [99, 19], [0, 19]], np.float32)
    instances = TextInstances([np.array(QUAD), curved], ignore=np.array([False, True]))
    images = [noise(30, 101), noise(64, 64)]
    labels = processor(images, [instances, TextInstances([])])["labels"]
    # 101 x 30 becomes 160 x 47.5, rounded to 48: the two factors differ.
    expected = np.concatenate([np.array(QUAD, np.float32), curved]) * np.float32([160 / 101, 48 / 30])
    assert torch.equal(labels[0]["points"], torch.tensor(expected))
    assert labels[0]["counts"].tolist() == [4, 5]
    assert labels[0]["ignore"].tolist() == [False, True]
    assert labels[0]["orig_size"].tolist() == [30, 101]
    assert [tuple(labels[1][name].shape) for name in ("points", "counts", "ignore")] == [(0, 2), (0,), (0,)]
    for label in labels:
        types = {name: tensor.dtype for name, tensor in label.items()}
        integers = {"counts": torch.int64, "orig_size": torch.int64}
        assert types == {"points": torch.float32, "ignore": torch.bool, **integers}


def test_annotations_may_be_dictionaries_and_unscaled(processor):
    instances = TextInstances([np.array(QUAD)], texts=["word"])
    for annotations in (instances, [instances], instances.to_json(), [instances.to_json()]):
        label = processor(noise(30, 101), annotations, do_resize=False)["labels"][0]
        assert label["points"].tolist() == QUAD
        assert label["ignore"].tolist() == [False]


def test_words_travel_as_code_points(processor):
    words = TextInstances(
        [np.array(QUAD)] * 5, texts=["Añ", None, "", "###", "👍z"], ignore=[False] * 3 + [True, False]
    )
    nothing = TextInstances([], texts=[])
    unknown = TextInstances([np.array(QUAD)], texts=[None])
    several = processor([noise(30, 40)] * 4, [words, nothing, unknown, TextInstances([np.array(QUAD)])])["labels"]
    assert several[0]["char_ids"].tolist() == [[65, 241], [0, 0], [0, 0], [0, 0], [128077, 122]]
    assert several[0]["char_ids"].dtype == torch.int64
    assert several[1]["char_ids"].shape == (0, 1)
    assert several[2]["char_ids"].tolist() == [[0]]
    assert "char_ids" not in several[3]


def test_numpy_can_be_asked_for(processor):
    features = processor(noise(40, 60), TextInstances([np.array(QUAD)]), return_tensors="np")
    assert all(isinstance(features[name], np.ndarray) for name in ("pixel_values", "pixel_mask", "target_sizes"))
    assert all(isinstance(array, np.ndarray) for array in features["labels"][0].values())


# --- decoding settings of spotters -----------------------------------------------------------------------------------


def test_batches_of_a_spotter_say_how_to_decode(processor):
    spotter = type(processor)(size=SMALL, text_threshold=0.25, box_threshold=0.5)
    features = spotter([noise(30, 40), noise(40, 30)], [TextInstances([])] * 2, unclip_ratio=2.0)
    expected = {
        "threshold": 0.3,
        "box_threshold": 0.5,
        "unclip_ratio": 2.0,
        "max_candidates": 1000,
        "min_size": 3,
        "polygon": False,
    }
    assert features["decoding"] == expected
    assert features["text_threshold"] == 0.25
    moved = features.to(torch.bfloat16)
    assert moved["decoding"] == expected
    assert moved["pixel_values"].dtype == torch.bfloat16
    assert spotter(noise(30, 40), return_tensors="np")["decoding"]["box_threshold"] == 0.5
    assert "decoding" not in processor(noise(30, 40))
    assert "decoding" in processor(noise(30, 40), text_threshold=0)


def test_settings_of_a_spotter_are_checked(processor):
    with pytest.raises(ValueError, match=r"`text_threshold` is 1\.5"):
        type(processor)(text_threshold=1.5)
    with pytest.raises(ValueError, match="`text_threshold` is -1"):
        processor(noise(30, 40), text_threshold=-1)
    with pytest.raises(ValueError, match="`box_threshold` is 2"):
        processor(noise(30, 40), text_threshold=0.5, box_threshold=2)


# --- settings of several heads ---------------------------------------------------------------------------------------


def test_decoding_settings_are_those_of_the_head(processor):
    for_curves = type(processor)(head_type="abcnet", nms_threshold=0.25, box_threshold=0.4)
    assert for_curves.decoding_settings() == ABCNetDecoding(nms_threshold=0.25, box_threshold=0.4)
    assert for_curves.nms_threshold == 0.25
    assert not hasattr(for_curves, "unclip_ratio")
    assert processor.decoding_settings(unclip_ratio=2.0, min_size=None) == DBNetDecoding(unclip_ratio=2.0)
    with pytest.raises(TypeError, match=r"nms_threshold.*the settings of this head's decoding are box_threshold, "):
        processor.decoding_settings(nms_threshold=0.5)
    with pytest.raises(ValueError, match="`unclip_ratio` is -1; expected a number of at least 0"):
        processor.decoding_settings(unclip_ratio=-1)
    with pytest.raises(ValueError, match="unknown `head_type` 'yolo'"):
        type(processor)(head_type="yolo")


def test_a_processor_is_made_to_fit_a_model(processor):
    """What both heads' decoding has stays, and so does everything else."""
    given = type(processor)(size=SMALL, box_threshold=0.4, unclip_ratio=2.0, polygon=True, text_threshold=0.3)
    assert given.for_model(TCMConfig()) is given
    fitted = given.for_model(TCMConfig(head_type="abcnet", recognizer={"charset": "abc"}))
    assert type(fitted) is type(given)
    assert (fitted.head_type, fitted.charset, fitted.text_threshold) == ("abcnet", "abc", 0.3)
    assert fitted.decoding_settings() == ABCNetDecoding(box_threshold=0.4, polygon=True)
    assert dict(fitted.size) == dict(given.size)
    assert (given.head_type, given.charset, given.unclip_ratio) == ("dbnet", None, 2.0)
    read = given.for_model(TCMConfig(recognizer={"charset": "abc"}))
    assert read.decoding_settings() == given.decoding_settings()
    assert read.charset == "abc"
    assert read.for_model(TCMConfig(recognizer={})).charset is None


# --- post-processing -------------------------------------------------------------------------------------------------


class FakeMaps(dict):
    """What a head gave, to be decoded to given instances; remembers how it was asked to."""

    def __init__(self, instances):
        super().__init__()
        self.instances = instances
        self.asked: Any = None
        self.valid_sizes: Any = None


@pytest.fixture(autouse=True, scope="module")
def _decodable_fakes():
    """DBNet decodes `FakeMaps` to what they hold, and true maps as ever."""
    decode = DBNetHead.decode

    def decode_fakes(maps, valid_sizes, decoding):
        if not isinstance(maps, FakeMaps):
            return decode(maps, valid_sizes, decoding)
        maps.asked, maps.valid_sizes = decoding, valid_sizes
        return Regions.from_outlines([one.polygons for one in maps.instances], [one.scores for one in maps.instances])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DBNetHead, "decode", staticmethod(decode_fakes))
        yield


def fake_outputs(*instances, valid_size=(100, 200)):
    valid_sizes = torch.tensor([valid_size] * len(instances))
    return TCMTextDetectionOutput(head_output=FakeMaps(instances), valid_sizes=valid_sizes)


def test_none_means_the_stored_setting():
    processor = TCMImageProcessorPil(box_threshold=0.45, polygon=True)
    outputs = fake_outputs(TextInstances([], scores=[]))
    processor.post_process_text_detection(outputs, unclip_ratio=2.0, polygon=None)
    assert outputs.head_output.valid_sizes is outputs.valid_sizes
    assert outputs.head_output.asked == DBNetDecoding(
        threshold=0.3, box_threshold=0.45, unclip_ratio=2.0, max_candidates=1000, min_size=3, polygon=True
    )
    processor.post_process_text_detection(outputs, polygon=False, min_size=0)
    assert outputs.head_output.asked.polygon is False
    assert outputs.head_output.asked.min_size == 0


@pytest.mark.parametrize("target_sizes", [[(50, 400)], torch.tensor([[50, 400]]), np.array([[50, 400]])])
def test_detections_are_scaled_sorted_and_cut_at_the_border(target_sizes):
    low, high = np.array(QUAD), np.array([[150, 90], [220, 90], [220, 120], [150, 120]])
    beyond = np.array([[201, 10], [230, 10], [230, 20], [201, 20]])
    outputs = fake_outputs(TextInstances([low, beyond, high], scores=[0.7, 0.8, 0.9]))
    (image,) = TCMImageProcessorPil().post_process_text_detection(outputs, target_sizes)
    torch.testing.assert_close(image["scores"], torch.tensor([0.9, 0.7]))
    assert image["labels"].tolist() == [0, 0]
    assert image["labels"].dtype == torch.int64
    assert image["boxes"].tolist() == [[300, 45, 400, 50], [20, 2, 60, 6]]
    assert image["polygons"][0].tolist() == [[300, 45], [400, 45], [400, 50], [300, 50]]
    assert image["polygons"][1].tolist() == [[20, 2], [60, 2], [60, 6], [20, 6]]
    assert all(polygon.dtype == torch.float32 for polygon in image["polygons"])


def test_without_target_sizes_pixels_are_those_of_the_network_input():
    outputs = fake_outputs(TextInstances([np.array(QUAD)], scores=[0.7]), TextInstances([], scores=[]))
    found, nothing = TCMImageProcessorPil().post_process_text_detection(outputs)
    assert found["polygons"][0].tolist() == QUAD
    assert nothing["boxes"].shape == (0, 4)
    assert nothing["scores"].shape == nothing["labels"].shape == (0,)
    assert nothing["polygons"] == []


def test_generic_tools_get_boxes_above_their_threshold():
    outputs = fake_outputs(TextInstances([np.array(QUAD)], scores=[0.7]))
    (image,) = TCMImageProcessorPil().post_process_object_detection(outputs, 0.5, [(100, 200)])
    assert set(image) == {"scores", "labels", "boxes"}
    assert image["boxes"].tolist() == [[10, 4, 30, 12]]
    assert outputs.head_output.asked.box_threshold == 0.5
    assert outputs.head_output.asked.threshold == 0.3


@pytest.mark.parametrize("target_sizes", [[(50, 400)] * 2, [50, 400], torch.tensor([50, 400]), [(50, 400, 3)]])
def test_target_sizes_must_fit_the_batch(target_sizes):
    outputs = fake_outputs(TextInstances([np.array(QUAD)], scores=[0.7]))
    with pytest.raises(ValueError, match=r"`target_sizes` has shape .*expected \(1, 2\)"):
        TCMImageProcessorPil().post_process_text_detection(outputs, target_sizes)


@pytest.mark.parametrize(
    "setting",
    [{"threshold": 1.1}, {"box_threshold": -0.1}, {"unclip_ratio": -1}, {"max_candidates": 0}, {"min_size": -1}],
)
def test_settings_out_of_range_are_named(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"`{name}` is "):
        TCMImageProcessorPil(**setting)
    with pytest.raises(ValueError, match=f"`{name}` is "):
        TCMImageProcessorPil().post_process_text_detection(fake_outputs(TextInstances([], scores=[])), **setting)


coordinates = st.floats(-300, 300, width=32)
quads = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7)


@settings(max_examples=60)
@given(st.lists(st.tuples(quads, st.floats(0, 1, width=32)), max_size=5), st.integers(1, 500), st.integers(1, 500))
def test_detections_lie_in_the_image_and_scores_fall(found, height, width):
    instances = TextInstances([np.array(quad) for quad, _ in found], scores=[score for _, score in found])
    (image,) = TCMImageProcessorPil().post_process_text_detection(fake_outputs(instances), [(height, width)])
    assert len(image["scores"]) == len(image["labels"]) == len(image["boxes"]) == len(image["polygons"])
    assert (image["scores"].diff() <= 0).all()
    for polygon, box in zip(image["polygons"], image["boxes"], strict=True):
        assert (polygon >= 0).all()
        assert (polygon <= torch.tensor([width, height])).all()
        assert abs(signed_area(polygon.numpy())) > 0
        assert torch.equal(box, torch.cat([polygon.amin(0), polygon.amax(0)]))


@pytest.mark.parametrize("polygon", [False, True])
def test_dbnet_maps_become_words_in_the_original_photo(polygon):
    """From the photo to the network's input and back: the map of a shrunk word in a padded batch."""
    processor = TCMImageProcessorPil(size={"longest_edge": 320}, polygon=polygon)
    features = processor([noise(150, 640), noise(320, 320)])
    assert features["pixel_values"].shape == (2, 3, 320, 320)
    prob_map = torch.zeros(2, 1, 320, 320)
    prob_map[0, 0, 20:40, 60:140] = 0.9  # 80 x 20, grown by 1600 * 1.5 / 200 = 12 on every side
    prob_map[0, 0, 200:220, 60:140] = 0.9  # in the padding
    outputs = TCMTextDetectionOutput(
        head_output=DBNetOutput(prob_map=prob_map), valid_sizes=torch.tensor([[75, 320], [320, 320]])
    )
    found, nothing = processor.post_process_text_detection(outputs, features["target_sizes"])
    assert len(found["scores"]) == 1
    torch.testing.assert_close(found["scores"], torch.tensor([0.9]), atol=0.02, rtol=0)
    torch.testing.assert_close(found["boxes"][0], torch.tensor([96.0, 16, 304, 104]), atol=4, rtol=0)
    assert len(nothing["scores"]) == 0


def same_detections(ours, theirs):
    return all(
        torch.equal(one[name], other[name])
        for one, other in zip(ours, theirs, strict=True)
        for name in ("scores", "labels", "boxes")
    )


def test_maps_alone_are_decoded_as_the_output_of_a_model():
    """As an ONNX session returns them: arrays by name, without sizes where the images fill the maps."""
    processor = TCMImageProcessorPil()
    prob_map = torch.zeros(2, 1, 64, 160)
    prob_map[0, 0, 20:40, 30:110] = 0.9
    prob_map[1, 0, 10:25, 60:120] = prob_map[1, 0, 40:55, 20:80] = 0.8
    sizes, whole = [(128, 320), (64, 160)], torch.tensor([[64, 160]] * 2)
    expected = processor.post_process_text_detection(
        TCMTextDetectionOutput(head_output=DBNetOutput(prob_map=prob_map), valid_sizes=whole), sizes
    )
    assert [len(image["scores"]) for image in expected] == [1, 2]
    for maps in ({"prob_map": prob_map.numpy()}, {"prob_map": prob_map}, DBNetOutput(prob_map=prob_map)):
        found = processor.post_process_text_detection(maps, sizes)
        assert same_detections(found, expected)
        assert all(map(torch.equal, found[1]["polygons"], expected[1]["polygons"]))
    padded = {"prob_map": prob_map.numpy(), "valid_sizes": np.array([[64, 160], [32, 160]])}
    assert [len(image["scores"]) for image in processor.post_process_text_detection(padded, sizes)] == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_maps_that_are_not_finite_are_refused(value):
    prob_map = np.zeros((1, 1, 64, 160), np.float32)
    prob_map[0, 0, 3, 5] = value
    with pytest.raises(ValueError, match="`prob_map` has values that are NaN or infinite; run the model in float32"):
        TCMImageProcessorPil().post_process_text_detection({"prob_map": prob_map})


def test_outputs_without_sizes_and_maps_are_refused():
    with pytest.raises(ValueError, match="neither `valid_sizes` nor a map"):
        TCMImageProcessorPil().post_process_text_detection({"scores": np.zeros(3)})


def test_settings_that_the_head_does_not_know_are_named():
    with pytest.raises(TypeError, match="nms_threshold"):
        TCMImageProcessorPil().post_process_text_detection(fake_outputs(), nms_threshold=0.5)


# --- reading ---------------------------------------------------------------------------------------------------------


def spotted(*images, valid_size=(100, 200)):
    return spotting_output(images, torch.tensor([valid_size] * len(images)))


LINE = [
    Word(upright(100, 10, 140, 20), "two"),
    Word(upright(10, 12, 60, 22), "one"),
    Word(upright(5, 40, 45, 60), "low"),
]


def test_words_are_placed_in_the_original_image_in_reading_order():
    processor = TCMImageProcessorPil(text_threshold=0.5)
    first, second = processor.post_process_text_spotting(spotted(LINE, []), target_sizes=[(200, 600), (50, 50)])
    assert first["texts"] == ["one", "two", "low"]
    torch.testing.assert_close(first["boxes"][0], torch.tensor([30.0, 24, 180, 44]))
    torch.testing.assert_close(first["text_scores"], torch.full((3,), 0.9), atol=1e-4, rtol=0)
    assert first["text_scores"].dtype == first["scores"].dtype == torch.float32
    assert first["labels"].tolist() == [0, 0, 0]
    assert [tuple(polygon.shape) for polygon in first["polygons"]] == [(4, 2)] * 3
    assert second["texts"] == []
    shapes = {name: tuple(second[name].shape) for name in ("scores", "labels", "boxes", "text_scores")}
    assert shapes == {"scores": (0,), "labels": (0,), "boxes": (0, 4), "text_scores": (0,)}
    unscaled = processor.post_process_text_spotting(spotted(LINE))[0]["boxes"][0]
    assert unscaled.tolist() == [10, 12, 60, 22]


def test_what_cannot_be_read_is_dropped():
    quads = [upright(10, 20 * line, 60, 20 * line + 10) for line in range(5)]
    readings = [("sure", 0.9), ("", 0.9), ("  ", 0.9), ("unsure", 0.4), ("faint", 0.9)]
    words = [Word(quad, *reading, 0.8) for quad, reading in zip(quads, readings, strict=True)]
    words[4] = words[4]._replace(score=0.3)

    def texts(stored=0.5, **settings):
        return TCMImageProcessorPil(text_threshold=stored).post_process_text_spotting(spotted(words), **settings)[0][
            "texts"
        ]

    assert texts() == ["sure", "faint"]
    assert texts(text_threshold=0.2) == ["sure", "unsure", "faint"]
    assert texts(box_threshold=0.5) == ["sure"]
    assert texts(stored=None) == ["sure", "unsure", "faint"]


def test_a_word_without_area_in_the_image_is_dropped():
    outside = Word(upright(210, 10, 240, 20), "outside")
    (found,) = TCMImageProcessorPil().post_process_text_spotting(spotted([outside, LINE[0]]))
    assert found["texts"] == ["two"]


def test_lexicons_replace_and_drop_readings():
    outputs, processor = spotted(LINE, LINE), TCMImageProcessorPil(text_threshold=0.5)

    def texts(lexicon, **settings):
        return [found["texts"] for found in processor.post_process_text_spotting(outputs, lexicon=lexicon, **settings)]

    words = ["ONE", "tw0", "lowlands"]
    assert texts(words) == [["ONE", "tw0"]] * 2
    assert texts(Lexicon(words)) == texts(words)
    assert texts({"OWN": "own", "LOX": "lox"}) == [["lox"]] * 2
    assert texts(words, max_distance=5.5) == [["ONE", "tw0", "ONE"]] * 2
    assert texts(words, lexicon_rule="nearest") == [["ONE", "tw0", "ONE"]] * 2
    assert texts([None, ["low"]]) == [["one", "two", "low"], ["low"]]
    # p(o) = 0.9 where it was read, and every other character has a thousandth.
    assert texts(["tw", "twoo"], lexicon_rule="weighted", max_distance=0.95) == [["tw"]] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_threshold": 1.1}, r"`text_threshold` is 1\.1"),
        ({"box_threshold": -0.1}, r"`box_threshold` is -0\.1"),
        ({"lexicon": [["one"], ["two"]]}, "2 lexicons for 1 images"),
        ({"lexicon": []}, "lexicon is empty"),
        ({"lexicon": ["one", "señal"]}, "cannot read: 'Ñ' in 'señal'"),
        ({"lexicon_rule": "closest"}, "unknown lexicon rule 'closest'"),
        ({"lexicon": ["one"], "lexicon_rule": "nearest", "max_distance": 1}, "takes every distance"),
        ({"target_sizes": [(1, 1), (1, 1)]}, r"`target_sizes` has shape \(2, 2\); expected \(1, 2\)"),
    ],
)
def test_bad_settings_for_reading_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TCMImageProcessorPil(text_threshold=0.5).post_process_text_spotting(spotted(LINE), **settings)


def test_lexicons_hold_what_the_spotter_can_read():
    """The charset is that of the processor."""
    reads = TCMImageProcessorPil(text_threshold=0.5, charset="SEÑALONTWI")
    assert reads.post_process_text_spotting(spotted(LINE), lexicon=["one", "señal"], lexicon_rule="within")[0]["texts"]
    with pytest.raises(ValueError, match="cannot read: 'X' in 'exit'"):
        reads.post_process_text_spotting(spotted(LINE), lexicon=["exit"])


def test_outputs_of_a_detector_hold_no_words():
    outputs = TCMTextDetectionOutput(head_output=FakeMaps([]), valid_sizes=torch.ones(1, 2))
    with pytest.raises(TypeError, match="hold no readings: those of a detector are for `post_process_text_detection`"):
        TCMImageProcessorPil().post_process_text_spotting(outputs)


# --- saving and backends ---------------------------------------------------------------------------------------------


class PhotoConfig(PreTrainedConfig):
    model_type = "test_tcm_image_processing"


def test_everything_survives_saving(processor, tmp_path):
    AutoImageProcessor.register(PhotoConfig, image_processor_classes=BACKENDS, exist_ok=True)
    changed = {
        "size": {"longest_edge": 96},
        "threshold": 0.2,
        "polygon": True,
        "size_divisor": 64,
        "text_threshold": 0.1,
    }
    type(processor)(**changed).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "TCMImageProcessor"
    assert {name: saved[name] for name in changed} == changed
    stored = [saved[name] for name in ("box_threshold", "unclip_ratio", "max_candidates", "min_size")]
    assert stored == [0.6, 1.5, 1000, 3]
    assert (saved["head_type"], saved.get("charset")) == ("dbnet", None)
    loaded = AutoImageProcessor.from_pretrained(tmp_path, backend=processor.backend)
    assert type(loaded) is type(processor)
    assert loaded.to_dict() == type(processor)(**changed).to_dict() | {"auto_map": saved["auto_map"]}
    image = noise(50, 70)
    assert torch.equal(loaded(image)["pixel_values"], type(processor)(**changed)(image)["pixel_values"])


def test_head_and_charset_survive_saving(processor, tmp_path):
    changed = {"head_type": "abcnet", "nms_threshold": 0.25, "polygon": True, "text_threshold": 0.1, "charset": "abß"}
    type(processor)(**changed).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert {name: saved[name] for name in changed} == changed
    assert "unclip_ratio" not in saved
    loaded = type(processor).from_pretrained(tmp_path)
    assert loaded.decoding_settings() == ABCNetDecoding(nms_threshold=0.25, polygon=True)
    assert loaded.charset == "abß"


def test_the_public_class_is_the_one_that_works():
    assert image_processor_class() is BACKENDS.get("torchvision", TCMImageProcessorPil)


def test_a_broken_torchvision_counts_as_none(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.warns(UserWarning, match="operator torchvision::nms is missing.*uninstall"):
        assert not torchvision_works.__wrapped__()


@pytest.mark.skipif(not torchvision_works(), reason="torchvision is not installed")
@pytest.mark.parametrize("size", [{"shortest_edge": 96, "longest_edge": 200}, {"longest_edge": 333}, (72, 100)])
def test_both_backends_give_the_same_numbers(size):
    images = [
        noise(300, 401, 1),
        noise(40, 55, 2),
        noise(20, 900, 3),
        np.kron(noise(9, 7, 4), np.ones((20, 20, 1), np.uint8)),
    ]
    annotations = [TextInstances([np.array(QUAD)])] * 4
    for inputs in (images, [PIL.Image.fromarray(image) for image in images]):
        by_pil = TCMImageProcessorPil(size=size)(inputs, annotations)
        by_torchvision = TCMImageProcessor(size=size)(inputs, annotations)
        assert by_torchvision["pixel_values"].shape == by_pil["pixel_values"].shape
        assert (by_torchvision["pixel_values"] - by_pil["pixel_values"]).abs().max() <= 0.02
        assert torch.equal(by_torchvision["pixel_mask"], by_pil["pixel_mask"])
        assert torch.equal(by_torchvision["target_sizes"], by_pil["target_sizes"])
        for ours, theirs in zip(by_pil["labels"], by_torchvision["labels"], strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in ("points", "counts", "ignore", "orig_size"))


@pytest.mark.skipif(torchvision_works(), reason="torchvision works here, all tests above ran with it")
@pytest.mark.skipif(
    "TCM_TORCHVISION_DIR" not in os.environ, reason="TCM_TORCHVISION_DIR names no folder with torchvision"
)
def test_all_of_this_with_torchvision():
    """These tests once more in a fresh interpreter where torchvision works."""
    paths = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "torchvision_shim", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, cwd=TESTS.parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


CALIBRATION = {"bias": -1.0, "text_score": 1.0, "score": 1.0, "length": 1.0}


def test_reported_scores_of_words_are_calibrated() -> None:
    processor = TCMImageProcessorPil(text_threshold=0.5, score_calibration=CALIBRATION)
    quads = [upright(5, 20 * line, 50, 20 * line + 10) for line in range(3)]
    words = [Word(quads[0], "abcd", 0.5, 0.5), Word(quads[1], "ef", 0.5, 0.5), Word(quads[2], "g", 0.8, 0.8)]
    outputs = spotting_output([words], torch.tensor([[64, 96]]))
    (found,) = processor.post_process_text_spotting(outputs, [(64, 96)])
    # The odds of the second one are 2 to e.
    assert found["texts"] == ["abcd", "g"]
    np.testing.assert_allclose(found["text_scores"], [4 / (4 + np.e), 16 / (16 + np.e)], atol=1e-5)
    # The spotter, which need not search for what is not reported, is told.
    features = processor(np.zeros((64, 96, 3), np.uint8))
    assert features["text_threshold"] == 0.5
    assert features["score_calibration"] == CALIBRATION
    assert "score_calibration" not in TCMImageProcessorPil(text_threshold=0.5)(np.zeros((64, 96, 3), np.uint8))


@pytest.mark.parametrize(
    "weights",
    [
        [[0, 0], [1, 1]],
        {"bias": 0.0},
        {**CALIBRATION, "height": 1.0},
        {**CALIBRATION, "score": "high"},
        {**CALIBRATION, "score": np.inf},
        {**CALIBRATION, "text_score": 0.0},
    ],
)
def test_a_calibration_is_of_numbers(weights: Any) -> None:
    with pytest.raises(ValueError, match="expected numbers for bias, text_score, score, length"):
        TCMImageProcessorPil(score_calibration=weights)
