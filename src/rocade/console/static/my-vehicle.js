// One vehicle now: its state and place as the stream brings them.
import { page } from "./live.js";
import { makeMap, spot, wordPlaces } from "./my-ground.js";
import { on, place } from "./my.js";

const box = document.getElementById("place-map");
let map = null, here = null, making = null;

async function show(at) {
  if (!box || !at) return;
  box.hidden = false;
  making ??= makeMap(box, { center: at, zoom: 14 }).then((made) => { map = made; here = spot(map, at); window.rocade = { map, here }; });
  await making;
  here.setLngLat(at);
  const view = map.getBounds(), edge = map.getContainer().clientWidth * .18, point = map.project(at);
  if (!view.contains(at) || point.x < edge || point.y < edge / 2 || point.x > map.getContainer().clientWidth - edge || point.y > map.getContainer().clientHeight - edge / 2) map.easeTo({ center: at, duration: 600 });
}

on("glance", (glance) => {
  const node = document.getElementById("glance");
  place(node, glance.html);
  if (node) wordPlaces(node);
  place(document.getElementById("figures"), glance.figures);
  show(glance.place);
});
addEventListener("emptied", () => map?.remove());
wordPlaces();
show(page.place);
setInterval(() => { if (document.getElementById("values")?.open && !document.hidden) window.htmx.trigger("#readings", "refresh"); }, 10_000);
