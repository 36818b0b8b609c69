# SPDX-License-Identifier: MIT
"""What tests of programs that load what lox writes have in common."""
import os
import subprocess
import tempfile
import unittest
import warnings
from pathlib import Path

from safetensors.torch import load_file

LOX = os.environ["LOX"]


def tensors_of(folder):
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


class ClientTest(unittest.TestCase):
    """A test in a folder of its own, where lox runs."""

    def setUp(self):
        warnings.simplefilter("ignore")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name)

    def lox(self, *words, code=0):
        """Runs lox, which must end with this code; what it says."""
        done = subprocess.run([LOX, *map(str, words)], cwd=self.directory, capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr
