# SPDX-License-Identifier: MIT
"""The source tree keeps its own rules: a folder is a layer, includes point down, one noun a file."""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Each layer and those that it may include.
BELOW = {
    "base": set(),
    "io": {"base"},
    "linalg": {"base"},
    "plan": {"base", "io", "linalg"},
    "run": {"base", "io", "linalg", "plan"},
    "report": {"base", "io", "linalg", "plan", "run"},
    "task": {"base", "io", "linalg", "plan", "run", "report"},
    "cli": {"base", "io", "linalg", "plan", "run", "report", "task"},
}
# Sources without a header of their own: the commands, which command.hpp declares.
HEADERLESS = re.compile(r"(cli/(command_\w+|commands|main)|base/checksum_avx2)\.cpp")
SCALAPACK = re.compile(r"\b(p[sd](ge|la|or|po|tr|sy)\w{2,}_|p[sd](gemm|nrm2|dot|scal)_|([sdi]|C)?blacs_\w+|"
                       r"descinit_|numroc_|indxg2[lp]_|C?p[sdi]gemr2d_?|[sd]ge(bs|br|sd|rv)2d_)\b")
SCALAPACK_MODULES = {"process_grid", "scalapack", "dist_matrix", "dist_svd"}
FIXED = {"CMakeLists.txt", "src", "include", "jobs", "slurm", "tests", "docs", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE",
         "CMakePresets.json"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def strip_comments(text):
    return re.sub(r'//[^\n]*|/\*.*?\*/', "", text, flags=re.DOTALL)


def includes(text):
    """What a source includes, in order."""
    return INCLUDE.findall(strip_comments(text))


def upward(layer, text):
    """Those includes of a file of a layer that its layer may not make."""
    wrong = []
    for target in includes(text):
        parts = target.split("/")
        if parts[0] == "lox":
            if parts[1] != layer and parts[1] not in BELOW[layer]:
                wrong.append(target)
        elif "/" not in target and target.endswith((".hpp", ".cpp")):
            wrong.append(target)  # every header of ours goes by its full path
    return wrong


def files(*patterns):
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    assert found, patterns
    return found


def headers():
    return files("include/lox/*/*.hpp")


def sources():
    return files("src/*/*.cpp")


class Layers(unittest.TestCase):
    def test_includes_point_down(self):
        for path in headers() + sources():
            with self.subTest(file=str(path.relative_to(ROOT))):
                self.assertEqual(upward(path.parent.name, path.read_text()), [])

    def test_an_upward_include_is_seen(self):
        self.assertEqual(upward("io", '#include "lox/base/error.hpp"\n#include "lox/linalg/svd.hpp"\n'),
                         ["lox/linalg/svd.hpp"])
        self.assertEqual(upward("linalg", "#  include <lox/io/json.hpp>"), ["lox/io/json.hpp"])
        self.assertEqual(upward("plan", '// #include "lox/run/edit.hpp"\n'), [])
        self.assertEqual(upward("run", '#include "edit.hpp"'), ["edit.hpp"])

    def test_every_include_exists(self):
        for path in headers() + sources():
            for target in includes(path.read_text()):
                if target.startswith("lox/"):
                    self.assertTrue((ROOT / "include" / target).is_file(), f"{path}: {target}")

    def test_only_known_layers(self):
        for parent in ("src", "include/lox"):
            found = {path.name for path in (ROOT / parent).iterdir() if path.is_dir()}
            self.assertEqual(found, set(BELOW))


class Names(unittest.TestCase):
    def test_every_source_has_its_header(self):
        for path in sources():
            name = f"{path.parent.name}/{path.name}"
            if not HEADERLESS.fullmatch(name):
                header = ROOT / "include/lox" / path.parent.name / f"{path.stem}.hpp"
                self.assertTrue(header.is_file(), f"{path} has no {header}")
                # First, so that the header is compiled alone.
                self.assertEqual(f"lox/{path.parent.name}/{path.stem}.hpp", includes(path.read_text())[0], path)

    def test_file_names(self):
        for path in headers() + sources():
            self.assertRegex(path.name, r"^[a-z][a-z0-9_]*\.(hpp|cpp)$")

    def test_every_header_guards_itself(self):
        for path in headers():
            lines = path.read_text().splitlines()
            self.assertEqual(lines[:2], ["// SPDX-License-Identifier: MIT", "#pragma once"], path)

    def test_every_source_names_its_licence(self):
        python = files("tests/program/**/*.py", "tests/layout/*.py", "tests/support/*.py")
        for path in sources() + files("tests/*/*.cpp") + python:
            self.assertIn("SPDX-License-Identifier: MIT", path.read_text().split("\n\n")[0], path)

    def test_top_level(self):
        found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "build"))}
        self.assertLessEqual(found, FIXED)


class Scalapack(unittest.TestCase):
    def test_stays_in_its_modules(self):
        for path in headers() + sources():
            if path.parent.name == "linalg" and path.stem in SCALAPACK_MODULES:
                continue
            found = [match.group() for match in SCALAPACK.finditer(strip_comments(path.read_text()))]
            self.assertEqual(found, [], path)

    def test_its_names_are_known(self):
        for name in ("psgesvd_", "pdgeqrf_", "Cblacs_gridinit", "blacs_get_", "descinit_", "numroc_", "psgemm_",
                     "psgemr2d_", "Cpsgemr2d", "psormqr_", "pslange_"):
            self.assertTrue(SCALAPACK.search(f"  {name}(a, b);"), name)
        for name in ("page_size", "parse_file", "psgesvd_flops_per_second", "ssyevd_", "sgemm_", "dsyrk_",
                     "place_tensors"):
            self.assertFalse(SCALAPACK.search(f"  {name}(a, b);"), name)


if __name__ == "__main__":
    unittest.main()
