// SPDX-License-Identifier: MIT
// What the pages are made of: reports of real runs, and others made up where a run does not give them.
import {execFileSync} from "node:child_process";
import {readFileSync, statSync, writeFileSync} from "node:fs";
import {resolve} from "node:path";

export const read = name => JSON.parse(readFileSync(name, "utf8"));
export const write = (name, json) => writeFileSync(name, JSON.stringify(json));

/** Makes a page of files with lox; returns its address. */
export function pageOf(page, ...files) {
  execFileSync(process.env.LOX, ["report", ...files, "--html", page]);
  return `file://${resolve(page)}`;
}
export const sizeOf = page => statSync(page).size;

export const hostile = [
  "<img src=x onerror=pwned=1>", "</script><script>pwned=1</script>", "<!--<script>pwned=1", "a\u2028b\u2029c",
  "__proto__", "constructor", "\"quoted\" & 'so'", "${pwned=1}", "javascript:pwned=1", "\u202emirrored", "", " ",
  "model.layers.7.<b>bold</b>.weight", "x".repeat(3000), "model.layers.99999999999999999999.weight",
];

/** The report with one tensor for each hostile name, half of them copied; paths are hostile, too. */
export function hostileReport(report) {
  const edited = report.tensors.find(tensor => tensor.action === "edited");
  const copied = report.tensors.find(tensor => tensor.action === "copied");
  const [first] = hostile;
  return {...report, lox: first, job: {...report.job, output: first, include: [first]},
    made: {...report.made, host: first, paths: {base: first}},
    tensors: hostile.map((name, i) => ({...(i % 3 === 2 ? copied : edited), name, dtype: i ? "BF16" : first}))};
}

/** Something between 0 and 1 that looks like chance and is the same each time. */
let state = 1;
export function chance() {
  state = (state * 1103515245 + 12345) % 2147483648;
  return state / 2147483648;
}

/** As large as a report of a 70B model: 80 layers of 7 matrices and 2 norms. */
export function largeReport(report, k) {
  const edited = report.tensors.find(tensor => tensor.action === "edited");
  const copied = report.tensors.find(tensor => tensor.action === "copied");
  const tensor = name => ({...edited, name, shape: [28672, 8192], k,
    sigma: Array.from({length: k}, (_, i) => (1 + chance()) / (i + 1)), certificate: 1e-5 * chance(),
    orthogonality: 1e-7 * chance(), missed: {epsilon: chance() / 2, probability: 1e-9}, delta_norm: 30 * chance(),
    energy: chance(), edit_norm: 10 * chance(), realised: chance(), changed: chance(),
    seconds: {read: chance(), svd: chance(), write: chance()}});
  const tensors = [tensor("model.embed_tokens.weight"), tensor("lm_head.weight"),
    {...copied, name: "model.norm.weight"}];
  const modules = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
    "mlp.up_proj", "mlp.down_proj"];
  for (let layer = 0; layer < 80; ++layer) {
    for (const module of modules) tensors.push(tensor(`model.layers.${layer}.${module}.weight`));
    for (const norm of ["input", "post_attention"])
      tensors.push({...copied, name: `model.layers.${layer}.${norm}_layernorm.weight`});
  }
  return {...report, tensors};
}

/** What `lox analyze` tells: no job of harden, numbers by k and by tuned model. */
export function analysis(report) {
  const by = () => ({1: chance(), 6: chance()});
  return {lox: report.lox, job: {k: [1, 6], base: "base", aligned: "aligned", tuned: ["tuned"]},
    tensors: report.tensors.filter(one => one.action === "edited").map(({name, shape, sigma, delta_norm}) => ({name, shape,
      sigma, delta_norm, weight_norm: 100 + chance(), stable_rank: 2 + chance(), energy: by(), r_align: by(),
      tuned: [{model: "tuned <model>", delta_norm: chance(), r_ft: by(), overlap_left: by(),
        overlap_right: by()}]})),
    totals: {tensors: 1, r_align_mean: 0.25}};
}

/** A report with a batch of matrices in one tensor, as of fused experts. */
export function batchReport(report) {
  const edited = report.tensors.find(tensor => tensor.action === "edited" && tensor.sigma.length);
  const batch = [1, 2, 3].map(i => ({...edited, sigma: edited.sigma.map(s => i * s)}));
  return {...report, tensors: [{...edited, name: "experts", shape: [3, ...edited.shape], sigma: [], batch}]};
}

export const landscape = ["seed,direction,a,b,asr"];
for (const seed of [0, 1]) {
  for (const a of [-1, -0.5, 0]) {
    for (const b of [0, 2]) landscape.push(`${seed},"tuned, ""so""",${a},${b},${10 * a + b + 4 * seed}`);
  }
}
export const sweep = ["coef,attack,step,asr", "0.5,mix,0,1", "0.5,mix,20,40", "0.25,mix,0,2", "0.25,mix,20,60"];
