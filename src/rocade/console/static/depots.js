// Depots: what moves comes as pieces of page with their charts' data.
import { light, listen, page } from "./live.js";
import { word } from "./kit.js";
import { bandTable, drawBand, drawLoad, drop, fit, loadTable } from "./charging-plot.js";

const by = (id) => document.getElementById(id);
const load = by("load-plot"), flex = by("flex-plot");
const data = { load: null, flex: null };

function draw() {
  const said = by("board-data")?.dataset.chart;
  data.load = said ? JSON.parse(said) : null;
  if (load && data.load) drawLoad(load, data.load);
  data.flex = flex?.dataset.chart ? JSON.parse(flex.dataset.chart) : null;
  if (flex) flex.hidden = by("flex-table").hidden = !data.flex?.times_s.length;
  by("flex-none").hidden = Boolean(data.flex?.times_s.length);
  if (data.flex?.times_s.length) drawBand(flex, data.flex);
  fill();
}
function fill() {
  if (by("load-table")?.open && data.load) by("load-table").querySelector(".scroll").replaceChildren(loadTable(data.load));
  if (by("flex-table").open && data.flex) by("flex-table").querySelector(".scroll").replaceChildren(bandTable(data.flex));
}
for (const name of ["load-table", "flex-table"]) by(name)?.addEventListener("toggle", fill);

function put(node, html) {
  if (!node || node.innerHTML === html) return;
  const scrolled = node.querySelector(".scroll")?.scrollLeft ?? 0;
  node.innerHTML = html;
  word(node);
  const inside = node.querySelector(".scroll");
  if (inside) { inside.scrollLeft = scrolled; inside.tabIndex = 0; inside.setAttribute("role", "group"); }
}
light("wait");
listen(page.site ? `/live/depots/${page.site}` : "/live/depots", {
  board: ({ html, flexibility }) => { put(by("board") ?? by("depots"), html); if (flexibility !== null) flex.dataset.chart = flexibility; draw(); },
  stations: ({ html }) => put(by("stations"), html),
});
addEventListener("resize", () => [load, flex].forEach((box) => box && fit(box)));
addEventListener("themechange", () => { [load, flex].forEach((box) => box && drop(box)); draw(); });
draw();
window.rocade = { data };
