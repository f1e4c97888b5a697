// The live map: the ground (MapLibre), the vehicles over it (fleet.js), the legend, the panel of the chosen vehicle.
import { Map as GroundMap, AttributionControl, addProtocol } from "./vendor/maplibre-gl.mjs";
import { FleetLayer } from "./fleet.js";
import { boundsOf, fetchTown, style, theme, townBounds } from "./ground.js";
import { age, css, element, fetchJson, light, listen, number, page, spark, t } from "./live.js";
import { plugs } from "./chaos.js";

const by = (id) => document.getElementById(id);
const HUES = {
  light: ["#1c4fd8", "#e0572b", "#0d9488", "#9333ea", "#d4a106", "#db2777", "#4d7c0f", "#0891b2", "#92400e", "#475569"],
  dark: ["#7ea2ff", "#ff8a5c", "#3fd0bf", "#c58bff", "#ffd152", "#ff7cb6", "#a8d95a", "#5fd2ee", "#dca06a", "#a5b0c2"],
};
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);

const vehicles = []; // [ref, kind, brand, model, powertrain] by index
const indexOf = new Map();
let groups = [], grouping = "brand", chosen = -1, following = false, isFitted = false;

if (page.pmtiles) addProtocol("pmtiles", new window.pmtiles.Protocol().tile);
const town = await fetchTown();
const home = town ? townBounds(town) : [[-11, 35], [30, 60]];
const map = new GroundMap({
  container: "map", style: await style(town), bounds: home, fitBoundsOptions: { padding: room() }, attributionControl: false,
  dragRotate: false, pitchWithRotate: false, touchPitch: false, maxPitch: 0, renderWorldCopies: false, fadeDuration: 0, maxZoom: 19, pixelRatio: Math.min(2, devicePixelRatio || 1),
});
map.touchZoomRotate.disableRotation();
map.keyboard.disableRotation();
map.addControl(new AttributionControl({ compact: true }), "bottom-right");
const fleet = new FleetLayer(map);
window.rocade = { map, fleet, vehicles, choose }; // for the curious, and for tests

function room() {
  const narrow = innerWidth <= 760;
  return narrow ? { top: 130, bottom: 30, left: 20, right: 20 } : { top: 40, bottom: 40, left: 280, right: 60 };
}

// ---- legend and filters ------------------------------------------------------------------------------------------
// Groups switched off stay off in every grouping; state and words narrow further. What is narrowed away is not drawn.
const PLACES = { kind: 1, brand: 2, powertrain: 4 };
const DOUBTFUL = 1, SILENT = 2;
const hidden = { kind: new Set(), brand: new Set(), powertrain: new Set() };
const states = []; // by index, as the feed says
let wantedState = "", words = [];
const groupOf = (vehicle) => vehicle[PLACES[grouping]];
const titleOf = (group) => grouping === "brand" ? page.brands[group] ?? group : t(`${grouping}.${group}`);
const hueOf = (group) => HUES[theme()][Math.max(0, groups.indexOf(group)) % HUES[theme()].length];
const nameOf = ([ref, , brand, model]) => `${page.brands[brand] ?? brand} ${model} ${ref.slice(-5)}`;
const STATES = {
  moving: (index) => !(states[index] & SILENT) && fleet.speed(index) > 1,
  standing: (index) => !(states[index] & SILENT) && !(fleet.speed(index) > 1),
  silent: (index) => states[index] & SILENT,
  doubtful: (index) => states[index] & DOUBTFUL,
};
function isWanted(vehicle, index) {
  if (Object.entries(PLACES).some(([name, place]) => hidden[name].has(vehicle[place]))) return false;
  if (wantedState && !STATES[wantedState](index)) return false;
  return words.every((word) => `${nameOf(vehicle)} ${vehicle[0]}`.toLowerCase().includes(word));
}
const dress = (vehicle, index) => fleet.look(index, vehicle[1], groups.indexOf(groupOf(vehicle)) % 10, !isWanted(vehicle, index));
function dressAll() { vehicles.forEach(dress); count(); }

function regroup() {
  const counts = new Map();
  for (const vehicle of vehicles) counts.set(groupOf(vehicle), (counts.get(groupOf(vehicle)) ?? 0) + 1);
  groups = [...counts.keys()].sort();
  fleet.colours(HUES[theme()].map(rgb), rgb(css("--card").length === 7 ? css("--card") : "#ffffff"));
  const mark = (hue) => `<svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="6" fill="${hue}"/></svg>`;
  by("legend").replaceChildren(...groups.map((group) => {
    const button = element("button", { type: "button", innerHTML: mark(hueOf(group)) }, element("span", { textContent: titleOf(group) }), element("b", { textContent: number(counts.get(group)) }));
    const off = hidden[grouping];
    button.setAttribute("aria-pressed", String(!off.has(group)));
    button.addEventListener("click", () => { off.has(group) ? off.delete(group) : off.add(group); button.setAttribute("aria-pressed", String(!off.has(group))); dressAll(); });
    return element("li", {}, button);
  }));
  dressAll();
}

document.querySelectorAll("[data-by]").forEach((button) => button.addEventListener("click", () => {
  grouping = button.dataset.by;
  document.querySelectorAll("[data-by]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  regroup();
}));
by("state").addEventListener("change", () => { wantedState = by("state").value; dressAll(); });

// ---- feed --------------------------------------------------------------------------------------------------------
// Moves are worked off a slice a frame, so that no frame pays for the whole fleet at once.
const SLICE = 80, STEP = 5; // numbers of one move
let waiting = [], working = 0;

function take({ vehicles: fresh, moves, gone }) {
  for (const vehicle of fresh) { indexOf.set(vehicle[0], vehicles.length); vehicles.push(vehicle); }
  if (fresh.length) {
    applyMoves(waiting); applyMoves(moves);
    waiting = [];
    regroup(); count();
  } else {
    waiting = waiting.length ? waiting.concat(moves) : moves;
    working ||= requestAnimationFrame(work);
  }
  for (const index of gone) {
    waiting = waiting.filter((_, at) => waiting[at - (at % STEP)] !== index);
    fleet.remove(index);
    if (vehicles[index][0] === chosenRef) choose(-1);
  }
  if (!isFitted && fleet.count) { isFitted = true; if (!isInside()) fit(); }
}
function work() {
  const slice = Math.max(SLICE, Math.ceil(waiting.length / (10 * STEP))) * STEP;
  applyMoves(waiting.slice(0, slice));
  waiting = waiting.slice(slice);
  working = waiting.length ? requestAnimationFrame(work) : 0;
  if (!working) count();
}
function applyMoves(moves) {
  for (let at = 0; at < moves.length; at += STEP) {
    const index = moves[at], isNew = !fleet.isPlaced(index);
    fleet.move(index, moves[at + 1], moves[at + 2], moves[at + 3]);
    states[index] = moves[at + 4];
    if (isNew || wantedState) dress(vehicles[index], index);
  }
}

function count() {
  let moving = 0, shown = 0;
  for (let index = 0; index < fleet.count; index++) { if (STATES.moving(index)) moving++; if (fleet.isShown(index)) shown++; }
  by("count").textContent = number(vehicles.length);
  by("moving").textContent = !vehicles.length ? t("live.waiting") : shown < fleet.count ? t("op_fleet.shown", { shown: number(shown) }) : `${number(moving)} ${t("live.moving")}`;
  by("empty").hidden = vehicles.length > 0;
}

function extent() {
  const all = [];
  for (let index = 0; index < fleet.count; index++) if (fleet.isShown(index)) all.push({ coordinates: fleet.lngLat(index) });
  return boundsOf(all);
}
function isInside() {
  const [[west, south], [east, north]] = home, bounds = extent();
  return Boolean(town && bounds && bounds[0][0] >= west - .04 && bounds[1][0] <= east + .04 && bounds[0][1] >= south - .03 && bounds[1][1] <= north + .03);
}
function fit() { const bounds = extent(); if (bounds) map.fitBounds(bounds, { padding: room(), maxZoom: 15, duration: 600 }); }

light("wait");
listen("/live/fleet", {
  fleet: (picture) => { vehicles.length = 0; waiting = []; indexOf.clear(); fleet.clear(); take(picture); if (chosenRef) choose(indexOf.get(chosenRef) ?? -1); },
  move: take,
});

// ---- panel -------------------------------------------------------------------------------------------------------
let chosenRef = null, speeds = [], asking = 0;
function choose(index) {
  chosen = index;
  fleet.choose(index);
  by("panel").hidden = index < 0;
  if (index < 0) {
    if (chosenRef && map.getPadding().bottom) map.easeTo({ padding: { bottom: 0 }, duration: 300 });
    chosenRef = null; following = false;
    return;
  }
  const [ref, kind, brand, model, powertrain] = vehicles[index];
  if (ref !== chosenRef) speeds = [];
  chosenRef = ref;
  by("panel").style.setProperty("--hue", hueOf(groupOf(vehicles[index])));
  const doubts = [states[index] & SILENT && t("op_fleet.silent"), states[index] & DOUBTFUL && t("op_fleet.doubtful")];
  by("panel-kind").textContent = [t(`kind.${kind}`), powertrain && t(`powertrain.${powertrain}`), ...doubts].filter(Boolean).join(" · ");
  by("panel-name").textContent = `${page.brands[brand] ?? brand} ${model}`.trim();
  by("panel-open").href = `/vehicles/${ref}`;
  if (innerWidth <= 760) map.easeTo({ center: fleet.lngLat(index), padding: { bottom: innerHeight * .4 }, duration: 500 });
  refresh();
}

const shortValue = ({ value, symbol }) => typeof value !== "number" ? String(value) : symbol === "m" && value > 10000 ? `${number(value / 1000)} km` : `${number(value, 1)} ${symbol}`;
const SHOWN = /StateOfCharge\.(Displayed|Current)$|FuelSystem\.(Absolute|Relative)Level$|Vehicle\.TraveledDistance$|Exterior\.AirTemperature$|Powertrain\..*Temperature$/;
async function refresh() {
  if (chosen < 0) return;
  const ref = chosenRef, ask = ++asking;
  const speed = fleet.speed(chosen);
  speeds = [...speeds, Math.max(0, speed)].slice(-90);
  by("panel-speed").textContent = speed < 0 ? "–" : number(speed);
  spark(by("spark"), speeds, hueOf(groupOf(vehicles[chosen])), 30);
  if (following) map.easeTo({ center: fleet.lngLat(chosen), duration: 1000, easing: (x) => x });
  try {
    const twin = await fetchJson(`/live/vehicles/${ref}/twin`);
    if (ref !== chosenRef || ask !== asking) return;
    const shown = twin.signals.filter((value) => SHOWN.test(value.name)).slice(0, 6);
    by("panel-values").replaceChildren(...shown.flatMap((value) => [
      element("dt", { textContent: value.name.split(".").slice(-2).join(" ").replace(/([a-z])([A-Z])/g, "$1 $2") }),
      element("dd", { textContent: shortValue(value) }),
    ]), ...(twin.time_us ? [element("dt", { textContent: t("vehicle.time") }), element("dd", { textContent: age(twin.time_us) })] : []));
  } catch { /* the next second tries again */ }
}
setInterval(refresh, 1000);

map.on("click", ({ point }) => choose(fleet.nearest(point, 22)));
let pointed = 0;
map.on("mousemove", ({ point }) => {
  if (performance.now() - pointed < 60) return;
  pointed = performance.now();
  map.getCanvas().style.cursor = fleet.nearest(point) >= 0 ? "pointer" : "";
});
map.on("dragstart", () => { following = false; by("follow").setAttribute("aria-pressed", "false"); });
by("close").addEventListener("click", () => choose(-1));
by("follow").addEventListener("click", () => {
  following = !following;
  by("follow").setAttribute("aria-pressed", String(following));
  if (following) map.easeTo({ center: fleet.lngLat(chosen), zoom: Math.max(15, map.getZoom()), duration: 700 });
});
addEventListener("keydown", (event) => { if (event.key === "Escape") choose(-1); });
by("closer").addEventListener("click", () => map.zoomIn({ duration: 250 }));
by("farther").addEventListener("click", () => map.zoomOut({ duration: 250 }));
by("fit").addEventListener("click", fit);

const find = by("find");
find.addEventListener("input", () => {
  words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  dressAll();
  const fits = words.length ? vehicles.filter((vehicle, index) => isWanted(vehicle, index)).slice(0, 20) : [];
  by("found").replaceChildren(...fits.map((vehicle) => element("option", { value: nameOf(vehicle) })));
  const exact = vehicles.find((vehicle) => nameOf(vehicle) === find.value || vehicle[0] === find.value);
  if (exact) { choose(indexOf.get(exact[0])); map.easeTo({ center: fleet.lngLat(chosen), zoom: Math.max(14, map.getZoom()) }); find.blur(); }
});

addEventListener("themechange", async () => { map.setStyle(await style(town), { diff: false }); regroup(); });
plugs(() => chosenRef);
