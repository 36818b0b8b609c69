// SPDX-License-Identifier: MIT
// The page of `lox report --html` in a browser: what it shows against the JSON that it is made of. Run by run.sh.
import assert from "node:assert/strict";
import {writeFileSync} from "node:fs";
import {createRequire} from "node:module";
import {after, before, test} from "node:test";
import {analysis, batchReport, hostile, hostileReport, landscape, largeReport, pageOf, read, sizeOf, sweep, write}
  from "./given.mjs";

const {chromium} = createRequire(`${process.env.PLACE}/`)("playwright-core");
const coefs = ["0.25", "0.5", "1.25"];
const report = read("hardened-0.5/lox_report.json");
let browser;
before(async () => {
  browser = await chromium.launch({executablePath: process.env.BROWSER, args: ["--no-sandbox"]});
});
after(() => browser?.close());

/** A test with a page, which must neither complain nor ask for anything but itself. */
function pageTest(name, address, check, options = {}) {
  test(name, {timeout: 120000}, async () => {
    const page = await browser.newPage({viewport: {width: 1280, height: 900}, ...options});
    page.setDefaultTimeout(90000);
    const wrong = [];
    const asked = [];
    page.on("console", message => wrong.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", error => wrong.push(error.stack));
    page.on("request", request => asked.push(request.url()));
    const url = address();
    await page.goto(url);
    await check(page);
    assert.deepEqual(wrong, []);
    assert.deepEqual([...new Set(asked)], [url]);
    await page.close();
  });
}
const onePage = () => pageOf("page.html", "hardened-0.5");
const sweepPage = () => pageOf("sweep.html", ...coefs.map(coef => `hardened-${coef}`));

/** The number that a text of the page tells. */
function numberOf(text) {
  assert.match(text, /^-?[\d.]+(e[-+]?\d+)?%?( (s|min))?$/, `'${text}' is no number`);
  return text.endsWith("%") ? Number(text.slice(0, -1)) / 100 : parseFloat(text);
}
function assertShown(text, value, what) {
  const near = text.endsWith("%") ? 5.1e-5 : 6e-3 * Math.abs(value);
  assert.ok(Math.abs(numberOf(text) - value) <= near, `${what}: shows ${text}, is ${value}`);
}
/** Cells of a table as texts, by row and head. */
const tableOf = locator => locator.evaluate(table => {
  const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
  return [...table.tBodies[0].rows].map(row =>
    Object.fromEntries([...row.cells].map((cell, i) => [heads[i], cell.textContent])));
});
const tensorTable = page => page.locator("#tensors table");
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

pageTest("every value of the table is the report's", onePage, async page => {
  const rows = await tableOf(tensorTable(page));
  assert.deepEqual(rows.map(row => row.tensor), report.tensors.map(tensor => tensor.name));
  rows.forEach((row, i) => {
    const tensor = report.tensors[i];
    assert.equal(row.shape, tensor.shape.join(" × "));
    assert.deepEqual([row.dtype, row.done], [tensor.dtype, tensor.action]);
    if (tensor.action === "copied") return assert.equal(row.realised, "–");
    assert.equal(row.method, `${tensor.method}, ${tensor.where}`);
    for (const key of ["k", "realised", "energy", "changed", "certificate", "iterations"])
      assertShown(row[key], tensor[key], `${tensor.name}, ${key}`);
    assertShown(row["|Δ|"], tensor.delta_norm, "delta_norm");
    assertShown(row["edit / |Δ|"], tensor.edit_norm / tensor.delta_norm, "edit / delta");
    assertShown(row["stable rank"], tensor.delta_norm ** 2 / tensor.sigma[0] ** 2, "stable rank");
    row["s₁ … s_k"].split(/\s+/).forEach((text, j) => assertShown(text, tensor.sigma[j], `s_${j + 1}`));
  });
});

pageTest("what was done and what to look at first", onePage, async page => {
  const {job, made, totals, tensors} = report;
  const text = await page.locator("#summary").innerText();
  for (const said of [made.host, made.paths.aligned, made.paths.output, report.lox, `${totals.copied} copied`, job.svd])
    assert.ok(text.includes(said), `${said} in: ${text}`);
  const tile = async name => page.locator("#summary .tile").filter({has: page.getByText(name, {exact: true})})
    .locator("dd").evaluate(dd => dd.firstChild.textContent);
  assert.deepEqual([await tile("k"), await tile("coef"), await tile("tensors edited")],
    ["4", "0.5", `${totals.edited}`]);
  const edited = tensors.filter(tensor => tensor.action === "edited");
  for (const [title, key, sign] of [["Worst certificate", "certificate", -1], ["Lowest realised", "realised", 1]]) {
    const [worst] = [...edited].sort((a, b) => sign * (a[key] - b[key]));
    const card = page.locator(".card").filter({hasText: title});
    assertShown(await card.locator(".big").innerText(), worst[key], title);
    assert.equal(await card.locator(".name").innerText(), worst.name);
    await card.getByRole("button").click();
    assert.deepEqual((await tableOf(tensorTable(page))).map(row => row.tensor), [worst.name]);
  }
  const left = page.locator(".card").filter({hasText: "Left alone"});
  assert.ok((await left.innerText()).includes(`${totals.copied} tensors`));
});

pageTest("heat maps: values, tooltip, arrow keys", onePage, async page => {
  const edited = report.tensors.filter(tensor => tensor.action === "edited" && /layers\.\d/.test(tensor.name));
  for (const key of ["realised", "energy", "certificate", "delta_norm", "changed"]) {
    await page.locator("#heat select").selectOption(key);
    const labels = await page.locator("#heat [role=grid] td").evaluateAll(cells => cells.map(td => td.ariaLabel));
    assert.equal(labels.length, edited.length);
    for (const tensor of edited) {
      const label = labels.find(text => text.startsWith(`${tensor.name}\n`));
      assertShown(label.split(" ").at(-1), tensor[key], label);
    }
  }
  const cells = page.locator("#heat [role=grid] td");
  const tip = page.getByRole("tooltip");
  await cells.nth(3).hover();
  assert.equal(await tip.textContent(), await cells.nth(3).getAttribute("aria-label"));
  assert.ok(await tip.isVisible());
  await page.mouse.move(2, 2);
  assert.ok(!(await tip.isVisible()));
  assert.equal(await page.locator("#heat [role=grid] td[tabindex='0']").count(), 1);
  await cells.nth(0).focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  const label = await page.evaluate(() => document.activeElement.ariaLabel);
  assert.equal(label, await cells.nth(4 + 1).getAttribute("aria-label"));  // of four layers
  assert.ok(label.startsWith("model.layers.1."), label);
  assert.equal(await tip.textContent(), label);
  await page.keyboard.press("Enter");
  assert.deepEqual((await tableOf(tensorTable(page))).map(row => row.tensor), [label.split("\n")[0]]);
});

pageTest("sorting and searching, by keyboard too", onePage, async page => {
  const column = async name => (await tableOf(tensorTable(page))).map(row => row[name]).filter(text => text !== "–");
  const head = page.locator("#tensors th", {has: page.getByRole("button", {name: "realised"})});
  const sorted = report.tensors.filter(t => t.action === "edited").map(t => t.realised).sort((a, b) => b - a);
  await head.getByRole("button").focus();
  for (const [order, values] of [["descending", sorted], ["ascending", [...sorted].reverse()]]) {
    await page.keyboard.press("Enter");
    assert.equal(await head.getAttribute("aria-sort"), order);
    (await column("realised")).forEach((text, i) => assertShown(text, values[i], `${order}, ${i}`));
    assert.equal((await column("tensor")).at(-1), report.tensors.filter(t => t.action === "copied").at(-1).name);
  }
  await page.locator("#tensors").getByRole("button", {name: "tensor"}).click();
  assert.equal(await page.locator("#tensors th[aria-sort]").count(), 1);
  await page.getByLabel("Search names").fill("Q_PROJ krylov");
  const wanted = report.tensors.filter(t => t.name.includes("q_proj") && t.method === "krylov");
  assert.deepEqual(await column("tensor"), wanted.map(t => t.name));
  assert.equal(await page.getByRole("status").innerText(), `${wanted.length} of ${report.tensors.length} tensors`);
  await page.getByLabel("Search names").fill("");
  await page.getByLabel("done", {exact: true}).selectOption("copied");
  assert.equal((await column("tensor")).length, report.totals.copied);
});

pageTest("singular values: the lines' numbers, and a drawing", onePage, async page => {
  const plot = page.locator("#spectra");
  await plot.getByLabel("Lines").selectOption({label: "layers of mlp.up_proj"});
  await plot.locator("summary").click();
  const rows = await tableOf(plot.locator("table.data"));
  assert.equal(rows.length, 4);
  for (const tensor of report.tensors.filter(t => t.name.endsWith("up_proj.weight"))) {
    const layer = `layer ${tensor.name.split(".")[2]}`;
    rows.forEach((row, i) => assertShown(row[layer], tensor.sigma[i], layer));
  }
  const drawn = await plot.locator("canvas").evaluate(canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, i) => i % 4 === 3 && value > 0).length;
  });
  assert.ok(drawn > 2000, `${drawn} dots`);
  const box = await plot.locator(".u-over").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const shown = await plot.locator(".u-legend .u-value").allInnerTexts();
  const first = report.tensors.find(t => t.name.endsWith("0.mlp.up_proj.weight"));
  assertShown(shown[1], first.sigma[Number(shown[0]) - 1], "hover");
});

pageTest("several reports side by side", sweepPage, async page => {
  const all = coefs.map(coef => read(`hardened-${coef}.report.json`));
  const rows = await tableOf(page.locator("#several table").first());
  rows.forEach((row, i) => {
    const edited = all[i].tensors.filter(tensor => tensor.action === "edited");
    assert.deepEqual([row.report, row.coef], [`hardened-${coefs[i]}`, coefs[i]]);
    assertShown(row.realised, mean(edited.map(t => t.realised)), "realised");
    assertShown(row.lowest, Math.min(...edited.map(t => t.realised)), "lowest");
    assertShown(row.certificate, Math.max(...edited.map(t => t.certificate)), "certificate");
  });
  assert.equal(rows.length, 3);
  assert.equal(await page.locator("#several canvas").count(), 1);
  await page.getByLabel("Report", {exact: true}).selectOption("2");
  assert.equal(await page.locator("h1").innerText(), "hardened-1.25");
  const shown = await tableOf(tensorTable(page));
  assertShown(shown[0].realised, all[2].tensors[0].realised, "realised of the chosen one");
});

pageTest("hostile names stay text", () => {
  write("hostile.json", hostileReport(report));
  writeFileSync("<b> & so.csv", `<img src=x onerror=pwned=1>,"</script>"\n1,2\n2,3\n`);
  return pageOf("hostile.html", "hostile.json", "<b> & so.csv");
}, async page => {
  assert.deepEqual((await tableOf(tensorTable(page))).map(row => row.tensor), hostile);
  assert.equal(await page.locator("h1").textContent(), hostile[0]);
  assert.equal(await page.locator("main img, main b, main script").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.pwned), undefined);
  assert.equal(await page.locator("script").count(), 2);
  assert.equal(await page.locator("#tables h3").first().textContent(), "<b> & so.csv");
});

pageTest("an analysis", () => {
  write("analysis.json", analysis(report));
  return pageOf("analysis.html", "analysis.json");
}, async page => {
  const {tensors} = read("analysis.json");
  const rows = await tableOf(tensorTable(page));
  rows.forEach((row, i) => {
    assertShown(row["|Δ| / |W|"], tensors[i].delta_norm / tensors[i].weight_norm, "relative");
    assertShown(row["energy, k = 6"], tensors[i].energy[6], "energy");
    assertShown(row["R_align, k = 1"], tensors[i].r_align[1], "r_align");
    assertShown(row["R_ft of tuned <model>, k = 6"], tensors[i].tuned[0].r_ft[6], "r_ft");
  });
  await page.locator("#heat select").selectOption({label: "R_ft of tuned <model>, k = 1"});
  const label = await page.locator("#heat [role=grid] td").first().getAttribute("aria-label");
  assertShown(label.split(" ").at(-1), tensors.find(t => label.startsWith(t.name)).tuned[0].r_ft[1], label);
});

pageTest("tables of a sweep and of a landscape", () => {
  writeFileSync("sweep.csv", sweep.join("\n"));
  writeFileSync("landscape.csv", `${landscape.join("\r\n")}\r\n`);
  return pageOf("tables.html", "sweep.csv", "landscape.csv");
}, async page => {
  assert.deepEqual(await page.locator("main > section:visible").evaluateAll(all => all.map(one => one.id)), ["tables"]);
  await page.locator("#tables summary").click();
  assert.deepEqual(await tableOf(page.locator("#tables table.data")),
    [{step: "0", "coef 0.25": "2", "coef 0.5": "1"}, {step: "20", "coef 0.25": "60", "coef 0.5": "40"}]);
  const labels = () => page.locator("#tables [role=grid] td").evaluateAll(cells => cells.map(td => td.ariaLabel));
  const expected = more => [2, 0].flatMap(b => [-1, -0.5, 0].map(a => `a ${a}, b ${b}: asr ${10 * a + b + more}`));
  assert.deepEqual(await labels(), expected(2));  // the mean over two seeds
  await page.getByLabel("seed", {exact: true}).selectOption("1");
  assert.deepEqual(await labels(), expected(4));
});

pageTest("a batch of matrices shows means", () => {
  write("batch.json", batchReport(report));
  return pageOf("batch.html", "batch.json");
}, async page => {
  const [row] = await tableOf(tensorTable(page));
  const means = row["s₁ … s_k"];
  assert.ok(means.endsWith("(means of 3 matrices)"), means);
  const {sigma} = read("batch.json").tensors[0].batch[1];
  means.split(/\s+/).slice(0, 4).forEach((text, i) => assertShown(text, sigma[i], means));
});

for (const k of [6, 100]) {
  pageTest(`70B at k = ${k}: less than 1 MB, drawn soon`, () => {
    write("large.json", largeReport(report, k));
    return pageOf("large.html", "large.json");
  }, async page => {
    console.log(`70B at k = ${k}: ${sizeOf("large.html")} bytes`);
    assert.ok(sizeOf("large.html") < 1e6, `${sizeOf("large.html")} bytes`);
    assert.equal(await page.locator("#heat [role=grid] td").count(), 560);
    assert.equal(await tensorTable(page).locator("tbody tr").count(), 200);
    await page.getByRole("button", {name: "Show all 723 rows"}).click();
    assert.equal(await tensorTable(page).locator("tbody tr").count(), 723);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} pixels too wide`);
  });
}

for (const colorScheme of ["light", "dark"]) {
  pageTest(`readable in the ${colorScheme}, and on a narrow screen`, sweepPage, async page => {
    const bright = colour => mean(colour.match(/\d+/g).slice(0, 3).map(Number));
    const [ink, back] = await page.evaluate(() => {
      const {color, backgroundColor} = getComputedStyle(document.body);
      return [color, backgroundColor];
    });
    assert.ok((colorScheme === "dark" ? 1 : -1) * (bright(ink) - bright(back)) > 150, `${ink} on ${back}`);
    await page.screenshot({path: `../${colorScheme}.png`, fullPage: true});
    await page.setViewportSize({width: 390, height: 800});
    await page.waitForTimeout(400);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} pixels too wide`);
  }, {colorScheme});
}

pageTest("names and roles for a screen reader, and print", sweepPage, async page => {
  const nameless = await page.evaluate(() => [...document.querySelectorAll("select, input, button")].filter(one =>
    !(one.labels?.length || one.textContent.trim())).map(one => one.outerHTML));
  assert.deepEqual(nameless, []);
  for (const role of ["main", "navigation", "grid"]) assert.ok(await page.getByRole(role).count() > 0, role);
  assert.equal(await page.locator("table:not(:has(caption)):not([aria-label]):not(.u-legend)").count(), 0);
  assert.equal(await page.locator(".plot:not([aria-label])").count(), 0);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.emulateMedia({media: "print"});
  assert.ok(!(await page.getByRole("navigation").isVisible()));
  assert.ok(await page.locator("#summary").isVisible());
  assert.ok((await page.pdf()).length > 10000);
});

pageTest("values of another type leave the rest of the page", () => {
  const odd = [{tuned: [null]}, {sigma: "x"}, {r_align: "x"}, {seconds: null}, {method: [1]}];
  const tensors = report.tensors.map((tensor, i) => ({...tensor, ...odd[i % odd.length]}));
  write("odd.json", {...report, job: {...report.job, include: "x", exclude: {}}, tensors});
  return pageOf("odd.html", "odd.json");
}, async page => {
  assert.equal((await tableOf(tensorTable(page))).length, report.tensors.length);
  assert.ok((await page.locator("#summary").innerText()).includes(report.made.host));
});

pageTest("a hundred thousand experts", () => {
  const edited = report.tensors.find(tensor => tensor.action === "edited");
  const copied = report.tensors.find(tensor => tensor.action === "copied");
  const tensors = Array.from({length: 130000}, (_, i) => ({...edited, name: `layers.0.experts.${i}.w`, sigma: [2, 1],
    realised: 0.5 + i / 1e6, certificate: i / 1e12}));
  for (let i = 0; i < 130000; ++i) tensors.push({...copied, name: `layers.0.norms.${i}`});
  write("experts.json", {...report, tensors});
  return pageOf("experts.html", "experts.json", "hardened-0.5");
}, async page => {
  const first = await page.locator("#first").innerText();
  assert.ok(first.includes("130000 tensors"), first);
  const [row] = await tableOf(page.locator("#several table"));
  assertShown(row.lowest, 0.5, "lowest realised");
  assertShown(row.certificate, 129999 / 1e12, "worst certificate");
});
