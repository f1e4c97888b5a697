// The vehicle page: latest values as they come, curves of chosen signals, trips on a map, gaps.
import uPlot from "./vendor/uPlot.esm.js";
import { Map as GroundMap, addProtocol } from "./vendor/maplibre-gl.mjs";
import { age, clock, css, element, fetchJson, light, listen, number, page, t } from "./live.js";
import { boundsOf, fetchTown, style, tripLayer } from "./ground.js";

const by = (id) => document.getElementById(id);
const PALETTE = ["--accent", "#e0572b", "#0d9488", "#9333ea", "#d4a106", "#db2777"];
const chosen = new Set(JSON.parse(sessionStorage.getItem("signals") ?? "[]"));
const may = page.may;
let hours = 1, zoomed = null, values = [], filter = "", newest = 0, shownTrips = "";

// ---- latest values -----------------------------------------------------------------------------------------------
const rows = new Map();
function pill(quality) {
  if (!quality.length) return element("span", { className: "pill good", textContent: t("quality.good") });
  const isBad = quality.some((flag) => ["impossible_position", "not_finite", "out_of_range"].includes(flag));
  return element("span", { className: `pill ${isBad ? "bad" : "doubt"}`, textContent: quality.map((flag) => t(`quality.${flag}`)).join(", ") });
}
function shorten(name) {
  const words = name.split(".");
  return [element("span", { className: "path", textContent: words.slice(0, -2).join(".") + (words.length > 2 ? "." : "") }), ...words.slice(-2).flatMap((word, at) => (at ? [".", element("wbr"), word] : [word]))];
}
function row(value) {
  if (rows.has(value.signal)) return rows.get(value.signal);
  const name = may.history ? element("button", { type: "button", className: "row" }, ...shorten(value.name)) : element("span", {}, ...shorten(value.name));
  const made = element("tr", { className: "pick" }, element("td", { className: "name", title: value.name }, name), element("td", { className: "number" }, element("span"), element("span", { className: "unit", textContent: value.symbol && `\u202f${value.symbol}` })), element("td", { className: "wide path", textContent: value.symbol }), element("td"), element("td", { className: "wide path" }));
  const toggle = () => {
    choose(value.signal, !chosen.has(value.signal));
  };
  if (may.history) made.addEventListener("click", toggle);
  rows.set(value.signal, made);
  return made;
}
function mark() {
  for (const [signal, made] of rows) { made.classList.toggle("chosen", chosen.has(signal)); made.querySelector("button")?.setAttribute("aria-pressed", String(chosen.has(signal))); }
}
function showTwin(twin) {
  const isFirst = !values.length;
  values = twin.signals;
  newest = Math.min(twin.time_us ?? 0, Date.now() * 1000);
  for (const value of values) {
    const [, { firstChild: shown }, , quality, time] = row(value).children;
    shown.textContent = typeof value.value === "number" ? number(value.value, 6) : String(value.value);
    const stamp = value.quality.join();
    if (quality.dataset.stamp !== stamp) { quality.dataset.stamp = stamp; quality.replaceChildren(pill(value.quality)); }
    time.textContent = age(value.time_us);
  }
  showFlags(); offer();
  by("fresh").textContent = twin.time_us ? age(twin.time_us) : t("live.waiting");
  arrange();
  if (isFirst && values.length) {
    if (![...chosen].some((signal) => values.some((value) => value.signal === signal))) {
      chosen.clear();
      const first = values.find((value) => value.name === "Vehicle.Speed") ?? values.find((value) => typeof value.value === "number");
      if (first) chosen.add(first.signal);
    }
    mark(); draw();
  }
}
function arrange() {
  const wanted = values.filter((value) => !filter || `${value.name} ${value.symbol}`.toLowerCase().includes(filter)).map((value) => rows.get(value.signal));
  if (by("twin").children.length !== wanted.length || wanted.some((made, index) => by("twin").children[index] !== made)) by("twin").replaceChildren(...wanted);
}
by("filter")?.addEventListener("input", () => { filter = by("filter").value.toLowerCase(); arrange(); });

// ---- what is doubtful, and why --------------------------------------------------------------------------------------
const why = (id) => element("a", { className: "why", href: `/why/${id}`, textContent: t("vehicle.why") });
let shownFlags = "";
function showFlags() {
  const doubtful = values.filter((value) => value.quality.length);
  const stamp = doubtful.map((value) => `${value.signal} ${value.quality} ${value.time_us}`).join();
  if (stamp === shownFlags) return;
  shownFlags = stamp;
  by("flags").replaceChildren(doubtful.length ? table([[t("vehicle.signal")], [t("vehicle.quality")], [t("op_vehicle.flags_since"), "wide"]], doubtful.map((value) => element("tr", {},
    element("td", { textContent: value.name.split(".").slice(-2).join(".") }), element("td", {}, pill(value.quality), " ", why(`flag:${page.ref}:${value.signal}:${value.time_us}`)),
    element("td", { className: "wide path", textContent: age(value.changed_us) })))) : element("p", { className: "none", textContent: t("op_vehicle.flags_none") }));
}

// ---- any signal, any period ------------------------------------------------------------------------------------------
let offered = 0;
function offer() {
  if (!may.history || offered === values.length) return;
  offered = values.length;
  by("signals").replaceChildren(...values.filter((value) => typeof value.value !== "string").map((value) => element("option", { value: value.name })));
}
by("signal-add")?.addEventListener("input", () => {
  const found = values.find((value) => value.name === by("signal-add").value);
  if (!found) return;
  by("signal-add").value = "";
  choose(found.signal, true);
});
function choose(signal, isChosen) {
  isChosen ? chosen.add(signal) : chosen.delete(signal);
  sessionStorage.setItem("signals", JSON.stringify([...chosen]));
  mark(); draw();
}
const local = (us) => { const at = new Date(us / 1000); return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16); };
function showPeriod() {
  if (document.activeElement?.closest("#period")) return;
  const [from, until] = span();
  by("from").value = from > 0 ? local(from) : "";
  by("until").value = local(until);
}
by("period")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const [from, until] = [by("from"), by("until")].map((input) => new Date(input.value).getTime() * 1000);
  if (from < until) zoomTo(from, until);
});
function zoomTo(from, until) { zoomed = [from, until]; pressHours(-1); draw(); }
const MOVES = { earlier: [-.5, -.5], later: [.5, .5], nearer: [.25, -.25], wider: [-.5, .5] };
document.querySelectorAll("[data-move]").forEach((button) => button.addEventListener("click", () => {
  let [from, until] = span();
  if (from <= 0) from = until - 3.15e13; // "all" has no beginning of its own
  const [first, last] = MOVES[button.dataset.move].map((part) => part * (until - from));
  zoomTo(from + first, Math.max(until + last, from + first + 1e6));
}));
const pressHours = (chosenHours) => document.querySelectorAll("[data-hours]").forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.hours) === chosenHours)));

// ---- curves ------------------------------------------------------------------------------------------------------
const charts = new Map();
function span() {
  if (zoomed) return zoomed;
  const now = newest || Date.now() * 1000; // the vehicle's own newest instant: a replayed log may be years old
  return hours ? [now - hours * 3.6e9, now] : [0, now];
}
async function draw() {
  if (!may.history) return;
  showPeriod();
  const shown = [...chosen].filter((signal) => values.some((value) => value.signal === signal && typeof value.value !== "string"));
  for (const [signal, chart] of charts) if (!shown.includes(signal)) { chart.box.remove(); charts.delete(signal); }
  if (!shown.length) return;
  const [from, until] = span().map(Math.round), points = Math.max(200, Math.min(1200, by("charts").clientWidth));
  const asked = new URLSearchParams([["from_us", from], ["until_us", until], ["points", points], ...shown.map((signal) => ["signal", signal])]);
  let answer;
  try { answer = await fetchJson(`/live/vehicles/${page.ref}/curves?${asked}`); } catch (error) { by("charts").title = error.message; return; }
  const range = hours || zoomed ? [answer.from_us / 1e6, answer.until_us / 1e6] : null;
  answer.curves.forEach((curve, index) => plot(curve, index, range));
}
/** Marks of the time axis as the reader writes them; the day stands under the first mark of each. */
function instants(splits, step) {
  let day = "";
  return splits.map((at) => {
    const date = clock(at * 1e6, { dateStyle: "short" }), isNew = date !== day;
    day = date;
    const time = clock(at * 1e6, { timeStyle: step < 60 ? "medium" : "short" });
    return step >= 86400 ? date : isNew ? `${time}\n${date}` : time;
  });
}
function closer(curve) {
  const button = element("button", { type: "button", className: "icon close", textContent: "×" });
  button.setAttribute("aria-label", `${t("op_vehicle.removed")} ${curve.name}`);
  button.addEventListener("click", () => choose(curve.signal, false));
  return button;
}
function plot(curve, index, range) {
  const colour = PALETTE[index % PALETTE.length].startsWith("--") ? css(PALETTE[index % PALETTE.length]) : PALETTE[index % PALETTE.length];
  const data = [curve.times_s, curve.high, curve.low, curve.mean];
  let chart = charts.get(curve.signal);
  if (!chart) {
    const box = element("div", { className: "chart" }, element("h3", {}, curve.name.split(".").slice(1).join("."), element("span", { textContent: curve.symbol }), closer(curve)), element("p", { className: "none", textContent: t("vehicle.no_history"), hidden: true }));
    by("charts").append(box);
    chart = { box, range: null };
    const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "11px Inter, sans-serif" };
    const line = (extra) => ({ points: { show: false }, ...extra });
    chart.plot = new uPlot({
      width: box.clientWidth, height: 190, legend: { show: true, live: true }, cursor: { sync: { key: "vehicle" }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true, range: (_, low, high) => chart.range ?? [low, high] } },
      axes: [{ ...axis, values: (_, splits, __, ___, step) => instants(splits, step) }, { ...axis, size: 64, values: (_, splits) => splits.map((one) => number(one, 6)) }], bands: [{ series: [1, 2], fill: `${colour}26` }],
      series: [{ label: t("vehicle.time"), value: (_, at) => at == null ? "–" : clock(at * 1e6) }, line({ label: t("vehicle.high"), stroke: `${colour}55`, width: 1 }), line({ label: t("vehicle.low"), stroke: `${colour}55`, width: 1 }), line({ label: t("vehicle.mean"), stroke: colour, width: 1.8 })],
      hooks: { setSelect: [(plot) => {
        if (plot.select.width < 4) return;
        const [from, until] = [0, plot.select.width].map((more) => plot.posToVal(plot.select.left + more, "x") * 1e6);
        plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false); zoomTo(from, until);
      }] },
    }, data, box);
    chart.plot.over.addEventListener("dblclick", () => { zoomed = null; pressHours(hours); draw(); });
    charts.set(curve.signal, chart);
  }
  chart.range = range;
  chart.box.querySelector("p").hidden = curve.times_s.length > 0;
  chart.plot.root.hidden = !curve.times_s.length;
  chart.plot.setData(data);
}
document.querySelectorAll("[data-hours]").forEach((button) => button.addEventListener("click", () => {
  hours = Number(button.dataset.hours); zoomed = null;
  pressHours(hours);
  draw();
}));
addEventListener("resize", () => { for (const { plot, box } of charts.values()) plot.setSize({ width: box.clientWidth, height: 190 }); });
addEventListener("themechange", () => { for (const { box } of charts.values()) box.remove(); charts.clear(); draw(); });
setInterval(() => { if (hours === 1 && !zoomed && !document.hidden) draw(); }, 5000);

// ---- trips and gaps ----------------------------------------------------------------------------------------------
function table(heads, lines) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads.map(([text, className]) => element("th", { scope: "col", textContent: text, className: className ?? "" })))), element("tbody", {}, ...lines));
}
const minutes = (us) => new Intl.NumberFormat(document.documentElement.lang, { style: "unit", unit: "minute", unitDisplay: "short", maximumFractionDigits: 0 }).format(Math.max(1, us / 6e7));
async function showTrips() {
  const { items } = await fetchJson(`/live/vehicles/${page.ref}/trips${newest ? `?until_us=${newest + 1}` : ""}`);
  if (!items.length || JSON.stringify(items) === shownTrips) return;
  shownTrips = JSON.stringify(items);
  by("trips").replaceChildren(table([[t("vehicle.start")], [t("vehicle.duration"), "number"], [t("vehicle.distance"), "number"]], items.map((trip) => {
    const line = element("tr", { className: "pick", tabIndex: 0, title: t("vehicle.on_map") }, element("td", { textContent: clock(trip.start_us, { dateStyle: "short", timeStyle: "short" }) }), element("td", { className: "number", textContent: minutes(trip.end_us - trip.start_us) }), element("td", { className: "number", textContent: trip.distance_km == null ? "–" : `${number(trip.distance_km, 1)} km` }));
    const open = () => { by("trips").querySelectorAll("tr").forEach((other) => other.classList.toggle("chosen", other === line)); showTrack(trip); };
    line.addEventListener("click", open);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
    return line;
  })));
}
let ground = null;
async function showTrack(trip) {
  const track = await fetchJson(`/live/vehicles/${page.ref}/track?from_us=${trip.start_us}&until_us=${trip.end_us}`);
  const geometry = { type: "LineString", coordinates: track.coordinates };
  const bounds = track.coordinates.length > 1 && boundsOf([geometry]);
  by("trip-map").hidden = !bounds;
  if (!bounds) return;
  if (!ground) {
    if (page.pmtiles) addProtocol("pmtiles", new window.pmtiles.Protocol().tile);
    ground = new GroundMap({ container: "trip-map", style: await style(await fetchTown()), bounds, fitBoundsOptions: { padding: 36 }, attributionControl: false, dragRotate: false, maxPitch: 0, fadeDuration: 0 });
    await new Promise((done) => ground.once("load", done));
    ground.addSource("trip", { type: "geojson", data: geometry });
    tripLayer().forEach((layer) => ground.addLayer(layer));
    window.rocade = { ground };
  } else ground.getSource("trip").setData(geometry);
  ground.fitBounds(bounds, { padding: 36, maxZoom: 16, duration: 400 });
}
async function showGaps() {
  const { items } = await fetchJson(`/live/vehicles/${page.ref}/gaps`);
  if (!items.length) { by("gaps").replaceChildren(element("p", { className: "none", textContent: t("vehicle.no_gaps") })); return; }
  by("gaps").replaceChildren(table([[t("vehicle.epoch")], [t("vehicle.missing"), "number"], [t("vehicle.state")]], items.map((gap) => element("tr", {}, element("td", { className: "mono", textContent: gap.epoch.slice(0, 8) }), element("td", { className: "number", textContent: gap.first === gap.last ? number(gap.first) : `${number(gap.first)} – ${number(gap.last)}` }), element("td", {}, element("span", { className: "pill doubt", textContent: t(`gap.${gap.state}`) }), " ", why(`gap:${page.ref}:${gap.epoch}:${gap.first}`))))));
}

light("wait");
if (may.twin) listen(`/live/vehicles/${page.ref}`, { twin: showTwin });
const quietly = (work) => work().catch((error) => console.warn(error.message));
const gaps = () => may.gaps && quietly(showGaps), trips = () => may.trips && quietly(showTrips);
gaps();
setTimeout(trips, 1200);
setInterval(() => { if (!document.hidden) { gaps(); trips(); } }, 15000);
