"""Names of what lies in a project folder, and the device that a project is made for unless another is named."""

GATE_FILE, RTL_FILE = "hgqjax_gate.json", "hgqjax_rtl.json"
"""Records of a project of hls4ml and of RTL."""
MODEL_FOLDER = "hgqjax_model"
"""The model description that a project was made of, in it."""
DEFAULT_PART = "xcvu13p-flga2577-2-e"
"""The paper's device."""
