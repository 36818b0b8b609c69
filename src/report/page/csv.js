// SPDX-License-Identifier: MIT
// Tables of comma-separated values: a sweep over parameters as lines, a landscape over a and b as a heat map.

const PARAMETERS = ["seed", "k", "coef", "step", "layer", "rank", "i", "a", "b"];

class Csv {
  constructor(name, text) {
    this.name = name;
    const [head = [], ...rows] = csvRows(text);
    this.columns = head;
    this.rows = rows.filter(row => row.length === head.length);
    this.numeric = head.filter((_, i) => this.rows.length && this.rows.every(row => row[i] !== "" && isFinite(row[i])));
    // What may have been chosen, not measured: words, and numbers with such a name.
    const few = head.filter((_, i) => new Set(this.rows.map(row => row[i])).size <= 40);
    this.choices = few.filter(name => !this.numeric.includes(name) || PARAMETERS.includes(name));
  }
  at(row, column) {
    return row[this.columns.indexOf(column)];
  }
  values(column) {
    const all = [...new Set(this.rows.map(row => this.at(row, column)))];
    if (this.numeric.includes(column)) return all.sort((a, b) => a - b);
    return all.sort((a, b) => a.localeCompare(b, "en", {numeric: true}));
  }
  /** Rows with these values of their columns. */
  where(filters) {
    const wanted = Object.entries(filters).filter(([, value]) => value !== "");
    return this.rows.filter(row => wanted.every(([column, value]) => this.at(row, column) === value));
  }
  mean(rows, column) {
    const values = rows.map(row => Number(this.at(row, column))).filter(isNumber);
    return values.length ? MEANS.mean(values) : null;
  }
}

const first = (wanted, there) => wanted.find(name => there.includes(name));

class CsvView {
  constructor(csv) {
    this.csv = csv;
    const {numeric, choices} = csv;
    this.map = numeric.includes("a") && numeric.includes("b");
    const x = this.map ? "a" : first(["step", "coef", "k", "i"], numeric) || numeric[0];
    const measured = numeric.filter(name => name !== x && !PARAMETERS.includes(name));
    const y = first(["asr", "energy", "benign"], measured) || measured[0] || x;
    const others = choices.filter(name => ![x, y].includes(name) && !(this.map && name === "b"));
    const series = this.map ? "" : first(["coef", "layer", "align", "attack"], others) || "";
    this.chosen = {x, y, series};
    this.filters = this.fullest(others.filter(name => name !== series), series);
    if (series) this.filters[series] = "";
    this.controls = make("div", {class: "controls"});
    this.place = make("div");
    this.element = make("div", {}, make("h3", {class: "name"}, csv.name), this.controls, this.place);
  }
  /** One value of each column, with which most is seen; of seeds all. */
  fullest(columns, series) {
    const filters = {};
    for (const column of columns) {
      filters[column] = "";
      if (column === "seed") continue;
      const lines = rows => new Set(rows.map(row => (series ? this.csv.at(row, series) : ""))).size;
      const seen = [...new Set(this.csv.where(filters).map(row => this.csv.at(row, column)))].map(value => {
        const rows = this.csv.where({...filters, [column]: value});
        return {value, lines: lines(rows), rows: rows.length};
      });
      seen.sort((p, q) => q.lines - p.lines || q.rows - p.rows);
      filters[column] = seen[0]?.value ?? "";
    }
    return filters;
  }
  draw() {
    const {csv, chosen, filters} = this;
    const again = change => {
      change();
      this.draw();
    };
    const names = list => list.map(name => [name, name]);
    const pick = (label, key, list) =>
      select(label, names(list), chosen[key], value => again(() => (chosen[key] = value)));
    const boxes = [pick(this.map ? "value" : "y", "y", csv.numeric)];
    if (!this.map) {
      boxes.unshift(pick("x", "x", csv.numeric));
      boxes.push(select("a line for each", [["", "nothing"], ...names(csv.choices)], chosen.series,
        value => again(() => (chosen.series = value))));
    }
    for (const name of Object.keys(filters)) {
      if (name === chosen.x || name === chosen.y || (!this.map && name === chosen.series)) continue;
      boxes.push(select(name, [["", "all (mean)"], ...csv.values(name).map(value => [value, value])], filters[name],
        value => again(() => (filters[name] = value))));
    }
    this.controls.replaceChildren(...boxes);
    if (this.map) this.drawMap();
    else plots.put(this.place, [this.lines()]);
  }
  active() {
    const {chosen, filters} = this;
    return Object.fromEntries(Object.entries(filters).filter(([name]) =>
      ![chosen.x, chosen.y, this.map ? "b" : chosen.series].includes(name)));
  }
  lines() {
    const {csv, chosen: {x, y, series}} = this;
    const rows = csv.where(this.active());
    const at = [...new Set(rows.map(row => Number(csv.at(row, x))))].sort((a, b) => a - b);
    const groups = series ? csv.values(series).filter(value => rows.some(row => csv.at(row, series) === value)) : [""];
    const lines = groups.map(value => {
      const mine = series ? rows.filter(row => csv.at(row, series) === value) : rows;
      return {label: series ? `${series} ${value}` : y,
        y: at.map(position => csv.mean(mine.filter(row => Number(csv.at(row, x)) === position), y))};
    });
    return new Plot({title: `${y} over ${x}`, xLabel: x, yLabel: y, x: at, lines, log: false});
  }
  drawMap() {
    const {csv, chosen: {y}} = this;
    const rows = csv.where(this.active());
    const as = csv.values("a").map(Number).sort((p, q) => p - q);
    const bs = csv.values("b").map(Number).sort((p, q) => q - p);
    const cells = bs.map(b => as.map(a => {
      const value = csv.mean(rows.filter(row => Number(csv.at(row, "a")) === a && Number(csv.at(row, "b")) === b), y);
      return value === null ? null : {value, text: `a ${numberText(a)}, b ${numberText(b)}: ${y} ${numberText(value)}`};
    }));
    const scale = new Scale(cells.flat().filter(Boolean).map(cell => cell.value), true);
    const grid = heatGrid({caption: `${y} over a and b`, corner: "b", rows: bs.map(b => `b ${numberText(b)}`),
      columns: as.map(numberText), scale, every: Math.ceil(as.length / 14), wide: true, cell: (r, c) => cells[r][c]});
    this.place.replaceChildren(make("p", {class: "soft"}, "Columns are a, rows b."), scale.legend(numberText), grid);
  }
}
