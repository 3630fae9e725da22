"""Model description to a QONNX file, checked word for word in qonnx's own executor."""

from hgqjax.export.qonnx.convert import to_qonnx

__all__ = ["to_qonnx"]
