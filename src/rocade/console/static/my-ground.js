// The map under one's own vehicles: the ground, a spot for each vehicle, and the nearest named place of the drawn town.
import { Map as GroundMap, Marker, addProtocol, setWorkerUrl } from "./vendor/maplibre-gl.mjs";
import { element, page, t } from "./live.js";
import { fetchTown, style } from "./ground.js";

setWorkerUrl?.(new URL("./vendor/maplibre-gl-worker.mjs", import.meta.url).href);
const town = page.town ? fetchTown() : Promise.resolve(null);

export async function makeMap(container, options) {
  if (page.pmtiles) addProtocol("pmtiles", new window.pmtiles.Protocol().tile);
  const map = new GroundMap({ container, style: await style(await town), attributionControl: false, dragRotate: false, maxPitch: 0, fadeDuration: 0, cooperativeGestures: false, ...options });
  addEventListener("themechange", async () => map.setStyle(await style(await town)));
  await new Promise((done) => map.once("load", done));
  return map;
}

export function spot(map, place, text = "") {
  const node = element("div", { className: "spot" });
  if (text) node.append(element("span", { textContent: text }));
  return new Marker({ element: node }).setLngLat(place).addTo(map);
}

/** Word the places of a piece of page: near which named place of the town, else degrees. */
export async function wordPlaces(root = document) {
  const named = (await town)?.features.filter((feature) => feature.properties.kind === "place") ?? [];
  for (const node of root.querySelectorAll("[data-place]")) {
    const [east, north] = node.dataset.place.split(",").map(Number);
    const away = ({ geometry: { coordinates: [x, y] } }) => Math.hypot((x - east) * Math.cos(north * Math.PI / 180), y - north) * 111;
    const nearest = named.reduce((best, one) => (!best || away(one) < away(best) ? one : best), null);
    node.textContent = nearest && away(nearest) < 5 ? t("my_live.near", { place: nearest.properties.name }) : `${north.toFixed(4)}°, ${east.toFixed(4)}°`;
  }
}
