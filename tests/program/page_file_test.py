# SPDX-License-Identifier: MIT
"""Where `lox report --html` writes, and what it says of reports that are not quite lox's. The page itself: tests/browser."""
import json
import unittest

from program import LoxTest, run

USAGE, BAD_INPUT = 2, 3


class PageFile(LoxTest):
    def setUp(self):
        super().setUp()
        self.put("r.json")
        if "without pages" in run("report", "r.json", "--html", "x", directory=self.directory).err:
            self.skipTest("built without pages")
        (self.directory / "x").unlink()

    def put(self, name, **more):
        tensor = {"name": "layers.0.w", "shape": [2, 3], "dtype": "BF16", "action": "edited", "energy": 0.5}
        (self.directory / name).write_text(json.dumps({"tensors": [tensor | more]}))

    def test_a_page_goes_over_a_page_only(self):
        for _ in range(2):
            self.lox("report", "r.json", "--html", "page.html")
        page = (self.directory / "page.html").read_bytes()
        (self.directory / "notes.txt").write_text("mine")
        self.lox("report", "r.json", "--html", "notes.txt", code=BAD_INPUT)
        (self.directory / "link.html").symlink_to("page.html")
        (self.directory / "nowhere.html").symlink_to("gone")
        for link in ("link.html", "nowhere.html"):
            self.assertIn("is a link", self.lox("report", "r.json", "--html", link, code=BAD_INPUT).err)
            self.assertTrue((self.directory / link).is_symlink())
        self.assertEqual((self.directory / "page.html").read_bytes(), page)
        self.assertFalse((self.directory / "gone").exists())

    def test_an_empty_name(self):
        said = self.lox("report", "r.json", "--html", "", code=USAGE)
        self.assertEqual(len(said.lines), 1)
        self.assertIn("--html", said.err)

    def test_what_is_not_shown_is_said(self):
        self.put("odd.json", tuned=[None], method=3)
        said = self.lox("report", "odd.json", "r.json", "--html", "page.html").lines
        self.assertEqual(len(said), 2)
        for line, key in zip(said, ("method", "tuned")):
            self.assertIn(f"warning: odd.json: '{key}' of 'layers.0.w' is not of the type that lox writes", line)
        self.assertEqual(self.lox("report", "r.json", "--html", "page.html").err, "")


if __name__ == "__main__":
    unittest.main()
