// SPDX-License-Identifier: MIT
// A picture of a page, from the reports side by side on: node figure.mjs PAGE PNG [light|dark]. Run by run.sh --figure.
import {createRequire} from "node:module";
import {resolve} from "node:path";

const {chromium} = createRequire(`${process.env.PLACE}/`)("playwright-core");
const [page, png, colorScheme = "light"] = process.argv.slice(2);
const browser = await chromium.launch({executablePath: process.env.BROWSER, args: ["--no-sandbox"]});
const tab = await browser.newPage({viewport: {width: 1100, height: 1180}, colorScheme});
await tab.goto(`file://${resolve(page)}`);
await tab.locator("#heat select").selectOption("energy");
await tab.evaluate(() => scrollTo({top: document.getElementById("several").offsetTop, behavior: "instant"}));
await tab.screenshot({path: png});
await browser.close();
