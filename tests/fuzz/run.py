#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs one fuzz target from its seeds for a while; fails at the first finding.

    run.py build/asan/tests/fuzz/header_fuzz --seeds header --seconds 60 [--corpus DIR]

With --corpus what is found interesting is kept there and used again, and findings stay in DIR.findings. A breakdown
inside the HDF5 library is no finding: it is counted, and the input goes to the program's own way of opening files
(hdf5_sandboxed_fuzz), which must survive it.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import seeds

FRAME = re.compile(r"^\s*#\d+ 0x[0-9a-f]+ (.*)$", re.MULTILINE)


def is_of_hdf5(said):
    """Whether a crash's innermost frame that is ours or HDF5's is the library's."""
    if "does not hold:" in said or "terminate called" in said:
        return False
    for frame in FRAME.findall(said):
        if "libhdf5" in frame:
            return True
        if "lox::" in frame:
            return False
    return False


def run(program, options, folders):
    return subprocess.run([program, *options, *map(str, folders)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)


def count(said):
    """Executions, from the last line that tells of them."""
    told = re.findall(r"^(?:stat::number_of_executed_units: *|#)(\d+)", said, re.MULTILINE)
    return int(told[-1]) if told else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--seeds", required=True, help="name of the seed corpus")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="lox-fuzz-", dir=memory if memory.is_dir() else None) as scratch:
        os.environ["TMPDIR"] = scratch  # of the files that targets make
        scratch = Path(scratch)
        seeds.write_seeds(scratch)
        corpus = arguments.corpus or scratch / "corpus"
        findings = Path(f"{corpus}.findings")
        for folder in (corpus, findings):
            folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1")
        sandboxed = arguments.program.with_name("hdf5_sandboxed_fuzz")
        longest = 16384 if "hdf5" in arguments.program.name else 4096
        in_process = arguments.program.name == "hdf5_fuzz"
        end = time.monotonic() + arguments.seconds
        executions = breakdowns = 0
        while executions == 0 or time.monotonic() < end:
            left = max(1, int(end - time.monotonic()))
            done = run(arguments.program,
                       [f"-max_total_time={left}", f"-dict={scratch / arguments.seeds}.dict", "-timeout=20",
                        "-rss_limit_mb=4000", "-malloc_limit_mb=2000", f"-max_len={longest}",
                        "-print_final_stats=1", "-reload=0", "-verbosity=1", f"-artifact_prefix={findings}/"],
                       [corpus, scratch / arguments.seeds])
            executions += count(done.stdout)
            if done.returncode == 0:
                break
            if not in_process or not is_of_hdf5(done.stdout):
                print(done.stdout[-8000:])
                print(f"{arguments.program.name}: a finding after {executions} executions")
                return 1
            breakdowns += 1
            for artifact in list(findings.iterdir()):
                survived = run(sandboxed, [], [artifact])
                if survived.returncode != 0:
                    print(survived.stdout[-8000:])
                    print(f"{arguments.program.name}: the HDF5 library's breakdown over {artifact} is ours as well")
                    return 1
                artifact.unlink()
        more = f", {breakdowns} breakdowns of the HDF5 library survived" if in_process else ""
        kept = len(list(corpus.iterdir()))
        print(f"{arguments.program.name}: {executions} executions, {kept} inputs in the corpus{more}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
