// SPDX-License-Identifier: MIT
// The page: its sections for the report that is chosen, and what all reports have in common.

const DATA = JSON.parse(document.getElementById("data").textContent);
const reports = DATA.files.filter(file => file.report).map(file => new Report(file.name, file.report));
const tables = DATA.files.filter(file => typeof file.csv === "string").map(file => new Csv(file.name, file.csv));
const section = id => document.getElementById(id);

/** Empties a section but for its title. */
function fresh(id) {
  const place = section(id);
  place.replaceChildren(place.querySelector("h2"));
  place.hidden = false;
  return place;
}

const TENSOR_COLUMNS = [
  {label: "tensor", name: true, value: t => t.order, text: t => t.name},
  {label: "shape", name: true, title: "sorted by the number of entries", value: t => t.shape.reduce((a, b) => a * b, 1),
    text: t => t.shape.join(" × ") || "scalar"},
  {label: "dtype", name: true, value: t => t.dtype ?? null, text: t => t.dtype ?? "–"},
  {label: "done", name: true, value: t => t.action ?? null, text: t => t.action ?? "–"},
  {label: "method", name: true, value: t => t.method ?? null,
    text: t => (t.method ? `${t.method}, ${t.where}` : "–")},
  {label: "k", value: t => t.k ?? null, text: t => numberText(t.k)},
];
const LAST_COLUMNS = [
  {label: "iterations", value: t => t.iterations ?? null, text: t => numberText(t.iterations)},
  {label: "SVD time", title: "seconds of one rank", value: t => t.seconds?.svd ?? null,
    text: t => (t.seconds ? secondsText(t.seconds.svd) : "–")},
  {label: "s₁ … s_k", name: true, title: "singular values, sorted by the largest", value: t => t.sigma?.[0] ?? null,
    text: t => sigmaText(t)},
];

function sigmaText({sigma, matrices}) {
  if (!sigma || !sigma.length) return "–";
  const shown = sigma.length > 6 ? [...sigma.slice(0, 4).map(numberText), "…", numberText(sigma.at(-1))]
    : sigma.map(numberText);
  return shown.join("  ") + (matrices ? ` (means of ${matrices} matrices)` : "");
}

function drawTensors(report) {
  const place = fresh("tensors");
  const has = column => report.tensors.some(t => !["–", undefined].includes(column.text(t)));
  const columns = [...TENSOR_COLUMNS, ...report.metrics.map(metric => ({label: metric.label, title: metric.title,
    value: t => (t.action === "copied" ? null : metric.value(t) ?? null),
    text: t => (t.action === "copied" ? "–" : metric.text(metric.value(t)))})), ...LAST_COLUMNS].filter(has);
  const table = new SortableTable("Tensors, in the order of the model until a column is chosen", columns, 200);
  const count = make("p", {class: "soft", role: "status"});
  const search = make("input", {type: "search", autocomplete: "off", on: {input: () => filter()}});
  let action = "";
  const actions = [...new Set(report.tensors.map(t => t.action).filter(Boolean))];
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = report.tensors.filter(t => (!action || t.action === action) &&
      words.every(word => [t.name, t.method, t.where, t.dtype].join(" ").toLowerCase().includes(word)));
    table.fill(rows);
    count.textContent = `${rows.length} of ${report.tensors.length} tensors`;
  };
  place.append(make("div", {class: "controls"}, labelled("Search names, methods, dtypes", search),
    actions.length > 1 ? select("done", [["", "all"], ...actions.map(a => [a, a])], "", value => {
      action = value;
      filter();
    }) : null), count, table.element);
  filter();
  return name => {
    search.value = name;
    filter();
    search.focus({preventScroll: true});
    place.scrollIntoView();
  };
}

function drawHeat(report, open) {
  const place = fresh("heat");
  place.hidden = report.metrics.length === 0;
  if (place.hidden) return;
  const box = make("div");
  const draw = key => box.replaceChildren(...reportHeat(report, report.metric(key), open));
  place.append(make("div", {class: "controls"},
    select("Colour by", report.metrics.map(m => [m.key, m.label]), report.metrics[0].key, draw)), box);
  draw(report.metrics[0].key);
}

function drawSpectra(report) {
  const place = fresh("spectra");
  const modules = [...new Set(report.worked.filter(t => t.sigma && t.sigma.length).map(t => t.module))];
  place.hidden = modules.length === 0;
  const box = make("div");
  let chosen = "";
  let relative = false;
  const draw = () => plots.put(box, place.hidden ? [] : [spectraPlot(report, chosen, relative)]);
  place.append(make("div", {class: "controls"},
    select("Lines", [["", "median of each module"],
      ...modules.map(module => [module, `layers of ${report.short.get(module) || module}`])], "", value => {
      chosen = value;
      draw();
    }),
    select("Scale", [["", "s_i"], ["relative", "s_i / s_1"]], "", value => {
      relative = value !== "";
      draw();
    })), box);
  draw();
}

/** Several reports: a row each, and lines over coef or k if that is what they differ in. */
function drawSeveral() {
  const place = fresh("several");
  place.hidden = reports.length < 2;
  if (place.hidden) return;
  const over = (report, key, pick) => {
    const metric = report.metric(key);
    const values = metric ? report.worked.map(metric.value).filter(isNumber) : [];
    return values.length ? MEANS[pick](values) : null;
  };
  const column = (label, value, text = numberText, title) => ({label, title, value, text: row => text(value(row))});
  const columns = [{label: "report", name: true, value: r => r.label, text: r => r.label},
    column("k", r => r.job.k ?? null), column("coef", r => r.job.coef ?? null),
    column("tensors", r => r.worked.length),
    column("realised", r => over(r, "realised", "mean"), percentText, "mean over the tensors"),
    column("lowest", r => over(r, "realised", "lowest"), percentText, "lowest realised"),
    column("changed", r => over(r, "changed", "mean"), percentText, "mean over the tensors"),
    column("edit / |Δ|", r => over(r, "share", "mean"), numberText, "mean over the tensors"),
    column("energy", r => over(r, "energy", "mean"), percentText, "mean over the tensors"),
    column("certificate", r => over(r, "certificate", "highest"), numberText, "worst"),
    column("time", r => r.totals.seconds ?? null, secondsText), column("ranks", r => r.totals.ranks ?? null)];
  const table = new SortableTable("All reports of this page", columns, 200);
  table.fill(reports);
  const box = make("div");
  place.append(table.element, box);
  const by = ["coef", "k"].find(key => new Set(reports.map(r => r.job[key]).filter(isNumber)).size > 1);
  if (!by) return;
  const sorted = reports.filter(r => isNumber(r.job[by])).sort((a, b) => a.job[by] - b.job[by]);
  const line = (label, key, pick) => ({label, y: sorted.map(r => over(r, key, pick))});
  const lines = [line("realised, mean", "realised", "mean"), line("realised, lowest", "realised", "lowest"),
    line("changed, mean", "changed", "mean"), line("energy, mean", "energy", "mean")]
    .filter(one => one.y.some(isNumber));
  plots.put(box, [new Plot({title: `What becomes of the edit, by ${by}`, xLabel: by, yLabel: "share",
    x: sorted.map(r => r.job[by]), lines, log: false, text: percentText})]);
}

function drawReport(report) {
  document.title = `${report.label} – lox report`;
  document.querySelector("h1").textContent = report.label;
  const open = drawTensors(report);
  drawSummary(fresh("summary"), report);
  drawFirst(fresh("first"), report, open);
  drawHeat(report, open);
  drawSpectra(report);
  drawTime(fresh("time"), report);
}

function drawPage() {
  if (reports.length > 1) {
    section("choice").append(make("div", {class: "controls"}, select("Report", reports.map((report, i) =>
      [String(i), `${report.label}${report.name.startsWith(report.label) ? "" : ` (${report.name})`}`]), "0",
    value => {
      drawReport(reports[Number(value)]);
      drawNavigation();
    })));
  }
  if (reports.length) drawReport(reports[0]);
  else ["summary", "first", "heat", "spectra", "tensors", "time"].forEach(id => (section(id).hidden = true));
  drawSeveral();
  section("tables").hidden = tables.length === 0;
  for (const csv of tables) {
    const view = new CsvView(csv);
    section("tables").append(view.element);
    view.draw();
  }
  section("made").textContent = `Made by lox ${DATA.lox}. This page is one file; it loads nothing from anywhere.`;
  drawNavigation();
}

function drawNavigation() {
  section("sections").replaceChildren(...[...document.querySelectorAll("main > section")].filter(one => !one.hidden)
    .map(one => make("li", {}, make("a", {href: `#${one.id}`}, one.querySelector("h2").textContent))));
}

drawPage();
