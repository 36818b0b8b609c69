# SPDX-License-Identifier: MIT
"""Every field of the report against numpy, and the options that decide which tensors are edited."""
import csv
import datetime
import io
import json
import re
import shutil
import socket
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest

K, COEF = 6, 1.25
NUMBERS = {"k", "sigma", "certificate", "orthogonality", "missed", "settled", "iterations", "delta_norm", "energy", "edit_norm", "realised", "changed"}
EVERY = {"name", "shape", "dtype", "action", "seconds"}


def make_pair():
    rng = np.random.default_rng(7)
    pairs = {
        "krylov.weight": reference.random_pair(rng, (320, 256)),
        "wide.weight": reference.random_pair(rng, (200, 300), "power", 1e-5),
        "exact.weight": reference.random_pair(rng, (64, 96)),
        "small.weight": reference.random_pair(rng, (4, 50)),
        "half.weight": reference.random_pair(rng, (160, 180), dtype="F16"),
        "double.weight": reference.random_pair(rng, (160, 140), dtype="F64"),
        "experts.weight": reference.random_pair(rng, (3, 144, 160)),
        "norm.weight": reference.random_pair(rng, (256,)),
        "ids": (Tensor("I64", np.arange(6).reshape(2, 3)),) * 2,
    }
    same = Tensor.of("BF16", rng.standard_normal((150, 170)))
    pairs["zero.weight"] = (same, same)
    some = reference.random_pair(rng, (2, 140, 150))
    some[1].stored[1] = some[0].stored[1]
    pairs["half_zero.weight"] = some
    return [{name: pair[side] for name, pair in pairs.items()} for side in (0, 1)]


class ReportTest(LoxTest):
    def setUp(self):
        super().setUp()
        self.base, self.aligned = make_pair()
        for name, tensors in (("base", self.base), ("aligned", self.aligned)):
            (self.directory / f"{name}.safetensors").write_bytes(checkpoint.encode(tensors))
        self.models = {"base": "base.safetensors", "aligned": "aligned.safetensors", "output": "out.safetensors"}

    def report(self, *options, ranks=0):
        report = self.harden(*options, **self.models, ranks=ranks)
        self.entries = {entry["name"]: entry for entry in report["tensors"]}
        self.hardened = checkpoint.read(self.directory / "out.safetensors")
        return report

    def edited(self):
        return {name for name, entry in self.entries.items() if entry["action"] == "edited"}

    def assert_close(self, found, expected, relative, what):
        self.assertLessEqual(abs(found - expected), relative * abs(expected), f"{what}: {found}, not {expected}")


class Contract(ReportTest):
    def test_fields_and_totals(self):
        report = self.report(ranks=2)
        self.assertEqual(set(report), {"lox", "job", "made", "totals", "tensors"})
        self.assertIn(report["lox"], self.lox("--version").out)
        for key, value in {"k": K, "coef": COEF, "svd": "krylov", "tolerance": 1e-4, "seed": 0, **self.models}.items():
            self.assertEqual(report["job"][key], value, key)
        self.assertEqual([entry["name"] for entry in report["tensors"]], list(self.aligned))
        for name, entry in self.entries.items():
            tensor = self.aligned[name]
            self.assertEqual((entry["dtype"], entry["shape"]), (tensor.dtype, list(tensor.shape)), name)
            self.assertEqual(set(entry["seconds"]), {"read", "svd", "write"})
            self.assertTrue(all(seconds >= 0 for seconds in entry["seconds"].values()))
            wanted = EVERY | (NUMBERS | {"method", "where"} if entry["action"] == "edited" else set())
            self.assertLessEqual(wanted, set(entry), name)
            self.assertEqual("batch" in entry, len(tensor.shape) > 2, name)
        totals = report["totals"]
        sizes = {name: len(tensor.tobytes()) for name, tensor in self.aligned.items()}
        selected = [name for name, tensor in self.aligned.items() if len(tensor.shape) > 1 and name != "ids"]
        self.assertEqual(totals["tensors"], len(self.aligned))
        self.assertEqual(totals["edited"], len(selected) - 1)  # one has no delta
        self.assertEqual(totals["copied"], len(self.aligned) - totals["edited"])
        self.assertEqual(totals["bytes_written"], sum(sizes.values()))
        self.assertEqual(totals["bytes_read"], sum(sizes.values()) + sum(sizes[name] for name in selected))
        self.assertEqual(totals["ranks"], 2)
        self.assertGreater(totals["seconds"], 0)
        self.assertGreater(totals["peak_rss_bytes"], 1 << 20)

    def test_made(self):
        """When, where, with what and of which files, whatever folder it was started in."""
        made = self.report(ranks=2)["made"]
        date = datetime.datetime.strptime(made["date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        self.assertLess(abs((datetime.datetime.now(datetime.timezone.utc) - date).total_seconds()), 120)
        self.assertEqual((made["host"], made["nodes"]), (socket.gethostname(), 1))
        self.assertGreaterEqual(made["threads"], 1)
        said = self.lox("--version").out
        for library in ("MPI", "HDF5", "BLAS", "ScaLAPACK", "Eigen"):
            self.assertIn(made["versions"][library].splitlines()[0][:60], said)
        self.assertEqual(made["paths"], {name: str(self.directory.resolve() / path)
                                         for name, path in self.models.items()})

    def test_numbers(self):
        self.report()
        for name, entry in self.entries.items():
            if entry["action"] == "copied":
                continue
            with self.subTest(tensor=name):
                matrices = [()] if "batch" not in entry else [(i,) for i in range(len(entry["batch"]))]
                for at in matrices:
                    self.check_matrix(name, entry["batch"][at[0]] if at else entry, at)
        methods = {name: self.entries[name]["method"] for name in ("krylov.weight", "exact.weight", "small.weight")}
        self.assertEqual(methods, {"krylov.weight": "krylov", "exact.weight": "exact", "small.weight": "full"})
        self.assertGreater(self.entries["krylov.weight"]["iterations"], 0)

    def check_matrix(self, name, numbers, at):
        """One matrix's numbers, recomputed in double."""
        aligned = self.aligned[name].values[at].astype(np.float64)
        hardened = self.hardened[name].values[at].astype(np.float64)
        delta = reference.delta(self.aligned[name], self.base[name])[at].astype(np.float64)
        self.assertEqual(numbers["action"], "edited" if delta.any() else "copied")
        if not delta.any():
            self.assertEqual(numbers["delta_norm"], 0)
            self.assertEqual(numbers["changed"], 0)
            return
        svd = reference.Svd(delta)
        k = min(K, *delta.shape)
        edit = COEF * svd.truncated(k)
        norm = np.linalg.norm(delta)
        kept = np.linalg.norm(svd.sigma[:k])
        self.assertEqual(numbers["where"], "local")
        self.assertEqual(numbers["k"], k)
        self.assertEqual(len(numbers["sigma"]), 0 if k == min(delta.shape) else k)  # of full rank: no SVD
        if numbers["sigma"]:
            self.assertLess(np.max(np.abs(numbers["sigma"] / svd.sigma[:k] - 1)), 1e-4)
        self.assertTrue(0 <= numbers["orthogonality"] <= 1e-4, numbers["orthogonality"])
        self.assertTrue(0 <= numbers["missed"]["epsilon"] <= 0.5, numbers["missed"])
        self.assertTrue(0 <= numbers["missed"]["probability"] <= 1e-9, numbers["missed"])
        self.assertIs(numbers["settled"], True)
        self.assertTrue(0 <= numbers["certificate"] <= 1e-4, numbers["certificate"])
        self.assert_close(numbers["delta_norm"], norm, 1e-6, "delta_norm")
        self.assert_close(numbers["energy"], (kept / norm) ** 2, 1e-4, "energy")
        self.assert_close(numbers["edit_norm"], COEF * kept, 1e-4, "edit_norm")
        realised = np.sum((hardened - aligned) * edit) / np.sum(edit**2)
        self.assert_close(numbers["realised"], realised, 1e-3, "realised")
        self.assert_close(numbers["changed"], np.mean(hardened != aligned), 1e-12, "changed")

    def test_certificate_is_honest(self):
        """In F64 the output gives the edit back: its triplets' residuals in double are what the report says."""
        for method in ("krylov", "exact"):
            (self.directory / "out.safetensors").unlink(missing_ok=True)
            self.report("--svd", method)
            name = "double.weight"
            delta = reference.delta(self.aligned[name], self.base[name]).astype(np.float64)
            u, sigma, vt = np.linalg.svd((self.hardened[name].values - self.aligned[name].values) / COEF)
            u, sigma, v = u[:, :K], sigma[:K], vt[:K].T
            residuals = np.maximum(np.linalg.norm(delta @ v - u * sigma, axis=0),
                                   np.linalg.norm(delta.T @ u - v * sigma, axis=0)) / sigma
            certificate = self.entries[name]["certificate"]
            self.assertLess(np.max(residuals), 1.1 * certificate + 1e-6, method)
            if method == "krylov":
                self.assertGreater(np.max(residuals), certificate / 10, "the certificate is far too large")

    def test_batch_sums_up(self):
        self.report()
        for name in ("experts.weight", "half_zero.weight"):
            entry = self.entries[name]
            batch = entry["batch"]
            self.assertEqual(len(batch), self.aligned[name].shape[0])
            for norm in ("delta_norm", "edit_norm"):
                self.assert_close(entry[norm], np.linalg.norm([m[norm] for m in batch]), 1e-12, norm)
            squares = np.array([m["delta_norm"] ** 2 for m in batch])
            energy = np.sum(squares * [m["energy"] for m in batch]) / np.sum(squares)
            self.assert_close(entry["energy"], energy, 1e-12, "energy")
            self.assertEqual(entry["certificate"], max(m["certificate"] for m in batch))
            self.assert_close(entry["changed"], np.mean([m["changed"] for m in batch]), 1e-12, "changed")

    def test_zero_delta_is_copied(self):
        self.report()
        entry = self.entries["zero.weight"]
        self.assertEqual(entry["action"], "copied")
        self.assertEqual(entry.get("delta_norm"), 0)
        self.assertEqual(self.hardened["zero.weight"], self.aligned["zero.weight"])
        text = (self.directory / "out.safetensors.report.json").read_text()
        self.assertNotIn("NaN", text)
        self.assertNotIn("null", text)
        half = self.entries["half_zero.weight"]
        self.assertEqual(half["action"], "edited")
        self.assertEqual([m["action"] for m in half["batch"]], ["edited", "copied"])
        self.assertTrue(np.array_equal(self.hardened["half_zero.weight"].stored[1],
                                       self.aligned["half_zero.weight"].stored[1]))

    def test_full_rank(self):
        self.report("--k", "0")
        entry = self.entries["krylov.weight"]
        self.assertEqual((entry["method"], entry["energy"], entry["k"]), ("full", 1, 256))
        self.assert_close(entry["edit_norm"], COEF * entry["delta_norm"], 1e-6, "edit_norm")

    def test_exact(self):
        self.report("--svd", "exact")
        self.assertEqual({name: self.entries[name]["method"] for name in self.edited()},
                         {name: "full" if min(self.aligned[name].shape[-2:]) <= K else "exact"
                          for name in self.edited()})
        self.assertLess(self.entries["krylov.weight"]["certificate"], 1e-5)


class Options(ReportTest):
    def test_include_and_exclude(self):
        matrices = {n for n, t in self.aligned.items() if len(t.shape) > 1 and n not in ("ids", "zero.weight")}
        cases = [
            (("--include", "krylov"), {"krylov.weight"}),
            (("--include", "^kry", "--include", "^ex"), {"krylov.weight", "exact.weight", "experts.weight"}),
            (("--exclude", "half|experts"), matrices - {"half.weight", "half_zero.weight", "experts.weight"}),
            (("--include", "^.*e.*$", "--exclude", "^exact\\.weight$", "--exclude", "wide"),
             {n for n in matrices if "e" in n} - {"exact.weight", "wide.weight"}),
            (("--include", "norm|ids|small"), {"small.weight"}),
        ]
        for options, expected in cases:
            with self.subTest(options=options):
                (self.directory / "out.safetensors").unlink(missing_ok=True)
                report = self.report(*options)
                self.assertEqual(self.edited(), expected)
                self.assertEqual(report["totals"]["edited"], len(expected))
                for name, tensor in self.aligned.items():
                    if name not in expected:
                        self.assertEqual(self.hardened[name], tensor, name)

    def test_report_file(self):
        self.lox("harden", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output", "out.h5",
                 "--report", "elsewhere.json", "--quiet")
        self.assertFalse((self.directory / "out.h5.report.json").exists())
        self.assertEqual(json.loads((self.directory / "elsewhere.json").read_text())["job"]["output"], "out.h5")
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()),
                         ["aligned.safetensors", "base.safetensors", "elsewhere.json", "out.h5"])

    def test_job_file(self):
        (self.directory / "job.ini").write_text(
            "# a comment\nbase = base.safetensors\naligned = aligned.safetensors\noutput = out.safetensors\n"
            "k = 3\ncoef = 0.5\nexclude = ^half\nexclude = ^small\nsvd = exact\nquiet = true\n")
        self.lox("harden", "--config", "job.ini", ranks=2)
        from_file = json.loads((self.directory / "out.safetensors.report.json").read_text())
        self.assertEqual([from_file["job"][key] for key in ("k", "coef", "svd", "exclude")],
                         [3, 0.5, "exact", ["^half", "^small"]])
        self.lox("harden", "--config", "job.ini", "--k", "5", "--svd", "krylov", "--overwrite")
        report = json.loads((self.directory / "out.safetensors.report.json").read_text())
        self.assertEqual([report["job"][key] for key in ("k", "coef", "svd")], [5, 0.5, "krylov"])
        self.assertEqual(len(report["tensors"][0]["sigma"]), 5)

    def test_overwrite(self):
        self.report("--k", "2")
        first = (self.directory / "out.safetensors").read_bytes()
        self.report("--k", "4", "--overwrite")
        self.assertNotEqual((self.directory / "out.safetensors").read_bytes(), first)
        self.assertEqual(self.entries["krylov.weight"]["k"], 4)

    def test_seed_moves_only_last_digits(self):
        self.report("--include", "krylov", "--seed", "1")
        first = self.hardened["krylov.weight"]
        sigma = self.entries["krylov.weight"]["sigma"]
        self.report("--include", "krylov", "--seed", "2", "--overwrite")
        second = self.entries["krylov.weight"]["sigma"]
        self.assertLess(np.max(np.abs(np.subtract(sigma, second))), 1e-4 * sigma[0])
        self.assertGreater(np.mean(first.stored == self.hardened["krylov.weight"].stored), 0.998)

    def test_quiet_is_silent(self):
        self.assertEqual(self.lox("harden", "--quiet", "--base", "base.safetensors", "--aligned", "aligned.safetensors",
                                  "--output", "out.safetensors").err, "")


class Shown(ReportTest):
    """What `lox report` makes of a report."""

    def rows(self, *options):
        """Fields of each line of the table, two spaces or more between them."""
        lines = self.lox("report", "out.safetensors", *options).out.split("\n\n")[0].splitlines()
        return [re.split(r" {2,}", line.strip()) for line in lines]

    def test_table(self):
        self.report()
        head, *rows = self.rows()
        self.assertEqual(head[-2:], ["method", "s_1 .. s_k"])
        named = {row[0]: row for row in rows}
        copied = [name for name in self.entries if name not in self.edited()]
        self.assertEqual(set(named), self.edited() | {"(copied)"})
        self.assertEqual(named["(copied)"][1], str(len(copied)))
        entry = self.entries["krylov.weight"]
        epsilon = entry["missed"]["epsilon"]
        self.assertEqual(named["krylov.weight"][-4:], [f"{entry['certificate']:.1e}", f"{1 + epsilon:.2f} s_k", "krylov/local",
                                                       " ".join(f"{s:.3g}" for s in entry["sigma"])])
        means = np.mean([m["sigma"] for m in self.entries["experts.weight"]["batch"]], axis=0)
        self.assertEqual(named["experts.weight"][-1], " ".join(f"{s:.3g}" for s in means))
        self.assertEqual(named["small.weight"][-1], "-")

    def test_older_report(self):
        """Of before there was a proof."""
        self.report("--include", "krylov")
        path = self.directory / "out.safetensors.report.json"
        report = json.loads(path.read_text())
        del report["made"]
        for tensor in report["tensors"]:
            for key in ("missed", "orthogonality", "settled"):
                tensor.pop(key, None)
        path.write_text(json.dumps(report))
        self.assertRegex(self.lox("report", path).out, r" \? +krylov/local")

    def test_many_singular_values(self):
        self.report("--k", "9", "--include", "krylov")
        sigma = [f"{s:.3g}" for s in self.entries["krylov.weight"]["sigma"]]
        self.assertEqual(self.rows()[1][-1], " ".join([*sigma[:4], "..", sigma[-1]]))

    def test_each_tensor(self):
        self.report()
        head, *rows = self.rows("--tensors")
        self.assertEqual(head[:2], ["tensor", "shape"])
        self.assertEqual([row[0] for row in rows], list(self.aligned))
        for row in rows:
            tensor = self.aligned[row[0]]
            self.assertEqual(row[1], "x".join(map(str, tensor.shape)))
            self.assertEqual("copied" in row, row[0] not in self.edited(), row)
            if row[0] in self.edited():
                entry = self.entries[row[0]]
                self.assertEqual(row[2:5], [f"{100 * entry['energy']:.1f}%", f"{entry['edit_norm'] / entry['delta_norm']:.2f}",
                                            f"{100 * entry['realised']:.1f}%"])

    def test_csv(self):
        """Every number of the report, to the last bit."""
        self.report()
        rows = list(csv.DictReader(io.StringIO(self.lox("report", "out.safetensors", "--csv").out)))
        expected = []
        for name, entry in self.entries.items():
            expected.append((name, "", entry))
            expected += [(name, str(i), matrix) for i, matrix in enumerate(entry.get("batch", []))]
        self.assertEqual([(row["name"], row["matrix"]) for row in rows], [(name, i) for name, i, _ in expected])
        for row, (name, matrix, entry) in zip(rows, expected):
            self.assertEqual(row["file"], "out.safetensors.report.json")
            self.assertEqual(row["shape"], "x".join(map(str, self.aligned[name].shape)))
            self.assertEqual(row["action"], entry["action"])
            if not matrix:
                self.assertEqual(float(row["svd_seconds"]), entry["seconds"]["svd"])
            if entry["action"] == "copied":
                self.assertEqual(row["delta_norm"], "0" if "delta_norm" in entry else "", name)
                continue
            self.assertEqual((row["method"], row["where"]), (entry["method"], entry["where"]))
            for field in ("k", "certificate", "orthogonality", "iterations", "delta_norm", "energy", "edit_norm",
                          "realised", "changed"):
                self.assertEqual(float(row[field]), entry[field], (name, field))
            self.assertEqual(float(row["missed_epsilon"]), entry["missed"]["epsilon"])
            self.assertEqual(row["settled"], str(entry["settled"]).lower())
            self.assertEqual([float(row[f"s_{i}"]) for i in range(1, 7) if row[f"s_{i}"]], entry["sigma"], name)

    def test_several(self):
        self.report("--include", "krylov")
        path = "out.safetensors.report.json"
        shutil.copy(self.directory / path, self.directory / "again, and.json")
        out = self.lox("report", path, "again, and.json").out
        self.assertTrue(out.startswith(f"{path}:\n"))
        self.assertIn("\n\nagain, and.json:\n", out)
        rows = list(csv.DictReader(io.StringIO(self.lox("report", path, "again, and.json", "--csv").out)))
        self.assertEqual([row["file"] for row in rows],
                         [path] * len(self.aligned) + ["again, and.json"] * len(self.aligned))

    def test_finds_the_report_of_a_model(self):
        for output in ("out", "out.h5", "out.safetensors"):
            with self.subTest(output=output):
                self.lox("harden", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output", output,
                         "--quiet")
                beside = self.directory / f"{output}.report.json"
                shown = self.lox("report", beside).out
                self.assertEqual(self.lox("report", output).out, shown)
                if output == "out":
                    self.assertEqual((self.directory / "out" / "lox_report.json").read_bytes(), beside.read_bytes())
                    beside.unlink()
                    (self.directory / "out").rename(self.directory / "moved")
                    self.assertEqual(self.lox("report", "moved/").out, shown)
                    (self.directory / "moved" / "lox_report.json").rename(self.directory / "moved.report.json")
                    self.assertEqual(self.lox("report", "moved").out, shown)
                    (self.directory / "moved.report.json").rename(beside)
                    output = "moved"
                beside.unlink()
                result = self.lox("report", output, code=3)
                self.assertRegex(result.err, rf"\Alox: error: {output}: has no report: .*{output}.report.json.* not? ?there.*\n\Z"
                                 if output != "moved" else r"\Alox: error: moved: has no report: neither .*\n\Z")
        self.assertIn("no such file", self.lox("report", "nowhere", code=3).err)

    def test_the_report_is_no_part_of_the_model(self):
        """It is not handed on to models made of this one, and verify takes no offence."""
        pair = ("--base", "base.safetensors", "--aligned", "aligned.safetensors")
        self.lox("harden", *pair, "--output", "once", "--quiet")
        self.lox("verify", *pair, "--hardened", "once", "--sample", "2")
        self.lox("harden", "--base", "base.safetensors", "--aligned", "once", "--output", "twice", "--quiet")
        self.assertEqual(json.loads((self.directory / "twice" / "lox_report.json").read_text())["job"]["aligned"], "once")
        self.lox("convert", "once", "copy", "--quiet")
        self.assertFalse((self.directory / "copy" / "lox_report.json").exists())
        self.assertIn("finished already", self.lox("harden", *pair, "--output", "once").err)
        self.assertIn("finished", self.lox("status", "once").out)

    def test_bad_words(self):
        self.assertIn("--tensors", self.lox("report", "x", "--tensors", "--csv", code=2).err)
        self.assertIn("FILE is missing", self.lox("report", code=2).err)
        (self.directory / "some.json").write_text("{}")
        self.assertIn("is not a report", self.lox("report", "some.json", code=3).err)


if __name__ == "__main__":
    unittest.main()
