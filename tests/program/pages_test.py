# SPDX-License-Identifier: MIT
"""Every command in README and docs is run, as it stands there: see support/page_commands.py for what stands behind the names.
Commands with placeholders, and those in the middle of a sentence, are held against the options that there are."""
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from program import LOX, MPIEXEC, run

os.environ.setdefault("REAL_LOX", str(Path(LOX).resolve()))
from page_commands import COMMANDS  # noqa: E402 (reads the variable)

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ASSIGNMENTS = re.compile(r"^(export )?([A-Za-z_]+=(\$\([^)]*\)|\S*) *)+")
BUILT = re.compile(r"build/\w+/tests/(\w+)_test\b")
PLACEHOLDER = re.compile(r"\[|\.\.\.|\b[A-Z]+\b(?!=)")


def blocks(text):
    """Code blocks of a page: between fences, or indented by four."""
    for fenced in re.findall(r"(?ms)^```\w*\n(.*?)^```$", text):
        yield fenced
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    for indented in re.findall(r"(?m)(?:^    .*\n)+", text):
        yield re.sub(r"(?m)^    ", "", indented)


def is_command(line):
    rest = ASSIGNMENTS.sub("", line)
    if rest != line and (not rest or "$(" in line):
        return True
    word = rest.split()[0] if rest.split() else ""
    return word in COMMANDS or word == "sed" or bool(re.fullmatch(r"slurm/\w+\.sh", word)) or bool(BUILT.match(word))


def commands_of(block):
    """The commands of a block, in their order; other lines are what they print. A block that begins otherwise has none."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in lines if is_command(line)] if lines and is_command(lines[0]) else []


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        names = re.findall(r"(?m)^  (\w+) {2,}\w", run("--help").out)
        cls.options = {name: set(re.findall(r"(?m)^  (?:-h \[ )?(--[a-z-]+)", run(name, "--help").out)) for name in names}
        for task in ("factor", "apply", "analyze", "convert", "verify", "synth"):
            cls.options[f"plan {task}"] = set(re.findall(r"(?m)^  (?:-h \[ )?(--[a-z-]+)", run("plan", task, "--help").out))

    def check_options(self, command):
        """What follows `lox` is a command, and its options are there."""
        words = re.split(r"[\s|`]+", command.split("#")[0].replace("\\|", " "))
        words = words[words.index("lox") + 1:]
        name = " ".join(words[:2]) if " ".join(words[:2]) in self.options else words[0]
        if name not in self.options:
            self.assertTrue(name.startswith("-") or name in ("COMMAND", ""), command)
            return
        for word in words:
            option = word.strip("[](),;.").split("=")[0]
            if re.fullmatch(r"--[a-z-]+", option) and option not in ("--help", "--help-as", "--oversubscribe"):
                self.assertIn(option, self.options[name], command)

    def run_page(self, page, commands):
        """In a folder of its own, one after the other."""
        with tempfile.TemporaryDirectory(prefix="lox-page-") as name:
            folder = Path(name)
            programs = folder / "bin"
            programs.mkdir()
            for command in COMMANDS:
                shim = programs / command
                shim.write_text(f'#!/bin/sh\nexec {sys.executable} -B {ROOT}/tests/support/page_commands.py {command} "$@"\n')
                shim.chmod(0o755)
            (folder / ".local/share/lox").mkdir(parents=True)
            (folder / ".local/share/lox/slurm").symlink_to(ROOT / "slurm")
            for link in ("docs", "jobs", "slurm", "tests"):
                (folder / link).symlink_to(ROOT / link)
            for mine in ("scratch", "next"):
                (folder / mine).mkdir()
            paths = {"base": f"{folder}/scratch/base", "aligned": f"{folder}/scratch/aligned",
                     "output": f"{folder}/scratch/llama-3-70b-instruct-lox"}
            environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": name, "REAL_LOX": str(Path(LOX).resolve()),
                           "MPIEXEC": MPIEXEC, "JOB_PATHS": json.dumps(paths), "PYTHONDONTWRITEBYTECODE": "1"}
            text = "\n".join(commands).replace("/scratch/me", f"{folder}/scratch")
            script = "set -euo pipefail\n" + "".join(f"echo {shlex.quote('$ ' + line)} >&2\n{line}\n" for line in text.splitlines())
            done = subprocess.run(["/bin/bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False)
            self.assertEqual(done.returncode, 0, f"{page.name}:\n{done.stdout}")

    def test_blocks(self):
        ran = 0
        for page in PAGES:
            commands = [line for block in blocks(page.read_text()) for line in commands_of(block)]
            to_run = []
            for line in commands:
                if BUILT.search(line):
                    self.assertTrue((ROOT / "tests" / BUILT.search(line)[1]).is_dir(), line)
                elif re.search(r"\blox (.*)", line.split("#")[0]) and PLACEHOLDER.search(re.search(r"\blox (.*)", line.split("#")[0])[1]):
                    self.check_options(line)
                else:
                    to_run.append(line)
            with self.subTest(page=page.name):
                self.run_page(page, to_run)
            ran += len(to_run)
        self.assertGreater(ran, 50)

    def test_in_sentences(self):
        """`lox ...` between backquotes, in tables too."""
        found = 0
        for page in PAGES:
            for command in re.findall(r"`((?:mpirun -n \w+ )?lox [^`]*)`", page.read_text()):
                with self.subTest(page=page.name, command=command):
                    self.check_options(command)
                found += 1
        self.assertGreater(found, 50)

    def test_files_that_are_named(self):
        """Scripts and pages, by their place in the source tree or as installed; links to pages and to headings."""
        for page in PAGES:
            text = page.read_text()
            for path in re.findall(r"`((?:jobs|slurm|tests)/[\w/.-]+)`", text):
                self.assertTrue((ROOT / path).exists() or path.startswith("tests/program/study"), f"{page.name}: {path}")
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if target.startswith("http"):
                    continue
                file, _, heading = target.partition("#")
                linked = (page.parent / file).resolve() if file else page
                self.assertTrue(linked.exists(), f"{page.name}: {target}")
                if heading:
                    titles = re.findall(r"(?m)^#+ (.*)$", linked.read_text())
                    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                    self.assertIn(heading, anchors, f"{page.name}: {target}")


if __name__ == "__main__":
    unittest.main()
