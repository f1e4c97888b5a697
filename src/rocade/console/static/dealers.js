// The network of dealers on a map: a dot for each point of sale, coloured by its line, clustered where they are many.
import { Popup } from "./vendor/maplibre-gl.mjs";
import { css, element, fetchJson, page, t } from "./live.js";
import { makeMap } from "./my-ground.js";

const EVERY_MS = 5000;
const COLOURS = () => page.states.map((state) => css({ connected: "--good", lagging: "--doubt", away: "--bad", never: "--edge" }[state]));

const container = document.getElementById("sites-map");
const map = await makeMap(container, { center: [8, 48], zoom: 3.4, minZoom: 1, maxZoom: 16 });

function features(points) {
  return {
    type: "FeatureCollection",
    features: points.ids.map((id, at) => ({
      type: "Feature",
      geometry: { type: "Point", coordinates: [points.longitudes[at], points.latitudes[at]] },
      properties: { id, name: points.names[at], state: points.states[at], days: points.days_left[at], away: Number(page.states[points.states[at]] === "away"), lagging: Number(page.states[points.states[at]] === "lagging") },
    })),
  };
}

function draw(data) {
  const [connected, lagging, away, never] = COLOURS();
  map.addSource("sites", { type: "geojson", data, cluster: true, clusterRadius: 26, clusterMaxZoom: 9, clusterProperties: { away: ["+", ["get", "away"]], lagging: ["+", ["get", "lagging"]] } });
  map.addLayer({
    id: "groups", type: "circle", source: "sites", filter: ["has", "point_count"],
    paint: {
      "circle-radius": ["interpolate", ["linear"], ["sqrt", ["get", "point_count"]], 1, 7, 30, 24],
      "circle-color": ["case", [">", ["get", "away"], 0], away, [">", ["get", "lagging"], 0], lagging, connected],
      "circle-opacity": .8, "circle-stroke-width": 1.5, "circle-stroke-color": css("--card"),
    },
  });
  map.addLayer({
    id: "sites", type: "circle", source: "sites", filter: ["!", ["has", "point_count"]],
    paint: { "circle-radius": 6, "circle-color": ["match", ["get", "state"], 0, connected, 1, lagging, 2, away, never], "circle-stroke-width": 1.5, "circle-stroke-color": css("--card") },
  });
}

let known = features(await fetchJson("/dealers/points"));
draw(known);
fit();
addEventListener("themechange", () => map.once("styledata", () => map.getSource("sites") || draw(known)));
setInterval(async () => {
  if (document.hidden) return;
  try {
    known = features(await fetchJson("/dealers/points"));
    map.getSource("sites")?.setData(known);
  } catch { /* the next one will come */ }
}, EVERY_MS);

function fit() {
  const places = known.features.map((one) => one.geometry.coordinates);
  if (!places.length) return;
  const wide = (axis) => [Math.min(...places.map((one) => one[axis])), Math.max(...places.map((one) => one[axis]))];
  const [west, east] = wide(0), [south, north] = wide(1);
  map.fitBounds([[west, south], [east, north]], { padding: 40, maxZoom: 9, duration: 0 });
}

map.on("click", "groups", async ({ features: [group] }) => {
  const zoom = await map.getSource("sites").getClusterExpansionZoom(group.properties.cluster_id);
  map.easeTo({ center: group.geometry.coordinates, zoom: zoom + .3 });
});
map.on("click", "sites", ({ features: [site] }) => {
  const { id, name, state, days } = site.properties;
  const box = element("div", { className: "site-box" });
  box.append(element("strong", { textContent: name }), element("p", { textContent: t(`op_dealers.${page.states[state]}`) }));
  if (days !== undefined && days !== null) box.append(element("p", { textContent: t("op_dealers.days", { days }) }));
  box.append(element("a", { href: `/dealers/${encodeURIComponent(id)}`, textContent: t("op_dealers.open") }));
  new Popup({ closeButton: true, maxWidth: "260px" }).setLngLat(site.geometry.coordinates).setDOMContent(box).addTo(map);
});
for (const layer of ["groups", "sites"]) {
  map.on("mouseenter", layer, () => { map.getCanvas().style.cursor = "pointer"; });
  map.on("mouseleave", layer, () => { map.getCanvas().style.cursor = ""; });
}
window.rocade = { map };
container.dataset.ready = String(known.features.length);
