# SPDX-License-Identifier: MIT
"""FP8 models on either side: what is made of them against numpy, and that the output is a BF16 model."""
import hashlib
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

import checkpoint
import fp8
import reference
from bad_input import SHARDS
from checkpoint import INDEX, Tensor
from fp8 import Fp8
from program import LoxTest, run

K, COEF = 4, 1.25
SHAPES = {"layers.0.q.weight": (300, 200), "layers.0.up.weight": (128, 257), "layers.1.q.weight": (96, 130),
          "layers.1.experts.weight": (3, 140, 150), "layers.1.skipped.weight": (70, 260)}
SKIP = ("--exclude", "skipped")


def make_values(seed=5):
    """{name: (base, aligned)} as floats."""
    rng = np.random.default_rng(seed)
    pairs = {}
    for name, shape in SHAPES.items():
        weights = 0.02 * rng.standard_normal(shape)
        pairs[name] = weights, weights + reference.random_matrix(rng, shape, "alignment", 5e-3)
    return pairs


def of_form(form, values):
    """A tensor as a model stores it."""
    if form == "BF16":
        return Tensor.of("BF16", values.astype(np.float32))
    if form == "row BF16":
        return Fp8(values, "row", scale_dtype="BF16")
    if form == "tensor" and values.ndim > 2:
        return Fp8(values, "row")
    return Fp8(values, form)


def write_model(path, tensors, config=fp8.config()):
    """In two shards; the scales lie in the other one than their codes."""
    rng = np.random.default_rng(1)
    shards = {shard: {} for shard in SHARDS}
    for number, (name, tensor) in enumerate(tensors.items()):
        stored = tensor.stored(name) if isinstance(tensor, Fp8) else {name: tensor}
        for place, (each, what) in enumerate(stored.items()):
            shards[SHARDS[(number + place) % 2]][each] = what
    shards[SHARDS[0]]["norm.weight"] = Tensor.of("BF16", rng.standard_normal(200).astype(np.float32))
    shards[SHARDS[1]]["position_ids"] = Tensor("I64", np.arange(7))
    checkpoint.write_directory(path, shards, files={"config.json": config, "tokenizer.model": bytes(range(256))})


class QuantisedTest(LoxTest):
    """Pairs of all forms; `pairs` holds what each tensor is in both models."""

    FORMS = (("block", "block"), ("BF16", "row"), ("block", "BF16"), ("row BF16", "tensor"))  # base, aligned

    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        cls.pairs = {}
        for forms in cls.FORMS:
            pair = {name: tuple(of_form(form, side) for form, side in zip(forms, values))
                    for name, values in make_values().items()}
            cls.pairs[forms] = pair
            for side, model in enumerate(("base", "aligned")):
                config = b'{"torch_dtype": "bfloat16"}' if forms[side] == "BF16" else fp8.config()
                write_model(cls.models / f"{model} {'-'.join(forms)}", {n: p[side] for n, p in pair.items()}, config)

    def pair_of(self, forms):
        name = "-".join(forms)
        return {"base": self.models / f"base {name}", "aligned": self.models / f"aligned {name}"}

    def assert_like_numpy(self, output, forms, k, coef):
        """Every tensor of a hardened model is what numpy makes of codes and scales."""
        found = checkpoint.read(self.directory / output)
        self.assertEqual(sorted(found), sorted([*SHAPES, "norm.weight", "position_ids"]))
        for name, (base, aligned) in self.pairs[forms].items():
            self.assertEqual(found[name].dtype, "BF16")
            if "skipped" in name:
                expected = aligned.rounded if isinstance(aligned, Fp8) else aligned
                self.assertEqual(found[name], expected, name)
                continue
            low_rank = reference.Svd(aligned.values - base.values).truncated(k)
            expected = Tensor.of("BF16", aligned.values + np.float32(coef) * low_rank)
            if k == 0:
                self.assertEqual(found[name], expected, name)
            identical, worst = reference.agreement(found[name], expected, coef * low_rank)
            self.assertGreaterEqual(identical, 0.997, name)
            self.assertLessEqual(worst, 1, name)


class Values(QuantisedTest):
    def test_all_codes_have_the_values_of_ml_dtypes(self):
        """The table that all else here is held against: of ml_dtypes 0.4.1, float8_e4m3fn as float32, NaN as 0."""
        self.assertEqual(hashlib.sha256(np.nan_to_num(fp8.VALUES, nan=0).astype("<f4").tobytes()).hexdigest(),
                         "0c5d81084420441d5c98db2c276b865fc29738d60fba9c32b55aa8214762b794")

    def test_all_codes_times_scales_bit_by_bit(self):
        """Copied, and added to nothing: 254 codes with scales of all sizes, of which some make subnormals."""
        rng = np.random.default_rng(3)
        codes = np.array([code for code in range(256) if code not in fp8.NAN], np.uint8)
        rows = np.stack([rng.permutation(codes) for _ in range(300)])
        scales = np.exp2(rng.uniform(-140, 100, (300, 1))).astype(np.float32)
        scales[7] = 1
        tensors = {name: Tensor("F8_E4M3", rows) for name in ("copied.weight", "edited.weight")}
        tensors |= {f"{name}_scale": Tensor("F32", scales) for name in list(tensors)}
        zero = {name: Tensor.of("F32", np.zeros(rows.shape)) for name in ("copied.weight", "edited.weight")}
        checkpoint.write_directory(self.directory / "aligned", {"model.safetensors": tensors}, index=False)
        checkpoint.write_directory(self.directory / "base", {"model.safetensors": zero}, index=False)
        report = self.harden("--k", 0, "--coef", 1, "--exclude", "copied")
        found = checkpoint.read(self.directory / "out")
        with np.errstate(over="ignore"):
            values = fp8.values_of(rows, scales, (1, rows.shape[1]))
        self.assertEqual(found["copied.weight"], Tensor.of("BF16", values))
        self.assertEqual(found["edited.weight"], Tensor.of("BF16", values + (np.float32(0) + values)))
        edited = next(tensor for tensor in report["tensors"] if tensor["name"] == "edited.weight")
        norm = np.sqrt(np.sum(values.astype(np.float64) ** 2))
        self.assertAlmostEqual(edited["delta_norm"] / norm, 1, delta=1e-12)

    def test_hardened_like_numpy(self):
        for forms in self.FORMS:
            for k, coef in ((K, COEF), (0, 0.5)):
                with self.subTest(forms=forms, k=k):
                    output = f"out {'-'.join(forms)} {k}"
                    self.harden("--k", k, "--coef", coef, *SKIP, output=output, **self.pair_of(forms))
                    self.assert_like_numpy(output, forms, k, coef)
                    result = self.lox("verify", "--report", f"{output}.report.json")
                    self.assertIn("verified", result.err)

    def test_on_a_grid_like_numpy(self):
        for k in (K, 0):
            self.harden("--k", k, "--coef", COEF, "--grid", "always", *SKIP, output=f"out-{k}", ranks=3,
                        **self.pair_of(self.FORMS[0]))
            self.assert_like_numpy(f"out-{k}", self.FORMS[0], k, COEF)

    def test_verify_sees_a_wrong_entry(self):
        self.harden(*SKIP, **self.pair_of(self.FORMS[0]))
        path = self.directory / "out" / "model.safetensors"
        for name in ("layers.0.q.weight", "layers.1.skipped.weight"):
            with self.subTest(name):
                good = path.read_bytes()
                tensors = checkpoint.decode(good)[0]
                stored = tensors[name].stored.copy()
                stored[..., 1, 2] ^= np.uint16(0x40)
                tensors[name] = Tensor("BF16", stored)
                path.write_bytes(checkpoint.encode(tensors, {"format": "pt"}))
                result = self.lox("verify", "--report", "out.report.json", code=4)
                self.assertIn(name, result.out)
                path.write_bytes(good)

    def test_quantisation_noise_is_reported(self):
        for forms in self.FORMS:
            report = self.harden("--k", K, *SKIP, "--overwrite", **self.pair_of(forms))
            tensors = {tensor["name"]: tensor for tensor in report["tensors"]}
            for name, pair in self.pairs[forms].items():
                if "skipped" in name:
                    self.assertNotIn("quantisation_noise", tensors[name])
                    continue
                noise = np.sqrt(sum(side.noise ** 2 for side in pair if isinstance(side, Fp8)))
                self.assertAlmostEqual(tensors[name]["quantisation_noise"] / noise, 1, delta=1e-9)
        self.assertIn("fp8 noise", self.lox("report", "out").out)
        # It estimates what rounding has done: here that is known.
        values = make_values()["layers.0.q.weight"][1]
        rounded = Fp8(values)
        self.assertAlmostEqual(rounded.noise / np.linalg.norm(rounded.values - values), 1, delta=0.05)


class Outputs(QuantisedTest):
    def setUp(self):
        super().setUp()
        self.pair = self.pair_of(self.FORMS[0])

    def test_is_a_bf16_model(self):
        self.harden(*SKIP, **self.pair)
        files = checkpoint.tree(self.directory / "out")
        self.assertEqual(sorted(files), ["config.json", "model.safetensors", "tokenizer.model"])
        config = json.loads(files["config.json"])
        self.assertEqual(config, {"hidden_size": 64, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-06})
        self.assertEqual(list(config), ["hidden_size", "torch_dtype", "rms_norm_eps"])
        self.assertEqual(files["tokenizer.model"], bytes(range(256)))
        self.assertNotIn(INDEX, files)
        self.assertEqual(self.lox("inspect", "out").code, 0)

    def test_config_of_a_model_of_text_and_pictures(self):
        path = self.directory / "aligned"
        shutil.copytree(self.pair["aligned"], path)
        text = {"dtype": "float8_e4m3fn", "quantization_config": {"quant_method": "fp8",
                                                                 "weight_block_size": [128, 128]}}
        (path / "config.json").write_text(json.dumps({"text_config": text, "vision_config": {"depth": 2}}))
        self.harden(*SKIP, base=self.pair["base"])
        self.assertEqual(json.loads((self.directory / "out" / "config.json").read_text()),
                         {"text_config": {"dtype": "bfloat16"}, "vision_config": {"depth": 2},
                          "torch_dtype": "bfloat16"})

    def test_same_bytes_for_any_ranks_and_formats(self):
        self.harden(*SKIP, **self.pair)
        expected = checkpoint.tree(self.directory / "out")
        for ranks in (2, 3):
            self.harden(*SKIP, "--grid", "never", output=f"out-{ranks}", ranks=ranks, **self.pair)
            self.assertEqual(checkpoint.tree(self.directory / f"out-{ranks}"), expected)
        for side in ("base", "aligned"):
            self.lox("convert", self.pair[side], f"{side}.h5")
        self.harden(*SKIP, base="base.h5", aligned="aligned.h5", output="from-h5")
        found = checkpoint.tree(self.directory / "from-h5")
        self.assertEqual(sorted(found), sorted(expected))
        self.assertEqual(checkpoint.read(self.directory / "from-h5"), checkpoint.read(self.directory / "out"))
        self.harden(*SKIP, output="to.h5", **self.pair)
        self.lox("convert", "to.h5", "from-to-h5")
        self.assertEqual(checkpoint.tree(self.directory / "from-to-h5"), expected)

    def test_factored_and_applied_are_hardened(self):
        for forms in self.FORMS:
            pair = self.pair_of(forms)
            name = "-".join(forms).replace(" ", "")
            self.harden("--k", K, *SKIP, output=f"out-{name}", **pair)
            self.lox("factor", "--base", pair["base"], "--aligned", pair["aligned"], "--k", K, *SKIP, "--output",
                     f"store-{name}")
            self.lox("verify", "--factors", f"store-{name}", "--base", pair["base"], "--aligned", pair["aligned"])
            self.lox("apply", "--aligned", pair["aligned"], "--factors", f"store-{name}", "--coef", "1.25,0.5",
                     "--output", f"applied-{name}-{{coef}}", ranks=2)
            self.assertEqual(checkpoint.tree(self.directory / f"applied-{name}-1.25"),
                             checkpoint.tree(self.directory / f"out-{name}"))
            self.lox("verify", "--report", f"applied-{name}-0.5.report.json")
            self.lox("apply", "--base", pair["base"], "--factors", f"store-{name}", "--coef", 1, "--output",
                     f"onto-base-{name}")

    def values_model(self, path, side):
        """A model in F32 whose weights are what codes and scales stand for."""
        tensors = {name: Tensor.of("F32", pair[side].values) for name, pair in self.pairs[self.FORMS[0]].items()}
        (self.directory / path).write_bytes(checkpoint.encode(tensors))

    def test_analyzed_like_the_values(self):
        """An analysis tells of FP8 models what it tells of models in F32 that hold their values."""
        for side, name in enumerate(("base", "aligned")):
            self.values_model(f"{name}.safetensors", side)
        told = []
        for output, models in (("codes", self.pair),
                               ("values", {"base": "base.safetensors", "aligned": "aligned.safetensors"})):
            self.lox("analyze", "--base", models["base"], "--aligned", models["aligned"], "--tuned", models["base"],
                     "--k", "2,4", *SKIP, "--output", f"{output}.json", ranks=2)
            tensors = json.loads((self.directory / f"{output}.json").read_text())["tensors"]
            told.append({tensor["name"]: tensor for tensor in tensors if tensor["name"] in SHAPES})
        codes, values = told
        self.assertEqual(sorted(codes), sorted(name for name in SHAPES if "skipped" not in name))
        for name, tensor in values.items():
            self.assertAlmostEqual(codes[name]["delta_norm"] / tensor["delta_norm"], 1, delta=1e-12, msg=name)
            ours, theirs = codes[name]["tuned"][0], tensor["tuned"][0]
            for key in ("r_ft", "overlap_left", "overlap_right"):
                for k in ("2", "4"):
                    self.assertAlmostEqual(ours[key][k], theirs[key][k], delta=1e-6, msg=(name, key))

    def test_an_adapter_on_it(self):
        """A LoRA whose base is FP8: the hardened model is that of the base's values, in BF16."""
        self.values_model("values.safetensors", 0)
        self.lox("factor", "--base", self.pair["base"], "--aligned", self.pair["aligned"], "--k", K, "--exclude",
                 "skipped|experts", "--output", "store")
        self.lox("adapter", "--factors", "store", "--coef", 1, "--onto", "base", "--for", "peft", "--output", "lora")
        for output, base in (("codes", self.pair["base"]), ("values", "values.safetensors")):
            self.lox("harden", "--base", base, "--aligned", "lora", "--k", 2, "--output", output, ranks=2)
            self.lox("verify", "--base", base, "--aligned", "lora", "--k", 2, "--hardened", output)
        codes, values = checkpoint.read(self.directory / "codes"), checkpoint.read(self.directory / "values")
        for name in SHAPES:
            self.assertEqual(codes[name].dtype, "BF16")
            expected = Tensor.of("BF16", values[name].values)
            self.assertGreaterEqual(np.mean(codes[name].stored == expected.stored), 0.999, name)
            np.testing.assert_allclose(codes[name].values, values[name].values, rtol=2**-8, atol=1e-9)

    def test_a_landscape_is_refused(self):
        result = self.lox("landscape", "--base", self.pair["base"], "--aligned", self.pair["aligned"], "--k", K,
                          "--tuned", self.pair["base"], "--output", "p", "--at", "1,1", code=3)
        self.assertIn("FP8", result.err)
        self.assertEqual(list(self.directory.iterdir()), [])  # nothing was solved before

    def test_planned(self):
        """No more is read than codes and scales, and no more memory planned than F32 rows need."""
        plan = json.loads(self.lox("plan", "--base", self.pair["base"], "--aligned", self.pair["aligned"], "--output",
                                   "out", *SKIP, "--json").out)
        entries = sum(int(np.prod(shape)) for shape in SHAPES.values())
        written = 2 * entries + 2 * 200 + 7 * 8
        text = json.dumps(plan)
        self.assertIn(f'"bytes_written": {written}', text)
        read = 2 * entries - int(np.prod(SHAPES["layers.1.skipped.weight"])) + 2 * 200 + 7 * 8
        self.assertIn(f'"bytes_read": {read}', text)

    def test_mistrals_own_format(self):
        """Scales beside the weight, of each matrix one; params.json, and a base in BF16."""
        rng = np.random.default_rng(4)
        values = 0.02 * rng.standard_normal((70, 90))
        aligned = Fp8(values + reference.random_matrix(rng, values.shape, "alignment", 5e-3), "tensor")
        base = Tensor.of("BF16", values.astype(np.float32))
        stored = {"layers.0.attention.wo.weight": Tensor("F8_E4M3", aligned.codes),
                  "layers.0.attention.wo.qscale_weight": Tensor.of("F32", aligned.scales.reshape(())),
                  "layers.0.attention.wo.qscale_act": Tensor("F32", np.float32(1))}
        params = {"dim": 90, "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}, "n_layers": 1}
        for side, tensors in (("base", {"layers.0.attention.wo.weight": base}), ("aligned", stored)):
            checkpoint.write_directory(self.directory / side, {"consolidated.safetensors": tensors}, index=False,
                                       files={"params.json": json.dumps(params).encode()})
        self.harden("--k", K, "--coef", COEF)
        found, = checkpoint.read(self.directory / "out").items()
        low_rank = reference.Svd(aligned.values - base.values).truncated(K)
        expected = Tensor.of("BF16", aligned.values + np.float32(COEF) * low_rank)
        self.assertEqual(found[0], "layers.0.attention.wo.weight")
        self.assertGreaterEqual(reference.agreement(found[1], expected, COEF * low_rank)[0], 0.997)
        self.assertEqual(json.loads((self.directory / "out/params.json").read_text()), {"dim": 90, "n_layers": 1})
        lonely = {"layers.0.attention.wq.qscale_weight": stored["layers.0.attention.wo.qscale_weight"]}
        (self.directory / "aligned/consolidated.safetensors").write_bytes(checkpoint.encode(stored | lonely))
        said = self.lox("plan", "--base", "base", "--aligned", "aligned", "--output", "o", code=3).err
        self.assertIn("the scales of 'layers.0.attention.wq.weight', which is missing", said)

    def test_scales_of_activations_are_left_out(self):
        for side in ("base", "aligned"):
            shutil.copytree(self.pair[side], self.directory / side)
            shard = self.directory / side / SHARDS[0]
            tensors = checkpoint.decode(shard.read_bytes())[0]
            more = {"layers.0.q.input_scale": Tensor("F32", np.float32(1)),
                    "layers.0.attn.k_scale": Tensor("BF16", np.uint16(0x3F80))}
            shard.write_bytes(checkpoint.encode(tensors | more))
            index = json.loads((self.directory / side / INDEX).read_text())
            index["weight_map"] |= {name: SHARDS[0] for name in more}
            (self.directory / side / INDEX).write_text(json.dumps(index))
        self.harden(*SKIP)
        self.harden(*SKIP, output="plain", **self.pair)
        self.assertEqual(checkpoint.tree(self.directory / "out"), checkpoint.tree(self.directory / "plain"))


if __name__ == "__main__":
    unittest.main()
