// A trip on the map, coloured by speed, with the curve of speed and of charge or fuel.
import uPlot from "./vendor/uPlot.esm.js";
import { page, t, css, clock, fetchJson, number } from "./live.js";
import { boundsOf } from "./ground.js";
import { makeMap } from "./my-ground.js";
import "./my.js";

const COLOURS = ["#3056c8", "#1f9e89", "#7cbf3a", "#f0a52a", "#d1345b"];
const by = (id) => document.getElementById(id);
let map = null, chart = null, chosen = 0;

/** Lines of one colour each: neighbours of the same speed step are one line. */
function coloured(lines, top) {
  const features = [];
  for (const line of lines) {
    let run = null;
    for (let at = 1; at < line.length; at++) {
      const speed = line[at][2], step = speed == null ? 0 : Math.min(COLOURS.length - 1, Math.floor(speed / top * COLOURS.length));
      if (!run || run.properties.step !== step) features.push(run = { type: "Feature", properties: { step }, geometry: { type: "LineString", coordinates: [line[at - 1].slice(0, 2)] } });
      run.geometry.coordinates.push(line[at].slice(0, 2));
    }
  }
  return { type: "FeatureCollection", features };
}

const LINE = { "line-cap": "round", "line-join": "round" };
const layers = () => [
  { id: "ride-casing", type: "line", source: "ride", layout: LINE, paint: { "line-color": css("--card"), "line-width": 8 } },
  { id: "ride", type: "line", source: "ride", layout: LINE, paint: { "line-color": ["match", ["get", "step"], ...COLOURS.flatMap((colour, step) => [step, colour]).slice(2), COLOURS[0]], "line-width": 4.5 } },
];

async function drawMap(ride, top) {
  const data = coloured(ride.lines, top), bounds = data.features.length && boundsOf(data.features.map((one) => one.geometry));
  by("trip-no-place").hidden = Boolean(bounds);
  by("trip-map").hidden = by("speeds").hidden = !bounds;
  by("speeds-top").textContent = `${number(top)} km/h`;
  if (!bounds) return;
  map ??= makeMap("trip-map", { bounds, fitBoundsOptions: { padding: 34 } }).then((made) => {
    const add = () => { if (!made.getSource("ride")) { made.addSource("ride", { type: "geojson", data: made.shown }); layers().forEach((layer) => made.addLayer(layer)); } };
    made.shown = data;
    made.on("styledata", () => { if (made.isStyleLoaded()) add(); });
    add();
    return made;
  });
  const made = await map;
  made.shown = data;
  made.getSource("ride")?.setData(data);
  made.fitBounds(bounds, { padding: 34, maxZoom: 16, duration: 0 });
  window.rocade = { map: made, ride };
}

function drawChart(ride) {
  chart?.destroy();
  chart = null;
  by("trip-chart").hidden = !ride.times_s.length;
  if (!ride.times_s.length) return;
  const accent = css("--accent"), green = css("--good"), soft = css("--soft"), line = css("--line");
  const axis = { stroke: soft, font: "11px Inter, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const series = [{}, { label: t("my_trips.speed"), stroke: accent, width: 1.6, fill: `${accent}18`, spanGaps: false, value: (_, v) => v == null ? "–" : `${number(v)} km/h` }];
  const data = [ride.times_s, ride.speed], axes = [{ ...axis, values: (_, at) => at.map((one) => clock(one * 1e6, { timeStyle: "short" })), space: 60 }, { ...axis, size: 34, values: (_, at) => at.map((one) => number(one)) }];
  if (ride.level_of) {
    series.push({ label: t(`my_trips.${ride.level_of}`), scale: "level", stroke: green, width: 1.6, spanGaps: true, value: (_, v) => v == null ? "–" : `${number(v, 1)} %` });
    data.push(ride.level);
    axes.push({ ...axis, scale: "level", side: 1, size: 40, grid: { show: false }, values: (_, at) => at.map((one) => `${number(one, 1)}%`) });
  }
  const range = (_, low, high) => low == null ? [0, 100] : [Math.max(0, Math.floor(low - 1)), Math.min(100, Math.ceil(high + 1))];
  chart = new uPlot({ width: by("trip-chart").clientWidth, height: 170, cursor: { points: { size: 7 } }, legend: { live: true }, scales: { y: { range: (_, low, high) => [0, Math.max(10, (high ?? 10) * 1.08)] }, level: { range } }, axes, series }, data, by("trip-chart"));
}

async function choose(button, isAsked) {
  document.querySelectorAll(".trips button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  const mine = ++chosen, ride = await fetchJson(`/my/${page.ref}/ride?from_us=${button.dataset.from}&until_us=${button.dataset.until}`);
  if (mine !== chosen) return;
  by("trip").hidden = false;
  by("trip-figures").replaceChildren(...[...button.querySelectorAll(".small")].map((one) => one.cloneNode(true)));
  const top = Math.max(10, ...ride.speed.filter((one) => one != null));
  drawChart(ride);
  await drawMap(ride, top);
  if (isAsked) by("trip").scrollIntoView({ behavior: "smooth", block: "start" });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".trips button");
  if (button) choose(button, true).catch((error) => console.warn(error.message));
});
document.addEventListener("htmx:load", (event) => {
  const first = event.detail.elt.querySelector?.(".trips button");
  if (first && !document.querySelector('.trips [aria-pressed="true"]')) choose(first, false).catch((error) => console.warn(error.message));
});
addEventListener("resize", () => chart?.setSize({ width: by("trip-chart").clientWidth, height: 170 }));
addEventListener("themechange", () => { const open = document.querySelector('.trips [aria-pressed="true"]'); if (open) choose(open, false); });
addEventListener("emptied", () => map?.then((made) => made.remove()));
