"""What `TCMTrainer` publishes: complete repositories, of the averaged weights, with a card that describes the run."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from ..hub.publishing import push_model, write_card
from ..models.tcm.modeling_tcm import TCMDetector
from .card import training_details
from .ema import ExponentialMovingAverage

__all__ = ["HubTrainer"]


class HubTrainer(Trainer):
    """The side of `TCMTrainer` that faces the Hub; the trainer of transformers describes the arguments `hub_…`.

    The trainer of transformers would upload its output folder, with the weights of the last step, a general model card
    and its own arguments, token included.
    """

    args: Any
    model: TCMDetector
    hub_model_id: Any  # set by `init_hf_repo`
    ema: ExponentialMovingAverage | None

    def create_model_card(self, **details: Any) -> None:  # type: ignore[override]
        """Write the model card and its picture into the output folder; see `training_details` for the arguments."""
        if self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            name = details.pop("model_name", None) or folder.absolute().name
            content = training_details(self, **details)
            with self._averages():
                write_card(folder, self.model, self.processing_class, content, name=name, source=f'"{name}"')

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        model: TCMDetector | None = None,
        **details: Any,
    ) -> CommitInfo | None:
        """Upload weights, settings, and a model card with the data, the recipe and the figures of this run.

        Args:
            commit_message: of the commit.
            blocking: has no effect: the upload is always waited for.
            token: default: `args.hub_token`.
            revision: branch; default: `args.hub_revision`.
            private: of a repository that is created; default: `args.hub_private_repo`.
            model: what became of the trained model, such as its fused form, in place of it.
            **details: see `training_details`.

        Returns:
            The commit; `None` on all processes but the first.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        if not self.is_world_process_zero():
            return None
        with self._averages():
            return push_model(
                self.model if model is None else model,
                self.hub_model_id,
                image_processor=self.processing_class,
                card=training_details(self, **details),
                commit_message=commit_message,
                token=token or self.args.hub_token,
                revision=revision or self.args.hub_revision,
            )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push what `push_to_hub` does, and with such an `args.hub_strategy` the checkpoint too."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        message = f"Training in progress, step {self.state.global_step}"
        self.push_to_hub(commit_message=message)
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            HfApi(token=self.args.hub_token).upload_folder(
                repo_id=self.hub_model_id,
                folder_path=checkpoint_folder,
                path_in_repo="last-checkpoint" if last else Path(checkpoint_folder).name,
                commit_message=f"{message}, checkpoint",
                revision=self.args.hub_revision,
                # It is pickled with the token in it, and not needed to resume.
                ignore_patterns=["training_args.bin"],
            )

    def _averages(self) -> AbstractContextManager[None]:
        """A context in which the model has the averaged weights, if there are any."""
        return nullcontext() if self.ema is None else self.ema.applied(self.model)
