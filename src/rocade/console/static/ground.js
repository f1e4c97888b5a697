// The ground under the vehicles: country outlines everywhere, the drawn town where it lies, street maps when the operator
// has set a PMTiles file. No other host is asked; labels are drawn with the browser's own fonts.
import { page, css } from "./live.js";

const COLOURS = {
  light: { sea: "#d9e4ec", land: "#f5f3ee", quarter: "#efece4", border: "#cbc5b8", water: "#c4dbea", green: "#dbe8cf", building: "#e3ded3", road: "#ffffff", casing: "#dcd6c9", ring: "#ffdf8e", ringCasing: "#e8b94c", label: "#6b6759", halo: "#fbfaf7", trip: "#1c4fd8" },
  dark: { sea: "#0a0e13", land: "#14181f", quarter: "#181d25", border: "#2f3742", water: "#142433", green: "#16241d", building: "#1e242d", road: "#2b323d", casing: "#10141a", ring: "#5d4a1e", ringCasing: "#2b2413", label: "#8b94a3", halo: "#12161c", trip: "#7ea2ff" },
};
export const theme = () => document.documentElement.dataset.theme === "dark" ? "dark" : "light";
const is = (...kinds) => ["in", ["get", "kind"], ["literal", kinds]];
const width = (...stops) => ["interpolate", ["exponential", 1.5], ["zoom"], ...stops];

export async function style(town) {
  const c = COLOURS[theme()];
  const sources = { countries: { type: "geojson", data: await countries(), attribution: "Natural Earth" } };
  const layers = [
    { id: "sea", type: "background", paint: { "background-color": c.sea } },
    { id: "land", type: "fill", source: "countries", paint: { "fill-color": c.land } },
    { id: "borders", type: "line", source: "countries", paint: { "line-color": c.border, "line-width": width(2, .5, 8, 1.4) } },
  ];
  if (page.pmtiles) {
    sources.streets = { type: "vector", url: `pmtiles://${location.origin}/live/streets.pmtiles` };
    layers.push(...streets(c));
  }
  if (town) {
    sources.town = { type: "geojson", data: town };
    layers.push(...townLayers(c));
  }
  return { version: 8, sources, layers, transition: { duration: 0 } };
}

async function countries() {
  const world = await (await fetch("/static/vendor/countries-50m.json")).json();
  return window.topojson.feature(world, world.objects.countries);
}

// Kinds as the town generator names them (agents/vehicle/simulation/town.py).
function townLayers(c) {
  const fill = (kind, colour) => ({ id: `town-${kind}`, type: "fill", source: "town", filter: is(kind), paint: { "fill-color": colour } });
  const road = (id, classes, colour, stops) => ({ id: `town-${id}`, type: "line", source: "town", filter: is(...classes), layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": colour, "line-width": width(...stops) } });
  const label = { "text-color": c.label, "text-halo-color": c.halo, "text-halo-width": 1.5 };
  return [
    fill("town", c.quarter),
    fill("park", c.green),
    fill("water", c.water),
    road("street-casing", ["street"], c.casing, [11, .8, 14, 5.4, 17, 24]),
    road("avenue-casing", ["avenue"], c.casing, [10, 1.4, 14, 8.4, 17, 34]),
    road("street", ["street"], c.road, [11, .5, 14, 3.8, 17, 20]),
    road("avenue", ["avenue"], c.road, [10, 1, 14, 6.4, 17, 29]),
    road("ring-casing", ["rocade"], c.ringCasing, [9, 2.4, 13, 7, 14, 11, 17, 44]),
    road("ring", ["rocade"], c.ring, [9, 1.4, 13, 5.2, 14, 8.6, 17, 38]),
    { id: "town-names", type: "symbol", source: "town", minzoom: 14.4, filter: is("street", "avenue", "rocade"), layout: { "symbol-placement": "line", "symbol-spacing": 460, "text-field": ["get", "name"], "text-font": ["Inter"], "text-size": 11.5 }, paint: label },
    { id: "town-places", type: "symbol", source: "town", minzoom: 11.5, maxzoom: 16.5, filter: is("place"), layout: { "text-field": ["get", "name"], "text-font": ["Inter"], "text-size": 13, "text-letter-spacing": .04 }, paint: label },
  ];
}

// Protomaps basemap schema (layers earth, landuse, water, roads, buildings).
function streets(c) {
  const layer = (id, type, from, paint, filter) => ({ id: `streets-${id}`, type, source: "streets", "source-layer": from, paint, ...(filter ? { filter } : {}) });
  return [
    layer("earth", "fill", "earth", { "fill-color": c.land }),
    layer("green", "fill", "landuse", { "fill-color": c.green }, is("park", "forest", "wood", "grass", "nature_reserve", "cemetery")),
    layer("water", "fill", "water", { "fill-color": c.water }, ["==", ["geometry-type"], "Polygon"]),
    layer("building", "fill", "buildings", { "fill-color": c.building }),
    layer("minor", "line", "roads", { "line-color": c.road, "line-width": width(11, .4, 14, 2.4, 17, 12) }, is("minor_road", "other", "path")),
    layer("major", "line", "roads", { "line-color": c.road, "line-width": width(8, .6, 14, 5, 17, 20) }, is("major_road", "medium_road")),
    layer("highway", "line", "roads", { "line-color": c.ring, "line-width": width(6, .8, 14, 6, 17, 24) }, is("highway")),
  ];
}

/** A line on top of the ground: a trip, split where positions are far apart. */
export function tripLayer() {
  return [
    { id: "trip-casing", type: "line", source: "trip", layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": css("--card"), "line-width": 7 } },
    { id: "trip", type: "line", source: "trip", layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": COLOURS[theme()].trip, "line-width": 4 } },
  ];
}

export const fetchTown = async () => page.town ? (await fetch("/live/town.geojson")).json() : null;

/** The ring road, which holds the town. */
export function townBounds(town) {
  const ring = town.features.filter((feature) => feature.properties.kind === "rocade");
  return boundsOf((ring.length ? ring : town.features).map((feature) => feature.geometry));
}

export function boundsOf(geometries) {
  let west = 180, south = 90, east = -180, north = -90;
  const walk = (at) => {
    if (typeof at[0] === "number") { west = Math.min(west, at[0]); east = Math.max(east, at[0]); south = Math.min(south, at[1]); north = Math.max(north, at[1]); }
    else at.forEach(walk);
  };
  geometries.forEach((geometry) => walk(geometry.coordinates));
  return west <= east ? [[west, south], [east, north]] : null;
}
