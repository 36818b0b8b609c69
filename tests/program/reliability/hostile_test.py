# SPDX-License-Identifier: MIT
"""Names and paths in files that nobody vouches for: nothing is written outside the output, nothing odd breaks a run."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import unittest
from pathlib import Path

import h5py
import numpy as np

import checkpoint
import reference
from jobs import BAD_INPUT, SLOW, USAGE, Job, JobTest, is_alive, process_table, wait_for
from program import LOX, LoxTest, run

OUTSIDE = ("../evil", "/evil-of-lox", "a/../../evil", "a/./b", "a//b", "", ".", "..", "a/", "x" * 300,
           "a\nb/../../evil")


class Paths(JobTest):
    MATRICES = 1

    def everything(self):
        return {path: path.read_bytes() if path.is_file() else None for path in self.directory.rglob("*")}

    def refused(self, *arguments, names=()):
        """Exit code 3, one line, and not a byte anywhere."""
        before = self.everything()
        said = self.lox(*arguments, code=BAD_INPUT).err
        self.assertEqual(len(said.splitlines()), 1, said)
        for name in names:
            self.assertIn(name, said)
        self.assertTrue(self.everything() == before, "something was written")
        self.assertFalse(Path("/evil-of-lox").exists())

    def test_index(self):
        for shard in ("../base/model-00001-of-00002.safetensors", "/etc/x.safetensors", "a\\b.safetensors",
                      "config.json",
                      "./model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors\0", ".safetensors/../x"):
            with self.subTest(shard=shard):
                path = self.directory / "aligned" / checkpoint.INDEX
                index = json.loads((self.models / "aligned" / checkpoint.INDEX).read_text())
                index["weight_map"]["experts"] = shard
                path.write_text(json.dumps(index))
                self.refused(*self.arguments(), names=[checkpoint.INDEX])

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = run("convert", "aligned", "aligned.h5", directory=cls.models)
        assert made.code == 0, made.err

    def hdf5(self, change):
        """aligned.h5 as lox writes it, changed."""
        shutil.copy(self.models / "aligned.h5", self.directory)
        with h5py.File(self.directory / "aligned.h5", "a") as file:
            change(file)

    def refused_everywhere(self):
        self.refused("convert", "aligned.h5", "back")
        self.refused("harden", "--base", "base", "--aligned", "aligned.h5", "--output", "out")

    def test_files_in_hdf5(self):
        for name in OUTSIDE:
            with self.subTest(name=name):
                def change(file, name=name):
                    data = file["files"].create_dataset("evil", data=np.frombuffer(b"evil", np.uint8))
                    data.attrs.create("name", np.bytes_(name) if name else np.bytes_(b"\0"))
                self.hdf5(change)
                self.refused_everywhere()

    def test_layout_in_hdf5(self):
        for name in OUTSIDE + ("sub/model.safetensors", "evil\0.safetensors"):
            with self.subTest(name=name):
                def change(file, name=name):
                    layout = json.loads(file["layout"][()].tobytes())
                    layout["shards"][0]["name"] = name
                    del file["layout"]
                    file["layout"] = np.frombuffer(json.dumps(layout).encode(), np.uint8)
                self.hdf5(change)
                self.refused_everywhere()

    def test_links_in_hdf5(self):
        def external(file):
            file["tensors/evil"] = h5py.ExternalLink("/etc/passwd", "/x")

        def soft(file):
            file["files/evil"] = h5py.SoftLink("/tensors/experts")
        for change in (external, soft):
            with self.subTest(change=change.__name__):
                self.hdf5(change)
                self.refused_everywhere()

    def test_links_where_the_output_goes(self):
        """A link in the place of an output, or of what it grows in, is not followed."""
        (self.directory / "elsewhere").mkdir()
        (self.directory / "elsewhere" / "model.safetensors").write_bytes(b"keep")
        for place in ("out", "out.partial", "out.h5", "out.h5.partial"):
            for target in ("elsewhere", "elsewhere/nothing", "elsewhere/model.safetensors"):
                with self.subTest(place=place, target=target):
                    link = self.directory / place
                    link.symlink_to(target)
                    self.refused(*self.arguments(place.removesuffix(".partial")))
                    self.lox(*self.arguments(place.removesuffix(".partial"), "--overwrite"), code=None)
                    self.assertEqual((self.directory / "elsewhere" / "model.safetensors").read_bytes(), b"keep")
                    self.assertEqual(len(list((self.directory / "elsewhere").iterdir())), 1)
                    for path in self.directory.glob("out*"):
                        self.remove(path)

    @staticmethod
    def remove(path):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def test_link_out_of_an_unfinished_output(self):
        """Between two runs a file of the partial is replaced by a link: what it leads to is not written."""
        for output in ("out", "out.h5"):
            with self.subTest(output=output):
                self.start(output=output, fault="item:0:1:kill").wait()
                partial = self.directory / f"{output}.partial"
                path = next(partial.glob("*.safetensors")) if partial.is_dir() else partial
                victim = self.directory / f"victim-{output}"
                path.rename(victim)
                path.symlink_to(victim)
                before = victim.read_bytes()
                self.lox(*self.arguments(output), code=None)
                self.assertTrue(victim.read_bytes() == before, "written through a link out of the output")

    def lox(self, *arguments, code=0, **options):
        """As usual; with code None any exit code will do."""
        if code is not None:
            return super().lox(*arguments, code=code, **options)
        return run(*arguments, directory=self.directory, **options)

    def test_links_of_a_download_cache(self):
        """The Hugging Face cache holds links to blobs: they are followed, the output holds files."""
        blobs = self.directory / "blobs"
        for model in ("base", "aligned"):
            for i, path in enumerate(sorted((self.directory / model).iterdir())):
                blobs.mkdir(exist_ok=True)
                path.rename(blobs / f"{model}{i}")
                path.symlink_to(f"../blobs/{model}{i}")
        self.resume(ranks=2)
        self.assertFalse(any(path.is_symlink() for path in (self.directory / "out").rglob("*")))

    def test_link_to_a_secret(self):
        """What a link out of the model leads to gets into no output; shards may lie elsewhere."""
        (self.directory / "secret").write_text("key")
        (self.directory / "aligned" / "notes.txt").symlink_to("../secret")
        for words in (self.arguments(), ("convert", "aligned", "c.h5")):
            self.refused(*words, names=("notes.txt: a link that leads out of the model, to ",))
        (self.directory / "aligned" / "notes.txt").unlink()
        shard = next((self.directory / "aligned").glob("*.safetensors"))
        shard.rename(self.directory / "elsewhere")
        shard.symlink_to("../elsewhere")
        self.resume()


class Reader(LoxTest):
    """The process that reads an HDF5 file's structure."""

    def write(self, datasets):
        path = self.directory / "model.h5"
        with h5py.File(path, "w") as file:
            for i in range(datasets):
                file[f"w{i}"] = np.zeros((2, 2), np.float32)
        return path

    @staticmethod
    def reader_of(pid, path):
        """The child of this process that has the file open."""
        for child, (parent, _) in process_table().items():
            with contextlib.suppress(OSError):
                if parent == pid and any(os.readlink(link) == str(path) for link in Path(f"/proc/{child}/fd").iterdir()):
                    return child
        return None

    def test_dies_with_lox(self):
        path = self.write(5000)
        lox = subprocess.Popen([LOX, "inspect", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lox.wait)
        self.addCleanup(lox.kill)
        reader = wait_for(lambda: self.reader_of(lox.pid, path), "the reader to open the file")
        os.kill(reader, signal.SIGSTOP)  # it would be done soon
        self.assertIsNone(lox.poll())
        lox.kill()
        wait_for(lambda: not is_alive(reader), "the reader's end", seconds=2)

    def test_size_that_is_only_apparent(self):
        """A small file made 1 TB long gets no more time or memory than a small one."""
        path = self.write(3)
        os.truncate(path, 1 << 40)
        began = time.monotonic()
        said = run("inspect", path)
        self.assertIn(said.code, (0, BAD_INPUT), said.err)
        self.assertLessEqual(len(said.err.splitlines()), 1, said.err)
        self.assertLess(time.monotonic() - began, 10)


class Names(JobTest):
    MATRICES = 1
    # What a name may be: anything that is UTF-8 without NUL.
    ODD = ("new\nline", "tab\t\r\x1b[31m\x7f", "a/b/../c", "../../evil", "/abs", ".", "..", "", "%2F",
           "\u2028\ufeff\U0001f600",
           '"quoted"\\', "x" * 3000, "' OR 1", "$(touch evil)")

    def pair(self, names):
        rng = np.random.default_rng(7)
        pairs = {name: reference.random_pair(rng, (24, 32)) for name in names}
        for side, model in enumerate(("odd-base", "odd-aligned")):
            checkpoint.write_directory(self.directory / model,
                                       {"model.safetensors": {n: p[side] for n, p in pairs.items()}}, index=False)

    def test_odd_names_survive_kill_and_resume(self):
        self.pair(self.ODD)
        words = ("harden", "--base", "odd-base", "--aligned", "odd-aligned")
        for output in ("odd", "odd.h5"):
            Job(self.directory, *words, "--output", output, fault=f"{SLOW},item:0:5:kill").wait()
            self.assertGreater(len(self.journal(output)), 1)
            said = self.lox(*words, "--output", output, ranks=2).err
            self.assertNotIn("\x1b", said)
        self.lox("convert", "odd.h5", "back")
        self.assertEqual(checkpoint.tree(self.directory / "back"), checkpoint.tree(self.directory / "odd"))
        report = json.loads((self.directory / "odd.report.json").read_text())
        self.assertEqual({tensor["name"] for tensor in report["tensors"]}, set(self.ODD))
        self.assertFalse(any(path.name.startswith("evil") for path in self.directory.rglob("*")))

    def test_refused_names(self):
        """NUL and what is not UTF-8: in a header, an index, and HDF5."""
        self.pair(["w"])
        path = self.directory / "odd-aligned" / "model.safetensors"
        header, data = checkpoint.split(path.read_bytes())
        for name in (b"\\u0000", b"a\\u0000b", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\\ud800", b"\x00"):
            with self.subTest(name=name):
                path.write_bytes(checkpoint.frame(header.replace(b'"w"', b'"' + name + b'"'), data))
                said = self.lox("harden", "--base", "odd-base", "--aligned", "odd-aligned", "--output", "odd",
                                code=BAD_INPUT).err
                self.assertEqual(len(said.splitlines()), 1)
                self.assertFalse((self.directory / "odd.partial").exists())
        with h5py.File(self.directory / "names.h5", "w") as file:
            data = h5py.h5d.create(file.id, b"\xff\xfe", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4, 4)))
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones((4, 4), np.float32))
        self.assertIn("not UTF-8", self.lox("inspect", "names.h5", code=BAD_INPUT).err)

    def test_paths_that_are_not_utf8(self):
        """A path is bytes: models and outputs may lie in folders of any name."""
        folder = os.fsencode(self.directory) + b"/\xff\xfe\n"
        os.mkdir(folder)
        for model in (b"base", b"aligned"):
            os.rename(os.fsencode(self.directory) + b"/" + model, folder + b"/" + model)
        here = os.fsdecode(folder)
        for ranks in (0, 2):
            made = run("harden", "--base", f"{here}/base", "--aligned", f"{here}/aligned", "--output", f"{here}/out",
                       "--overwrite", ranks=ranks)
            self.assertEqual(made.code, 0, made.err)
            self.assertTrue(checkpoint.tree(f"{here}/out") == self.expected["out"])

    def test_other_file_that_is_not_utf8(self):
        """HDF5 and JSON hold characters: such a file is refused before anything is done."""
        with open(os.fsencode(self.directory / "aligned") + b"/\xff.txt", "wb"):
            pass
        said = self.lox(*self.arguments(), code=BAD_INPUT).err
        self.assertIn("not UTF-8", said)
        self.assertEqual(self.leftovers(), [])


class Words(JobTest):
    MATRICES = 1

    def test_placeholders_of_boost(self):
        """Boost puts a bad value into its message, and again if the value names a placeholder of the message."""
        for word in ("--k=%value%", "--%canonical_option%=1", "--seed=%value%%option%"):
            with self.subTest(word=word):
                self.assertIn("lox: error: ", self.lox("harden", word, code=USAGE, timeout=20).err)
        for line in ("%invalid_line%", "k = %value%", "%canonical_option% = 1"):
            with self.subTest(line=line):
                (self.directory / "job.ini").write_text(line + "\n")
                self.assertIn("job.ini", self.lox("harden", "--config", "job.ini", code=USAGE, timeout=20).err)


if __name__ == "__main__":
    unittest.main()
