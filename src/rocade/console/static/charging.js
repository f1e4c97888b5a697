// The driver's charging page: the plan is drawn while a slider moves, everything that happens comes by server-sent events.
import { element, language, listen, number, page, t } from "./live.js";
import { word } from "./kit.js";
import { place } from "./my.js";
import { tell as news } from "./charging-life.js";
import { drawPlan, drop, fit, planTable } from "./charging-plot.js";

const by = (id) => document.getElementById(id);
const form = by("goal"), plot = by("plot");
let chart = null, isPreview = false;

// ---- the plan -------------------------------------------------------------------------------------------------------
function draw() {
  if (!plot) return;
  const said = by("plan-data")?.dataset.chart ?? "";
  chart = said ? JSON.parse(said) : null;
  for (const name of ["plot", "key", "as-table"]) by(name).hidden = !chart;
  if (!chart) return drop(plot);
  for (const name of ["price", "carbon"]) document.querySelector(`[data-key=${name}]`).hidden = !chart[name].length;
  drawPlan(plot, chart, (text) => { by("readout").textContent = text; });
  if (by("as-table").open) by("plan-table").replaceChildren(planTable(chart));
}
by("as-table")?.addEventListener("toggle", () => chart && by("as-table").open && by("plan-table").replaceChildren(planTable(chart)));
addEventListener("resize", () => fit(plot));
addEventListener("themechange", () => { drop(plot); draw(); });
setInterval(() => document.hidden || draw(), 60_000); // "now" moves on

// ---- the goal: what its controls say, and the plan they would make -----------------------------------------------------
const clockText = (text) => {
  const [hour, minute] = text.split(":").map(Number), at = new Date();
  at.setHours(hour, minute, 0, 0);
  return Number.isNaN(at.getTime()) ? text : new Intl.DateTimeFormat(language, { timeStyle: "short" }).format(at);
};
function say() {
  const values = Object.fromEntries(new FormData(form));
  by("g-target-said").textContent = `${values.target} %`;
  by("g-least-said").textContent = `${values.minimum} %`;
  by("g-share-said").textContent = t(`charging_goal.share_${values.share}`);
  by("g-share").setAttribute("aria-valuetext", t(`charging_goal.share_${values.share}`));
  const days = new FormData(form).getAll("day");
  by("goal-days").textContent = days.length === 7 ? t("charging_goal.daily") : days.map((day) => t(`charging_day.long_${day}`)).join(t("kit.comma"));
  const key = values.calendar || values.use_calendar ? "charging_goal.said_calendar" : "charging_goal.said";
  by("goal-said").textContent = t(key, { percent: number(values.target), time: clockText(values.by ?? ""), how: t(`charging_goal.how_${values.share}`) });
}

let asking = false, again = false;
async function preview() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    do {
      again = false;
      const answer = await fetch(`/my/${page.ref}/charging/preview`, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { "hx-request": "true" } });
      const html = await answer.text();
      if (!answer.ok) { by("goal-wrong").innerHTML = html; word(by("goal-wrong")); continue; }
      by("goal-wrong").replaceChildren();
      isPreview = true;
      place(by("charge-plan"), html);
      window.htmx.process(by("charge-plan"));
      draw();
    } while (again);
  } catch { /* offline: the light says so; the next move asks again */ } finally { asking = false; }
}
form?.addEventListener("input", (event) => {
  if (event.target.type === "file") return;
  say();
  preview();
});
by("g-calendar")?.addEventListener("change", async () => {
  const [file] = by("g-calendar").files;
  by("g-calendar-name").textContent = file?.name ?? "";
  by("g-calendar-text").value = file && file.size <= 262_144 ? await file.text() : "";
  say();
  preview();
});
form?.addEventListener("htmx:afterRequest", (event) => { if (event.target === form && event.detail.successful) { isPreview = false; by("g-save").textContent = t("charging_goal.save"); by("goal-usual")?.remove(); } });
document.addEventListener("htmx:afterSwap", (event) => { if (["charge-plan", "charge-now"].includes(event.detail.target?.id)) { isPreview = false; tell(); draw(); } });
if (form && !page.has_goal) by("g-zone").value = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

// ---- what happens -----------------------------------------------------------------------------------------------------
const tell = () => news(by("now-title")?.textContent ?? "");
const stream = listen(`/my/${page.ref}/charging/live`, {
  now: ({ html }) => { const had = document.activeElement?.classList.contains("big-act") && by("charge-now").contains(document.activeElement); if (by("charge-now").querySelector(".htmx-request")) return; place(by("charge-now"), html); window.htmx.process(by("charge-now")); if (had) by("charge-now").querySelector(".big-act")?.focus(); tell(); },
  plan: ({ html }) => { if (isPreview || !plot) return; place(by("charge-plan"), html); window.htmx.process(by("charge-plan")); draw(); },
  commands: ({ html }) => { if (by("commands")) place(by("commands"), html); tell(); },
  sessions: () => document.body.dispatchEvent(new Event("sessions")),
});
addEventListener("emptied", () => stream.close());
if (form) say();
tell();
draw();
if (form && !page.has_goal) preview(); // what the usual goal would bring, before anybody chose it
window.rocade = { plan: () => chart, isPreview: () => isPreview, element };
