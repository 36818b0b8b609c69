# SPDX-License-Identifier: MIT
"""Help, version and how the program answers to words that it does not know."""
import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path
from unittest import mock

from program import LOX, run

COMMANDS = ("inspect", "convert", "synth", "harden", "verify")


class Help(unittest.TestCase):
    def check_text(self, text):
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)
            self.assertEqual(line, line.expandtabs(), "a tab")

    def test_program(self):
        result = run("--help")
        self.assertEqual((result.code, result.err), (0, ""))
        self.check_text(result.out)
        self.assertEqual(run("-h").out, result.out)
        for command in COMMANDS:
            self.assertRegex(result.out, rf"(?m)^  {command} +\w")
        for code in (0, 1, 2, 3, 4, 5, 75):
            self.assertRegex(result.out, rf"\b{code} \w")

    def test_every_command(self):
        listed = re.findall(r"(?m)^  (\w+) {2,}\w", run("--help").out)
        self.assertLessEqual(set(COMMANDS), set(listed))
        for command in listed:
            with self.subTest(command=command):
                result = run(command, "--help")
                self.assertEqual((result.code, result.err), (0, ""))
                self.check_text(result.out)
                self.assertTrue(result.out.startswith(f"Usage: lox {command} "))
                example = result.out.split("Example:\n")[1]
                self.assertIn(f"lox {command} ", example)
                self.assertIn("--help", result.out)
                self.assertRegex(result.out, r"\S\n\Z", "one line break at the end")
                self.assertNotRegex(result.out, r"(?m) $")

    def test_harden_explains_every_option(self):
        text = run("harden", "--help").out
        for option in ("base", "aligned", "output", "k", "coef", "svd", "tolerance", "grid", "memory", "include",
                       "exclude", "seed", "report", "overwrite", "config", "quiet"):
            self.assertRegex(text, rf"(?m)^  --{option}\b")

    def test_plans_take_the_options_of_their_commands(self):
        for command in ("convert", "synth"):
            with self.subTest(command=command):
                options = [set(re.findall(r"(?m)^  (?:-h \[ )?(--[a-z-]+)", run(*words, "--help").out))
                           for words in ((command,), ("plan", command))]
                self.assertGreater(len(options[0]), 1)
                self.assertEqual(options[1] - options[0], {"--ranks", "--json", "--bandwidth"})
                self.assertEqual(options[0] - options[1], set())

    def test_help_under_mpirun_is_printed_once(self):
        result = run("harden", "--help", ranks=2)
        self.assertEqual(result.code, 0)
        self.assertEqual(result.out, run("harden", "--help").out)

    def test_version(self):
        result = run("--version")
        self.assertEqual(result.code, 0)
        self.assertRegex(result.out, r"^lox \d+\.\d+\.\d+\n")
        for library in ("MPI", "HDF5", "BLAS", "ScaLAPACK", "Eigen"):
            self.assertRegex(result.out, rf"(?m)^{library} .*\d")
        self.assertEqual(len(result.out.splitlines()), 7, result.out)

    def test_kernels_of_the_blas(self):
        """An OpenBLAS older than the processor would fall back to kernels without AVX. What the user says counts."""
        if "OpenBLAS" not in run("--version").out or not re.search(r"^flags.*\bavx2\b", Path("/proc/cpuinfo").read_text(), re.M):
            self.skipTest("not OpenBLAS, or a processor without AVX2")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
        with mock.patch.dict(os.environ, environment, clear=True):
            self.assertNotIn("Prescott", run("--version").out)
            os.environ["OPENBLAS_CORETYPE"] = "Prescott"
            self.assertIn("Prescott", run("--version").out)

    def test_no_symmetric_product_of_the_blas(self):
        """OpenBLAS's SSE2 kernels of symv read up to four numbers past the end of y. lox itself does not call it."""
        if not shutil.which("nm"):
            self.skipTest("no nm")
        symbols = subprocess.run(["nm", "-D", "--undefined-only", shutil.which(LOX)], check=True, capture_output=True,
                                 text=True).stdout
        if " dgemm_" not in symbols:
            self.skipTest("the BLAS is part of the program")
        self.assertNotRegex(symbols, r" [sd]symv_")


class Usage(unittest.TestCase):
    def test_no_arguments(self):
        result = run()
        self.assertEqual(result.code, 2)
        self.assertIn("Usage: lox", result.out + result.err)

    def test_unknown_words(self):
        for words in (("bogus",), ("--bogus",), ("harden", "--bogus"), ("inspect", "--bogus"), ("convert", "--bogus"),
                      ("synth", "--bogus"), ("verify", "--bogus"), ("inspect",), ("harden", "--k"),
                      ("inspect", "a", "b")):
            with self.subTest(words=words):
                result = run(*words)
                self.assertEqual((result.code, result.out), (2, ""))
                line, = result.lines
                self.assertTrue(line.startswith("lox: error: "))
                self.assertIn("--help", line)

    def test_control_characters_are_not_echoed(self):
        self.assertNotIn("\x1b", run("\x1b[31m").err)


if __name__ == "__main__":
    unittest.main()
