# SPDX-License-Identifier: MIT
"""Bad input gives the right exit code and one line that names file, tensor and fact; nothing is left behind.

Every case changes a fresh copy of a small good pair (or gives other options) and hardens it. All cases run at once, on
a few threads, before the first is judged.
"""
import json
import os
import resource
import shutil
import struct
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

import checkpoint
import reference
from checkpoint import INDEX, Tensor
from program import LOX, run

USAGE, BAD_INPUT, NOT_CERTIFIED, IO = 2, 3, 4, 5
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def harden_with(base="base", aligned="aligned", output="out"):
    return ("harden", "--quiet", "--base", base, "--aligned", aligned, "--output", output)


HARDEN = harden_with()

CASES = {}


def case(*says, code=BAD_INPUT, ranks=0, arguments=HARDEN, more=(), **options):
    """Registers a function that spoils the pair in a directory. `says`: what the error line must contain."""
    def register(spoil):
        CASES[spoil.__name__] = (spoil, says, code, ranks, (*arguments, *more), options)
        return spoil
    return register


def make_pair(directory):
    """Four tensors in two shards with an index, as base and aligned."""
    rng = np.random.default_rng(2)
    shapes = {SHARDS[0]: {"a.weight": (24, 16), "a.bias": (16,)},
              SHARDS[1]: {"b.weight": (16, 24), "c.weight": (2, 8, 8)}}
    pairs = {shard: {n: reference.random_pair(rng, s) for n, s in tensors.items()} for shard, tensors in shapes.items()}
    for i, side in enumerate(("base", "aligned")):
        shards = {shard: {n: pair[i] for n, pair in tensors.items()} for shard, tensors in pairs.items()}
        checkpoint.write_directory(directory / side, shards, files={"config.json": b"{}"})


def edit_tensors(path, change):
    """Rewrites a shard after change(tensors)."""
    tensors = checkpoint.decode(path.read_bytes())[0]
    change(tensors)
    path.write_bytes(checkpoint.encode(tensors))


def edit_header(path, change):
    """Rewrites a shard's header after change(header as dict), data as it is."""
    header, data = checkpoint.split(path.read_bytes())
    header = json.loads(header)
    change(header)
    path.write_bytes(checkpoint.frame(json.dumps(header).encode(), data))


def edit_index(path, change):
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


# ---- paths

@case("nowhere", "no such", arguments=harden_with(base="nowhere"))
def missing_base(_):
    pass


@case("nowhere", "no such", ranks=2, arguments=harden_with(aligned="nowhere"))
def missing_aligned_with_2_ranks(_):
    pass


@case("aligned", "no *.safetensors")
def empty_directory(directory):
    shutil.rmtree(directory / "aligned")
    (directory / "aligned").mkdir()


@case("aligned", "no *.safetensors")
def other_weights_only(directory):
    shutil.rmtree(directory / "aligned")
    (directory / "aligned").mkdir()
    (directory / "aligned" / "pytorch_model.bin").write_bytes(b"PK")


@case("out", "exists")
def output_exists(directory):
    (directory / "out").mkdir()
    (directory / "out" / "mine.txt").write_text("keep")


@case("out", "exists", ranks=2)
def output_exists_with_2_ranks(directory):
    (directory / "out").write_text("keep")


@case("out", "--overwrite", more=("--overwrite",))
def overwrite_spares_what_is_no_model(directory):
    (directory / "out").mkdir()
    (directory / "out" / "thesis.tex").write_text("keep")


@case("aligned/out", "inside", arguments=harden_with(output="aligned/out"))
def output_inside_an_input(_):
    pass


@case("base", "same", arguments=harden_with(output="base"),
      more=("--overwrite",))
def output_is_an_input(_):
    pass


@case("models", "inside", arguments=harden_with(base="models/base", output="models"),
      more=("--overwrite",))
def output_around_an_input(directory):
    (directory / "models").mkdir()
    shutil.move(directory / "base", directory / "models")


@case("link/out", "inside", arguments=harden_with(output="link/out"))
def output_inside_an_input_by_a_link(directory):
    (directory / "link").symlink_to("aligned")


@case("deep/out", "does not exist", arguments=harden_with(output="deep/out"))
def output_in_no_directory(_):
    pass


# ---- safetensors files

@case("model-00002-of-00002.safetensors", "cut short")
def truncated_data(directory):
    path = directory / "aligned" / SHARDS[1]
    path.write_bytes(path.read_bytes()[:-1])


@case("model-00002-of-00002.safetensors", "added at its end")
def extra_data(directory):
    with open(directory / "aligned" / SHARDS[1], "ab") as file:
        file.write(b"x")


@case("model-00001-of-00002.safetensors", "too few")
def shorter_than_a_length(directory):
    (directory / "base" / SHARDS[0]).write_bytes(b"\x01\x00")


@case("model-00001-of-00002.safetensors", "too few")
def empty_file(directory):
    (directory / "base" / SHARDS[0]).write_bytes(b"")


@case("model-00001-of-00002.safetensors", "cut short")
def header_beyond_the_file(directory):
    path = directory / "base" / SHARDS[0]
    path.write_bytes(struct.pack("<Q", 100_000) + path.read_bytes()[8:])


@case("model-00001-of-00002.safetensors", "100000001", "100000000")
def header_above_100_mb(directory):
    path = directory / "base" / SHARDS[0]
    path.write_bytes(struct.pack("<Q", 100_000_001) + path.read_bytes()[8:])


@case("model-00001-of-00002.safetensors", "18446744073709551615", ranks=2)
def largest_header_length_with_2_ranks(directory):
    path = directory / "base" / SHARDS[0]
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


@case("model-00001-of-00002.safetensors", "JSON")
def header_is_not_json(directory):
    (directory / "aligned" / SHARDS[0]).write_bytes(checkpoint.frame(b'{"a.weight": {"dtype": '))


@case("model-00001-of-00002.safetensors", "not a JSON object")
def header_is_a_list(directory):
    (directory / "aligned" / SHARDS[0]).write_bytes(checkpoint.frame(b"[1, 2]"))


@case("model-00001-of-00002.safetensors", "JSON")
def header_is_not_utf8(directory):
    (directory / "aligned" / SHARDS[0]).write_bytes(checkpoint.frame(b'{"\xff\xfe": 1}'))


@case("model-00001-of-00002.safetensors", "deep")
def header_is_nested_deep(directory):
    (directory / "aligned" / SHARDS[0]).write_bytes(checkpoint.frame(b'{"a":' * 100_000))


@case("model-00001-of-00002.safetensors", "a.weight", "twice")
def duplicate_name_in_a_header(directory):
    path = directory / "aligned" / SHARDS[0]
    header, data = checkpoint.split(path.read_bytes())
    header = header.replace(b'"a.bias"', b'"a.weight"')
    path.write_bytes(checkpoint.frame(header, data))


@case("model-00002-of-00002.safetensors", "a.weight", "also in")
def duplicate_name_in_two_shards(directory):
    (directory / "aligned" / INDEX).unlink()
    edit_tensors(directory / "aligned" / SHARDS[1],
                 lambda tensors: tensors.update({"a.weight": Tensor("BF16", np.zeros((2, 2)))}))


@case("model-00001-of-00002.safetensors", "a.bias", "overlap")
def overlapping_extents(directory):
    def change(header):
        header["a.bias"]["data_offsets"] = [offset - 4 for offset in header["a.bias"]["data_offsets"]]
    edit_header(directory / "aligned" / SHARDS[0], change)


@case("model-00001-of-00002.safetensors", "a.bias", "hole")
def gap_between_extents(directory):
    def change(header):
        header["a.bias"]["data_offsets"] = [offset + 4 for offset in header["a.bias"]["data_offsets"]]
    edit_header(directory / "aligned" / SHARDS[0], change)


@case("model-00001-of-00002.safetensors", "a.weight", "768", "800")
def shape_does_not_match_the_extent(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header["a.weight"].update(shape=[25, 16]))


@case("model-00001-of-00002.safetensors", "a.weight", "1536")
def dtype_does_not_match_the_extent(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header["a.weight"].update(dtype="F32"))


@case("model-00001-of-00002.safetensors", "a.weight", "too large")
def shape_overflows(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header["a.weight"].update(shape=[2**40, 2**40]))


@case("model-00001-of-00002.safetensors", "a.weight", "shape")
def shape_is_negative(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header["a.weight"].update(shape=[-24, -16]))


@case("model-00001-of-00002.safetensors", "a.weight", "F9")
def unknown_dtype(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header["a.weight"].update(dtype="F9"))


@case("model-00001-of-00002.safetensors", "a.weight", "before it begins")
def extent_ends_before_it_begins(directory):
    edit_header(directory / "aligned" / SHARDS[0],
                lambda header: header["a.weight"]["data_offsets"].reverse())


@case("model-00001-of-00002.safetensors", "a.weight", "data_offsets")
def no_extent(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header["a.weight"].pop("data_offsets"))


@case("model-00001-of-00002.safetensors", "__metadata__")
def metadata_of_numbers(directory):
    edit_header(directory / "aligned" / SHARDS[0], lambda header: header.update({"__metadata__": {"a": 1}}))


# ---- the index

@case(INDEX, SHARDS[1], "missing")
def index_names_a_missing_shard(directory):
    (directory / "aligned" / SHARDS[1]).unlink()


@case(INDEX, "ghost", "does not hold it")
def index_names_a_tensor_that_is_not_in_the_shard(directory):
    edit_index(directory / "aligned" / INDEX, lambda weight_map: weight_map.update(ghost=SHARDS[0]))


@case(INDEX, "b.weight", SHARDS[0], SHARDS[1])
def index_names_the_wrong_shard(directory):
    edit_index(directory / "aligned" / INDEX, lambda weight_map: weight_map.update({"b.weight": SHARDS[0]}))


@case(INDEX, "b.weight", "does not name")
def index_misses_a_tensor(directory):
    edit_index(directory / "aligned" / INDEX, lambda weight_map: weight_map.pop("b.weight"))


@case(INDEX, "../base")
def index_leaves_the_directory(directory):
    edit_index(directory / "aligned" / INDEX,
               lambda weight_map: weight_map.update({"b.weight": f"../base/{SHARDS[1]}"}))


@case(INDEX, "JSON")
def index_is_not_json(directory):
    (directory / "aligned" / INDEX).write_text("{")


@case("stale.safetensors", "stale")
def shard_that_the_index_does_not_name(directory):
    shutil.copy(directory / "aligned" / SHARDS[0], directory / "aligned" / "stale.safetensors")


# ---- HDF5

def as_hdf5(directory, side="aligned"):
    tensors = checkpoint.read(directory / side)
    shutil.rmtree(directory / side)
    with h5py.File(directory / f"{side}.h5", "w") as file:
        for name, tensor in tensors.items():
            file[name] = tensor.values
    return directory / f"{side}.h5"


HARDEN_H5 = harden_with(aligned="aligned.h5", output="out.h5")


@case("aligned.h5", arguments=HARDEN_H5)
def hdf5_that_is_none(directory):
    (directory / "aligned.h5").write_text("not HDF5")


@case("aligned.h5", arguments=HARDEN_H5)
def hdf5_cut_short(directory):
    path = as_hdf5(directory)
    path.write_bytes(path.read_bytes()[:-100])


@case("aligned.h5", arguments=HARDEN_H5)
def hdf5_without_tensors(directory):
    with h5py.File(directory / "aligned.h5", "w") as file:
        file.create_group("tensors")


@case("aligned.h5", "a.weight", "link", arguments=HARDEN_H5)
def hdf5_with_an_external_link(directory):
    with h5py.File(as_hdf5(directory), "a") as file:
        del file["a.weight"]
        file["a.weight"] = h5py.ExternalLink("base.h5", "/a.weight")


@case("aligned.h5", "words", arguments=HARDEN_H5)
def hdf5_with_texts(directory):
    with h5py.File(as_hdf5(directory), "a") as file:
        file["words"] = np.array([b"a", b"bc"])


# ---- pairs that do not fit

@case("aligned", "extra.weight", "base")
def tensor_in_aligned_only(directory):
    (directory / "aligned" / INDEX).unlink()
    edit_tensors(directory / "aligned" / SHARDS[1],
                 lambda tensors: tensors.update({"extra.weight": Tensor("BF16", np.zeros((2, 2)))}))


@case("base", "extra.weight", "aligned", ranks=2)
def tensor_in_base_only_with_2_ranks(directory):
    (directory / "base" / INDEX).unlink()
    edit_tensors(directory / "base" / SHARDS[1],
                 lambda tensors: tensors.update({"extra.weight": Tensor("BF16", np.zeros((2, 2)))}))


@case("a.weight", "[24, 16]", "[16, 24]")
def shapes_differ(directory):
    edit_header(directory / "base" / SHARDS[0], lambda header: header["a.weight"].update(shape=[16, 24]))


@case("a.weight", "vocabulary")
def vocabulary_was_extended(directory):
    edit_tensors(directory / "base" / SHARDS[0],
                 lambda tensors: tensors.update({"a.weight": Tensor("BF16", np.zeros((20, 16)))}))


@case("a.weight", "BF16", "I16")
def dtypes_differ(directory):
    edit_header(directory / "base" / SHARDS[0], lambda header: header["a.weight"].update(dtype="I16"))


@case("a.weight", "F8_E4M3", "quantised")
def quantised_tensor(directory):
    for side in ("base", "aligned"):
        edit_tensors(directory / side / SHARDS[0],
                     lambda tensors: tensors.update({"a.weight": Tensor("F8_E4M3", np.zeros((24, 16)))}))


@case("config.json", "quantization_config")
def quantised_model(directory):
    (directory / "aligned" / "config.json").write_text('{"quantization_config": {"bits": 4}}')


def put(directory, side, name, index, bits):
    shard = next(s for s in SHARDS if name in checkpoint.read(directory / side / s))

    def change(tensors):
        stored = tensors[name].stored.copy()
        stored.flat[index] = bits
        tensors[name] = Tensor("BF16", stored)
    edit_tensors(directory / side / shard, change)


@case("a.weight", "aligned", "NaN", "index 37")
def nan_in_aligned(directory):
    put(directory, "aligned", "a.weight", 37, 0x7FC0)


@case("b.weight", "base", "NaN", "index 383", ranks=2)
def nan_in_base_with_2_ranks(directory):
    put(directory, "base", "b.weight", 383, 0xFFC1)


@case("b.weight", "base", "Inf", "index 0")
def infinity_in_base(directory):
    put(directory, "base", "b.weight", 0, 0x7F80)


@case("c.weight", "aligned", "Inf", "index 100", ranks=2)
def infinity_in_a_batch_with_2_ranks(directory):
    put(directory, "aligned", "c.weight", 100, 0xFF80)


@case("a.weight", "Inf", "index 5")
def infinities_that_cancel(directory):
    for side in ("base", "aligned"):
        put(directory, side, "a.weight", 5, 0x7F80)


@case("a.weight", "aligned", "NaN", "index 37", more=("--k", "0"))
def nan_with_full_rank(directory):
    put(directory, "aligned", "a.weight", 37, 0x7FC0)


@case("a.weight", "overflows")
def difference_overflows(directory):
    put(directory, "aligned", "a.weight", 3, 0x7F7F)
    put(directory, "base", "a.weight", 3, 0xFF7F)


@case("a.weight", "leaves the range of BF16", more=("--coef", "3"))
def edit_overflows(directory):
    put(directory, "aligned", "a.weight", 3, 0x7F7F)


@case("no tensor is left", more=("--include", "^nothing$"))
def nothing_to_edit(_):
    pass


# ---- options

@case("--bogus", code=USAGE, more=("--bogus",))
def unknown_option(_):
    pass


@case("--bogus", code=USAGE, more=("--bogus", "1"), ranks=2)
def unknown_option_with_2_ranks(_):
    pass


@case("--cof", code=USAGE, more=("--cof", "1"))
def misspelt_option(_):
    pass


@case("positional", code=USAGE, more=("stray",))
def stray_word(_):
    pass


@case("--include", "[", code=USAGE, more=("--include", "["))
def bad_regex(_):
    pass


@case("--exclude", "(", code=USAGE, more=("--exclude", "("), ranks=2)
def bad_regex_with_2_ranks(_):
    pass


@case("--include", "1000 times", code=USAGE, more=("--include", "(q){1,77777777777777777777}"))
def endless_repeat(_):
    pass


@case("--k", "-1", code=USAGE, more=("--k=-1",))
def negative_k(_):
    pass


@case("k", "six", code=USAGE, more=("--k", "six"))
def k_is_no_number(_):
    pass


@case("--coef", "-1", code=USAGE, more=("--coef=-1",))
def negative_coef(_):
    pass


@case("--coef", "nan", code=USAGE, more=("--coef", "nan"))
def coef_is_nan(_):
    pass


@case("--coef", "inf", code=USAGE, more=("--coef", "inf"))
def coef_is_infinite(_):
    pass


@case("--svd", "magic", code=USAGE, more=("--svd", "magic"))
def unknown_method(_):
    pass


@case("--tolerance", "0", code=USAGE, more=("--tolerance", "0"))
def tolerance_is_zero(_):
    pass


@case("--memory", "lots", code=USAGE, more=("--memory", "lots"))
def memory_is_no_size(_):
    pass


@case("--base", "missing", code=USAGE, arguments=("harden", "--aligned", "aligned", "--output", "out"))
def no_base(_):
    pass


@case("--output", "missing", code=USAGE, arguments=("harden", "--base", "base", "--aligned", "aligned"))
def no_output(_):
    pass


@case("job.ini", "rank", code=USAGE, more=("--config", "job.ini"))
def unknown_key_in_the_job_file(directory):
    (directory / "job.ini").write_text("k = 6\nrank = 4\n")


@case("job.ini", code=BAD_INPUT, more=("--config", "job.ini"))
def missing_job_file(_):
    pass


@case("job.ini", code=BAD_INPUT, more=("--config", "job.ini"), ranks=2)
def missing_job_file_with_2_ranks(_):
    pass


@case("residual", "tolerance", code=NOT_CERTIFIED, more=("--tolerance", "1e-17"))
def tolerance_beyond_double_precision(_):
    pass


# ---- places to write

# Who lacks the permissions that root has: ourselves, or if we are root, a user without a name.
NORMAL_USER = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


@case("out", "permission", user=True)
def directory_without_write_permission(directory):
    os.chmod(directory, 0o555)


@case(SHARDS[0], "may not be read", user=True)
def shard_without_read_permission(directory):
    os.chmod(directory / "aligned" / SHARDS[0], 0o000)


@case("elsewhere", more=("--report", "elsewhere/report.json"))
def report_in_no_directory(_):
    pass


@case("out", code=IO, file_limit=500)
def file_cannot_grow(_):
    pass


# ---- other commands

@case(SHARDS[1], "cut short", arguments=("convert", "aligned", "out.h5"))
def convert_truncated_data(directory):
    truncated_data(directory)


@case(SHARDS[1], "cut short", arguments=("convert", "aligned", "out.h5"), ranks=2)
def convert_truncated_data_with_2_ranks(directory):
    truncated_data(directory)


@case(SHARDS[1], "cut short", arguments=("inspect", "aligned"))
def inspect_truncated_data(directory):
    truncated_data(directory)


@case("out.h5", "exists", arguments=("convert", "aligned", "out.h5"))
def convert_to_what_exists(directory):
    (directory / "out.h5").write_text("keep")


@case("DST", "missing", code=USAGE, arguments=("convert", "aligned"))
def convert_without_a_target(_):
    pass


@case("nothing", code=USAGE, arguments=("synth", "out", "--shape", "nothing"))
def synth_of_an_unknown_shape(_):
    pass


@case("extra.weight", arguments=("verify", "--base", "base", "--aligned", "aligned", "--hardened", "hardened"))
def verify_another_model(directory):
    shutil.copytree(directory / "aligned", directory / "hardened")
    (directory / "hardened" / INDEX).unlink()
    edit_tensors(directory / "hardened" / SHARDS[0],
                 lambda tensors: tensors.update({"extra.weight": Tensor("BF16", np.zeros((2, 2)))}))


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        os.chmod(cls.directory, 0o755)
        make_pair(cls.directory)
        cls.program = shutil.copy(shutil.which(LOX), cls.directory / "lox")  # where every user may run it
        with ThreadPoolExecutor(4) as pool:
            cls.outcomes = dict(zip(CASES, pool.map(cls.outcome, CASES)))

    @classmethod
    def outcome(cls, name):
        """(result, what is there before, what is there after)"""
        spoil, _, _, ranks, arguments, options = CASES[name]
        directory = cls.directory / name
        directory.mkdir()
        for side in ("base", "aligned"):
            shutil.copytree(cls.directory / side, directory / side)
        spoil(directory)
        popen = {}
        if "file_limit" in options:
            limit = options["file_limit"]
            # Ignored, the signal becomes an error of write().
            popen = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
                     "restore_signals": False}
        if options.get("user"):
            popen = NORMAL_USER
        before = cls.listing(directory)
        try:
            result = run(*arguments, ranks=ranks, directory=directory, program=str(cls.program), **popen)
        except PermissionError as error:
            return error, before, before
        return result, before, cls.listing(directory)

    @staticmethod
    def listing(directory):
        return {str(path.relative_to(directory)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
                for path in sorted(directory.rglob("*"))}


def make_test(name):
    def test(self):
        _, says, code, _, _, _ = CASES[name]
        result, before, after = self.outcomes[name]
        if isinstance(result, PermissionError):
            self.skipTest("root that may not become another user")
        everything = f"exit code {result.code}\n{result.out}{result.err}"
        self.assertEqual(result.code, code, everything)
        self.assertEqual(len(result.lines), 1, "not one line on stderr\n" + everything)
        line, = result.lines
        self.assertTrue(line.startswith("lox: error: "), line)
        for words in says:
            self.assertIn(words, line)
        self.assertEqual(sorted(after), sorted(before), "something was left behind or is gone")
        self.assertTrue(after == before, "an existing file has changed")
    return test


for case_name in CASES:
    setattr(BadInput, f"test_{case_name}", make_test(case_name))


if __name__ == "__main__":
    unittest.main()
