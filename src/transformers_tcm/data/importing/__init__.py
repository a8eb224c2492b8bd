"""Labels exported from Label Studio, CVAT and PaddleOCR's PPOCRLabel, as `TextInstances` of photos in a folder."""

from .exports import ExportedPhoto, ExportedWord, ImportedLabels, import_photos
from .formats import LabelFormat, read_export

__all__ = ["ExportedPhoto", "ExportedWord", "ImportedLabels", "LabelFormat", "import_photos", "read_export"]
