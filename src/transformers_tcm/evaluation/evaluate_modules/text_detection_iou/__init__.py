"""The metric `text_detection_iou` for `evaluate.load`."""

__all__: list[str] = []
