# SPDX-License-Identifier: MIT
"""What `lox analyze` takes, refuses and leaves behind, and the memory and reading that it needs."""
import json
import shutil
import unittest

import numpy as np

import checkpoint
import reference
from analyze_test import K, AnalyzeTest
from checkpoint import Tensor
from program import LoxTest, peak_memory, run


class Memory(LoxTest):
    def test_as_for_harden(self):
        """However many models are held against the first one, and within what the plan says."""
        rng = np.random.default_rng(2)
        base, aligned = reference.random_pair(rng, (2000, 3000), kind="alignment")
        models = {"base": base, "aligned": aligned}
        for name in ("one", "two", "three"):
            step = reference.random_matrix(rng, aligned.shape, "alignment", 4e-4)
            models[name] = Tensor.of("BF16", aligned.values + step)
        for name, tensor in models.items():
            (self.directory / f"{name}.safetensors").write_bytes(checkpoint.encode({"w": tensor}))
        pair = ("--base", "base.safetensors", "--aligned", "aligned.safetensors", "--k", 4)
        tuned = [word for name in ("one", "two", "three") for word in ("--tuned", f"{name}.safetensors")]
        harden = peak_memory("harden", *pair, "--output", "out.safetensors", "--quiet", directory=self.directory)
        alone = peak_memory("analyze", *pair, "--output", "a.json", "--quiet", directory=self.directory)
        with_tuned = peak_memory("analyze", *pair, *tuned, "--output", "t.json", "--quiet", directory=self.directory)
        plan = json.loads(self.lox("plan", "analyze", *pair, *tuned, "--output", "p.json", "--json").out)
        print("\nharden {:.1f} MB, analyze {:.1f} MB, with three models {:.1f} MB".format(
            *(peak / 1e6 for peak in (harden, alone, with_tuned))))
        self.assertLess(alone, harden + len(base.tobytes()) / 2)
        self.assertLess(with_tuned, harden + len(base.tobytes()) / 2)
        self.assertLess(with_tuned, plan["per_rank"][0]["memory"])


class PlaceTest(AnalyzeTest):
    def refused(self, words, *facts, code=3, ranks=0, left=()):
        result = self.lox(*words, code=code, ranks=ranks)
        errors = [line for line in result.lines if "error" in line]
        self.assertEqual(len(errors), 1, result.err)
        for fact in facts:
            self.assertIn(fact, errors[0])
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), sorted(left))


class Place(PlaceTest):
    def test_finished_already(self):
        self.analyze(k=(1,))
        self.assertIn("was finished already", self.lox(*self.words(k=(1,)), ranks=2).err)
        self.refused(self.words(k=(2,)), "exists already", left=["r.json"])
        self.lox(*self.words("--overwrite", k=(2,)))
        self.assertEqual(json.loads((self.directory / "r.json").read_text())["job"]["k"], [2])

    def test_only_texts_of_lox_are_overwritten(self):
        (self.directory / "r.json").write_text("{}")
        self.refused(self.words("--overwrite"), "is no text of lox", left=["r.json"])
        self.assertEqual((self.directory / "r.json").read_text(), "{}")


class Refused(PlaceTest):
    def other(self, name, change, like="other"):
        tensors = dict(self.made[like])
        change(tensors)
        (self.models / f"{name}.safetensors").write_bytes(checkpoint.encode(tensors))
        return f"{name}.safetensors"

    def test_models_that_do_not_match(self):
        def lacks(tensors):
            del tensors["layers.0.q.weight"]

        def has_more(tensors):
            tensors["extra.weight"] = tensors["half.weight"]

        def is_longer(tensors):
            tensors["layers.0.q.weight"] = Tensor.of("BF16", np.zeros((161, 192)))

        def is_not_finite(tensors):
            values = tensors["layers.0.q.weight"].values.copy()
            values[3, 5] = np.nan
            tensors["layers.0.q.weight"] = Tensor.of("BF16", values)

        for change, facts in ((lacks, ("layers.0.q.weight", "tuned 2")), (has_more, ("extra.weight",)),
                              (is_longer, ("layers.0.q.weight", "[161, 192]")),
                              (is_not_finite, ("layers.0.q.weight", "tuned 2", "NaN", str(3 * 192 + 5)))):
            with self.subTest(change=change.__name__):
                name = self.other(change.__name__, change)
                for ranks in (0, 2):
                    self.refused(self.words(tuned=("back", name)), *facts, ranks=ranks)
                self.lox(*self.words("--exclude", "q.weight|extra", tuned=("back", name), k=(1,)))
                (self.directory / "r.json").unlink()

    def test_stores(self):
        store = ("--factors", self.models / "store")
        self.refused(self.words(*store, k=(101,)), "101")
        self.refused(self.words(*store, aligned="other"), ".weight' matrix 0", "not the one that the factors are of")
        self.refused(self.words(*store, base="back"), ".weight' matrix 0", "another base")
        self.refused(self.words(*store, "--include", "norm"), "no tensor is left")
        self.refused(self.words("--factors", self.models / "aligned"), "factors.json")

    def test_options(self):
        for options, word in ((("--k", "0"), "--k 0"), (("--k", "-1"), "--k -1"), (("--k", "1,1"), "twice"),
                              (("--k", "x"), "--k"), (("--tolerance", "2"), "--tolerance")):
            words = [word for word in self.words() if word not in ("--k", ",".join(map(str, K)))]
            self.refused([*words, *options], word, code=2)
        self.refused(["analyze", "--base", "x", "--aligned", "y"], "--output", code=2)
        self.refused(self.words(aligned="base", tuned=()), "name one model")
        self.refused(self.words(output=self.models / "aligned/r.json"), "inside")
        self.refused(self.words("--memory", "140MB", "--grid", "never"), "needs", "--memory")

    def test_foreign_things_in_a_journal_stay(self):
        for name in ("mydata.jsonl", "rank-x.edges", "job.json", "replaced/precious"):
            with self.subTest(name=name):
                folder = self.directory / "r.json.journal"
                (folder / name).parent.mkdir(parents=True)
                (folder / name).write_text("mine")
                for words in (self.words(), self.words("--overwrite")):
                    self.refused(words, "is not a journal of lox", left=["r.json.journal"])
                self.assertEqual((folder / name).read_text(), "mine")
                shutil.rmtree(folder)

    def test_a_page_takes_all_of_an_analysis(self):
        self.lox(*self.words())
        shown = run("report", "r.json", "--html", "page.html", directory=self.directory)  # without npm it says so
        self.assertNotIn("warning", shown.err)

    def test_plan(self):
        words = self.words("--memory", "1GiB")
        plan = json.loads(self.lox("plan", *words, "--ranks", 2, "--json").out)
        self.assertEqual(plan["totals"]["bytes_written"], 0)
        matrices = sum(t.stored.nbytes for name, t in self.made["base"].items() if t.stored.ndim > 1)
        self.assertAlmostEqual(plan["totals"]["bytes_read"] / matrices, 4, delta=0.01)
        read = self.analyze(ranks=2)["totals"]["bytes_read"]
        self.assertEqual(read, 4 * matrices)  # each of four models once


if __name__ == "__main__":
    unittest.main()
