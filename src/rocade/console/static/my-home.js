// My vehicles: one map with all of them, each card kept fresh by the stream.
import { page } from "./live.js";
import { boundsOf } from "./ground.js";
import { makeMap, spot, wordPlaces } from "./my-ground.js";
import { on, place } from "./my.js";

const spots = new Map();
const title = (ref) => document.querySelector(`[data-car="${ref}"] h2`)?.textContent.trim() ?? "";
let map = null;

async function showMap() {
  const places = Object.entries(page.places ?? {});
  if (!document.getElementById("place-map") || !places.length) { document.getElementById("place-map")?.setAttribute("hidden", ""); return; }
  const bounds = boundsOf([{ coordinates: places.map(([, at]) => at) }]);
  map = await makeMap("place-map", { bounds, fitBoundsOptions: { padding: 46, maxZoom: 14 } });
  for (const [ref, at] of places) spots.set(ref, spot(map, at, title(ref)));
  window.rocade = { map, spots };
}

on("glance", (glance) => {
  const card = document.querySelector(`[data-car="${glance.ref}"] [data-glance]`);
  place(card, glance.html);
  if (card) wordPlaces(card);
  if (!map || !glance.place) return;
  if (spots.has(glance.ref)) spots.get(glance.ref).setLngLat(glance.place);
  else spots.set(glance.ref, spot(map, glance.place, title(glance.ref)));
});
addEventListener("emptied", () => map?.remove());
wordPlaces();
showMap();
