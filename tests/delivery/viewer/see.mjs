// Open a study in OHIF, load its report, correct it and save it. Prints one line of JSON: what is drawn, and where.
// node see.mjs URL SERIES CHROMIUM PICTURE [LABEL]: with LABEL, delete the first finding, name the second so, and save.
import { chromium } from "playwright-core";

const [url, series, executablePath, picture, label] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
page.setDefaultTimeout(60000);
const said = [];
page.on("console", (message) => message.type() === "error" && said.push(message.text()));
page.on("pageerror", (error) => said.push(String(error)));

const button = (name) => page.locator(`[data-cy="${name}"]`);
const measurements = () => window.services.measurementService.getMeasurements();

try {
  await page.goto(url);
  await page.getByText("Skip all").click(); // of the tour that greets newcomers
  await page.getByText(series).dblclick();
  await button("yes-hydrate-btn").click();
  await page.waitForFunction(() => window.services.measurementService.getMeasurements().length > 0);
  await button("trackedMeasurements-btn").click();
  await page.waitForFunction(() => document.querySelectorAll("svg.svg-layer rect").length > 0);
  await page.waitForTimeout(2000); // the viewport grows narrower, and is drawn again
  await page.screenshot({ path: picture });
  const boxes = await page.locator("svg.svg-layer rect").evaluateAll((items) =>
    items.map((item) => item.getBoundingClientRect()).map((box) => [box.left, box.top, box.right, box.bottom]),
  );
  const labels = (await page.evaluate(measurements)).map((item) => item.label);
  if (label) {
    await page.evaluate((name) => {
      const service = window.services.measurementService;
      const [first, second] = service.getMeasurements();
      service.remove(first.uid);
      service.update(second.uid, { ...second, label: name }, true);
    }, label);
    await page.getByText("Create SR").click();
    const stored = page.waitForResponse((answer) => answer.request().method() === "POST");
    await button("input-dialog-save-button").click();
    if (!(await stored).ok()) throw new Error(`storing failed: ${(await stored).status()}`);
  }
  console.log(JSON.stringify({ boxes, labels }));
} catch (error) {
  await page.screenshot({ path: picture });
  process.stderr.write(said.join("\n"));
  throw error;
} finally {
  await browser.close();
}
