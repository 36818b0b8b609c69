# SPDX-License-Identifier: MIT
"""Answers that are proved: random starts, the exact method taking over, what is asked. See support/proofs.py."""
import json
import unittest

import numpy as np

import reference
from checkpoint import Tensor
from proofs import BAD_INPUT, IDENTICAL, NOT_CERTIFIED, STOPPED, USAGE, ProofTest, expected_output


class Start(ProofTest):
    """Where the random start comes from: the matrices and the seed, and nothing else."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(7)
        tied = reference.random_pair(rng, (300, 200))
        self.pairs = {"embed": tied, "head": tied, "other": reference.random_pair(rng, (200, 300), "power")}

    def test_equal_matrices_get_equal_edits_on_any_number_of_ranks(self):
        self.solve(self.pairs)
        self.assertEqual(self.hardened["embed"], self.hardened["head"])
        for field in ("sigma", "certificate", "iterations"):
            self.assertEqual(self.entries["embed"][field], self.entries["head"][field])
        content = (self.directory / "out.safetensors").read_bytes()
        for ranks in (1, 2, 3):
            self.solve(self.pairs, ranks=ranks)
            self.assertTrue((self.directory / "out.safetensors").read_bytes() == content, f"{ranks} ranks")

    def test_same_start_in_slabs_of_a_grid(self):
        """On a grid each rank sees some rows; what they make of them together does not depend on which."""
        self.solve(self.pairs, "--grid", "always", ranks=2)
        self.assertEqual(self.hardened["embed"], self.hardened["head"])
        on_grid = self.entries["embed"]
        self.solve(self.pairs)
        alone = self.entries["embed"]
        self.assertEqual(alone["iterations"], on_grid["iterations"])
        # Another start would leave other residuals, by some ten percent.
        self.assertLess(abs(on_grid["certificate"] / alone["certificate"] - 1), 0.02)

    def test_content_decides(self):
        """The same delta on other weights has another start; its shape alone tells nothing."""
        rng = np.random.default_rng(8)
        delta = np.rint(4 * rng.standard_normal((200, 4)) @ rng.standard_normal((4, 260))
                        + 2 * rng.standard_normal((200, 260)))
        pairs = {}
        for name in ("a", "b"):
            weights = rng.integers(-60, 60, delta.shape)
            pairs[name] = [Tensor.of("F32", 2.0**-12 * w) for w in (weights, weights + delta)]
        self.solve(pairs, "--k", 3)
        a, b = self.entries["a"], self.entries["b"]
        self.assertEqual(a["delta_norm"], b["delta_norm"])
        self.assertNotEqual(a["sigma"], b["sigma"])
        self.assertLess(np.max(np.abs(np.divide(a["sigma"], b["sigma"]) - 1)), 1e-6)

    def test_seed_moves_only_last_digits(self):
        found = []
        for seed in (0, 1):
            self.solve(self.pairs, "--seed", seed)
            found.append((self.entries, self.hardened))
        for name in self.pairs:
            self.assertNotEqual(found[0][0][name]["sigma"], found[1][0][name]["sigma"])
            self.assertGreaterEqual(np.mean(found[0][1][name].values == found[1][1][name].values), IDENTICAL)

    def test_random_seed_is_told_and_can_be_given_again(self):
        seeds = []
        for ranks in (0, 2):
            self.write(self.pairs)
            result = self.lox(*self.asked("--seed", "random", "--overwrite"), ranks=ranks)
            seed = json.loads((self.directory / "out.safetensors.report.json").read_text())["job"]["seed"]
            self.assertIn(f"seed {seed}", result.err)
            seeds.append(seed)
        self.assertNotEqual(seeds[0], seeds[1])
        content = (self.directory / "out.safetensors").read_bytes()
        self.solve(self.pairs, "--seed", seeds[1])
        self.assertTrue((self.directory / "out.safetensors").read_bytes() == content)

    def test_job_that_goes_on_keeps_its_random_seed(self):
        self.write(self.pairs)
        self.lox(*self.asked("--seed", "random", "--time-limit", "1s"), code=STOPPED)
        begun = json.loads((self.directory / "out.safetensors.journal" / "job.json").read_text())["identity"]
        for ranks in (2, 0):
            self.lox(*self.asked("--seed", "random", "--time-limit", "1s"), ranks=ranks, code=STOPPED)
        self.assertIn("seed", self.lox(*self.asked("--seed", 0), code=BAD_INPUT).err)
        self.lox(*self.asked("--seed", "random"), ranks=2)
        seed = json.loads((self.directory / "out.safetensors.report.json").read_text())["job"]["seed"]
        self.assertIn(f'"seed": {seed}'.replace(" ", ""), json.dumps(begun).replace(" ", ""))
        content = (self.directory / "out.safetensors").read_bytes()
        self.solve(self.pairs, "--seed", seed)
        self.assertTrue((self.directory / "out.safetensors").read_bytes() == content)

    def test_nonsense_is_refused(self):
        self.write(self.pairs)
        for seed in ("-1", "1.5", "0x10", "Random", "", 2**64):
            with self.subTest(seed=seed):
                self.assertIn("--seed", self.lox(*self.asked("--seed", seed), code=USAGE).lines[-1])


class TakingOver(ProofTest):
    """The exact method where the Krylov method gives up: on what no arithmetic reaches, or no bounded basis proves."""

    def planned(self, method, *options):
        plan = json.loads(self.lox("plan", *self.asked("--svd", method, *options)[1:], "--json").out)
        return plan["items"][0]["memory"]

    def give_up(self, *options, ranks=0):
        """Krylov's memory is there, the exact method's is not: one line says what is needed."""
        krylov, exact = (self.planned(method, *options, *(("--ranks", ranks) if ranks else ()))
                         for method in ("krylov", "exact"))
        self.assertLess(krylov, exact)
        result = self.lox(*self.asked("--tolerance", "1e-15", "--memory", (krylov + exact) // 2, "--quiet", *options),
                          ranks=ranks, code=NOT_CERTIFIED)
        self.assertEqual(len(result.lines), 1, result.err)
        self.assertRegex(result.lines[0], r"tensor 'w': .* exact .* needs [\d.]+ [kMG]B")
        self.assertFalse((self.directory / "out.safetensors").exists())
        return exact

    def test_memory(self):
        pair = reference.random_pair(np.random.default_rng(9), (900, 900))
        self.write({"w": pair})
        exact = self.give_up()
        report = self.solve({"w": pair}, "--k", 1, "--tolerance", 1e-15, "--memory", exact)
        self.assertEqual(self.entries["w"]["method"], "exact")
        self.assertLess(report["totals"]["peak_rss_bytes"], exact)
        self.assert_proved(self.entries["w"])
        self.assertGreaterEqual(self.identical("w", expected_output(pair, k=1)[0]), IDENTICAL)

    def test_not_certified_by_either(self):
        self.write({"w": reference.random_pair(np.random.default_rng(9), (300, 320))})
        result = self.lox(*self.asked("--tolerance", "1e-16", "--quiet"), code=NOT_CERTIFIED)
        self.assertEqual(len(result.lines), 1, result.err)
        self.assertIn("by the exact method", result.lines[0])

    def test_memory_on_a_grid(self):
        self.write({"w": reference.random_pair(np.random.default_rng(10), (1030, 2000))})
        self.give_up("--grid", "always", ranks=2)

    def test_a_grid_says_what_it_costs(self):
        pair = reference.random_pair(np.random.default_rng(11), (130, 32300))
        self.write({"w": pair})
        result = self.lox(*self.asked("--svd", "exact", "--grid", "always"), ranks=2)
        said = [i for i, line in enumerate(result.lines) if "gesvd" in line]
        self.assertEqual(len(said), 1, result.err)
        self.assertRegex(result.lines[said[0]], r"tensor 'w': .*p\?gesvd of 130 x 32300 begins: about [\d.]+ ?(s|min)")
        self.assertLess(said[0], next(i for i, line in enumerate(result.lines) if "100%" in line or "wrote" in line))
        entry, = json.loads((self.directory / "out.safetensors.report.json").read_text())["tensors"]
        self.assertEqual((entry["method"], entry["where"]), ("exact", "grid"))


class Asked(ProofTest):
    def test_more_proof_takes_more_passes(self):
        pairs = {"w": reference.random_pair(np.random.default_rng(12), (300, 420), "gap")}
        iterations = []
        for epsilon in (10, 0.05, 0.01):
            self.solve(pairs, "--proof", epsilon)
            entry = self.entries["w"]
            self.assertEqual(entry["method"], "krylov")
            self.assertLessEqual(entry["missed"]["epsilon"], epsilon)
            self.assertLessEqual(entry["missed"]["probability"], 1e-9)
            iterations.append(entry["iterations"])
        self.assertLess(iterations[0], iterations[1])
        self.assertLess(iterations[1], iterations[2])

    def test_nonsense_is_refused(self):
        self.write({"w": reference.random_pair(np.random.default_rng(12), (30, 42))})
        for epsilon in ("0", "-1", "nan", "inf", "1e9", "half", "", "0.5x"):
            with self.subTest(proof=epsilon):
                self.assertIn("--proof", self.lox(*self.asked("--proof", epsilon), code=USAGE).lines[-1])


if __name__ == "__main__":
    unittest.main()
