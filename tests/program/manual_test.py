# SPDX-License-Identifier: MIT
"""Options and exit codes are described once, by the program: docs/usage.md and jobs/harden.ini are what it prints, and that is whole.

    LOX=build/release/src/lox PYTHONPATH=tests/support python3 tests/program/manual_test.py --write

puts what the program prints into both."""
import configparser
import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from program import LoxTest, run

ROOT = Path(__file__).resolve().parents[2]
USAGE = ROOT / "docs/usage.md"
JOB_FILE = ROOT / "jobs/harden.ini"
ERROR_HEADER = ROOT / "include/lox/base/error.hpp"
NOT_PLANNED = {"as-adapter"}  # takes seconds
BLOCK = re.compile(r"<!-- (options of \w+|exit codes) -->\n.*?<!-- end of \1 -->\n", re.DOTALL)


def commands():
    return re.findall(r"(?m)^  (\w+) {2,}\w", run("--help").out)


def options_of(command):
    """Names and defaults in a command's help."""
    found = re.findall(r"(?m)^  --([a-z-]+)(?: \S+)?(?: \(=(.*?)\))?(?:  .*| [a-z].*)?$", run(command, "--help").out)
    return dict(found)


def printed_blocks():
    text = run("help", "--markdown").out
    return {match[1]: match[0] for match in BLOCK.finditer(text)}


def updated(page, blocks):
    return BLOCK.sub(lambda match: blocks[match[1]], page)


def job_keys(text):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string("[job]\n" + text)
    return dict(parser["job"])


class Page(unittest.TestCase):
    def test_usage_is_what_the_program_prints(self):
        page = USAGE.read_text()
        blocks = printed_blocks()
        self.assertEqual(sorted(BLOCK.findall(page)), sorted(blocks))
        self.assertEqual(page, updated(page, blocks), "see --write above")

    def test_every_option_has_its_row(self):
        blocks = printed_blocks()
        for command in commands():
            with self.subTest(command=command):
                options = options_of(command)
                rows = dict(re.findall(r"(?m)^\| `--([a-z-]+)[^`]*` \| (.*?) ?\|", blocks.get(f"options of {command}", "")))
                if command == "plan":
                    harden = {name: value for name, value in options_of("harden").items() if name not in NOT_PLANNED}
                    self.assertLessEqual(harden.items(), options.items())
                    options = {name: value for name, value in options.items() if name not in harden}
                self.assertEqual(set(rows), set(options))
                for name, default in options.items():
                    if default:
                        self.assertEqual(rows[name], default)
        self.assertGreater(len(options_of("harden")), 15)

    def test_exit_codes_are_those_of_the_program(self):
        """In docs/usage.md, the help and the man page, by one name each."""
        enum = re.search(r"enum class ExitCode[^{]*\{(.*?)\};", ERROR_HEADER.read_text(), re.DOTALL)[1]
        codes = re.findall(r"(?m)^  \w+ = (\d+),", enum)
        self.assertGreater(len(codes), 5)
        rows = re.findall(r"(?m)^\| (\d+) \| ([^|]+) \| [^|]+ \|$", printed_blocks()["exit codes"])
        self.assertEqual([code for code, _ in rows], codes)
        text = " ".join(run("--help").out.split("Exit codes: ")[1].split())
        self.assertEqual(text, ", ".join(f"{code} {name}" for code, name in rows) + ".")
        page = run("help", "--man").out.split(".SH EXIT STATUS\n")[1].split(".SH ")[0]
        told = [(code, name.lower()) for code, name in re.findall(r"(?m)^\.TP\n\.B (\d+)\n([^:\n]+): \S", page)]
        self.assertEqual(told, [(code, name.lower()) for code, name in rows])


class JobFile(LoxTest):
    def test_is_what_the_program_prints(self):
        self.assertEqual(JOB_FILE.read_text(), run("help", "--job-file").out, "see --write above")

    def test_every_option_is_in_it(self):
        text = JOB_FILE.read_text()
        keys = job_keys(text)
        commented = job_keys("\n".join(re.findall(r"^# ([a-z-]+ = .*)$", text, re.MULTILINE)))
        options = options_of("harden")
        self.assertEqual(set(keys) | set(commented), set(options) - {"config"} - NOT_PLANNED)
        self.assertEqual({key: keys[key] for key in keys if options[key]}, {key: options[key] for key in options if options[key]})
        self.assertEqual([key for key in keys if not options[key]], ["base", "aligned", "output"])
        self.assertEqual((keys["k"], keys["coef"]), ("6", "1.25"))  # the paper's
        for line in text.splitlines():
            self.assertLessEqual(len(line), 110)

    def test_says_what_holds_without_it(self):
        """Its values are the defaults, and every commented line is one that harden takes."""
        for role in ("base", "aligned"):
            self.lox("synth", role, "--shape", "tiny", "--layers", 1, "--role", role)
        text = re.sub(r"(?m)^(base|aligned) = .*$", r"\1 = \1", JOB_FILE.read_text())
        text = re.sub(r"(?m)^output = .*$", "output = filled", text)
        (self.directory / "job.ini").write_text(text)
        self.lox("harden", "--config", "job.ini")
        plain = self.harden()["job"]
        filled = json.loads((self.directory / "filled.report.json").read_text())["job"]
        self.assertNotEqual(filled.pop("output"), plain.pop("output"))
        self.assertEqual(filled, plain)
        (self.directory / "job.ini").write_text(re.sub(r"(?m)^# ([a-z-]+ = .*)$", r"\1", text).replace("/path/to/", ""))
        self.lox("plan", "--config", "job.ini")

    def test_of_factor_and_apply(self):
        """Printed, filled in and carried out: a store, and a model of it."""
        for role in ("base", "aligned"):
            self.lox("synth", role, "--shape", "tiny", "--layers", 1, "--role", role)
        for command, paths in (("factor", ("base", "aligned", "output")), ("apply", ("aligned", "factors", "output")),
                               ("analyze", ("base", "aligned", "output"))):
            with self.subTest(command=command):
                text = self.lox(command, "--help-as", "job-file").out
                keys = job_keys(text)
                commented = job_keys("\n".join(re.findall(r"^# ([a-z-]+ = .*)$", text, re.MULTILINE)))
                self.assertEqual(set(keys) | set(commented), set(options_of(command)) - {"config"})
                self.assertEqual([key for key in keys if not options_of(command)[key]], list(paths))
                self.assertIn(f"slurm/harden.sbatch {command} {command}.ini", text)
                (self.directory / f"{command}.ini").write_text(text.replace("/path/to/", ""))
                self.lox(command, "--config", f"{command}.ini")
        self.assertTrue((self.directory / "hardened-1.25").exists())
        self.assertTrue((self.directory / "analysis.json").exists())


class ManPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.page = run("help", "--man").out

    def test_everything_is_in_it(self):
        """Every command, every option, every exit code."""
        plain = self.page.replace("\\-", "-")
        for command in commands():
            with self.subTest(command=command):
                section = re.search(rf"(?ms)^\.SS lox {command} .*?(?=^\.S[SH] )", plain)[0]
                told = re.findall(r"(?m)^\.TP\n\\fB--([a-z-]+)\\fP", section)
                self.assertEqual(len(told), len(set(told)))
                if command == "plan":
                    self.assertIn("All options of harden", section)
                    told += set(options_of("harden")) - NOT_PLANNED
                self.assertEqual(set(told), set(options_of(command)))
        for code in (0, 1, 2, 3, 4, 5, 75):
            self.assertIn(f".TP\n.B {code}\n", self.page)

    def test_man_can_read_it(self):
        if not shutil.which("man"):
            self.skipTest("no man")
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-"], input=self.page,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.stderr, "")
        self.assertNotIn("`", self.page)
        self.assertNotIn("](", self.page)


class Words(LoxTest):
    def test_help_of_a_command(self):
        self.assertEqual(self.lox("help", "harden").out, self.lox("harden", "--help").out)
        self.assertEqual(self.lox("help").out, self.lox("--help").out)

    def test_refusals(self):
        for words, fact in ((("help", "bogus"), "'bogus' is an argument too many"), (("help", "--man", "--markdown"), "one at a time"),
                            (("harden", "--help-as", "html"), "html"), (("verify", "--help-as", "job-file"), "only harden")):
            result = self.lox(*words, code=2)
            self.assertIn(fact, result.err)
            self.assertEqual((result.out, len(result.lines)), ("", 1))
        self.assertEqual(len(self.lox("harden", "--help-as", "html", ranks=2, code=2).lines), 1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        USAGE.write_text(updated(USAGE.read_text(), printed_blocks()))
        JOB_FILE.write_text(run("help", "--job-file").out)
    else:
        unittest.main()
