"""Annotated photos: loaders, augmentation, rendering, collation."""

__all__: list[str] = []
