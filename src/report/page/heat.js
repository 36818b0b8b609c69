// SPDX-License-Identifier: MIT
// Heat maps: tables whose cells have colours, so that keyboard and screen reader find their way in them.

/** Dark to bright, told apart without red and green too. */
const RAMP = [[38, 26, 92], [38, 84, 140], [33, 137, 140], [83, 185, 107], [230, 222, 70]];

function rampColour(x) {
  const at = Math.min(Math.max(x, 0), 1) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${RAMP[i].map((from, c) => Math.round(from + (RAMP[i + 1][c] - from) * (at - i))).join(",")})`;
}

/** Where values lie between the least and the largest; by their logarithms if they span much. */
class Scale {
  constructor(values, linear = false) {
    const known = values.filter(isNumber);
    this.low = least(known);
    this.high = largest(known);
    this.log = !linear && this.low > 0 && this.high / this.low > 50;
  }
  at(value) {
    if (this.high === this.low) return 0.5;
    if (this.log) return Math.log(value / this.low) / Math.log(this.high / this.low);
    return (value - this.low) / (this.high - this.low);
  }
  legend(text) {
    const stops = RAMP.map((_, i) => rampColour(i / (RAMP.length - 1))).join(", ");
    return make("p", {class: "legend"}, text(this.low),
      make("span", {class: "ramp", style: {background: `linear-gradient(to right, ${stops})`}}), text(this.high),
      this.log ? " (logarithmic)" : "");
  }
}

/**
 * A grid of coloured cells: {caption, rows, columns, corner, cell(row, column)}; a cell is null or {value, text, open}.
 * Arrow keys move in it, Enter and a click call `open`.
 */
function heatGrid({caption, rows, columns, corner, cell, scale, every, wide}) {
  const cells = [];
  const head = columns.map((column, i) => make("th", {scope: "col"},
    make("div", {class: i % every ? "hidden" : null}, String(column))));
  const body = rows.map((row, r) => {
    cells.push([]);
    return make("tr", {}, make("th", {scope: "row", class: "name"}, row), columns.map((column, c) => {
      const found = cell(r, c);
      const box = make("td", {tabindex: "-1", "aria-label": found ? found.text : "none",
        class: found ? null : "empty", style: found ? {background: rampColour(scale.at(found.value))} : null});
      if (found) {
        box.addEventListener("mouseenter", () => tip.show(box, found.text));
        box.addEventListener("focus", () => tip.show(box, found.text));
        box.addEventListener("click", () => found.open && found.open());
      }
      cells[r].push(box);
      return box;
    }));
  });
  const table = make("table", {class: wide ? "heat wide" : "heat", role: "grid", "aria-label": caption},
    make("thead", {}, make("tr", {}, make("th", {scope: "col"}, make("span", {class: "hidden"}, corner)), head)),
    make("tbody", {}, body));
  const move = (event) => {
    const r = cells.findIndex(row => row.includes(event.target));
    if (r < 0) return;
    const c = cells[r].indexOf(event.target);
    const steps = {ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
      Home: [r, 0], End: [r, cells[r].length - 1]};
    if (event.key === "Enter") event.target.click();
    if (event.key === "Escape") tip.hide();
    const to = steps[event.key] && cells[steps[event.key][0]]?.[steps[event.key][1]];
    if (!to) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  table.addEventListener("keydown", move);
  table.addEventListener("mouseleave", tip.hide);
  table.addEventListener("focusout", tip.hide);
  const first = cells.flat().find(box => !box.classList.contains("empty")) || cells.flat()[0];
  if (first) first.tabIndex = 0;
  return make("div", {class: "scroll"}, table);
}

/** The heat map of a report by one of its metrics, and what lies outside of the layers. `open` is given names. */
function reportHeat(report, metric, open) {
  const at = new Map();
  for (const tensor of report.worked) {
    const key = `${tensor.layer}/${tensor.module}`;
    if (!at.has(key)) at.set(key, []);
    at.get(key).push(tensor);
  }
  const cellOf = (tensors, name) => {
    const value = tensors ? report.combined(metric, tensors) : null;
    if (value === null) return null;
    const what = tensors.length > 1 ? `${name}\n${metric.of} of ${tensors.length} tensors, ` : `${tensors[0].name}\n`;
    return {value, text: `${what}${metric.label} ${metric.text(value)}`,
      open: () => open(tensors.length > 1 ? name : tensors[0].name)};
  };
  const grid = report.modules.map(module => report.layers.map(layer =>
    cellOf(at.get(`${layer}/${module}`), module.replace("*", String(layer)))));
  const outside = report.worked.filter(tensor => tensor.layer === null).map(tensor => cellOf([tensor], tensor.name));
  const scale = new Scale([...grid.flat(), ...outside].filter(Boolean).map(found => found.value));
  const parts = [];
  if (report.modules.length) {
    parts.push(heatGrid({caption: `${metric.label} by module and layer`, corner: "module",
      rows: report.modules.map(module => report.short.get(module)), columns: report.layers, scale,
      every: Math.ceil(report.layers.length / 16), cell: (r, c) => grid[r][c]}));
  }
  if (outside.some(Boolean)) {
    const rows = report.worked.filter(tensor => tensor.layer === null).map((tensor, i) => make("tr", {},
      make("th", {scope: "row", class: "name"}, tensor.name),
      make("td", {class: outside[i] ? null : "empty",
        style: outside[i] ? {background: rampColour(scale.at(outside[i].value))} : null}),
      make("td", {class: "value"}, outside[i] ? metric.text(outside[i].value) : "–")));
    parts.push(make("h3", {}, "Outside of the layers"),
      make("div", {class: "scroll"}, make("table", {class: "heat outside"},
        make("caption", {class: "hidden"}, `${metric.label} outside of the layers`), make("tbody", {}, rows))));
  }
  return [make("p", {class: "soft"}, `${metric.title}. Columns are layers, rows modules.`), scale.legend(metric.text),
    ...parts];
}
