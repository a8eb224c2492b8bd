"""Complete repositories for the Hub, from a model and its image processor.

`model.push_to_hub`, `image_processor.push_to_hub`, `TCMTrainer` with `push_to_hub=True` and `scripts/push_to_hub.py`
all come here.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from PIL import Image

from ..images import load_image
from ..models.tcm.modeling_tcm import TCMForTextDetection, TCMPreTrainedModel
from .model_card import PICTURE_FILE, CardDetails, Publication, model_card, replace_thresholds

__all__ = ["EXAMPLE_PHOTO", "draw_example", "push_image_processor", "push_model", "write_card", "write_repository"]

EXAMPLE_PHOTO = Path(__file__).parents[1] / "models" / "tcm" / "assets" / "street.jpg"
CARD_FILE, PROCESSOR_FILE = "README.md", "preprocessor_config.json"
PICTURE_SIZE = 960  # longest side in pixels
# Weights of an earlier push: a single file beside new shards would be what is loaded.
WEIGHT_PATTERNS = ["model*.safetensors", "model.safetensors.index.json"]


def push_model(
    model: TCMPreTrainedModel,
    repo_id: str,
    *,
    image_processor: Any = None,
    card: CardDetails | str | Path | None = None,
    photo: Any = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str = "5GB",
    tags: list[str] | None = None,
) -> CommitInfo:
    """Upload a complete repository in one commit; weights of an earlier push that it does not overwrite are deleted.

    Args:
        model: a TCM model.
        repo_id: owner and name of the repository, created where it does not exist.
        image_processor: its settings. Default: those in the repository, otherwise those beside the weights that the
            model was loaded from, otherwise the defaults of the class.
        card: what the model card says on data, recipe, figures and licence; a card to take that from; by default that
            of the weights that the model was loaded from, if it still has them, otherwise that in the repository.
        photo: what the picture in the card shows the output on, in place of the package's own photo.
        commit_message: default: "Upload" and the class of the model.
        commit_description: longer text of the commit.
        private: of a repository that is created.
        token: default: the one that `hf auth login` stored.
        revision: branch to commit to, created where it does not exist.
        create_pr: open a pull request instead.
        max_shard_size: larger weights are divided into several files.
        tags: more tags of the card.

    Raises:
        FileNotFoundError: if `card` names a file that does not exist.
        HfHubHTTPError: if the Hub refuses; nothing is committed then, and the call can be repeated.
    """
    api = HfApi(library_name="transformers_tcm", token=token)
    repo_id = _create_repo(api, repo_id, private, revision, create_pr)
    there = {"repo_id": repo_id, "revision": revision, "token": token}
    if image_processor is None:
        image_processor = _stored_processor(model, there)
    details = _card_details(model, card, there)
    details.tags = [*details.tags, *(tags or [])]
    with TemporaryDirectory() as folder:
        write_repository(folder, model, image_processor, details, repo_id, photo=photo, max_shard_size=max_shard_size)
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message or f"Upload {type(model).__name__}",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
            delete_patterns=WEIGHT_PATTERNS,
        )


def push_image_processor(
    image_processor: Any,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    **_: Any,
) -> CommitInfo:
    """Upload the settings of an image processor, and put its thresholds into the model card where there is one.

    Args:
        image_processor: a TCM image processor.
        repo_id, commit_message, commit_description, private, token, revision, create_pr: as in `push_model`.

    Raises:
        HfHubHTTPError: if the Hub refuses.
    """
    api = HfApi(library_name="transformers_tcm", token=token)
    repo_id = _create_repo(api, repo_id, private, revision, create_pr)
    with TemporaryDirectory() as folder:
        image_processor.save_pretrained(folder)
        card = _download(CARD_FILE, repo_id=repo_id, revision=revision, token=token)
        if card is not None:
            text = replace_thresholds(card.read_text(encoding="utf-8"), image_processor)
            (Path(folder) / CARD_FILE).write_text(text, encoding="utf-8")
        return api.create_commit(
            repo_id=repo_id,
            operations=[CommitOperationAdd(path.name, path) for path in sorted(Path(folder).iterdir())],
            commit_message=commit_message or f"Upload {type(image_processor).__name__}",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )


def write_repository(
    folder: str | Path,
    model: TCMPreTrainedModel,
    image_processor: Any,
    details: CardDetails,
    repo_id: str,
    photo: Any = None,
    max_shard_size: int | str = "5GB",
) -> None:
    """Write what `push_model` uploads into a folder; its arguments are described there."""
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    image_processor.save_pretrained(folder)
    write_card(
        folder, model, image_processor, details, name=repo_id.rpartition("/")[2], source=f'"{repo_id}"', photo=photo
    )


def write_card(
    folder: str | Path,
    model: TCMPreTrainedModel,
    image_processor: Any,
    details: CardDetails,
    name: str,
    source: str,
    photo: Any = None,
) -> None:
    """Write the model card, and the picture in it, into the folder that a model was saved in.

    Args:
        folder: with the weights.
        model: the same.
        image_processor: its image processor.
        details: what the author says.
        name: of the model.
        source: the Python expression that stands for the model in the example code.
        photo: as in `push_model`.
    """
    folder = Path(folder)
    if isinstance(model, TCMForTextDetection):  # one without a head finds nothing
        draw_example(model, image_processor, photo).save(folder / PICTURE_FILE, quality=85, optimize=True)
    publication = Publication(
        name=name,
        config=model.config,
        image_processor=image_processor,
        source=source,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_bytes=sum(path.stat().st_size for path in folder.glob("model*.safetensors")),
        dtype=str(model.dtype).removeprefix("torch."),
        picture=isinstance(model, TCMForTextDetection),
        **({} if photo is None else {"credit": ""}),
    )
    model_card(publication, details).save(folder / CARD_FILE)


def draw_example(model: TCMForTextDetection, image_processor: Any, photo: Any = None) -> Image.Image:
    """A photo with what the model finds in it, and reads in it if it is a spotter.

    Args:
        model: stays as it is; a copy is run.
        image_processor: its thresholds count.
        photo: whatever `load_image` takes; by default the package's own photo of a street.
    """
    from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting
    from ..pipelines import TextDetectionPipeline, TextSpottingPipeline
    from ..visualization.drawing import draw_text_instances

    pipeline_class = TextSpottingPipeline if isinstance(model, TCMForTextSpotting) else TextDetectionPipeline
    # A pipeline moves its model to another dtype and out of training mode.
    finder = pipeline_class(
        model=copy.deepcopy(model), image_processor=image_processor, device=model.device, dtype="auto"
    )
    image = load_image(EXAMPLE_PHOTO if photo is None else photo)
    drawn = draw_text_instances(image, finder(image))
    drawn.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
    return drawn


def _create_repo(api: HfApi, repo_id: str, private: bool | None, revision: str | None, create_pr: bool) -> str:
    """The full name of a repository that exists from now on, with the branch."""
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    return repo_id


def _download(filename: str, **where: Any) -> Path | None:
    """A file of a repository, `None` where it has none of that name."""
    try:
        return Path(hf_hub_download(filename=filename, **where))
    except LocalEntryNotFoundError:
        raise  # the Hub could not be reached
    except EntryNotFoundError:
        return None


def _stored_processor(model: TCMPreTrainedModel, there: dict[str, Any]) -> Any:
    """Settings from the repository, from beside the weights that the model was loaded from, or the defaults."""
    from .. import TCMImageProcessor

    path = _download(PROCESSOR_FILE, **there) or _beside_weights(model, PROCESSOR_FILE)
    return TCMImageProcessor() if path is None else TCMImageProcessor.from_pretrained(path.parent)


def _card_details(
    model: TCMPreTrainedModel, card: CardDetails | str | Path | None, there: dict[str, Any]
) -> CardDetails:
    if isinstance(card, CardDetails):
        return copy.copy(card)
    if card is None:
        # What a card says of other weights would be wrong of these.
        source = _beside_weights(model, CARD_FILE)
        card = source if source is not None and _has_weights_of(model, source.parent) else _download(CARD_FILE, **there)
    return CardDetails() if card is None else CardDetails.from_card(card)


def _beside_weights(model: TCMPreTrainedModel, filename: str) -> Path | None:
    """A file from the folder or the repository that the model was loaded from."""
    source = model.config.name_or_path
    if not source or Path(source).is_dir():
        path = Path(source or "no folder", filename)
        return path if path.is_file() else None
    try:
        return _download(filename, repo_id=source, revision=getattr(model.config, "_commit_hash", None))
    except (HfHubHTTPError, LocalEntryNotFoundError):  # it may be gone, or private
        return None


def _has_weights_of(model: TCMPreTrainedModel, folder: Path) -> bool:
    """Whether the weights are still those in a folder, up to their dtype."""
    state = model.state_dict()
    stored = {name: tensor for path in folder.glob("model*.safetensors") for name, tensor in _tensors(path)}
    return stored.keys() == state.keys() and all(
        torch.equal(tensor.to(state[name].dtype), state[name].cpu()) for name, tensor in stored.items()
    )


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors.torch import load_file

    yield from load_file(path).items()
