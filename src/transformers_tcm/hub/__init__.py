"""Publishing: complete repositories with weights, settings, model card and its picture."""

__all__: list[str] = []
