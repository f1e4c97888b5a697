// Shared by all pages: texts of the chosen language, the page's data, the live light, number and age formats.
const { default: texts } = await import(document.getElementById("texts").href);
export const page = JSON.parse(document.getElementById("page").textContent);
export const language = document.documentElement.lang;
export const t = (key, values = {}) => (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
const formats = new Map(); // making a formatter costs more than using it a thousand times
function format(kind, options) {
  const key = kind.name + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new kind(language, options));
  return formats.get(key);
}
export const number = (value, digits = 0) => format(Intl.NumberFormat, { maximumFractionDigits: digits }).format(value);
export const clock = (us, options = { dateStyle: "short", timeStyle: "medium" }) => format(Intl.DateTimeFormat, options).format(us / 1000);
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

export function age(us) {
  const s = Math.max(0, Date.now() / 1000 - us / 1e6);
  if (s < 3) return t("live.now");
  const [value, unit] = s < 90 ? [s, "second"] : s < 5400 ? [s / 60, "minute"] : s < 129600 ? [s / 3600, "hour"] : [s / 86400, "day"];
  return t("live.ago", { age: format(Intl.NumberFormat, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 }).format(value) });
}

export function light(state) {
  const live = document.getElementById("live");
  if (live.dataset.state === state) return;
  live.dataset.state = state;
  live.querySelector("b").textContent = t({ live: "live.connected", wait: "live.waiting", lost: "live.lost" }[state]);
}

/** Server-sent events with the browser's own reconnection; handlers get parsed JSON. */
export function listen(address, handlers) {
  const source = new EventSource(address);
  for (const [name, handle] of Object.entries(handlers))
    source.addEventListener(name, (event) => { light("live"); handle(JSON.parse(event.data)); });
  source.addEventListener("error", () => {
    light("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(address, handlers), 2000);
  });
  addEventListener("pagehide", () => source.close());
  return source;
}

/** GET JSON; a problem document becomes an Error with its detail. */
export async function fetchJson(address, options) {
  const response = await fetch(address, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? response.statusText);
  return body;
}

/** A small filled line, for tiles and the panel. */
export function spark(canvas, values, colour, floor = 1) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const draw = canvas.getContext("2d");
  draw.scale(ratio, ratio);
  if (values.length < 2) return;
  const top = Math.max(floor, ...values), step = width / (values.length - 1);
  const y = (value) => height - 2 - (value / top) * (height - 6);
  draw.beginPath();
  values.forEach((value, index) => draw[index ? "lineTo" : "moveTo"](index * step, y(value)));
  draw.strokeStyle = colour; draw.lineWidth = 1.8; draw.lineJoin = "round"; draw.stroke();
  draw.lineTo(width, height); draw.lineTo(0, height); draw.closePath();
  draw.globalAlpha = .12; draw.fillStyle = colour; draw.fill();
}
