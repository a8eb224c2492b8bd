"""Tokens of CLIP's vocabulary next to the learned context."""

from pathlib import Path

import pytest
import torch
from detection_fakes import CONFIG
from tiny_settings import READER
from transformers import CLIPTextConfig

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMModel
from transformers_tcm.explain import nearest_tokens
from transformers_tcm.models.tcm.tokenization_tcm import clip_tokenizer


def config(**changes: object) -> TCMConfig:
    return TCMConfig(**{**CONFIG.to_dict(), "fused": False, **changes})


def with_context(model: TCMModel, vectors: torch.Tensor) -> None:
    """Give the model learned context vectors (N, D)."""
    with torch.no_grad():
        model.text_encoder.context[0] = vectors


def token_ids(*tokens: str) -> list[int]:
    return clip_tokenizer().convert_tokens_to_ids(list(tokens))


@pytest.fixture(scope="module")
def model() -> TCMForTextDetection:
    """Its context vectors stand on, or near, these tokens: text, sig- and é, and the start token."""
    torch.manual_seed(0)
    detector = TCMForTextDetection(config())
    embedding = detector.model.text_encoder.text_model.embeddings.token_embedding.weight
    chosen = embedding[token_ids("text</w>", "sig", "Ã©</w>", "<|startoftext|>")].detach().clone()
    with_context(detector.model, chosen + 1e-4)
    return detector


def test_the_token_on_which_a_vector_stands_is_the_nearest(model: TCMForTextDetection) -> None:
    vectors = nearest_tokens(model, count=3)
    assert [vector.tokens[0] for vector in vectors] == ["text", "sig-", "é", "<|startoftext|>"]
    for vector in vectors:
        assert vector.distances[0] == pytest.approx(1e-4 * 16**0.5, abs=1e-5)  # 16 dimensions
        assert vector.distances == sorted(vector.distances)
        assert len(vector.tokens) == len(set(vector.tokens)) == 3
        assert vector.median > vector.distances[2]


def test_cosine_ignores_length_and_euclid_does_not(model: TCMForTextDetection) -> None:
    torch.manual_seed(1)
    other = TCMModel(config())
    embedding = other.text_encoder.text_model.embeddings.token_embedding.weight
    with_context(other, 50 * embedding[token_ids("text</w>")].detach().expand(4, -1))
    by_angle, by_length = (nearest_tokens(other, 1, distance)[0] for distance in ("cosine", "euclidean"))
    assert by_angle.tokens == ["text"]
    assert by_angle.distances[0] == pytest.approx(0, abs=1e-5)
    assert by_angle.median == pytest.approx(1, abs=0.2)
    assert by_length.tokens != ["text"]


def test_folders_of_detectors_spotters_and_bare_models(model: TCMForTextDetection, tmp_path: Path) -> None:
    expected = nearest_tokens(model)
    model.save_pretrained(tmp_path / "detector")
    spotter = TCMForTextSpotting(config(recognizer=READER))
    spotter.model.load_state_dict(model.model.state_dict())
    spotter.save_pretrained(tmp_path / "spotter")
    model.model.save_pretrained(tmp_path / "bare")
    for name in ("detector", "spotter", "bare"):
        assert nearest_tokens(tmp_path / name) == expected


def test_models_without_context_say_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"this model is fused: .*before `fuse_text_embeddings"):
        nearest_tokens(TCMForTextDetection(CONFIG))
    with pytest.raises(ValueError, match="`num_context_tokens` is 0"):
        nearest_tokens(TCMModel(config(num_context_tokens=0)))
    small = {**config().text_config.to_dict(), "vocab_size": 49410}
    with pytest.raises(ValueError, match="49410 tokens; expected the 49408"):
        nearest_tokens(TCMModel(config(text_config=small)))
    CLIPTextConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'clip_text_model' is no TCM model"):
        nearest_tokens(tmp_path)


@pytest.mark.parametrize("count", [0, 49409])
def test_impossible_numbers_of_tokens(model: TCMForTextDetection, count: int) -> None:
    with pytest.raises(ValueError, match=f"`count` is {count}"):
        nearest_tokens(model, count)
