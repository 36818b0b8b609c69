# SPDX-License-Identifier: MIT
"""`lox verify` takes what was asked of a job from its report or its job file, and says how far it is."""
import json
import re
import unittest

from program import LoxTest, run

USAGE, BAD_INPUT, NOT_CERTIFIED = 2, 3, 4


class VerifyWords(LoxTest):
    def setUp(self):
        super().setUp()
        for role in ("base", "aligned"):
            self.lox("synth", role, "--shape", "tiny", "--layers", 1, "--role", role, "--quiet")
        (self.directory / "job.ini").write_text(
            "base = base\naligned = aligned\noutput = out\nk = 3\ncoef = 0.75\nexclude = embed_tokens\nexclude = lm_head\nsvd = exact\n")

    def test_of_harden(self):
        self.lox("harden", "--quiet", "--config", "job.ini")
        for source in (("--report", "out.report.json"), ("--config", "job.ini")):
            with self.subTest(source=source):
                self.assertIn("verified", self.lox("verify", *source, "--sample", 0).err)
                self.assertIn("verified", self.lox("verify", *source, "--sample", 0, ranks=2).err)
                for wrong in (("--k", 4), ("--coef", 1), ("--exclude", "embed_tokens")):
                    self.lox("verify", *source, *wrong, "--sample", 0, code=NOT_CERTIFIED)
                plan = json.loads(self.lox("plan", "verify", *source, "--json").out)
                self.assertGreater(plan["totals"]["bytes_read"], 0)
        (self.directory / "out").rename(self.directory / "moved")
        self.lox("verify", "--report", "out.report.json", "--hardened", "moved")
        self.assertIn("one of them", self.lox("verify", "--report", "out.report.json", "--config", "job.ini", code=USAGE).err)

    def test_of_factor_and_apply(self):
        (self.directory / "factor.ini").write_text("base = base\naligned = aligned\noutput = store\nk = 4\nexclude = lm_head\n")
        self.lox("factor", "--quiet", "--config", "factor.ini")
        self.assertIn("verified", self.lox("verify", "--report", "store.report.json").err)
        (self.directory / "apply.ini").write_text("aligned = aligned\nfactors = store\noutput = m-{k}-{coef}\ncoef = 0.50\nk = 2\n")
        self.lox("apply", "--quiet", "--config", "apply.ini")
        self.assertIn("verified", self.lox("verify", "--report", "m-2-0.5.report.json", "--sample", 0).err)
        self.assertIn("verified", self.lox("verify", "--config", "apply.ini", "--sample", 0).err)
        self.lox("verify", "--config", "apply.ini", "--coef", 0.75, "--sample", 0, code=NOT_CERTIFIED)
        (self.directory / "apply.ini").write_text("aligned = aligned\nfactors = store\noutput = m-{coef}\ncoef = 0.5,1\n")
        self.assertIn("several models", self.lox("verify", "--config", "apply.ini", code=USAGE).err)

    def test_from_another_folder(self):
        """Paths of a report are of the folder in which the job ran."""
        self.lox("harden", "--quiet", "--config", "job.ini")
        elsewhere = self.directory / "elsewhere"
        elsewhere.mkdir()
        for report in ("../out.report.json", "../out", self.directory / "out"):
            done = run("verify", "--report", report, "--sample", 1, directory=elsewhere)
            self.assertEqual(done.code, 0, done.err)
            self.assertIn("verified", done.err)

    def test_a_model_is_checked_where_it_lies(self):
        self.lox("harden", "--quiet", "--config", "job.ini")
        (self.directory / "out").rename(self.directory / "moved")
        self.assertIn("verified", self.lox("verify", "--report", "moved", "--sample", 1).err)
        shard = next((self.directory / "moved").glob("*.safetensors"))
        data = bytearray(shard.read_bytes())
        data[-3] ^= 0x40
        shard.write_bytes(data)
        self.lox("verify", "--report", "moved", "--sample", 0, code=NOT_CERTIFIED)
        self.lox("convert", "--quiet", "base", "x.h5")
        self.assertIn("has no report", self.lox("verify", "--report", "x.h5", code=BAD_INPUT).err)

    def test_a_job_file_of_factor(self):
        (self.directory / "factor.ini").write_text("base = base\naligned = aligned\noutput = store\nk = 4\n")
        for output in ("store", "store.h5", "store.safetensors"):
            self.lox("factor", "--quiet", "--config", "factor.ini", "--output", output)
            said = self.lox("verify", "--config", "factor.ini", "--hardened", output, code=BAD_INPUT)
            self.assertEqual(len(said.lines), 1)
            self.assertIn("is a store of factors", said.err)

    def test_what_is_no_report(self):
        (self.directory / "r.json").write_text("{}")
        self.assertIn("not a report", self.lox("verify", "--report", "r.json", code=BAD_INPUT).err)
        self.assertIn("no such file", self.lox("verify", "--report", "nowhere.json", code=BAD_INPUT).err)
        self.assertIn("cannot open", self.lox("verify", "--config", "nowhere.ini", code=BAD_INPUT).err)

    def test_progress(self):
        """What will be done and about how long, then what was."""
        self.lox("harden", "--quiet", "--config", "job.ini")
        for ranks in (0, 2):
            said = self.lox("verify", "--report", "out.report.json", "--sample", 3, ranks=ranks).err
            checked, tensors, files = map(int, re.search(r"checking (\d+) matrices, comparing (\d+) tensors? and (\d+) files?: about \S", said).groups())
            self.assertEqual(checked, 3)
            total = checked + tensors + files
            self.assertIn(f"100%  {total}/{total} tensors", said)
        self.assertEqual(self.lox("verify", "--report", "out.report.json", "--quiet").err, "")


if __name__ == "__main__":
    unittest.main()
