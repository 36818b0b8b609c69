# SPDX-License-Identifier: MIT
"""The same command again, on what it has finished; and places that cannot be written, told of at the start."""
import json
import os
import unittest

import numpy as np

import checkpoint
import reference
from program import LoxTest

BAD_INPUT = 3


class Again(LoxTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(7)
        pairs = {name: reference.random_pair(rng, shape)
                 for name, shape in (("a", (60, 50)), ("experts", (3, 40, 30)), ("norm", (50,)))}
        for side, name in enumerate(("base", "aligned")):
            checkpoint.write_directory(self.directory / name,
                                       {"model.safetensors": {n: pair[side] for n, pair in pairs.items()}}, index=False)
        self.inputs = ("--base", "base", "--aligned", "aligned")

    def test_a_random_seed(self):
        """It is that of the output's report, however often it is asked for."""
        for task, output in (("harden", "out"), ("factor", "store.h5")):
            words = (task, *self.inputs, "--seed", "random", "--output", output)
            self.lox(*words)
            report = self.directory / f"{output}.report.json"
            told = report.read_bytes()
            self.assertIn("was finished already", self.lox(*words).err)
            self.assertIn("was finished already", self.lox(*words, ranks=2).err)
            self.assertIn("finished", self.lox("plan", *([task] if task == "factor" else []), *words[1:]).out)
            self.assertEqual(report.read_bytes(), told)
            self.lox(*words, "--k", 3, code=BAD_INPUT)  # another job
            self.lox(*words, "--overwrite")
            seeds = [json.loads(text)["job"]["seed"] for text in (told, report.read_bytes())]
            self.assertNotEqual(*seeds)

    def test_convert(self):
        """Nothing vouches for what it has finished but the bytes."""
        (self.directory / "aligned" / "tokenizer.json").write_bytes(bytes(range(256)) * 50_000)  # several pieces
        for target in ("c.h5", "c", "c.safetensors"):
            self.lox("convert", "aligned", target)
            before = self.times(target)
            for ranks in (0, 2):
                self.assertIn("was finished already", self.lox("convert", "aligned", target, ranks=ranks).err)
            self.assertEqual(self.times(target), before)
            self.lox("convert", "base", target, code=BAD_INPUT)
        for name in ("tokenizer.json", "model.safetensors"):  # one bit differs
            path = self.directory / "c" / name
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            for ranks in (0, 2):
                self.assertIn("exists already", self.lox("convert", "aligned", "c", ranks=ranks, code=BAD_INPUT).err)
            data[-1] ^= 1
            path.write_bytes(data)
        (self.directory / "c" / "more.txt").write_text("x")
        self.lox("convert", "aligned", "c", code=BAD_INPUT)
        self.assertIn("the same", self.lox("convert", "c", "c", code=BAD_INPUT).err)
        (self.directory / "notes").mkdir()
        self.lox("convert", "aligned", "notes", code=BAD_INPUT)

    def times(self, name):
        path = self.directory / name
        return {p: p.stat().st_mtime_ns for p in ([path] if path.is_file() else path.iterdir())}

    def test_status_counts_what_is_finished(self):
        self.lox("harden", *self.inputs, "--output", "out")
        status = json.loads(self.lox("status", "out", "--json").out)
        report = json.loads((self.directory / "out.report.json").read_text())
        self.assertEqual((status["items"], status["items_finished"]), (5, 5))  # of three tensors one has three matrices
        self.assertEqual(status["bytes_finished"], report["totals"]["bytes_written"])

    def test_numbers_in_another_order(self):
        """They make the same models, so they are the same job."""
        self.lox("factor", *self.inputs, "--k", 4, "--output", "store")
        words = ("apply", "--aligned", "aligned", "--factors", "store", "--output", "m-{k}-{coef}")
        self.lox(*words, "--k", "4,2", "--coef", "1,0.5")
        made = sorted(path.name for path in self.directory.iterdir() if path.is_dir() and path.name.startswith("m-"))
        self.assertEqual(made, ["m-2-0.5", "m-2-1", "m-4-0.5", "m-4-1"])
        again = self.lox(*words, "--k", "2,4", "--coef", "0.5,1").err
        self.assertEqual(again.count("was finished already"), 4)

    def test_a_report_that_cannot_be_written(self):
        """The folder's permissions say yes; the file system says no."""
        before = sorted(os.listdir(self.directory))
        for task in ("harden", "factor"):
            said = self.lox(task, *self.inputs, "--output", "out", "--report", "/proc/x", code=BAD_INPUT)
            self.assertEqual(len(said.lines), 1)
            self.assertIn("/proc/x: the report cannot be written there", said.err)
            self.assertEqual(sorted(os.listdir(self.directory)), before)


if __name__ == "__main__":
    unittest.main()
