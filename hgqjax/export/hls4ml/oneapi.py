"""hls4ml's oneAPI: its project in the namespace of the network, and a build for the gate by g++ with a stand-in for SYCL.

The compiler of oneAPI, icpx, is in no package for users of g++. The gate compiles the very sources of the project against `STAND_IN` and
the `ac_types` that hls4ml ships for Catapult: that proves the arithmetic. Pipes are queues there, and tasks run one after the other.
"""

import re
import shutil
import tempfile
from pathlib import Path

from hgqjax import processes
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml.compiled import GATE_OPTIMIZATION
from hgqjax.export.hls4ml.namespaces import behind_includes, enclose

NAME, DEFAULT_PART = "oneAPI", "Agilex7"
PROOF = "by g++ against a stand-in for SYCL; icpx was not run"
STAND_IN = """\
#ifndef HGQJAX_SYCL
#define HGQJAX_SYCL
#include <ac_fixed.h>
#include <ac_int.h>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <vector>
#define SYCL_EXTERNAL
namespace sycl {
struct exception : std::exception {};
using exception_list = std::vector<std::exception_ptr>;
namespace property::queue {
struct enable_profiling {};
} // namespace property::queue
struct queue {
    template <class... T> explicit queue(T &&...) {}
    template <class Name, class Kernel> void single_task(const Kernel &kernel) { kernel(); }
    void wait() {}
};
namespace ext::oneapi::experimental {
struct properties_tag {};
template <class... T> struct properties {
    constexpr properties(T...) {}
};
} // namespace ext::oneapi::experimental
namespace ext::intel {
inline constexpr int fpga_emulator_selector_v = 0;
namespace experimental {
template <int> inline constexpr int ready_latency = 0;
template <int = 0> inline constexpr int streaming_interface = 0;
template <int = 0> inline constexpr int pipelined = 0;
template <class Name, class T, int32_t capacity = 0, class Properties = void, class... More> struct pipe {
    static std::deque<T> &held() {
        static std::deque<T> values;
        return values;
    }
    static T read() {
        T value = held().at(0);
        held().pop_front();
        return value;
    }
    static void write(const T &value) { held().push_back(value); }
    static T read(queue &) { return read(); }
    static void write(queue &, const T &value) { write(value); }
};
template <auto &function> struct task_sequence {
    template <class... T> void async(T &&...arguments) { function(arguments...); }
};
} // namespace experimental
} // namespace ext::intel
} // namespace sycl
#endif
"""
_HEADERS = ("sycl.hpp", *(f"ext/intel/{name}" for name in ("fpga_extensions.hpp", "experimental/task_sequence.hpp")))
_HEADERS += tuple(f"ext/intel/ac_types/{name}.hpp" for name in ("ac_fixed", "ac_int", "ac_fixed_math"))


def finish(project: Path, name: str, namespace: str) -> None:
    """Puts all that the network defines into its namespace, for which hls4ml 1.3 has no form in this back end."""
    firmware = project / "src/firmware"
    for path in (firmware / "defines.h", firmware / "parameters.h", firmware / f"{name}.h", *(firmware / "weights").glob("*.h")):
        enclose(path, namespace)
    path = firmware / "nnet_utils/nnet_code_gen.h"  # arrays are values here
    path.write_text(re.sub(r"data_T data\[\d+\], res_T res\[\d+\]", "const data_T &data, res_T &res", path.read_text()))
    behind_includes(firmware / f"{name}.cpp", f"namespace {namespace} {{\n", "} // namespace\n")
    for path in (project / f"src/{name}_bridge.cpp", project / f"src/{name}_test.cpp"):
        behind_includes(path, f"using namespace {namespace};\n")


def build(project: Path, name: str, optimization: str = GATE_OPTIMIZATION) -> Path:
    """The project as a shared library of g++ with the stand-in for SYCL."""
    from hls4ml import backends

    types = Path(backends.__file__).parent.parent / "templates/catapult/ac_types/include"
    library = project / f"{name}.so"
    with tempfile.TemporaryDirectory(dir=project) as folder:
        source = shutil.copytree(project / "src", Path(folder, "src"))
        for header in _HEADERS:
            path = Path(folder, "sycl", header)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(STAND_IN if header == "sycl.hpp" else "#include <sycl/sycl.hpp>\n")
        for path in source.rglob("firmware/*/*.h"):  # values of these ac_types are no constants at the time of compilation
            path.write_text(re.sub(r"\bconstexpr (?=\w+_t \w+ = \{\{|auto padds\b)", "const ", path.read_text()))
        includes = [f"-I{where}" for where in (folder, types, source, source / "firmware")]
        files = [str(source / file) for file in (f"firmware/{name}.cpp", f"{name}_bridge.cpp")]
        command = ["g++", optimization, "-w", "-fPIC", "-std=c++17", "-fno-gnu-unique", "-shared", *includes, *files, "-o", str(library)]
        code, said = processes.run(command)
    if code:
        errors = [line for line in said.splitlines() if "error:" in line] or said.splitlines()[-1:] or ["no message"]
        raise ExportError(f"g++ could not compile the project: {errors[0].strip()}")
    return library
