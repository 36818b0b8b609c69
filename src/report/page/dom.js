// SPDX-License-Identifier: MIT
// Elements, numbers as text, tables that sort. All text goes through text nodes: what a name holds stays text.

/** An element. Attributes: `class`, `on` (an object of listeners), properties that exist, else attributes. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "style") {
      Object.assign(element.style, value);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  // One by one: a call takes no hundred thousand arguments.
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

/** A tensor's name, which may break after its dots. */
const nameText = name => name.split(/(?<=\.)/).flatMap(part => [part, make("wbr")]);

const largest = values => values.reduce((a, b) => Math.max(a, b), -Infinity);
const least = values => values.reduce((a, b) => Math.min(a, b), Infinity);
const isNumber = value => typeof value === "number" && Number.isFinite(value);

function numberText(value) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "0";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(4)))
    : Number(value.toPrecision(3)).toExponential();
}
const percentText = value => (isNumber(value) ? `${(100 * value).toFixed(2)}%` : "–");
function bytesText(value) {
  if (!isNumber(value)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (value >= 1000 && unit + 1 < units.length) {
    value /= 1000;
    ++unit;
  }
  return `${unit ? value.toPrecision(3) : value} ${units[unit]}`;
}
function secondsText(value) {
  if (!isNumber(value)) return "–";
  if (value < 60) return `${Number(value.toPrecision(3))} s`;
  const minutes = Math.round(value / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A control under its label. */
let controls = 0;
function labelled(label, control) {
  control.id = `control-${++controls}`;
  return make("div", {}, make("label", {for: control.id}, label), control);
}

/** A choice with its label. `options`: pairs of value and text. */
function select(label, options, chosen, change) {
  const box = make("select", {on: {change: () => change(box.value)}},
    options.map(([value, text]) => make("option", {value, selected: value === chosen}, text)));
  return labelled(label, box);
}

/**
 * A table whose columns sort by a button in their heads. Columns: {label, title, value(row), text(row), name}; `value`
 * gives what is sorted by, null for none, which stays at the end either way. Shows at most `limit` rows at first.
 */
class SortableTable {
  constructor(caption, columns, limit) {
    this.columns = columns;
    this.limit = limit;
    this.rows = [];
    this.sorted = {column: null, down: false};
    this.heads = columns.map((column, i) => make("th", {scope: "col", class: column.name ? null : "number"},
      make("button", {type: "button", title: column.title, on: {click: () => this.sort(i)}}, column.label)));
    this.body = make("tbody");
    this.more = make("button", {type: "button", class: "more", on: {click: () => this.show(Infinity)}});
    const table = make("table", {class: "data"}, make("caption", {class: "hidden"}, caption),
      make("thead", {}, make("tr", {}, this.heads)), this.body);
    this.element = make("div", {}, make("div", {class: "scroll"}, table), this.more);
  }
  fill(rows) {
    this.rows = rows;
    this.show(this.limit);
  }
  sort(index) {
    const down = this.sorted.column === index ? !this.sorted.down : !this.columns[index].name;
    this.sorted = {column: index, down};
    this.heads.forEach((head, i) => {
      if (i === index) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.show(this.limit);
  }
  ordered() {
    if (this.sorted.column === null) return this.rows;
    const {value} = this.columns[this.sorted.column];
    const sign = this.sorted.down ? -1 : 1;
    return this.rows.map(row => [value(row), row]).sort(([a], [b]) => {
      if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
      if (b === null || b === undefined) return -1;
      return sign * (typeof a === "string" ? a.localeCompare(b, "en", {numeric: true}) : a - b);
    }).map(([, row]) => row);
  }
  show(limit) {
    const rows = this.ordered();
    this.body.replaceChildren(...rows.slice(0, limit).map(row => make("tr", {}, this.columns.map((column, i) =>
      make(i === 0 ? "th" : "td", {scope: i === 0 ? "row" : null, class: column.name ? "name" : "number"},
        column.text(row))))));
    this.more.hidden = rows.length <= limit;
    this.more.textContent = `Show all ${rows.length} rows`;
  }
}

/** A plain table. */
function plainTable(caption, head, rows) {
  return make("div", {class: "scroll"}, make("table", {class: "data"}, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, head.map((text, i) =>
      make("th", {scope: "col", class: i ? "number" : null}, text)))),
    make("tbody", {}, rows.map(row => make("tr", {}, row.map((cell, i) =>
      make(i ? "td" : "th", {scope: i ? null : "row", class: i ? "number" : null}, cell)))))));
}

/** The one tooltip of the page, beside an element. */
const tip = {
  show(element, text) {
    const box = document.getElementById("tip");
    box.textContent = text;
    box.hidden = false;
    const place = element.getBoundingClientRect();
    const left = Math.min(place.left, document.documentElement.clientWidth - box.offsetWidth - 8);
    box.style.left = `${Math.max(4, left) + window.scrollX}px`;
    box.style.top = `${place.bottom + 6 + window.scrollY}px`;
  },
  hide() {
    document.getElementById("tip").hidden = true;
  },
};
