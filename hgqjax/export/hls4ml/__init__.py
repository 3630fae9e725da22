"""hls4ml: a project of C++ for the compilers of its back ends."""

from hgqjax.export.hls4ml.convert import link_project, to_hls4ml

__all__ = ["link_project", "to_hls4ml"]
