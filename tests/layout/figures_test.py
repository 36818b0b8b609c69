# SPDX-License-Identifier: MIT
"""The figures of docs/ are what their script draws, and pages show no figure that is not there."""
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Figures(unittest.TestCase):
    def test_are_what_the_script_draws(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, DOCS / "figures/draw.py", folder], check=True)
            drawn = {path.name: path.read_text() for path in Path(folder).iterdir()}
        kept = {path.name: path.read_text() for path in (DOCS / "figures").glob("*.svg")}
        self.assertEqual(drawn, kept, "run: python3 docs/figures/draw.py")

    def test_pages_show_what_is_there(self):
        for page in DOCS.glob("*.md"):
            for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text()):
                self.assertTrue((DOCS / target).is_file(), f"{page.name}: {target}")

    def test_lines_of_pages_end_at_120_columns(self):
        """Tables and code apart."""
        for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
            for number, line in enumerate(page.read_text().splitlines(), 1):
                if not line.startswith(("|", "    ")) and "](" not in line:
                    self.assertLessEqual(len(line), 120, f"{page.name}:{number}")


if __name__ == "__main__":
    unittest.main()
