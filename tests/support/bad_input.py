# SPDX-License-Identifier: MIT
"""For tests of bad input: it gives the right exit code and one line that names file, tensor and fact, and nothing is
left behind.

Every case changes a fresh copy of a small good pair (or gives other options) and hardens it. All cases run at once, on
a few threads, before the first is judged.
"""
import json
import os
import resource
import shutil
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import checkpoint
import reference
from program import LOX, run

USAGE, BAD_INPUT, NOT_CERTIFIED, IO = 2, 3, 4, 5
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def harden_with(base="base", aligned="aligned", output="out"):
    return ("harden", "--quiet", "--base", base, "--aligned", aligned, "--output", output)


HARDEN = harden_with()

CASES = {}


def case(*says, code=BAD_INPUT, ranks=0, arguments=HARDEN, more=(), **options):
    """Registers a function that spoils the pair in a directory. `says`: what the error line must contain."""
    def register(spoil):
        CASES[spoil.__name__] = (spoil, says, code, ranks, (*arguments, *more), options)
        return spoil
    return register


def make_pair(directory):
    """Four tensors in two shards with an index, as base and aligned."""
    rng = np.random.default_rng(2)
    shapes = {SHARDS[0]: {"a.weight": (24, 16), "a.bias": (16,)},
              SHARDS[1]: {"b.weight": (16, 24), "c.weight": (2, 8, 8)}}
    pairs = {shard: {n: reference.random_pair(rng, s) for n, s in tensors.items()} for shard, tensors in shapes.items()}
    for i, side in enumerate(("base", "aligned")):
        shards = {shard: {n: pair[i] for n, pair in tensors.items()} for shard, tensors in pairs.items()}
        checkpoint.write_directory(directory / side, shards, files={"config.json": b"{}"})


def edit_tensors(path, change):
    """Rewrites a shard after change(tensors)."""
    tensors = checkpoint.decode(path.read_bytes())[0]
    change(tensors)
    path.write_bytes(checkpoint.encode(tensors))


def edit_header(path, change):
    """Rewrites a shard's header after change(header as dict), data as it is."""
    header, data = checkpoint.split(path.read_bytes())
    header = json.loads(header)
    change(header)
    path.write_bytes(checkpoint.frame(json.dumps(header).encode(), data))


def edit_index(path, change):
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


NORMAL_USER = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


class BadInputTest(unittest.TestCase):
    """The outcomes of all cases of a module."""

    @classmethod
    def setUpClass(cls):
        cls.directory = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        os.chmod(cls.directory, 0o755)
        make_pair(cls.directory)
        cls.program = shutil.copy(shutil.which(LOX), cls.directory / "lox")  # where every user may run it
        with ThreadPoolExecutor(4) as pool:
            cls.outcomes = dict(zip(CASES, pool.map(cls.outcome, CASES)))

    @classmethod
    def outcome(cls, name):
        """(result, what is there before, what is there after)"""
        spoil, _, _, ranks, arguments, options = CASES[name]
        directory = cls.directory / name
        directory.mkdir()
        for side in ("base", "aligned"):
            shutil.copytree(cls.directory / side, directory / side)
        spoil(directory)
        popen = {}
        if "file_limit" in options:
            limit = options["file_limit"]
            # Ignored, the signal becomes an error of write().
            popen = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
                     "restore_signals": False}
        if options.get("user"):
            popen = NORMAL_USER
        before = cls.listing(directory)
        try:
            result = run(*arguments, ranks=ranks, directory=directory, program=str(cls.program), **popen)
        except PermissionError as error:
            return error, before, before
        return result, before, cls.listing(directory)

    @staticmethod
    def listing(directory):
        return {str(path.relative_to(directory)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
                for path in sorted(directory.rglob("*"))}


def make_test(name):
    def test(self):
        _, says, code, _, _, _ = CASES[name]
        result, before, after = self.outcomes[name]
        if isinstance(result, PermissionError):
            self.skipTest("root that may not become another user")
        everything = f"exit code {result.code}\n{result.out}{result.err}"
        self.assertEqual(result.code, code, everything)
        self.assertEqual(len(result.lines), 1, "not one line on stderr\n" + everything)
        line, = result.lines
        self.assertTrue(line.startswith("lox: error: "), line)
        for words in says:
            self.assertIn(words, line)
        self.assertEqual(sorted(after), sorted(before), "something was left behind or is gone")
        self.assertTrue(after == before, "an existing file has changed")
    return test


def add_tests(test_class):
    """One test a case that is registered."""
    for name in CASES:
        setattr(test_class, f"test_{name}", make_test(name))
