# SPDX-License-Identifier: MIT
"""The pairs of docs/models.md: `lox plan` on headers at the full number of tensors says what the page says."""
import functools
import hashlib
import json
import re
import shlex
import shutil
import tempfile
import unittest
from pathlib import Path

import headers
from program import LoxTest, run

PAGE = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text()
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]*) \| (\d+) \| (\d+) \|$", re.MULTILINE)
ROWS = {(base, aligned): (options, int(edited), int(copied)) for base, aligned, _, options, edited, copied in ROW.findall(PAGE)}
BAD_INPUT, NO_ROOM = 3, 5
TIED = b'{"tie_word_embeddings": true}'


@functools.cache
def shapes(shape, fp8=False):
    """The table of a known shape, by `lox synth`."""
    folder = Path(tempfile.mkdtemp(prefix="lox-test-"))
    try:
        made = run("synth", "model", "--shape", shape, "--headers-only", "--quiet", "--quantised", "fp8" if fp8 else "none",
                   directory=folder)
        assert made.code == 0, made.err
        return headers.read(folder / "model")
    finally:
        shutil.rmtree(folder)


def renamed(table, *rules):
    """Names with a regular expression replaced."""
    for pattern, to in rules:
        table = {re.sub(pattern, to, name): entry for name, entry in table.items()}
    return table


def without(table, pattern):
    return {name: entry for name, entry in table.items() if not re.search(pattern, name)}


def more_rows(table, rows):
    """A longer vocabulary."""
    return {name: (dtype, [rows, *shape[1:]] if "embed_tokens" in name or "lm_head" in name else shape)
            for name, (dtype, shape) in table.items()}


def as_dtype(table, dtype):
    return {name: (dtype, shape) for name, (_, shape) in table.items()}


def dense(table):
    """A model whose FP8 weights were converted to BF16."""
    return {name: ("BF16" if dtype == "F8_E4M3" else dtype, shape) for name, (dtype, shape)
            in without(table, "_scale_inv$").items()}


def of_fbgemm(table):
    """FP8 with a scale for each row, in the feed-forward parts of all layers but the first and the last."""
    last = max(int(found[1]) for name in table if (found := re.search(r"layers\.(\d+)\.", name)))
    made = {}
    for name, (dtype, shape) in table.items():
        found = re.search(r"layers\.(\d+)\.mlp\.\w+_proj\.weight$", name)
        if not found or int(found[1]) in (0, last):
            made[name] = dtype, shape
            continue
        made |= {name: ("F8_E4M3", shape), f"{name}_scale": ("F32", [shape[0], 1]),
                 name.removesuffix("weight") + "input_scale_ub": ("F32", [1])}
    return made


def fused(table):
    """Experts of a layer as two tensors, as transformers 5 holds them."""
    made = {}
    for name, (dtype, shape) in table.items():
        found = re.fullmatch(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name)
        if not found:
            made[name] = dtype, shape
        elif found[3] != "up":
            key = f"{found[1]}.{'down_proj' if found[3] == 'down' else 'gate_up_proj'}"
            rows = shape[0] if found[3] == "down" else 2 * shape[0]
            count = max(int(found[2]) + 1, made[key][1][0] if key in made else 0)
            made[key] = dtype, [count, rows, shape[1]]
    return made


def int4(table):
    """Experts as compressed-tensors packs them."""
    made = {}
    for name, (dtype, shape) in dense(table).items():
        if ".experts." not in name:
            made[name] = dtype, shape
            continue
        stem = name.removesuffix("weight")
        made |= {f"{stem}weight_packed": ("I32", [shape[0], shape[1] // 8]), f"{stem}weight_shape": ("I64", [2]),
                 f"{stem}weight_scale": ("BF16", [shape[0], shape[1] // 32])}
    return made


def text_of(gemma):
    """The language model of Gemma alone."""
    return renamed(without(gemma, "^(vision_tower|multi_modal)"), (r"^language_model\.", ""))


def same(shape, fp8=False):
    return lambda: (shapes(shape, fp8), shapes(shape, fp8))


def of_gemma(change):
    return lambda: (shapes("gemma-3-27b"), change(shapes("gemma-3-27b")))


V3, K2 = ("deepseek-v3", True), ("kimi-k2", True)
HEAD = {"lm_head.weight": ("BF16", [128256, 2048])}
MADE = {
    ("Llama 3.1 8B", "Instruct"): same("llama-3-8b"),
    ("Llama 3.1 70B", "Instruct, 3.3 Instruct"): same("llama-3-70b"),
    ("Llama 3.1 405B", "Instruct"): same("llama-3.1-405b"),
    ("Llama 3.1 405B", "Instruct-FP8"): lambda: (shapes("llama-3.1-405b"), of_fbgemm(shapes("llama-3.1-405b"))),
    ("Llama 3.1 8B", "Tulu 3"): lambda: (shapes("llama-3-8b"), more_rows(shapes("llama-3-8b"), 128264)),
    ("Llama 3.2 1B", "Instruct"): same("llama-3.2-1b"),
    ("Llama 3.2 1B", "one that stores its head"): lambda: (shapes("llama-3.2-1b"), shapes("llama-3.2-1b") | HEAD),
    ("Llama 3.2 1B that stores its head", "one that does not"):
        lambda: (shapes("llama-3.2-1b") | HEAD, shapes("llama-3.2-1b")),
    ("Mixtral 8x22B", "Instruct"): same("mixtral-8x22b"),
    ("Qwen3 8B Base", "Qwen3 8B"): same("qwen3-8b"),
    ("Qwen3 30B-A3B Base", "Qwen3 30B-A3B"): same("qwen3-30b-a3b"),
    ("Qwen3 30B-A3B Base, fused", "Qwen3 30B-A3B, fused"):
        lambda: (fused(shapes("qwen3-30b-a3b")), fused(shapes("qwen3-30b-a3b"))),
    ("Qwen3 30B-A3B Base", "Qwen3 30B-A3B, fused"): lambda: (shapes("qwen3-30b-a3b"), fused(shapes("qwen3-30b-a3b"))),
    ("Qwen3 30B-A3B Base, fused", "Qwen3 30B-A3B"): lambda: (fused(shapes("qwen3-30b-a3b")), shapes("qwen3-30b-a3b")),
    ("DeepSeek V3 Base", "V3, R1"): same(*V3),
    ("DeepSeek V3 Base", "V3 in BF16"): lambda: (shapes(*V3), dense(shapes(*V3))),
    ("DeepSeek V3 Base", "V3 without its MTP layer"): lambda: (shapes(*V3), without(shapes(*V3), r"layers\.61\.")),
    ("Kimi K2 Base", "Instruct"): same(*K2),
    ("Gemma 3 27B pt", "it"): same("gemma-3-27b"),
    ("Gemma 3 27B pt", "it, text alone"): of_gemma(text_of),
    ("Gemma 3 27B pt", "it, saved by transformers 5"):
        of_gemma(lambda table: renamed(table, (r"^language_model\.model\.", "language_model."), ("^", "model."))),
    ("OLMo 2 7B", "Instruct"): lambda: (as_dtype(shapes("olmo-2-7b"), "F32"), shapes("olmo-2-7b")),
    ("OLMo 2 32B", "Instruct"): same("olmo-2-32b"),
    ("Apertus 8B", "Instruct"): same("apertus-8b"),
    ("Apertus 70B", "Instruct"): same("apertus-70b"),
}
CONFIGS = {("Llama 3.2 1B", "one that stores its head"): (TIED, b"{}"),
           ("Llama 3.2 1B that stores its head", "one that does not"): (TIED, TIED)}
REFUSED = {  # what the page says of it, and the words of the error
    "Kimi K2 Thinking": (lambda: (shapes(*K2), int4(shapes(*K2))), (), "packed weights of 4 bits"),
    "gpt-oss": (lambda: (shapes("llama-3.2-1b"), {"model.layers.0.mlp.experts.gate_up_proj_blocks": ("U8", [32, 5760, 90, 16]),
                                                  "model.layers.0.mlp.experts.gate_up_proj_scales": ("U8", [32, 5760, 90])}),
                (), "MXFP4"),
    "without `--extra-rows copy`": (MADE["Llama 3.1 8B", "Tulu 3"], (), "--extra-rows copy"),
    "without `--unpaired copy`": (MADE["DeepSeek V3 Base", "V3 without its MTP layer"], (), "--unpaired copy"),
}


class ModelsTest(LoxTest):
    def planned(self, made, options, configs=(b"{}", b"{}")):
        for side, table, config in zip(("base", "aligned"), made(), configs):
            headers.write(self.directory / side, table, config)
        try:
            return self.lox("plan", "--base", "base", "--aligned", "aligned", "--output", "out", "--ranks", 64, "--json",
                            *options, code=None)
        finally:
            for side in ("base", "aligned"):
                shutil.rmtree(self.directory / side)

    def test_the_page_has_these_rows(self):
        self.assertEqual(set(ROWS), set(MADE))
        for words in REFUSED:
            self.assertIn(words, " ".join(PAGE.split()))

    def test_every_row_is_planned(self):
        for pair, made in MADE.items():
            with self.subTest(pair):
                options, edited, copied = ROWS[pair]
                words = [word for option in re.findall("`([^`]+)`", options) for word in shlex.split(option)]
                result = self.planned(made, words, CONFIGS.get(pair, (b"{}", b"{}")))
                self.assertIn(result.code, (0, NO_ROOM), result.err)
                actions = {item["name"]: item["action"] for item in json.loads(result.out)["items"]}
                table = made()[1]
                scales = {name for name in table if re.search(r"_scale(_inv|_ub)?$", name)}
                self.assertEqual(set(actions), set(table) - scales)
                matrices = {name for name, (_, shape) in table.items() if len(shape) > 1} - scales
                self.assertLessEqual({name for name, action in actions.items() if action == "edited"}, matrices)
                self.assertEqual((sum(action == "edited" for action in actions.values()),
                                  sum(action == "copied" for action in actions.values())), (edited, copied))

    def test_what_is_refused(self):
        for pair, (made, words, fact) in REFUSED.items():
            with self.subTest(pair):
                result = self.planned(made, words)
                self.assertEqual(result.code, BAD_INPUT)
                self.assertEqual(len(result.lines), 1)
                self.assertIn(fact, result.err)

    def test_names_are_those_of_public_indexes(self):
        """SHA-256 of the sorted names in model.safetensors.index.json of the models and of their derivatives."""
        for shape, count, digest in (("mixtral-8x22b", 1739, "4d6ee2d89adb5606"), ("llama-3-70b", 723, "65cfe7d56c623b11"),
                                     ("gemma-3-27b", 1247, "2a0c27271444eec9"), ("llama-3.2-3b", 254, "692a05e5d1969b96")):
            names = sorted(shapes(shape))
            self.assertEqual(len(names), count)
            self.assertEqual(hashlib.sha256("\n".join(names).encode()).hexdigest()[:16], digest, shape)


if __name__ == "__main__":
    unittest.main()
