# SPDX-License-Identifier: MIT
"""Bad input: models in parts that do not fit together, and what trainers leave that is not safetensors. See
support/bad_input.py."""
import json
import shutil
import unittest

import numpy as np

import checkpoint
import sharded
from bad_input import BadInputTest, add_tests, case
from checkpoint import Tensor

FIRST, SECOND, THIRD = map(sharded.name_of, range(3))
SHAPES = {"w.weight": (24, 16), "v.weight": (16, 24), "norm.weight": (16,)}


def shard(directory, change=lambda files: None, info=None, cuts=None, side="aligned", others=None, shapes=None):
    """Makes both sides models in parts of three ranks; change({file: {name: (offsets, part)}}) may spoil one."""
    for model, seed in (("base", 1), ("aligned", 2)):
        rng = np.random.default_rng(seed)
        tensors = {name: Tensor.of("BF16", rng.standard_normal(shape)) for name, shape in (shapes or SHAPES).items()}
        shutil.rmtree(directory / model)
        sharded.write(directory / model, tensors, 3, cuts, others=others)
        if model != side:
            continue
        files = {sharded.name_of(rank): parts for rank, parts in enumerate(sharded.parts_of(tensors, 3, cuts or {}))}
        change(files)
        for path in (directory / model).glob("*.safetensors"):
            path.unlink()
        for name, parts in files.items():
            (directory / model / name).write_bytes(sharded.encode(parts, info if name == SECOND else None))


def move(files, file, offsets, name="w.weight"):
    files[file][name] = (offsets, files[file][name][1])


@case(SECOND, "w.weight", "overlaps", FIRST, "[8, 16] at [7, 0]")
def overlap(directory):
    shard(directory, lambda files: move(files, SECOND, [7, 0]))


@case(THIRD, "w.weight", "overlaps", SECOND)
def one_part_twice(directory):
    shard(directory, lambda files: files[THIRD].update({"w.weight": files[SECOND]["w.weight"]}))


@case("base", "w.weight", "no file holds 16 to 16 of its dimension 0", "missing", ranks=2)
def hole(directory):
    shard(directory, lambda files: move(files, THIRD, [17, 0]), side="base")


@case("aligned", "v.weight", "no file holds", "of its dimension 1")
def hole_along_columns(directory):
    shard(directory, lambda files: move(files, THIRD, [0, 17], "v.weight"), cuts={"v.weight": {1: 3}})


@case("aligned", "w.weight", "no file holds 0 to 7 of its dimension 0", "missing")
def first_file_is_missing(directory):
    shard(directory, lambda files: files.pop(FIRST))


@case("aligned", "w.weight", "no file holds 8 to 15 of its dimension 0", "missing")
def middle_file_is_missing(directory):
    shard(directory, lambda files: files.pop(SECOND))


@case("aligned", "base", "w.weight", "shape", "[16, 16]")
def last_file_is_missing(directory):
    """Nothing in the files tells of it, but the other model does."""
    shard(directory, lambda files: files.pop(THIRD))


@case("aligned", "model.embed_tokens.weight", "16 rows", "vocab_size of config.json is 24", "missing",
      arguments=("convert", "aligned", "out"))
def last_file_is_missing_of_embeddings(directory):
    shard(directory, lambda files: files.pop(THIRD), others={"config.json": b'{"vocab_size": 24}'},
          shapes={"model.embed_tokens.weight": (24, 16)})


@case("aligned", "w.weight", "no file holds 24 to 99 of its dimension 0")
def part_without_entries_sticks_out(directory):
    nothing = {"w.weight": ([100, 0], Tensor("BF16", np.zeros((0, 16))))}
    shard(directory, lambda files: files.update({sharded.name_of(3): nothing}))


@case("w.weight", "no grid")
def irregular(directory):
    """A pinwheel: nothing overlaps and nothing is missing, but no cut goes through."""
    boxes = (((0, 16), (0, 5)), ((16, 24), (0, 11)), ((8, 24), (11, 16)), ((0, 8), (5, 16)), ((8, 16), (5, 11)))

    def cut(files):
        whole = np.zeros((24, 16))
        for parts in files.values():
            del parts["w.weight"]
        for number, (rows, cols) in enumerate(boxes):
            file = files.setdefault(sharded.name_of(number), {})
            file["w.weight"] = ([rows[0], cols[0]], Tensor.of("BF16", whole[slice(*rows), slice(*cols)]))
    shard(directory, cut)


@case(SECOND, "w.weight", "F32", FIRST, "BF16")
def dtypes_differ(directory):
    shard(directory, lambda files: files[SECOND].update({"w.weight": ([8, 0], Tensor("F32", np.zeros((8, 16))))}))


@case(SECOND, "w.weight", "1 dimensions", FIRST, "has 2")
def dimensions_differ(directory):
    shard(directory, lambda files: files[SECOND].update({"w.weight": ([8], Tensor("BF16", np.zeros(128)))}))


@case(SECOND, "w.weight", "2 dimensions", "saved_offsets", "has 3")
def too_many_offsets(directory):
    shard(directory, lambda files: move(files, SECOND, [8, 0, 0]))


@case("w.weight", "too large to be true")
def offsets_beyond_all_files(directory):
    shard(directory, lambda files: move(files, SECOND, [2 ** 53, 2 ** 53]))


def bad_info(name, info, *says):
    """Sharding info of the second file that is no such thing."""
    def spoil(directory):
        shard(directory, info=info)
    spoil.__name__ = f"info_{name}"
    case(SECOND, "DCP_SHARDING_INFO", *says)(spoil)


GOOD = {name: {"saved_offsets": [8, 0]} for name in SHAPES}
bad_info("empty", "", "JSON")
bad_info("cut_short", json.dumps(GOOD)[:-5], "JSON")
bad_info("a_list", "[1]", "JSON object")
bad_info("of_numbers", '{"w.weight": 3}', "JSON object")
bad_info("without_offsets", json.dumps({name: {"more": 1} for name in SHAPES}), "saved_offsets")
bad_info("offsets_are_a_number", json.dumps(GOOD | {"w.weight": {"saved_offsets": 8}}), "saved_offsets", "w.weight")
bad_info("offsets_are_negative", json.dumps(GOOD | {"w.weight": {"saved_offsets": [-8, 0]}}), "saved_offsets")
bad_info("offsets_are_fractions", json.dumps(GOOD | {"w.weight": {"saved_offsets": [8.5, 0]}}), "saved_offsets")
bad_info("offsets_are_nested", json.dumps(GOOD | {"w.weight": {"saved_offsets": [[8], 0]}}), "saved_offsets")
bad_info("lacks_a_tensor", json.dumps({"w.weight": {"saved_offsets": [8, 0]}}), "v.weight", "does not say")
bad_info("names_another_tensor", json.dumps(GOOD | {"norm.weight": {"saved_offsets": [6]}, "x": {"saved_offsets": []}}),
         "tensor x", "does not hold")
bad_info("twice", '{"w.weight": {"saved_offsets": [8, 0]}, "w.weight": {"saved_offsets": [8, 0]}}', "twice")


@case(sharded.name_of(0), "one rank", "folder", arguments=("convert", f"aligned/{FIRST}", "out"))
def file_of_one_rank(directory):
    shard(directory)


@case(checkpoint.INDEX, "w.weight", "remove the index")
def index_beside_parts(directory):
    shard(directory)
    names = {"w.weight": FIRST, "v.weight": SECOND, "norm.weight": THIRD}  # a file each
    (directory / "aligned" / checkpoint.INDEX).write_text(json.dumps({"weight_map": names}))


@case("model.safetensors", "w.weight", "overlaps", FIRST)
def consolidated_beside_parts(directory):
    shard(directory)
    whole = {name: Tensor("BF16", np.zeros(shape)) for name, shape in SHAPES.items()}
    (directory / "aligned" / "model.safetensors").write_bytes(checkpoint.encode(whole))


def leave(directory, *names, side="aligned"):
    """A folder with these files, empty ones, instead of a model."""
    shutil.rmtree(directory / side)
    for name in names:
        (directory / side / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / side / name).write_bytes(b"")


DCP = 'python -m torch.distributed.checkpoint.format_utils dcp_to_torch "aligned" model.pt'
BRIDGE = ("python -c \"from megatron.bridge import AutoBridge; AutoBridge.from_hf_pretrained('HF_MODEL')"
          ".export_ckpt('{}', 'OUTPUT')\"")


@case("aligned", "DCP", DCP, "safetensors.torch.save_file", ranks=2)
def torch_dcp(directory):
    leave(directory, ".metadata", "__0_0.distcp", "__1_0.distcp", "config.json")


@case("aligned", DCP, arguments=("convert", "aligned/__0_0.distcp", "out"))
def file_of_torch_dcp(directory):
    leave(directory, ".metadata", "__0_0.distcp")


@case("base", "Megatron", BRIDGE.format("base"))
def megatron_run(directory):
    leave(directory, "latest_checkpointed_iteration.txt", "iter_0000100/common.pt", "iter_0000100/.metadata",
          "iter_0000100/metadata.json", "iter_0000100/__0_0.distcp", side="base")


@case("aligned", "Megatron", BRIDGE.format("aligned"))
def megatron_iteration(directory):
    leave(directory, "common.pt", ".metadata", "metadata.json", "__0_0.distcp", "__0_1.distcp")


@case("aligned", "Megatron", BRIDGE.format("aligned"), arguments=("inspect", "aligned"))
def megatron_bridge_run(directory):
    leave(directory, "latest_train_state.pt", "iter_0000000/__0_0.distcp")


OLD = '--load "aligned" --ckpt-convert-format torch_dist --ckpt-convert-save NEW'


@case("aligned", "Megatron", OLD, BRIDGE.format("NEW/torch_dist"))
def old_megatron_run(directory):
    leave(directory, "latest_checkpointed_iteration.txt", "iter_0000100/mp_rank_00/model_optim_rng.pt")


@case("aligned", "Megatron", OLD, BRIDGE.format("NEW/torch_dist"))
def old_megatron_iteration(directory):
    leave(directory, "mp_rank_00_000/model_optim_rng.pt", "mp_rank_00_001/model_optim_rng.pt")


@case("aligned", "holds no *.safetensors")
def nothing_known(directory):
    leave(directory, "pytorch_model.bin")


class BadSharded(BadInputTest):
    """Cases that are registered above."""


add_tests(BadSharded)

if __name__ == "__main__":
    unittest.main()
