"""Models as graphs that run without torch's: ONNX for onnxruntime, and OpenVINO.

`transformers-tcm export` is the command; `transformers_tcm.models.tcm.exported_tcm` runs what was written.
"""

from .folder import Exported, export_model

__all__ = ["Exported", "export_model"]
