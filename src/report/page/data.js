// SPDX-License-Identifier: MIT
// What was given: reports and analyses of lox, and tables of comma-separated values.

/** Tensors come as {columns, rows}, to say each key once; null where a tensor has not got it. */
function unpack({columns, rows}) {
  const given = row => columns.map((key, i) => [key, row[i]]).filter(([, value]) => value !== null);
  return rows.map(row => {
    const tensor = Object.fromEntries(given(row));
    for (const list of ["sigma", "tuned"]) {
      if (!Array.isArray(tensor[list])) delete tensor[list];
    }
    return tensor;
  });
}

/** The first number in a name is the layer; the module is the rest, with stars for numbers. */
function placeOf(name) {
  let layer = null;
  const parts = name.split(".").map(part => {
    if (!/^\d{1,9}$/.test(part)) return part;
    if (layer === null) layer = Number(part);
    return "*";
  });
  return {layer, module: parts.join(".")};
}

/** Modules by short names: without what all of them begin and end with. */
function shortNames(modules) {
  const parts = modules.map(module => module.split("."));
  const shortest = least(parts.map(part => part.length)) - 1;
  let front = 0;
  while (front < shortest && parts.every(part => part[front] === parts[0][front])) ++front;
  let back = 0;
  while (back < shortest - front && parts.every(part => part.at(-1 - back) === parts[0].at(-1 - back))) ++back;
  const names = parts.map(part => part.slice(front, part.length - back).join("."));
  return new Map(modules.map((module, i) => [module, names[i]]));
}

const ratio = (a, b) => (isNumber(a) && isNumber(b) && b > 0 ? a / b : null);

const MEANS = {
  mean: values => values.reduce((sum, value) => sum + value, 0) / values.length,
  highest: largest,
  lowest: least,
  median: values => {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  },
};

/** All that may be known of a tensor as one number. `of` tells how several tensors make one. */
const METRICS = [
  {key: "realised", edit: true, label: "realised", title: "share of the edit that survives rounding to the dtype",
    of: "lowest", text: percentText, value: t => t.realised},
  {key: "energy", label: "energy", title: "share of |Δ|² in its top k singular values", of: "mean",
    text: percentText, value: t => (isNumber(t.energy) ? t.energy : null)},
  {key: "relative", label: "|Δ| / |W|", title: "size of Delta against the aligned weights", of: "mean",
    text: numberText, value: t => ratio(t.delta_norm, t.weight_norm)},
  {key: "delta_norm", label: "|Δ|", title: "Frobenius norm of Delta, aligned minus base", of: "mean",
    text: numberText, value: t => t.delta_norm},
  {key: "stable_rank", label: "stable rank", title: "|Δ|² / s₁²", of: "mean", text: numberText,
    value: t => t.stable_rank ?? (t.matrices ? null : ratio(t.delta_norm ** 2, t.sigma && t.sigma[0] ** 2))},
  {key: "share", edit: true, label: "edit / |Δ|", title: "size of the edit against Delta", of: "mean",
    text: numberText, value: t => ratio(t.edit_norm, t.delta_norm)},
  {key: "changed", edit: true, label: "changed", title: "share of entries that differ from the aligned model's",
    of: "mean", text: percentText, value: t => t.changed},
  {key: "certificate", label: "certificate", title: "worst residual of the singular triplets", of: "highest",
    text: numberText, value: t => t.certificate},
];

/** Further ones, of an analysis: by k, and for each tuned model. */
function furtherMetrics(tensors) {
  const found = new Map();
  const add = (key, label, title, value) => {
    if (!found.has(key)) found.set(key, {key, label, title, of: "mean", text: percentText, value});
  };
  const byK = (t, of, label, title, get) => {
    for (const k of Object.keys(get(t) || {})) {
      add(`${of}/${k}`, `${label}, k = ${k}`, title, other => {
        const value = (get(other) || {})[k];
        return isNumber(value) ? value : null;
      });
    }
  };
  for (const t of tensors) {
    if (typeof t.energy === "object") byK(t, "energy", "energy", "share of |Δ|² in its top k", o => o.energy);
    byK(t, "r_align", "R_align", "|U_kᵀ Δ| / |Δ|", o => o.r_align);
    (t.tuned || []).forEach((tuned, i) => {
      const model = tuned.model ?? String(i + 1);
      byK(t, `r_ft/${i}`, `R_ft of ${model}`, "how much of the tuned model lies in the aligned subspace",
        o => o.tuned && o.tuned[i] && o.tuned[i].r_ft);
      for (const side of ["left", "right"]) {
        byK(t, `${side}/${i}`, `${side} overlap with ${model}`, "of the top-k subspaces of both deltas",
          o => o.tuned && o.tuned[i] && o.tuned[i][`overlap_${side}`]);
      }
    });
  }
  return [...found.values()];
}

class Report {
  constructor(name, json) {
    this.name = name;
    this.job = json.job || {};
    this.totals = json.totals || {};
    this.made = json.made || {};
    this.lox = json.lox;
    this.tensors = unpack(json.tensors).map((tensor, order) => ({...tensor, ...placeOf(tensor.name), order}));
    this.worked = this.tensors.filter(tensor => tensor.action !== "copied");
    this.copied = this.tensors.filter(tensor => tensor.action === "copied");
    this.metrics = [...METRICS, ...furtherMetrics(this.worked)].filter(metric =>
      !(this.isStore && metric.edit) && this.worked.some(tensor => isNumber(metric.value(tensor))));
    this.modules = [...new Set(this.worked.filter(t => t.layer !== null).map(t => t.module))];
    this.short = this.modules.length ? shortNames(this.modules) : new Map();
    this.layers = [...new Set(this.worked.map(t => t.layer).filter(layer => layer !== null))].sort((a, b) => a - b);
  }
  metric(key) {
    return this.metrics.find(metric => metric.key === key);
  }
  /** Several tensors as one number; null if none has it. */
  combined(metric, tensors) {
    const values = tensors.map(metric.value).filter(isNumber);
    return values.length ? MEANS[metric.of](values) : null;
  }
  /** The tensor with the largest or smallest value; undefined if none has one. */
  extreme(value, sign) {
    return this.worked.filter(t => isNumber(value(t))).sort((a, b) => sign * (value(a) - value(b)))[0];
  }
  get label() {
    return this.job.output || this.job.aligned || this.name;
  }
  get isStore() {
    return this.worked.some(tensor => tensor.action === "factored");
  }
}

/** Fields of a line of comma-separated values; quotes as in RFC 4180. */
function csvRows(text) {
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length; ++i) {
    const c = text[i];
    if (quoted) {
      if (c === '"' && text[i + 1] === '"') {
        cell += c;
        ++i;
      } else if (c === '"') quoted = false;
      else cell += c;
    } else if (c === '"') quoted = true;
    else if (c === "," || c === "\n") {
      row.push(cell.replace(/\r$/, ""));
      cell = "";
      if (c === "\n") rows.push(row.splice(0));
    } else cell += c;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return rows.filter(one => one.length > 1 || one[0] !== "");
}
