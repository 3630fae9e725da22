"""hls4ml: a project of C++ for Vitis HLS or Vivado HLS."""

from hgqjax.export.hls4ml.convert import to_hls4ml

__all__ = ["to_hls4ml"]
