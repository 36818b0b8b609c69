// SPDX-License-Identifier: MIT
// What was done, what to look at first, where the time went.

function tiles(pairs) {
  return make("dl", {class: "tiles"}, pairs.filter(([, value]) => value !== null).map(([label, value, more]) =>
    make("div", {class: "tile"}, make("dt", {}, label), make("dd", {}, value, more ? make("small", {}, more) : null))));
}

function pairsList(pairs) {
  return make("dl", {class: "pairs"}, pairs.filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([label, value]) => [make("dt", {}, label), make("dd", {}, String(value))]));
}

function dateText(date) {
  const time = Date.parse(date);
  return Number.isNaN(time) ? date : `${new Date(time).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function drawSummary(place, report) {
  const {job, totals, made} = report;
  const paths = made.paths || {};
  const worked = totals.factored ? "factored" : "edited";
  const numbers = [
    ["k", job.k !== undefined ? [job.k].flat().map(numberText).join(", ") : null], ["coef", isNumber(job.coef) ? numberText(job.coef) : null],
    [`tensors ${worked}`, isNumber(totals[worked]) ? String(totals[worked]) : null,
      isNumber(totals.copied) ? `${totals.copied} copied` : null],
    ["time", isNumber(totals.seconds) ? secondsText(totals.seconds) : null,
      isNumber(totals.ranks) ? `${totals.ranks} ${totals.ranks === 1 ? "rank" : "ranks"}` : null],
    ["read", isNumber(totals.bytes_read) ? bytesText(totals.bytes_read) : null],
    ["written", isNumber(totals.bytes_written) ? bytesText(totals.bytes_written) : null],
    ["peak memory of a rank", isNumber(totals.peak_rss_bytes) ? bytesText(totals.peak_rss_bytes) : null],
  ];
  const machine = made.host && `${made.host}, ${made.nodes} ${made.nodes === 1 ? "node" : "nodes"}, ` +
    `${made.threads} ${made.threads === 1 ? "thread" : "threads"} a rank`;
  const facts = [
    ["date", made.date && dateText(made.date)], ["machine", machine], ["Slurm job", made.slurm_job],
    ["lox", report.lox],
    ...["base", "aligned", "factors", "output"].map(name => [name, paths[name] || job[name]]),
    ["method", job.svd && `${job.svd}, tolerance ${numberText(job.tolerance)}`], ["seed", job.seed],
    ["only", (job.include || []).join(", ")], ["left out", (job.exclude || []).join(", ")],
    ...Object.entries(totals).filter(([, value]) => typeof value !== "object" && !report.job.output)
      .map(([key, value]) => [key, isNumber(value) ? numberText(value) : value]),
  ];
  const versions = Object.entries(made.versions || {});
  place.append(tiles(numbers), pairsList(facts));
  if (versions.length)
    place.append(make("details", {}, make("summary", {}, "Versions of the libraries"), pairsList(versions)));
}

function nameList(tensors) {
  return make("details", {}, make("summary", {}, tensors.length === 1 ? "Its name" : "Their names"),
    make("ul", {class: "names"}, tensors.map(tensor => make("li", {class: "name"}, tensor.name))));
}

/** One thing to look at. `tensor`: whose value it is, if it is one's. */
function card(title, big, text, tensor, open) {
  return make("div", {class: "card"}, make("h3", {}, title), make("p", {class: "big"}, big),
    tensor ? make("p", {class: "name"}, nameText(tensor.name)) : null, make("p", {class: "soft"}, text),
    tensor ? make("button", {type: "button", on: {click: () => open(tensor.name)}}, "Show in the table") : null);
}

function drawFirst(place, report, open) {
  const cards = [];
  const add = (title, key, sign, explain) => {
    const metric = report.metric(key);
    const tensor = metric && report.extreme(metric.value, sign);
    if (tensor) cards.push(card(title, metric.text(metric.value(tensor)), explain(metric.value(tensor)), tensor, open));
  };
  const {tolerance} = report.job;
  add("Worst certificate", "certificate", -1, value => (isNumber(tolerance)
    ? `${value < tolerance / 100 ? "below 1" : (100 * value / tolerance).toFixed(0)}% of the tolerance, ` +
      numberText(tolerance)
    : "largest residual of the triplets"));
  add("Lowest realised", "realised", 1,
    () => "the share of its edit that survives rounding; far below 100%: it is too small for the dtype");
  const energy = report.metric("energy") || report.metrics.find(metric => metric.key.startsWith("energy/"));
  add("Lowest energy", energy?.key, 1, () => "share of |Δ|² that the top k singular values hold");
  add("Largest change", "relative", -1, () => "of the aligned weights against the base, relative to their size");
  const open_ends = report.worked.filter(tensor => tensor.settled === false);
  if (open_ends.length) {
    cards.push(make("div", {class: "card"}, make("h3", {}, "Not settled"),
      make("p", {class: "big warn"}, String(open_ends.length)),
      make("p", {class: "soft"},
        "s_k and s_k+1 are equal as far as arithmetic tells: the last digits of the edit are open"),
      nameList(open_ends)));
  }
  const left = {
    "have one dimension or none": report.copied.filter(t => t.shape.length < 2),
    "did not change between base and aligned": report.copied.filter(t => t.shape.length > 1 && t.delta_norm === 0),
    "are left out, or of integers": report.copied.filter(t => t.shape.length > 1 && t.delta_norm !== 0),
  };
  if (report.copied.length) {
    cards.push(make("div", {class: "card"}, make("h3", {}, "Left alone"),
      make("p", {class: "big"}, `${report.copied.length} tensors`),
      Object.entries(left).filter(([, tensors]) => tensors.length)
        .map(([why, tensors]) => [make("p", {class: "soft"}, `${tensors.length} ${why}`), nameList(tensors)])));
  }
  place.append(make("div", {class: "cards"}, cards));
}

/** Shares of a sum as a bar and in words. */
function shareBar(caption, parts) {
  const all = parts.reduce((sum, [, value]) => sum + value, 0);
  if (!(all > 0)) return null;
  const palette = COLOURS[darkMode.matches ? "dark" : "light"];
  return [make("h3", {}, caption), make("div", {class: "bar", role: "presentation"}, parts.map(([, value], i) =>
    make("span", {style: {width: `${100 * value / all}%`, background: palette[i]}}))),
  make("dl", {class: "tiles"}, parts.map(([label, value], i) => make("div", {class: "tile"},
    make("dt", {}, make("span", {"aria-hidden": "true", style: {color: palette[i]}}, "■ "), label),
    make("dd", {}, percentText(value / all), make("small", {}, secondsText(value))))))];
}

function drawTime(place, {totals}) {
  const rank = totals.rank_seconds || {};
  const grid = totals.grid_seconds || {};
  const some = (from, names) => names.filter(name => from[name] > 0).map(name => [name, from[name]]);
  const shown = [
    shareBar("A rank's time, summed over ranks", some(rank, ["solving", "waiting", "idle"])),
    shareBar("Beside it, in other threads", some(rank, ["reading", "writing"])),
    shareBar("Matrices that all ranks solved together",
      some(grid, ["products", "communication", "orthonormalisation", "redistribution"])),
  ].filter(Boolean);
  place.hidden = shown.length === 0;
  place.append(...shown.flat(), make("p", {class: "soft"},
    "Waiting is the solver's for files; idle, from a rank's own end to the last rank's."));
}
