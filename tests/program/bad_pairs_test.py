# SPDX-License-Identifier: MIT
"""Bad input: models that do not fit one another. See support/bad_input.py."""
import unittest

import numpy as np

import checkpoint
from bad_input import SHARDS, BadInputTest, add_tests, case, edit_header, edit_tensors
from checkpoint import INDEX, Tensor


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


@case("no tensor is left", more=("--exclude", "."))
def nothing_to_edit(_):
    pass


@case("--include '^nothing$' matches no tensor", more=("--include", "^nothing$"))
def pattern_that_matches_nothing(_):
    pass


class BadInput(BadInputTest):
    pass


add_tests(BadInput)


if __name__ == "__main__":
    unittest.main()
