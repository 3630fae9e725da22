"""hls4ml's Catapult: its project in the namespace of the network, independent of its place."""

import re
from pathlib import Path

from hgqjax.export.hls4ml.namespaces import edit, enclose

NAME = "Catapult"


def finish(project: Path, name: str, namespace: str) -> None:
    """Puts all that the network defines into its namespace, for which hls4ml 1.3 has no form in this back end, and takes out its path."""
    firmware, opened = project / "firmware", f"namespace {namespace} {{\n"
    for path in (firmware / "defines.h", firmware / "parameters.h", firmware / f"{name}.h", *(firmware / "weights").glob("*.h")):
        enclose(path, namespace)
    edit(firmware / f"{name}.cpp", ("#pragma hls_design top\n", f"{opened}#pragma hls_design top\n"))
    with (firmware / f"{name}.cpp").open("a") as file:
        file.write("} // namespace\n")
    edit(
        firmware / "nnet_utils/nnet_code_gen.h", ("// hls4ml insert code\n", f"}}\n{opened}using namespace nnet;\n// hls4ml insert code\n")
    )
    edit(
        firmware / "nnet_utils/nnet_helpers.h",
        ("extern const char *get_weights_dir();", f"{opened}const char *get_weights_dir();\n}}"),
        ("#define WEIGHTS_DIR get_weights_dir()", f"#define WEIGHTS_DIR {namespace}::get_weights_dir()"),
    )
    getter = "const char *get_weights_dir() { return s_weights_dir.c_str(); }"
    for path in (project / f"{name}_bridge.cpp", project / f"{name}_test.cpp"):
        edit(path, (getter, f"{opened}{getter}\n}}"))
        text = re.sub(r'(s_weights_dir = )"[^"]*"', r'\1"firmware/weights"', path.read_text())
        text = re.sub(r"(insert declare weights\n)((?:\w.*;\n)*)", rf"\1{opened}\2}}\nusing namespace {namespace};\n", text)
        path.write_text(text)
    place = 'BASEDIR="$(cd "$(dirname "$0")" && pwd)"\nCFLAGS+=" -DWEIGHTS_DIR=\\"${BASEDIR}/firmware/weights\\""\n'
    edit(project / "build_lib.sh", ("INCFLAGS=", f"{place}INCFLAGS="))
    project.with_name(f"{project.name}.tar.gz").unlink(missing_ok=True)  # hls4ml packs the folder beside it
