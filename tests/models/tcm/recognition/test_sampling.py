"""BezierAlign against crops computed by hand, and as a differentiable function of batches of any composition."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.bezier import bezier_points, fit_bezier
from transformers_tcm.models.tcm.recognition.sampling import BezierAlign, FeatureLevels, WordSampler, quads_to_bezier


def rectangle(x: float, y: float, width: float, height: float, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.array([[x, y] + a * along * width / 2 + b * down * height / 2 for a, b in corners])


def bilinear(features: np.ndarray, x: float, y: float, stride: float) -> np.ndarray:
    """Value (C,) of a map (C, H, W) at a pixel of the input, beyond the outermost cell centres that of the edge."""
    row, column = np.clip([y / stride - 0.5, x / stride - 0.5], 0, np.array(features.shape[1:]) - 1)
    top, left = int(row), int(column)
    bottom, right = min(top + 1, features.shape[1] - 1), min(left + 1, features.shape[2] - 1)
    upper = (left + 1 - column) * features[:, top, left] + (column - left) * features[:, top, right]
    lower = (left + 1 - column) * features[:, bottom, left] + (column - left) * features[:, bottom, right]
    return (top + 1 - row) * upper + (row - top) * lower


def random_words(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Control points (count, 8, 2) of bent words in, and partly beyond, an image of 96 x 64 pixels."""
    rng = np.random.default_rng(seed)
    quads = [
        rectangle(
            rng.uniform(0, 96), rng.uniform(0, 64), rng.uniform(8, 60), rng.uniform(4, 30), rng.uniform(-180, 180)
        )
        for _ in range(count)
    ]
    bends = torch.from_numpy(rng.normal(0, 2, (count, 8, 2)))
    return (quads_to_bezier(torch.from_numpy(np.array(quads))) + bends).to(dtype)


@settings(max_examples=30)
@given(
    st.floats(20, 76),
    st.floats(15, 50),
    st.floats(8, 90),
    st.floats(4, 50),
    st.floats(-180, 180),
    st.sampled_from([2, 4]),
)
def test_straight_word_is_a_rotated_crop(
    x: float, y: float, width: float, height: float, degrees: float, stride: int
) -> None:
    features = np.random.default_rng(0).normal(size=(3, 64 // stride, 96 // stride))
    corner, right, _, below = rectangle(x, y, width, height, degrees)
    expected = np.zeros((3, 5, 12))
    for row in range(5):
        for column in range(12):
            point = corner + (column + 0.5) / 12 * (right - corner) + (row + 0.5) / 5 * (below - corner)
            expected[:, row, column] = bilinear(features, *point, stride)
    quad = torch.from_numpy(rectangle(x, y, width, height, degrees))
    crops = BezierAlign((5, 12), stride)(
        torch.from_numpy(features)[None], quads_to_bezier(quad[None]), torch.tensor([0])
    )
    np.testing.assert_allclose(crops[0].numpy(), expected, atol=1e-9)


def test_axis_aligned_word_on_the_grid_is_a_slice() -> None:
    features = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    quad = torch.tensor([[[20.0, 8.0], [60.0, 8.0], [60.0, 32.0], [20.0, 32.0]]])
    crops = BezierAlign((6, 10), 4)(features, quads_to_bezier(quad), torch.tensor([0]))
    torch.testing.assert_close(crops, features[:, :, 2:8, 5:15])


def test_curved_word_is_read_between_its_curves() -> None:
    # Maps that hold their own pixel coordinates give back where they were read.
    columns, rows = torch.meshgrid(torch.arange(24) * 4 + 2.0, torch.arange(16) * 4 + 2.0, indexing="xy")
    features = torch.stack([columns, rows])[None].double()
    upper = np.array([[10, 30], [30, 5], [60, 5], [80, 30]])
    lower = np.array([[75, 50], [55, 25], [35, 25], [15, 50]])
    control_points = torch.from_numpy(np.concatenate([upper, lower])).double()[None]
    crops = BezierAlign((3, 8), 4)(features, control_points, torch.tensor([0]))[0].numpy()
    along, down = (np.arange(8) + 0.5) / 8, (np.arange(3) + 0.5) / 3
    above, below = bezier_points(upper, along).T, bezier_points(lower[::-1], along).T  # (2, 8)
    expected = (1 - down[:, None]) * above[:, None] + down[:, None] * below[:, None]  # (2, 3, 8)
    np.testing.assert_allclose(crops, expected, atol=1e-9)


def test_gradients_of_features_and_control_points() -> None:
    features = torch.randn(2, 2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    control_points = random_words(3, dtype=torch.float64) / 3
    align, indices = BezierAlign((2, 3), 4, chunk_size=2), torch.tensor([1, 0, 1])
    inputs = (features.requires_grad_(), control_points.requires_grad_())
    assert torch.autograd.gradcheck(lambda *moved: align(*moved, indices), inputs)


def test_batch_equals_single_images() -> None:
    features = torch.randn(3, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    # The second image has no words.
    words, indices = random_words(7), torch.tensor([2, 0, 0, 2, 2, 0, 2])
    align = BezierAlign((4, 8), 4)
    together = align(features, words, indices)
    assert together.shape == (7, 4, 4, 8)
    for word, index, crop in zip(words, indices, together, strict=True):
        alone = align(features[index][None], word[None], torch.tensor([0]))
        torch.testing.assert_close(crop, alone[0])


def test_chunks_equal_one_go_without_copies_of_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    words, indices = random_words(1000), torch.arange(1000) % 2
    sampled = []

    def recording(image: torch.Tensor, grid: torch.Tensor, **options: Any) -> torch.Tensor:
        sampled.append((len(image), grid.shape[1] // 4))
        return grid_sample(image, grid, **options)

    grid_sample = F.grid_sample
    monkeypatch.setattr(F, "grid_sample", recording)
    in_chunks = BezierAlign((4, 8), 4, chunk_size=150)(features, words, indices)
    assert sampled == [(1, 150), (1, 150), (1, 150), (1, 50)] * 2
    torch.testing.assert_close(in_chunks, BezierAlign((4, 8), 4, chunk_size=1000)(features, words, indices))


def test_no_words_give_an_empty_tensor_that_can_be_trained_on() -> None:
    features = torch.randn(2, 4, 16, 24, requires_grad=True)
    crops = BezierAlign((4, 8), 4)(features, torch.zeros(0, 8, 2), torch.zeros(0, dtype=torch.int64))
    assert crops.shape == (0, 4, 4, 8)
    crops.sum().backward()
    assert features.grad is not None
    assert not features.grad.any()


def test_half_precision_keeps_exact_coordinates() -> None:
    # Between 512 and 1024 neighbouring bfloat16 numbers are 4 pixels apart.
    features = torch.randn(1, 4, 8, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    words = random_words(5) / 4 + torch.tensor([901.3, 10.0])
    align, indices = BezierAlign((4, 8), 4), torch.zeros(5, dtype=torch.int64)
    expected = align(features.float(), words, indices)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crops = align.bfloat16()(features, words, indices)
    assert crops.dtype == torch.bfloat16
    torch.testing.assert_close(crops, expected.bfloat16())


def test_quads_to_bezier_is_the_fit_of_a_quad() -> None:
    quads = np.array([rectangle(50, 30, 60, 20, degrees) for degrees in (0, 35, -70, 180)], dtype=np.float32)
    control_points = quads_to_bezier(torch.from_numpy(quads))
    np.testing.assert_allclose(control_points.numpy(), [fit_bezier(quad) for quad in quads], atol=1e-4)
    assert quads_to_bezier(torch.zeros(0, 4, 2)).shape == (0, 8, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(4, 16, 24)}, r"expected features \(B, C, H, W\) .* got shape \(4, 16, 24\)"),
        ({"control_points": torch.zeros(2, 4, 2)}, r"expected control points \(N, 8, 2\), got shape \(2, 4, 2\)"),
        ({"batch_indices": torch.tensor([0])}, r"one batch index for each of 2 words, got shape \(1,\)"),
        ({"batch_indices": torch.tensor([0, 3])}, "must lie in 0 … 2, got 0 … 3"),
        ({"batch_indices": torch.tensor([-1, 0])}, "must lie in 0 … 2, got -1 … 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    inputs = {
        "features": torch.zeros(3, 4, 16, 24),
        "control_points": torch.zeros(2, 8, 2),
        "batch_indices": torch.tensor([0, 1]),
    }
    with pytest.raises(ValueError, match=message):
        BezierAlign((4, 8), 4)(**{**inputs, **change})


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        BezierAlign((0, 8), 4)
    with pytest.raises(ValueError, match="must be positive"):
        BezierAlign((4, 8), 4, chunk_size=0)


def test_levels_of_a_map_are_made_once() -> None:
    torch.manual_seed(0)
    features, sampler = torch.randn(1, 3, 40, 120, dtype=torch.bfloat16), WordSampler((4, 16), 4, 3)
    word = quads_to_bezier(torch.tensor([[[8.0, 8], [110, 8], [110, 24], [8, 24]]]))
    words, images = word * torch.tensor([1, 2, 4])[:, None, None], torch.zeros(3, dtype=torch.int64)
    assert len(sampler.choose_levels(words).unique()) == 3
    expected, maps = sampler(features, words, images), FeatureLevels(features)
    assert expected.dtype == torch.bfloat16
    torch.testing.assert_close(sampler(maps, words, images), expected, rtol=0, atol=0)
    features.zero_()
    torch.testing.assert_close(sampler(maps, words, images), expected, rtol=0, atol=0)
