# SPDX-License-Identifier: MIT
"""Bad input: files that are damaged. See support/bad_input.py."""
import shutil
import struct
import unittest

import h5py
import numpy as np

import checkpoint
from bad_input import SHARDS, USAGE, BadInputTest, add_tests, case, edit_header, edit_index, edit_tensors, harden_with
from checkpoint import INDEX, Tensor


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


class BadInput(BadInputTest):
    pass


add_tests(BadInput)


if __name__ == "__main__":
    unittest.main()
