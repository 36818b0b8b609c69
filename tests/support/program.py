# SPDX-License-Identifier: MIT
"""Runs lox, alone or under mpirun, in a directory of a test's own."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

LOX = os.environ.get("LOX", "lox")
MPIEXEC = os.environ.get("MPIEXEC", "mpirun")


class Result:
    """What a run said and how it ended."""

    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self):
        """Lines on stderr that are the program's: what mpirun adds stands between dashed lines or begins with a [."""
        lines = []
        inside = False
        for line in self.err.splitlines():
            if line and not line.strip("-"):
                inside = not inside
            elif not inside and line.strip() and not line.startswith("["):
                lines.append(line)
        return lines


def run(*arguments, ranks=0, directory=None, program=None, timeout=120, **popen):
    """Runs lox: `ranks` 0 starts it without mpirun."""
    command = [program or LOX, *map(str, arguments)]
    environment = dict(os.environ)
    if ranks:
        command = [MPIEXEC, "--oversubscribe", "-n", str(ranks), *command]
    else:
        environment["OMPI_MCA_ess_singleton_isolated"] = "1"  # starts faster: no daemon for spawning
    done = subprocess.run(command, cwd=directory, env=environment, timeout=timeout, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **popen)
    return Result(done.returncode, done.stdout, done.stderr)


def peak_memory(*arguments, directory):
    """Runs lox and returns the kernel's count of its peak resident bytes."""
    environment = dict(os.environ, OMPI_MCA_ess_singleton_isolated="1")
    with subprocess.Popen([LOX, *map(str, arguments)], cwd=directory, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"lox ended with {process.returncode}")
    return usage.ru_maxrss * 1024


class LoxTest(unittest.TestCase):
    """A test with a fresh directory, in which lox runs."""

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="lox-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def lox(self, *arguments, ranks=0, code=0, **options):
        """Runs lox in the test's directory and checks its exit code."""
        result = run(*arguments, ranks=ranks, directory=self.directory, **options)
        self.assertEqual(result.code, code, f"lox {' '.join(map(str, arguments))}\n{result.out}{result.err}")
        return result

    def harden(self, *options, base="base", aligned="aligned", output="out", ranks=0, **more):
        """Hardens and returns the report."""
        self.lox("harden", "--base", base, "--aligned", aligned, "--output", output, *options, ranks=ranks, **more)
        return json.loads((self.directory / f"{output}.report.json").read_text())
