"""Names of a project in its own C++ namespace, where hls4ml 1.3 leaves them outside: two projects in one program would share them."""

import re
from pathlib import Path

from hgqjax.export.gate import ExportError


def make_private(project: Path) -> None:
    """hls4ml 1.3's readers of weights are templates that hold the folder of their project: of those of two projects a linker keeps one."""
    header = project / "firmware" / "nnet_utils" / "nnet_helpers.h"
    header.write_text(re.sub(r"\bvoid (load_\w+_from_txt)\(", r"static void \1(", header.read_text()))


def place_generated(project: Path, namespace: str) -> None:
    """hls4ml 1.3 writes generated code into the namespace of the project, and with distributed arithmetic looks for it in its own."""
    generated, parameters = project / "firmware/nnet_utils/nnet_code_gen.h", project / "firmware/parameters.h"
    text, opened = generated.read_text(), f"namespace {namespace} {{\n"
    if "bit_shift<" in text:
        text = text.replace(opened, f"{opened}using nnet::bit_shift;\n", 1)
        generated.write_text(text)
    names = set(re.findall(r"\b(?:void|class|struct) (\w+)", text.partition(opened)[2])) - {"PointwiseConv1D"}
    parameters.write_text(
        re.sub(r"\bnnet::(\w+)", lambda found: f"{namespace}::{found[1]}" if found[1] in names else found[0], parameters.read_text())
    )


def enclose(path: Path, namespace: str) -> None:
    """Puts what a header defines, behind its guard and includes, into the namespace."""
    text = path.read_text()
    start = text.index("\n", max(text.rfind("#include"), text.find("#define"))) + 1
    head, end, tail = text[start:].rpartition("#endif")
    if not end:
        raise _unknown(path)
    path.write_text(f"{text[:start]}namespace {namespace} {{\n{head}}} // namespace\n{end}{tail}")


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replaces each text, which the file must have once."""
    text = path.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise _unknown(path)
        text = text.replace(old, new)
    path.write_text(text)


def behind_includes(path: Path, begin: str, end: str = "") -> None:
    """Puts `begin` behind the last include of a source file, and `end` at its end."""
    head, include, rest = path.read_text().rpartition("#include ")
    line, _, rest = rest.partition("\n")
    path.write_text(f"{head}{include}{line}\n{begin}{rest}{end}")


def _unknown(path: Path) -> ExportError:
    return ExportError(f"hls4ml wrote {path.name} in a form that is not known; hls4ml 1.3 is needed")
