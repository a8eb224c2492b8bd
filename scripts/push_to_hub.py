"""Publish a model of `hub_configs/`: assemble its repository and upload it.

    python scripts/push_to_hub.py hub_configs/fasttcm-dbnet-tiny --repo-id org/fasttcm-dbnet --dry-run
    python scripts/push_to_hub.py hub_configs/tcm-dbnet-td500 --weights runs/td500 --repo-id org/tcm-dbnet-td500
    python scripts/push_to_hub.py my_detector --repo-id me/my-detector

Bundled models have their weights in the package; the others take them from the folder given by `--weights`, which must
hold a model of the same settings. Its image processor settings and its model card count before those in `hub_configs/`.
A folder with weights of its own, such as a training leaves, is published as it is.
`--dry-run` says what would be uploaded and where to, and warns of placeholders that still have to be filled in;
`--output` keeps the files for a look at them. Log in with `hf auth login`, or set `HF_TOKEN`.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel

from transformers_tcm import TCMImageProcessor, bundled_model_path
from transformers_tcm.hub.model_card import UNKNOWN, CardDetails
from transformers_tcm.hub.publishing import CARD_FILE, PROCESSOR_FILE, push_model, write_repository
from transformers_tcm.models.bundled import BUNDLED_MODELS

# In examples of the documentation and in texts that are not finished.
PLACEHOLDER_OWNERS = ("org", "me", "user", "username", "your-name", "OWNER")
PLACEHOLDER = re.compile(r"\b(TODO|FIXME|TBD|XXX)\b|\[More Information Needed\]|<(?:your|YOUR)[^>]*>|(?<!\S)…")
# Settings that training and saving change.
FREE = {"architectures", "auto_map", "clip_pretrained", "dtype", "fused", "transformers_version", "_name_or_path"}


def weights_folder(config: Path, given: Path | None) -> Path:
    """Where the weights are.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they belong to a model of other settings.
    """
    if not (config / "config.json").is_file():
        raise FileNotFoundError(
            f"{config} has no config.json; give one of the folders in hub_configs/, or that of a trained model"
        )
    if given is None and list(config.glob("model*.safetensors")):
        given = config
    if given is None:
        if not (BUNDLED_MODELS / config.name).is_dir():
            raise FileNotFoundError(f"the package has no weights of {config.name}; give a folder with --weights")
        given = bundled_model_path(config.name)
    if not list(given.glob("model*.safetensors")):
        raise FileNotFoundError(f"{given} has no model.safetensors")
    differing = different_settings(config, given)
    if differing:
        raise ValueError(f"{given} is not a model of {config}: they differ in {', '.join(differing)}")
    return given


def different_settings(first: Path, second: Path) -> list[str]:
    """Names of the settings in which two configurations differ, apart from the free ones."""

    def settings(folder: Path) -> dict[str, Any]:
        return _without_free(AutoConfig.from_pretrained(folder).to_dict())

    one, two = settings(first), settings(second)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def _without_free(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_free(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in FREE
    }


def details_of(weights: Path, config: Path) -> CardDetails:
    """What the card beside the weights says, with the licence of the published one where it has none.

    A card of bundled weights says nothing of others.
    """
    published = CardDetails.from_card(config / CARD_FILE) if (config / CARD_FILE).is_file() else CardDetails()
    if (weights / CARD_FILE).is_file():
        details = CardDetails.from_card(weights / CARD_FILE)
    elif (BUNDLED_MODELS / config.name).is_dir():
        details = CardDetails()
    else:
        return published
    details.license = details.license or published.license
    return details


def show(folder: Path, repo_id: str) -> None:
    """What would be uploaded."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    print(f"{len(files)} files would be uploaded to {repo_id}:")
    for path in files:
        print(f"{path.stat().st_size:>14,}  {path.name}")


def placeholders(folder: Path, repo_id: str, details: CardDetails) -> list[str]:
    """What the author should fill in before others see it."""
    owner, _, name = repo_id.rpartition("/")
    found = []
    if owner in PLACEHOLDER_OWNERS:
        found.append(f"--repo-id {repo_id}: {owner!r} stands for your user name or organisation on the Hub")
    if not owner:
        found.append(f"--repo-id {name}: it has no owner; give it as OWNER/{name}")
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    if UNKNOWN.strip() in card:
        found.append(f"{CARD_FILE}: nobody has described on what data and how the weights were trained")
    if not details.license:
        found.append(f"{CARD_FILE}: it states no licence of the weights")
    written = dict.fromkeys(match.group() for match in PLACEHOLDER.finditer(details.text))
    found += [f"{CARD_FILE}: {text!r} is a placeholder" for text in written]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a folder of hub_configs/, or of a trained model")
    parser.add_argument("--repo-id", required=True, help="owner and name of the repository, such as org/fasttcm-dbnet")
    parser.add_argument("--weights", type=Path, help="folder of the trained model, if it is not a bundled one")
    parser.add_argument("--photo", help="what the picture in the card shows, in place of the package's photo")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", help="branch to commit to")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--max-shard-size", default="5GB", help="divide larger weights; default: %(default)s")
    parser.add_argument("--commit-message", help="default: Upload and the class of the model")
    parser.add_argument("--dry-run", action="store_true", help="upload nothing, say what would be")
    parser.add_argument("--output", type=Path, help="with --dry-run: folder that gets the files")
    options = parser.parse_args()
    try:
        publish(options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


def publish(options: argparse.Namespace) -> None:
    """Upload, or write a folder."""
    weights = weights_folder(options.config, options.weights)
    model = AutoModel.from_pretrained(weights)
    settings = weights if (weights / PROCESSOR_FILE).is_file() else options.config
    image_processor = TCMImageProcessor.from_pretrained(settings)
    details = details_of(weights, options.config)
    common: dict[str, Any] = {"photo": options.photo, "max_shard_size": options.max_shard_size}
    if options.dry_run:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.output or Path(temporary)
            write_repository(folder, model, image_processor, details, options.repo_id, **common)
            show(folder, options.repo_id)
            for warning in placeholders(folder, options.repo_id, details):
                print(f"warning: {warning}", file=sys.stderr)
        return
    commit = push_model(
        model,
        options.repo_id,
        image_processor=image_processor,
        card=details,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        commit_message=options.commit_message,
        **common,
    )
    print(commit.pr_url or commit.commit_url)


if __name__ == "__main__":
    main()
