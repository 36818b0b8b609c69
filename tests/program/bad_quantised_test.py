# SPDX-License-Identifier: MIT
"""Bad input: quantised models that are damaged, or of a form that is not read. See support/bad_input.py."""
import json
import unittest

import numpy as np

import checkpoint
import fp8
import reference
from bad_input import SHARDS, BadInputTest, add_tests, case
from checkpoint import Tensor
from fp8 import Fp8
from program import run

NAME = "w.weight"
CODES, SCALES = SHARDS


def quantise(directory, change=lambda tensors: None, config=None, side="aligned", form="block"):
    """Makes a side a model of one FP8 tensor [200, 150], its scales in another shard; change() may spoil it."""
    rng = np.random.default_rng(4)
    base, aligned = reference.random_pair(rng, (200, 150), dtype="F32")
    tensors = {"base": {NAME: base}, "aligned": {NAME: aligned}}
    for model in ("base", "aligned"):
        for path in sorted((directory / model).iterdir()):
            path.unlink()
        (directory / model).rmdir()
        stored = tensors[model]
        if model == side:
            stored = Fp8(stored[NAME].values.astype(np.float64), form).stored(NAME)
            change(stored)
        shards = {CODES: {n: t for n, t in stored.items() if "scale" not in n} | {"one": Tensor("I8", np.zeros(1))},
                  SCALES: {n: t for n, t in stored.items() if "scale" in n} | {"two": Tensor("I8", np.zeros(1))}}
        files = {"config.json": fp8.config() if config is None else config} if model == side else {}
        checkpoint.write_directory(directory / model, shards, files=files)


def put_code(code, row=130, col=140):
    def change(tensors):
        codes = tensors[NAME].stored.copy()
        codes[row, col] = code
        tensors[NAME] = Tensor("F8_E4M3", codes)
    return change


def put_scale(value):
    def change(tensors):
        scales = tensors[f"{NAME}_scale_inv"].stored.copy()
        scales[1, 0] = value
        tensors[f"{NAME}_scale_inv"] = Tensor("F32", scales)
    return change


for bad_code in fp8.NAN:
    for bad_side in ("base", "aligned"):
        def nan_code(directory, code=bad_code, side=bad_side):
            quantise(directory, put_code(code), side=side)
        nan_code.__name__ = f"nan_code_{bad_code:x}_in_{bad_side}"
        case(CODES, f"'{NAME}'", "NaN", f"0x{bad_code:02X}", f"index {130 * 150 + 140}", ranks=2)(nan_code)

for number, bad_scale in enumerate((np.nan, np.inf, -1e-3, 3e38)):
    def bad_scale_of(directory, value=bad_scale):
        quantise(directory, put_scale(value))
    bad_scale_of.__name__ = f"bad_scale_{number}"
    case(SCALES, f"'{NAME}_scale_inv'", "index 2", NAME)(bad_scale_of)


@case(CODES, f"'{NAME}'", "NaN", more=("--include", "^x$"))
def nan_code_in_what_is_copied(directory):
    quantise(directory, put_code(0x7F))
    for side in ("base", "aligned"):
        path = directory / side / CODES
        tensors = checkpoint.decode(path.read_bytes())[0]
        tensors["x"] = Tensor.of("BF16", np.full((4, 4), 1 + (side == "base"), np.float32))
        path.write_bytes(checkpoint.encode(tensors))
        (directory / side / checkpoint.INDEX).unlink()


@case(SCALES, f"'{NAME}_scale_inv'", "holds 0", "index 2", "not all 0")
def scale_0_of_codes_that_are_not(directory):
    quantise(directory, put_scale(0))


@case(CODES, NAME, "F8_E4M3", "quantised", "_scale_inv")
def missing_scales(directory):
    quantise(directory, lambda tensors: tensors.pop(f"{NAME}_scale_inv"))


@case(SCALES, f"'{NAME}_scale_inv'", "is missing")
def missing_codes(directory):
    def change(tensors):
        tensors["v.weight"] = tensors.pop(NAME)
        tensors["v.weight_scale_inv"] = tensors[f"{NAME}_scale_inv"]
    quantise(directory, change)


@case(SCALES, f"'{NAME}_scale_inv'", "[2, 2]", "[200, 150]", "64 x 64")
def scales_of_another_block_size(directory):
    quantise(directory, config=fp8.config((64, 64)))


@case(SCALES, "F8_E8M0", "scales")
def scales_of_powers_of_two(directory):
    def change(tensors):
        tensors[f"{NAME}_scale_inv"] = Tensor("F8_E8M0", np.full((2, 2), 127))
    quantise(directory, change)


@case("transform_config", "rotated")
def rotated_weights(directory):
    quantise(directory, config=json.dumps({"quantization_config": {
        "quant_method": "compressed-tensors", "transform_config": {"config_groups": {"R1": {}}}}}).encode(), form="row")


@case("config.json", "not a JSON object")
def config_that_is_not_json(directory):
    quantise(directory, config=b"{")


@case("F8_E5M2", "quantised")
def another_float_of_8_bits(directory):
    quantise(directory, lambda tensors: tensors.update({NAME: Tensor("F8_E5M2", tensors[NAME].stored)}))


@case("quantization_config", "fp_quant", "no tensor is F8_E4M3")
def unknown_method(directory):
    quantise(directory, lambda t: (t.clear(), t.update({NAME: Tensor.of("BF16", np.zeros((200, 150)))})),
             config=b'{"quantization_config": {"quant_method": "fp_quant"}}')


OTHERS = {
    "int4": ({"w.weight_packed": ("I32", (200, 19)), "w.weight_scale": ("BF16", (200, 5))}, "4 bits",
             "convert_checkpoint"),
    "mxfp4": ({"w_blocks": ("U8", (2, 10, 3, 16)), "w_scales": ("U8", (2, 10, 3))}, "MXFP4", "dequantize=True"),
    "gptq": ({"w.qweight": ("I32", (25, 150)), "w.scales": ("F16", (2, 150))}, "GPTQ", "GPTQModel"),
    "nvfp4": ({"w.weight": ("U8", (200, 75)), "w.weight_scale": ("F8_E4M3", (200, 10)),
               "w.weight_scale_2": ("F32", ())}, "NVFP4", "convert_checkpoint"),
    "fp4": ({"w.weight": ("I8", (200, 75)), "w.scale": ("F8_E8M0", (200, 5))}, "FP4", "convert_checkpoint"),
    "bitsandbytes": ({"w.weight": ("U8", (15000, 1)), "w.weight.absmax": ("F32", (235,))}, "bitsandbytes",
                     "dequantize()"),
    "int8": ({"w.weight": ("I8", (200, 150)), "w.weight_scale": ("F32", (200, 1))}, "INT8", "convert_checkpoint"),
}

for form, (others, *words) in OTHERS.items():
    def other_form(directory, others=others):
        def change(tensors):
            tensors.clear()
            for name, (dtype, shape) in others.items():
                tensors[name] = Tensor(dtype, np.zeros(shape))
        quantise(directory, change)
    other_form.__name__ = f"other_form_{form}"
    case("does not read", "BF16", *words)(other_form)


class BadQuantised(BadInputTest):
    def test_nothing_else_is_wrong_with_these_models(self):
        """Unspoiled they harden, a block of zeros with scale 0 included."""
        for name, change in (("good", lambda tensors: None), ("zeros", self.zeros)):
            directory = self.directory / name
            for side in ("base", "aligned"):
                (directory / side).mkdir(parents=True)
            quantise(directory, change)
            result = run("harden", "--base", "base", "--aligned", "aligned", "--output", "out", directory=directory)
            self.assertEqual(result.code, 0, result.err)

    @staticmethod
    def zeros(tensors):
        codes = tensors[NAME].stored.copy()
        codes[128:, :128] = np.where(np.arange(128) % 2, 0x80, 0)
        tensors[NAME] = Tensor("F8_E4M3", codes)
        put_scale(0)(tensors)


add_tests(BadQuantised)


if __name__ == "__main__":
    unittest.main()
