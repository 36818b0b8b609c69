# SPDX-License-Identifier: MIT
"""`lox plan` refuses what the task would refuse, in the same words; it touches nothing, and knows no machine but the one told."""
import json
import os
import re
import shutil
import unittest

from program import LoxTest

USAGE, BAD_INPUT, IO, STOPPED = 2, 3, 5, 75
GIB = 1 << 30


class PlanTest(LoxTest):
    def setUp(self):
        super().setUp()
        for role in ("base", "aligned"):
            self.lox("synth", role, "--shape", "tiny", "--layers", 1, "--role", role, "--quiet")

    def tree(self):
        return {path: (path.is_file() and path.read_bytes()) for path in sorted(self.directory.rglob("*"))}

    def words(self, task, output="out", **paths):
        named = {"harden": {"base": "base", "aligned": "aligned"}, "factor": {"base": "base", "aligned": "aligned"},
                 "apply": {"aligned": "aligned", "factors": "store"}}[task] | {"output": output} | paths
        return [word for name, value in named.items() for word in (f"--{name}", value)]

    def plan(self, task, *words, code=0):
        return self.lox("plan", *(() if task == "harden" else (task,)), *words, code=code)


class Refusals(PlanTest):
    def same_refusal(self, task, words, fact, code=BAD_INPUT):
        before = self.tree()
        planned = self.plan(task, *words, code=code)
        self.assertEqual(self.tree(), before, "plan has touched something")
        done = self.lox(task, "--quiet", *words, code=code)
        self.assertEqual(planned.lines, done.lines)
        self.assertIn(fact, planned.err)

    def test_of_each_task(self):
        self.lox("factor", "--quiet", *self.words("factor", "store"))
        (self.directory / "there").mkdir()
        (self.directory / "there/model.safetensors").touch()
        (self.directory / "reports").mkdir()
        for task in ("harden", "factor", "apply"):
            inside = "base/x" if task != "apply" else "store/x"
            for output, more, fact in (("there", (), "exists already"), ("aligned", ("--overwrite",), "are the same"),
                                       (inside, (), "inside one another"), ("no/where", (), "does not exist"),
                                       ("out", ("--report", "reports"), "is a folder"),
                                       ("out", ("--report", "nowhere/r.json"), "cannot be written"),
                                       ("out", ("--report", "aligned/r.json"), "would lie in the input")):
                with self.subTest(task=task, fact=fact):
                    self.same_refusal(task, [*self.words(task, output), *more], fact)

    def test_unfinished_and_finished_outputs(self):
        """That of another job is refused, that of this job is gone on with, or left as it is."""
        words = self.words("harden")
        self.lox("harden", "--quiet", *words, "--time-limit", "1s", code=STOPPED)
        self.same_refusal("harden", [*words, "--k", "5"], "belongs to another job")
        self.assertIn("unfinished; the job goes on", self.plan("harden", *words).out)
        self.lox("harden", "--quiet", *words)
        before = self.tree()
        self.assertIn("finished already", self.plan("harden", *words).out)
        self.same_refusal("harden", [*words, "--k", "5"], "exists already")
        self.assertEqual(self.tree(), before)

    def test_random_seed(self):
        """An unfinished output goes on with the seed that was drawn for it."""
        words = [*self.words("harden"), "--seed", "random"]
        self.assertNotIn("unfinished", self.plan("harden", *words).out)
        self.lox("harden", "--quiet", *words, "--time-limit", "1s", code=STOPPED)
        self.assertIn("unfinished; the job goes on", self.plan("harden", *words).out)

    def test_one_of_several_outputs(self):
        self.lox("factor", "--quiet", *self.words("factor", "store"))
        (self.directory / "out-1").mkdir()
        (self.directory / "out-1/model.safetensors").touch()
        self.same_refusal("apply", [*self.words("apply", "out-{coef}"), "--coef", "0.5,1"], "out-1: exists already")


class Elsewhere(PlanTest):
    """Ranks, nodes and memory of another machine."""

    def setUp(self):
        super().setUp()
        for role in ("base", "aligned"):
            shutil.rmtree(self.directory / role)
            self.lox("synth", role, "--shape", "llama-3.1-405b", "--role", role, "--headers-only", "--quiet")

    def planned(self, *words, code=IO):  # no room here for such an output: that is said last
        result = self.plan("harden", *self.words("harden"), *words, code=code)
        return result

    def test_needs_nothing_of_this_machine(self):
        """More ranks than would fit its memory need what few ranks need."""
        plans = json.loads(self.planned("--ranks", "16,64,4096", "--json").out)
        self.assertEqual([plan["ranks"] for plan in plans], [16, 64, 4096])
        for plan in plans:
            self.assertNotIn("memory_per_rank", plan)
        text = self.planned("--ranks", 64).out
        self.assertRegex(text, r"(?m)^ranks +64, 4 on each of 16 nodes$")
        self.assertRegex(text, r"(?m)^memory +\S+ GB a rank needed; \S+ GB a node$")
        room = os.statvfs(self.directory)
        free = plans[0]["totals"]["disk_free"]
        self.assertLess(abs(free - room.f_bavail * room.f_frsize), 0.1 * free)
        self.assertIn(f"disk          {plans[0]['totals']['disk'] / 1e9:.0f} GB needed, ", text)

    def test_table(self):
        out = self.planned("--ranks", "8,16,32,64", "--ranks-per-node", 8).out
        rows = re.findall(r"(?m)^ +(\d+) +(\d+)  +([\d.]+) GB +([\d.]+) GB", out)
        self.assertEqual([row[:2] for row in rows], [("8", "1"), ("16", "2"), ("32", "4"), ("64", "8")])
        for _, _, rank, node in rows:
            self.assertLess(abs(float(node) - 8 * float(rank)), 1)

    def test_memory_that_is_told(self):
        needed = json.loads(self.planned("--ranks", 32, "--json").out)
        most = max(rank["memory"] for rank in needed["per_rank"])
        self.assertIn(" there", self.planned("--ranks", 32, "--memory", most).out)
        # Nine tenths of a node's memory, in equal shares.
        node = -(-most * 8 * 10 // 9)
        plan = json.loads(self.planned("--ranks", 32, "--nodes", 4, "--node-memory", node + 160, "--json").out)
        self.assertLess(abs(plan["memory_per_rank"] - most), 64)
        self.assertEqual({item["where"] for item in plan["items"]}, {"local"})
        plan = json.loads(self.planned("--ranks", 32, "--nodes", 8, "--node-memory", node // 4, "--json").out)
        self.assertIn("grid", {item["where"] for item in plan["items"]}, "with half of it, large ones are shared")
        said = self.planned("--ranks", 8, "--node-memory", "2GiB", code=BAD_INPUT)
        self.assertIn("needs", said.err)
        some = self.planned("--ranks", "4,256", "--node-memory", "2GiB", "--ranks-per-node", 1)
        self.assertRegex(some.out, r"(?m)^ +4 +4  does not fit$")
        self.assertRegex(some.out, r"(?m)^ +256 +256  +[\d.]+ GB")
        self.assertIn("lox: 4 ranks: tensor ", some.err)
        one = self.planned("--ranks", "1,256", "--node-memory", "2GiB", "--ranks-per-node", 1)
        self.assertIn("lox: 1 rank: tensor ", one.err)

    def test_bandwidth(self):
        """Said with every time; where files decide, half of it takes twice as long."""
        slow, fast = (json.loads(self.planned("--ranks", 64, "--bandwidth", said, "--json").out) for said in ("1GB", "2GB"))
        self.assertEqual((slow["bandwidth_per_rank"], fast["bandwidth_per_rank"]), (1e9 / 64, 2e9 / 64))
        self.assertAlmostEqual(slow["totals"]["seconds"] / fast["totals"]["seconds"], 2, delta=0.1)
        self.assertGreater(slow["totals"]["seconds"], slow["totals"]["bytes_written"] / 1e9)
        by_default = self.planned("--ranks", 64).out
        self.assertIn("450 MB of files a second for each rank", by_default)
        self.assertIn("2.00 GB of files a second for all ranks", self.planned("--ranks", 64, "--bandwidth", "2GB/s").out)
        items = [[{key: item[key] for key in ("name", "where", "rank") if key in item} for item in plan["items"]]
                 for plan in (slow, json.loads(self.planned("--ranks", 64, "--json").out))]
        self.assertEqual(*items)  # what is done does not depend on what is foretold

    def test_words_that_make_no_sense(self):
        for words in (("--ranks", "0"), ("--ranks", "4,x"), ("--nodes", "0"), ("--nodes", "2,3"), ("--node-memory", "much"),
                      ("--bandwidth", "0"), ("--bandwidth", "10"), ("--bandwidth", "1e9"), ("--bandwidth", "fast/s"), ("--ranks", "4,8", "--sbatch")):
            with self.subTest(words=words):
                self.assertEqual(len(self.planned(*words, code=USAGE).lines), 1)
        self.lox("plan", "convert", "base", "x", "--ranks", "2,3", code=USAGE)


class Room(PlanTest):
    def test_all_outputs_count(self):
        """One fits and three do not, by sparse models of a third and a bit of what is free."""
        room = os.statvfs(self.directory)
        free = room.f_bavail * room.f_frsize
        if free < 4 * GIB:
            self.skipTest("hardly any room")
        self.lox("factor", "--quiet", *self.words("factor", "store"))
        with open(self.directory / "aligned/big.bin", "wb") as file:  # carried along
            file.truncate(free * 2 // 5)
        (self.directory / "aligned/big.bin").rename(self.directory / "aligned/big.dat")
        asked = [*self.words("apply", "out-{coef}"), "--coef"]
        self.plan("apply", *asked, "0.5")
        said = self.plan("apply", *asked, "0.5,1,1.25", code=IO).err
        self.assertIn("2 more outputs need", said)
        self.assertEqual(self.lox("apply", "--quiet", *asked, "0.5,1,1.25", code=IO).lines, said.splitlines())


if __name__ == "__main__":
    unittest.main()
