// SPDX-License-Identifier: MIT
// Lines, drawn by uPlot, each plot with its numbers as a table.

const COLOURS = {
  light: ["#0060b0", "#c25000", "#00805a", "#a0307a", "#6a51c9", "#8a6a00", "#007f94", "#b0202c"],
  dark: ["#6db6ff", "#ff9d52", "#45d19f", "#f08bcb", "#b09cff", "#dcb83c", "#4fd0e3", "#ff8f8f"],
};
const darkMode = window.matchMedia("(prefers-color-scheme: dark)");
const DASHES = [[], [6, 3], [2, 3]];

const variable = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * Lines over x: {title, xLabel, yLabel, x, lines: [{label, y, depth}], log, text}. `depth` from 0 to 1 takes the colour
 * from the ramp instead. Returns an element that draws itself when it is in the page.
 */
class Plot {
  constructor(options) {
    this.options = options;
    this.place = make("div", {class: "plot", role: "img",
      "aria-label": `${options.title}; its numbers follow as a table`});
    this.reading = make("p", {class: "soft"}, "\u00a0");
    const {x, lines, xLabel, text = numberText} = options;
    this.element = make("div", {}, make("h3", {}, options.title), this.place, this.reading,
      make("details", {}, make("summary", {}, "The numbers of this plot"),
        plainTable(`${options.title}: ${options.yLabel} by ${xLabel}`, [xLabel, ...lines.map(line => line.label)],
          x.map((at, i) => [numberText(at), ...lines.map(line => text(line.y[i]))]))));
  }
  draw() {
    this.drawn?.destroy();
    const {xLabel, yLabel, x, lines, log, text = numberText} = this.options;
    const many = lines.length > 12;
    const palette = COLOURS[darkMode.matches ? "dark" : "light"];
    const axis = (label, more) => ({label, stroke: variable("--ink"), grid: {stroke: variable("--line"), width: 1},
      ticks: {stroke: variable("--line")}, font: "12px system-ui", labelFont: "13px system-ui", ...more});
    const series = lines.map((line, i) => {
      const colour = isNumber(line.depth) ? rampColour(line.depth) : palette[i % palette.length];
      return {label: line.label, stroke: colour, width: many ? 1 : 2, spanGaps: false,
        points: {show: x.length < 40, fill: variable("--back")},
        dash: isNumber(line.depth) ? [] : DASHES[Math.floor(i / palette.length) % DASHES.length],
        value: (_, value) => text(value)};
    });
    const tick = value => (text === percentText ? `${Number((100 * value).toPrecision(4))}%` : text(value));
    const positive = value => (isNumber(value) && (!log || value > 0) ? value : null);
    const span = x.at(-1) - x[0] || 1;
    this.drawn = new uPlot({
      width: Math.max(280, this.place.clientWidth), height: 320,
      scales: {x: {time: false, range: [x[0] - span * 0.02, x.at(-1) + span * 0.02]}, y: log ? {distr: 3} : {}},
      axes: [axis(xLabel, x.length <= 20 ? {splits: () => x} : {}),
        axis(yLabel, {size: 70, values: (_, at) => at.map(value => (value === null ? "" : tick(value)))})],
      legend: {show: !many}, cursor: {focus: {prox: many ? 24 : -1}, drag: {x: false, y: false}},
      focus: {alpha: many ? 0.25 : 1},
      series: [{label: xLabel, value: (_, value) => numberText(value)}, ...series],
      hooks: {setSeries: [(plot, index) => this.read(plot, index)]},
    }, [x, ...lines.map(line => line.y.map(positive))], this.place);
  }
  read(plot, index) {
    if (!index || plot.cursor.idx === null || plot.cursor.idx === undefined) return;
    const {x, lines, xLabel, text = numberText} = this.options;
    const at = plot.cursor.idx;
    const line = lines[index - 1];
    this.reading.textContent = `${line.label}, ${xLabel} ${numberText(x[at])}: ${text(line.y[at])}`;
  }
}

/** Plots that stand in the page: drawn again when its width or its colours change. */
const plots = {
  live: new Map(),
  put(place, built) {
    for (const plot of this.live.get(place) || []) plot.drawn?.destroy();
    this.live.set(place, built);
    place.replaceChildren(...built.map(plot => plot.element));
    built.forEach(plot => plot.draw());
  },
  again() {
    for (const built of plots.live.values()) built.forEach(plot => plot.draw());
  },
};
darkMode.addEventListener("change", plots.again);
let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(plots.again, 150);
});

/** Singular values: medians of every module, or each layer of one. */
function spectraPlot(report, chosen, relative) {
  const has = tensor => tensor.sigma && tensor.sigma.length;
  const scaled = tensor => (relative ? tensor.sigma.map(s => s / tensor.sigma[0]) : tensor.sigma);
  const tensors = report.worked.filter(has);
  const most = largest(tensors.map(tensor => tensor.sigma.length));
  const x = Array.from({length: most}, (_, i) => i + 1);
  let lines;
  if (chosen) {
    const mine = tensors.filter(tensor => tensor.module === chosen);
    lines = mine.map((tensor, i) => ({label: tensor.layer === null ? tensor.name : `layer ${tensor.layer}`,
      y: x.map(at => scaled(tensor)[at - 1] ?? null), depth: mine.length > 1 ? i / (mine.length - 1) : null}));
  } else {
    lines = [...new Set(tensors.map(tensor => tensor.module))].map(module => {
      const mine = tensors.filter(tensor => tensor.module === module);
      return {label: report.short.get(module) || module, y: x.map(at => {
        const values = mine.map(tensor => scaled(tensor)[at - 1]).filter(isNumber);
        return values.length ? MEANS.median(values) : null;
      })};
    });
  }
  const title = chosen ? `Singular values of ${report.short.get(chosen) || chosen}, by layer`
    : "Singular values, median of each module";
  return new Plot({title, xLabel: "i", yLabel: relative ? "s_i / s_1" : "s_i", x, lines, log: true});
}
