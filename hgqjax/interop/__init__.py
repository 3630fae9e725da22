"""Models of other tools, read without those tools."""

from hgqjax.interop.hgq2 import load_hgq2
from hgqjax.interop.kanele import load_kanele
from hgqjax.interop.keras_file import InteropError
from hgqjax.interop.keras_weights import load_keras_weights
from hgqjax.interop.qkeras import load_qkeras
from hgqjax.interop.qonnx import load_qonnx

__all__ = ["InteropError", "load_hgq2", "load_kanele", "load_keras_weights", "load_qkeras", "load_qonnx"]
