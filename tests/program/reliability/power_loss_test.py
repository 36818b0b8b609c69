# SPDX-License-Identifier: MIT
"""A power loss at any moment: what is on disk then is gone on with, to the bytes of an unbroken run.

A run's changes to the disk are recorded (record_writes.c); from the record come states that a disk may be in
after a power loss (disk_states.py); on each of them the same command is run again. A part of the states come
from a second power loss during that run. An error is told in the counts, and must have a remedy: --overwrite.
LOX_POWER_LOSSES: number of states (default 40). LOX_SEED: of the states.
"""
import collections
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

import checkpoint
import disk_record
import disk_states
import reference
from checkpoint import Tensor
from program import LOX, run

LOSSES = int(os.environ.get("LOX_POWER_LOSSES", "40"))
SEED = int(os.environ.get("LOX_SEED", "1"))
HERE = Path(__file__).resolve().parent
# (output, ranks, --overwrite, what): ranks 0 without mpirun
CASES = [(output, ranks, overwrite, "small") for overwrite in (False, True) for ranks in (0, 2)
         for output in ("out", "out.h5", "out.safetensors")]
CASES += [("out", 0, False, "large"), ("out.h5", 2, False, "large")]
CASES += [("out", 2, False, "convert"), ("out.h5", 0, True, "convert"), ("out", 0, True, "synth"),
          ("out.h5", 2, False, "synth")]


def source(name):
    for folder in (HERE, HERE.parents[1] / "support" if len(HERE.parents) > 1 else HERE):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(name)


def fingerprint(tree):
    digest = hashlib.sha256()

    def add(node):
        if isinstance(node, dict):
            digest.update(b"{")
            for name, inner in node.items():
                digest.update(name.encode() + b"\0")
                add(inner)
            digest.update(b"}")
        elif isinstance(node, bytes):
            digest.update(b"%d:" % len(node) + node)
        else:
            digest.update(b"-> " + node.target.encode())
    add(tree)
    return digest.hexdigest()


class Finding(Exception):
    """What must not be."""


class PowerLoss(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("cc") is None:
            raise unittest.SkipTest("no C compiler")
        cls.place = Path(tempfile.mkdtemp(prefix="lox-test-")).resolve()
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        cls.library = cls.place / "record_writes.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", cls.library, source("record_writes.c"),
                        "-ldl"], check=True)
        rng = np.random.default_rng(5)
        shapes = {f"layers.{i}.weight": (64, 46 + i % 3) for i in range(8)}
        shapes |= {f"layers.{i}.norm": (50,) for i in range(4)} | {"experts": (2, 40, 50)}
        cls.model("small", shapes, rng)
        # Above 1 MiB writes go past the cache.
        cls.model("large", {f"layers.{i}.weight": (900, 701) for i in range(3)} | {"norm": (701,)}, rng)
        cls.expected = {}

    @classmethod
    def model(cls, name, shapes, rng):
        pairs = {tensor: reference.random_pair(rng, shape) for tensor, shape in shapes.items()}
        pairs["ids"] = (Tensor("I64", np.arange(15).reshape(3, 5)),) * 2
        names = sorted(pairs)
        held = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        (cls.place / name / "disk").mkdir(parents=True)
        for side, path in enumerate(("base", "aligned")):
            shards = {shard: {n: pairs[n][side] for n in tensors} for shard, tensors in held.items()}
            checkpoint.write_directory(cls.place / name / path, shards,
                                       files={"config.json": b"{}\n", "tokenizer.json": b"abc " * 1500})

    def words(self, output, *more, k=6):
        if self.task == "convert" and k == 6:
            return ("convert", "aligned", f"disk/{output}", *more)
        if self.task == "synth" and k == 6:
            return ("synth", f"disk/{output}", "--shape", "tiny", "--layers", "1", *more)
        return ("harden", "--base", "base", "--aligned", "aligned", "--output", f"disk/{output}",
                "--k", str(k), *more)

    def clear(self):
        shutil.rmtree(self.disk)
        self.disk.mkdir()

    def unbroken(self, output, k):
        """What an unbroken run makes; with k = 3 always one of harden."""
        key = (self.task, self.models, output, k)
        if key not in self.expected:
            self.clear()
            made = run(*self.words(output, k=k), directory=self.place / self.models)
            self.assertEqual(made.code, 0, made.err)
            tree = disk_states.freeze(self.disk)
            self.expected[key] = (tree[output], tree)
        return self.expected[key]

    def record(self, words, ranks):
        """Runs. Returns (what was there before, entries), which must account for all that is there then."""
        before = disk_states.scan(self.disk)
        record = disk_record.Record(self.place / "record")
        environment = record.environment(self.library, self.disk, self.without)
        program = self.place / "recorded.sh"
        lines = [f"export {name}='{value}'\n" for name, value in environment.items()]
        program.write_text("#!/bin/sh\n" + "".join(lines) + f'exec "{Path(LOX).resolve()}" "$@"\n')
        program.chmod(0o755)
        made = run(*words, ranks=ranks, directory=self.place / self.models, program=program)
        self.assertEqual(made.code, 0, made.err)
        entries = record.entries()
        history = disk_states.History(before, self.disk)
        for entry in entries:
            history.apply(entry)
        self.assertTrue(history.live() == disk_states.freeze(self.disk), "the record does not tell all")
        return before, entries

    def lose(self, rng, before, entries, point):
        """A state after the first `point` entries, and how it came about."""
        history = disk_states.History(before, self.disk)
        for entry in entries[:point]:
            history.apply(entry)
        names, data = rng.choice((("none", "none"), ("all", "none"), ("all", "all"), ("none", "all"),
                                  ("some", "none"), ("some", "some"), ("all", "some"), ("some", "all")))
        one_log = rng.random() < 0.5
        tree, births = history.state(rng, names, data, one_log)
        last = entries[point - 1] if point else "nothing"
        how = f"after {point} of {len(entries)} ({last}), names {names}, data {data}, "
        return tree, births, how + ("one log" if one_log else "a log a folder")

    def holds(self, tree, models):
        """Whether one of some models is whole somewhere in it."""
        if disk_states.undated(tree) in map(disk_states.undated, models):
            return True
        return isinstance(tree, dict) and any(self.holds(inner, models) for inner in tree.values())

    def resume(self, output, words, ranks, new, old):
        """Runs the command again. Returns what it did; raises Finding if that must not be."""
        before = disk_states.freeze(self.disk)
        made = run(*words, ranks=ranks, directory=self.place / self.models)
        if made.code not in (0, 2, 3, 5):
            raise Finding(f"exit {made.code}: {made.err}")
        if made.code != 0:
            journal = before.get(f"{output}.journal")
            if disk_states.undated(before.get(output)) == disk_states.undated(new) and journal is not None and (
                    self.task == "harden" or "job.json" in journal):
                raise Finding(f"it was finished, but for {sorted(journal)} in its journal: {made.err}")
            told = [line for line in made.lines if "error" in line]
            reason = re.sub(r"^lox: error( on rank \d)?: ", "", told[-1] if told else "?")
            tree = disk_states.freeze(self.disk)
            if old is not None and disk_states.undated(tree.get(output)) == disk_states.undated(old):
                outcome = f"the old one, and error {made.code}: {reason}"
            elif output in tree:  # its name was published: then it must be what it should be
                self.check(output, new, f"exit {made.code} ({reason})")
                outcome = f"whole without a journal, and error {made.code}"
            else:
                outcome = f"error {made.code}: {reason}"
            again = run(*words, *(() if "--overwrite" in words else ("--overwrite",)),
                        directory=self.place / self.models)
            if again.code != 0:
                raise Finding(f"blocked: {reason}; with --overwrite: {again.err}")
            self.check(output, new, f"after {reason} and --overwrite")
            return outcome
        self.check(output, new, f"exit 0 ({' '.join(made.lines)[-200:]})")
        if "finished already" in made.err:
            return "was finished"
        return "went on" if "going on" in made.err else "began"

    def check(self, output, new, when):
        """Raises Finding unless the output and its report are whole and alone."""
        tree = disk_states.freeze(self.disk)
        if output not in tree:
            raise Finding(f"{when} and no output")
        if disk_states.undated(tree[output]) != disk_states.undated(new):
            raise Finding(f"{when} and wrong bytes: {self.difference(tree[output], new)}")
        left = sorted(set(tree) - {output, f"{output}.report.json"})  # an old report of harden is nobody's
        if left:
            raise Finding(f"{when} and left behind: {left}")
        if self.task != "harden":
            return
        try:
            k = json.loads(tree[f"{output}.report.json"])["job"]["k"]
        except (KeyError, ValueError) as error:
            raise Finding(f"{when} and no whole report: {error!r}") from None
        if k != 6:
            raise Finding(f"{when} and the report is another's: k {k}")

    @staticmethod
    def difference(found, expected):
        found, expected = ({"": f} if isinstance(f, bytes) else f for f in (found, expected))
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return f"names {sorted(found) if isinstance(found, dict) else '-'}"
        words = []
        for name, other in expected.items():
            one = found[name]
            if one != other:
                pages = sum(one[at:at + 4096] != other[at:at + 4096] for at in range(0, len(other), 4096))
                words.append(f"{name}: {len(one)} of {len(other)} bytes, {pages} pages")
        return ", ".join(words)

    def lose_many(self, case, count, seed, without="", until_found=False):
        """Returns (outcomes, findings) of that many power losses in a case, or up to the first finding."""
        output, ranks, overwrite, what = case
        self.task = what if what in ("convert", "synth") else "harden"
        self.models = what if self.task == "harden" else "small"
        self.without = without
        self.disk = self.place / self.models / "disk"
        rng = random.Random(f"{seed} {case}")
        words = self.words(output, *(("--overwrite",) if overwrite else ()))
        new, _ = self.unbroken(output, 6)
        old, old_tree = self.unbroken(output, 3)
        outcomes = collections.Counter()
        findings = []
        known = set()
        history = None
        tries = 0
        while sum(outcomes.values()) < count and tries < 4 * count + 20:
            tries += 1
            if history is None or tries % 200 == 0:  # another run, with another order of its ranks' steps
                self.clear()
                if overwrite:
                    disk_states.build(old_tree, {}, self.disk)
                history = self.record(words, ranks)
            before, entries = history
            tree, births, how = self.lose(rng, before, entries,
                                          disk_states.choose_points(rng, entries, 1)[0])
            if rng.random() < 0.2:
                try:
                    disk_states.build(tree, births, self.disk)
                    before, entries = self.record(words, rng.choice((0, 0, 2)))
                except AssertionError as error:  # a run that fails is told below
                    if "does not tell all" in str(error):
                        raise
                else:
                    if entries:
                        point = disk_states.choose_points(rng, entries, 1)[0]
                        tree, births, more = self.lose(rng, before, entries, point)
                        how += "; then " + more
            mark = fingerprint(tree)
            if mark in known:
                continue
            known.add(mark)
            disk_states.build(tree, births, self.disk)
            try:
                if overwrite and not self.holds(tree, (old, new)):
                    raise Finding("neither the old model nor the new one is on the disk")
                outcome = self.resume(output, words, rng.choice((0, 0, 0, 2)), new,
                                      old if overwrite else None)
            except Finding as finding:
                outcome = "FOUND"
                more = ", --overwrite" if overwrite else ""
                findings.append(f"{self.task} {output}, {ranks} ranks{more}: {how}: {finding}")
            outcomes[outcome] += 1
            if findings and until_found:
                break
        return outcomes, findings

    def report(self, outcomes, findings):
        counts = ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
        print(f"{sum(outcomes.values())} states: {counts}", end=" ... ", flush=True)
        shown = "\n".join(finding[:600] for finding in findings[:12])
        return f"{len(findings)} losses, the first:\n{shown}"


class Losses(PowerLoss):
    def cases(self, cases):
        outcomes = collections.Counter()
        findings = []
        for i, case in enumerate(CASES):
            if case in cases:
                count = LOSSES * (i + 1) // len(CASES) - LOSSES * i // len(CASES)
                more, found = self.lose_many(case, count, SEED)
                outcomes += more
                findings += found
        told = self.report(outcomes, findings)
        self.assertEqual(len(findings), 0, told)

    def test_one_rank(self):
        self.cases([case for case in CASES if case[1:] == (0, False, "small")])

    def test_two_ranks(self):
        self.cases([case for case in CASES if case[1:] == (2, False, "small")])

    def test_overwrite_on_one_rank(self):
        self.cases([case for case in CASES if case[1:] == (0, True, "small")])

    def test_overwrite_on_two_ranks(self):
        self.cases([case for case in CASES if case[1:] == (2, True, "small")])

    def test_past_the_cache(self):
        self.cases([case for case in CASES if case[3] == "large"])

    def test_convert_and_synth(self):
        self.cases([case for case in CASES if case[3] in ("convert", "synth")])


class WithoutSyncs(PowerLoss):
    """The test itself: with syncs left out of the record it must find losses."""

    MOST = 150

    def finds(self, without, *cases):
        for case in cases:
            with self.subTest(case=case):
                outcomes, findings = self.lose_many(case, self.MOST, SEED, without, until_found=True)
                self.report(outcomes, findings)
                self.assertGreater(len(findings), 0, "a program without syncs loses nothing?")

    def test_of_files(self):
        self.finds("file", CASES[0], CASES[4])

    def test_of_folders(self):
        self.finds("folder", CASES[6])

    def test_of_all(self):
        self.finds("file folder", CASES[2])


if __name__ == "__main__":
    unittest.main()
