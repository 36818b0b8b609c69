# SPDX-License-Identifier: MIT
"""What a run has said is done outlives a power loss that takes everything which was not synced."""
import random
import unittest

import disk_record
import disk_states
import power_loss_test
from jobs import SLOW, Job
from program import run


class Durable(power_loss_test.PowerLoss):
    def recorded(self, case):
        """(what an unbroken run makes, what was there before, entries) of a run of this case."""
        output, ranks, overwrite, what = case
        self.task = what if what in ("convert", "synth") else "harden"
        self.models = what if self.task == "harden" else "small"
        self.without = ""
        self.disk = self.place / self.models / "disk"
        new, _ = self.unbroken(output, 6)
        _, old_tree = self.unbroken(output, 3)
        self.clear()
        if overwrite:
            disk_states.build(old_tree, {}, self.disk)
        before, entries = self.record(self.words(output, *(("--overwrite",) if overwrite else ())), ranks)
        return new, before, entries

    @staticmethod
    def least(history):
        """The states in which nothing is there that was not synced."""
        for one_log in (True, False):
            yield history.state(random.Random(0), "none", "none", one_log)[0]

    def test_exit_code_0(self):
        """The output stands, with its bytes and its report."""
        for case in power_loss_test.CASES:
            with self.subTest(case=case):
                output = case[0]
                new, before, entries = self.recorded(case)
                history = disk_states.History(before, self.disk)
                for entry in entries:
                    history.apply(entry)
                for tree in self.least(history):
                    self.assertIn(output, tree)
                    self.assertTrue(disk_states.undated(tree[output]) == disk_states.undated(new), self.difference(tree[output], new))
                    if self.task == "harden":
                        self.assertIn(f"{output}.report.json", tree)

    def test_sign_of_another_job(self):
        """What is left of a job's journal while another one throws its work away is not gone on with."""
        self.recorded(("out", 0, False, "small"))
        expected, _ = self.unbroken("out", 3)
        self.clear()
        killed = Job(self.place / self.models, *self.words("out", k=3), fault=f"{SLOW},item:0:6:kill")
        self.assertNotEqual(killed.wait(), 0)
        before, entries = self.record(self.words("out", "--overwrite"), 0)
        made = next(i for i, entry in enumerate(entries) if entry.other and entry.other.endswith("job.json"))
        rng = random.Random(1)
        for point in sorted(rng.sample(range(made), min(made, 12))) + [made]:
            history = disk_states.History(before, self.disk)
            for entry in entries[:point]:
                history.apply(entry)
            for names in ("none", "some", "some"):
                tree, births = history.state(rng, names, "all", one_log=False)
                disk_states.build(tree, births, self.disk)
                again = run(*self.words("out", k=3), directory=self.place / self.models)
                found = disk_states.undated(disk_states.freeze(self.disk).get("out"))
                self.assertTrue(found in (None, disk_states.undated(expected)), f"wrong bytes after {point} ({entries[point - 1]})")
                self.assertEqual(found is None, again.code != 0, again.err)

    def test_lines_of_the_journal(self):
        """A line that was synced is there, and the edges of its items are."""
        _, before, entries = self.recorded(("out", 2, False, "small"))
        history = disk_states.History(before, self.disk)
        lines = {}
        for entry in entries:
            history.apply(entry)
            node = history.by_inode.get(entry.inode)
            journal = history.now[history.root].get("out.journal")
            if entry.operation != disk_record.SYNC or node is None or node.is_folder or journal is None:
                continue
            names = [name for name, inner in history.now[journal].items() if inner is node]
            if names and names[0].endswith((".jsonl", ".edges")):
                lines[names[0]] = node.content()
            if names and names[0].endswith(".jsonl"):
                for tree in self.least(history):
                    for name, content in lines.items():
                        self.assertEqual(tree["out.journal"].get(name, b"")[:len(content)], content, name)
        self.assertEqual(len([name for name, content in lines.items() if content]), 4, lines.keys())


if __name__ == "__main__":
    unittest.main()
