# SPDX-License-Identifier: MIT
"""Runs lox, alone or under mpirun, in a directory of a test's own."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

LOX = os.environ.get("LOX", "lox")
MPIEXEC = os.environ.get("MPIEXEC", "mpirun")
PATIENCE = int(os.environ.get("LOX_PATIENCE", "120"))  # seconds that a run may take


def wait_for(condition, what, seconds=PATIENCE // 2):
    """Asks again and again until the condition holds; returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.005)
    return value


def process_table():
    """{pid: (parent's pid, state)} of all processes."""
    table = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            table[int(entry.name)] = (int(fields[1]), fields[0])
    return table


def family_of(pid, table):
    """A process and all that descend from it: MPICH's mpiexec starts ranks through one more process."""
    family = {pid}
    while more := {child for child, (parent, _) in table.items() if parent in family} - family:
        family |= more
    return family


class Result:
    """What a run said and how it ended."""

    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self):
        """Lines on stderr that are the program's: what mpirun adds stands between dashed lines or begins with a [, and
        what MPICH says of MPI_Abort with Abort(."""
        lines = []
        inside = False
        for line in self.err.splitlines():
            if line and not line.strip("-"):
                inside = not inside
            elif not inside and line.strip() and not line.startswith(("[", "Abort(")):
                lines.append(line)
        return lines


def run(*arguments, ranks=0, directory=None, program=None, timeout=PATIENCE, **popen):
    """Runs lox: `ranks` 0 starts it without mpirun."""
    command = [program or LOX, *map(str, arguments)]
    environment = dict(os.environ)
    if ranks:
        command = [MPIEXEC, "-n", str(ranks), *command]
    else:
        environment["OMPI_MCA_ess_singleton_isolated"] = "1"  # starts faster: no daemon for spawning
    # Open MPI's directory for a session: runs that share one may remove it under one another.
    with tempfile.TemporaryDirectory(prefix="ompi-", ignore_cleanup_errors=True) as session:
        os.chmod(session, 0o777)
        environment["OMPI_MCA_orte_tmpdir_base"] = session
        done = subprocess.run(command, cwd=directory, env=environment, timeout=timeout, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **popen)
    return Result(done.returncode, done.stdout, done.stderr)


# Prints a program's peak resident bytes. In a process of its own, since a child's count begins with its parent's.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_memory(*arguments, directory):
    """Runs lox and returns the kernel's count of its peak resident bytes."""
    command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", MEASURE, LOX, *map(str, arguments)]
    environment = dict(os.environ, OMPI_MCA_ess_singleton_isolated="1")
    done = subprocess.run(command, cwd=directory, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def journal_lines(output):
    """The whole lines in the journal beside `output`, whose job may end, and remove it, at any time."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(Path(f"{output}.journal").glob("rank-*.jsonl")):
            lines += path.read_text().split("\n")[:-1]
    return lines


class LoxTest(unittest.TestCase):
    """A test with a fresh directory, in which lox runs."""

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="lox-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def lox(self, *arguments, ranks=0, code=0, **options):
        """Runs lox in the test's directory and checks its exit code, unless that is None."""
        result = run(*arguments, ranks=ranks, directory=self.directory, **options)
        self.assertEqual(result.code, result.code if code is None else code, f"lox {' '.join(map(str, arguments))}\n{result.out}{result.err}")
        return result

    def harden(self, *options, base="base", aligned="aligned", output="out", ranks=0, **more):
        """Hardens and returns the report."""
        self.lox("harden", "--base", base, "--aligned", aligned, "--output", output, *options, ranks=ranks, **more)
        return json.loads((self.directory / f"{output}.report.json").read_text())
