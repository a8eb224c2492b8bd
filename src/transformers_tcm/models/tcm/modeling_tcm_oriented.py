"""TCM for oriented objects, as in aerial images: class prompts in place of a sentence about text.

References: Yu et al., "Turning a CLIP Model Into a Scene Text Spotter" (FastTCM), TPAMI 2024, whose last experiment is
DOTA-v1.0 (Xia et al., CVPR 2018) with the rotated FCOS, ATSS and RetinaNet.
"""

from dataclasses import dataclass

from .configuration_tcm import TCMConfig
from .heads.base import DetectionHead
from .heads.oriented import OrientedHeadOutput
from .modeling_tcm import TCMDetector, TCMTextDetectionOutput

__all__ = ["TCMForOrientedObjectDetection", "TCMOrientedObjectDetectionOutput"]


@dataclass
class TCMOrientedObjectDetectionOutput(TCMTextDetectionOutput):
    """Output of `TCMForOrientedObjectDetection`; `post_process_oriented_object_detection` of the image processor turns
    it into objects.

    Args:
        loss: scalar, the sum of `loss_dict`, where labels are given.
        loss_dict: weighted loss terms by name: `loss_classification`, `loss_box`, `loss_centerness` (not of RetinaNet)
            and, with prompting, `loss_score_map`.
        head_output: an `OrientedHeadOutput`.
        score_map: (B, K, h, w) cosine of every position with the prompt of each class; `None` without prompting.
        valid_sizes: (B, 2) height and width of each image within the padded input.
        hidden_states: maps of the stem and the four stages, where asked for.
    """

    head_output: OrientedHeadOutput | None = None


class TCMForOrientedObjectDetection(TCMDetector):
    """TCM with a head that finds objects of any direction, of the classes in `config.id2label`.

    Each class has a prompt, which is prompted by the meta query and matched with the image on its own (FastTCM); the
    K score maps are concatenated to C5 as logits, and learn the class of every pixel of an object.

    ```python
    >>> config = TCMConfig.from_preset("tiny", head_type="rotated_fcos", id2label={0: "ship", 1: "car"})
    >>> model = TCMForOrientedObjectDetection(config)
    ```

    Args:
        config: its settings; `head_type` names the head.

    Raises:
        ValueError: for a head that finds text, or unless there is one prompt for each label.
    """

    _output_class = TCMOrientedObjectDetectionOutput

    def _check_head(self, head: type[DetectionHead]) -> None:
        config: TCMConfig = self.config
        if head.task != "oriented":
            raise ValueError(
                f"the head {config.head_type!r} finds text; choose another `head_type`, such as 'rotated_fcos', or use "
                "TCMForTextDetection"
            )
        prompts = config.prompts or ()
        if config.prompting != "none" and len(prompts) != config.num_labels:
            raise ValueError(
                f"there are {len(prompts)} `prompts` for {config.num_labels} labels; expected one for each; without "
                "`prompts` they are made from `id2label`"
            )
