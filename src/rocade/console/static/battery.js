// Battery health over time.
import { drawHealth, drop, fit } from "./charging-plot.js";

const box = document.getElementById("health-plot");
const draw = () => box?.dataset.chart && drawHealth(box, JSON.parse(box.dataset.chart));
draw();
addEventListener("resize", () => box && fit(box));
addEventListener("themechange", () => { if (box) { drop(box); draw(); } });
