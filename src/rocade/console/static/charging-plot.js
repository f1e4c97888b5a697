// Charts of charging on uPlot: the plan over price and CO2, a depot's load under its limit, a band of flexibility, health over time.
// What is a forecast is drawn apart: dashed, on a hatched ground, with the word. Every chart has a table beside it.
import uPlot from "./vendor/uPlot.esm.js";
import { clock, css, element, number, t } from "./live.js";

const steps = uPlot.paths.stepped({ align: 1 });
const hm = (at) => clock(at * 1e6, { timeStyle: "short" });
const soft = (colour, share) => `color-mix(in srgb, ${colour} ${share}%, transparent)`;
const made = new WeakMap(); // chart by its box

/** Marks of the time axis: hours; the day stands under the first of each. */
function hours(_, splits) {
  let day = "";
  return splits.map((at) => {
    const date = clock(at * 1e6, { weekday: "short" }), isNew = date !== day;
    day = date;
    return isNew ? `${hm(at)}\n${date}` : hm(at);
  });
}
const axis = () => ({ stroke: css("--soft"), font: "11px Inter, sans-serif", grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } });

function hatch(u, from, until, word) {
  const { ctx, bbox } = u, left = Math.max(bbox.left, u.valToPos(from, "x", true)), right = Math.min(bbox.left + bbox.width, u.valToPos(until, "x", true));
  if (right - left < 2) return;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath(); ctx.rect(left, bbox.top, right - left, bbox.height); ctx.clip();
  ctx.strokeStyle = css("--line"); ctx.lineWidth = ratio;
  for (let x = left - bbox.height; x < right; x += 9 * ratio) { ctx.beginPath(); ctx.moveTo(x, bbox.top + bbox.height); ctx.lineTo(x + bbox.height, bbox.top); ctx.stroke(); }
  ctx.restore();
  ctx.save();
  ctx.beginPath(); ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height); ctx.clip();
  ctx.fillStyle = css("--soft"); ctx.font = `${11 * ratio}px Inter, sans-serif`; ctx.textBaseline = "top";
  const needs = ctx.measureText(word).width + 8 * ratio, fits = right - left > needs;
  ctx.textAlign = !fits && right + needs > bbox.left + bbox.width ? "right" : "left";
  ctx.fillText(word, fits ? left + 4 * ratio : ctx.textAlign === "left" ? right + 4 * ratio : left - 4 * ratio, bbox.top + 3 * ratio);
  ctx.restore();
}

function mark(u, at, word, dash = [], atTop = true) {
  const { ctx, bbox } = u, x = u.valToPos(at, "x", true), ratio = devicePixelRatio || 1;
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.save();
  ctx.strokeStyle = css("--ink"); ctx.lineWidth = ratio; ctx.setLineDash(dash.map((one) => one * ratio));
  ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
  ctx.fillStyle = css("--ink"); ctx.font = `600 ${11 * ratio}px Inter, sans-serif`; ctx.textBaseline = "top";
  const isLeft = x + ctx.measureText(word).width + 8 * ratio > bbox.left + bbox.width;
  ctx.textAlign = isLeft ? "right" : "left";
  ctx.fillText(word, x + (isLeft ? -4 : 4) * ratio, atTop ? bbox.top + 3 * ratio : bbox.top + bbox.height - 15 * ratio);
  ctx.restore();
}

/** One chart a box: data alone is exchanged while its series stay the same. */
function put(box, stamp, options, data) {
  const width = box.clientWidth, known = made.get(box);
  if (!width) return null;
  if (known && known.stamp === stamp) { known.plot.setData(data); return known.plot; }
  known?.plot.destroy();
  const plot = new uPlot({ width, height: options.height, legend: { show: false }, cursor: { points: { size: 6 }, drag: { setScale: false } }, ...options }, data, box);
  made.set(box, { plot, stamp });
  return plot;
}
export function fit(box) {
  const known = made.get(box);
  if (known && box.clientWidth) known.plot.setSize({ width: box.clientWidth, height: known.plot.height });
}
export function drop(box) { made.get(box)?.plot.destroy(); made.delete(box); }

const split = (values, times, known_s) => {
  const known = values.map((value, at) => (times[at] <= known_s ? value : null)), ahead = values.map((value, at) => (times[at] >= known_s ? value : null));
  return [known, ahead];
};

/** The plan. `chart`: PlanChart of console/charging/drawing.py; `readout(text)` words what stands under the pointer. */
export function drawPlan(box, chart, readout) {
  const { times_s: x, power_kw: power, price, carbon, known_s: known } = chart, hasPrice = price.length > 0, hasCarbon = carbon.length > 0;
  const [priceKnown, priceAhead] = split(price, x, known), [carbonKnown, carbonAhead] = split(carbon, x, known);
  const narrow = box.clientWidth < 500, data = [x, power], series = [{}, { scale: "kw", stroke: css("--power"), width: 1.5, fill: soft(css("--power"), 34), paths: steps, points: { show: false } }];
  const line = (scale, colour, dash) => ({ scale, stroke: css(colour), width: 2, dash, paths: steps, points: { show: false }, spanGaps: false });
  if (hasPrice) { data.push(priceKnown, priceAhead); series.push(line("price", "--price"), line("price", "--price", [8, 5])); }
  if (hasCarbon) { data.push(carbonKnown, carbonAhead); series.push({ ...line("carbon", "--carbon", [2, 3]) }, { ...line("carbon", "--carbon", [2, 7]) }); }
  const axes = [{ ...axis(), values: hours, space: 58, size: 36 }];
  const top = (share) => (_, low, high) => [Math.min(0, low ?? 0), Math.max(1e-3, (high ?? 1) * share)];
  if (hasPrice) axes.push({ ...axis(), scale: "price", size: 34, stroke: css("--price"), values: (_, at) => at.map((one) => number(one, 1)), label: narrow ? undefined : chart.price_unit, labelSize: 16, labelFont: "11px Inter, sans-serif" });
  if (hasCarbon) axes.push({ ...axis(), scale: "carbon", side: 1, size: 36, stroke: css("--carbon"), grid: { show: false }, values: (_, at) => at.map((one) => number(one)), label: narrow ? undefined : "g CO₂/kWh", labelSize: 16, labelFont: "11px Inter, sans-serif" });
  const state = { known, leaves: chart.leaves_s };
  box.state = state;
  const stamp = `${css("--price")}${hasPrice}${hasCarbon}${narrow}${chart.price_unit}`;
  const words = (u) => {
    const at = u.cursor.idx ?? x.length - 1;
    const [times, ...rest] = u.data;
    if (u.cursor.idx == null) return readout(narrow ? `${hasPrice ? chart.price_unit : ""}${hasCarbon ? " · g CO₂/kWh" : ""}` : "");
    const place = Math.min(at, times.length - 2), parts = [`${hm(times[place])}–${hm(times[place + 1])}`, `${number(rest[0][place], 1)} kW`];
    if (hasPrice) parts.push(`${number(rest[1][place] ?? rest[2][place], 1)} ${chart.price_unit}`);
    if (hasCarbon) parts.push(`${number(rest[3][place] ?? rest[4][place])} g/kWh`);
    if (times[place] >= box.state.known) parts.push(t("charging_plan.is_forecast"));
    readout(parts.join(" · "));
  };
  put(box, stamp, {
    height: 220, series, axes,
    scales: { kw: { range: top(1.9) }, price: { range: top(1.12) }, carbon: { range: top(1.3) } },
    hooks: {
      drawClear: [(u) => hatch(u, box.state.known, u.data[0].at(-1), t("charging_plan.forecast").split(/[:：]/).at(-1).trim())],
      draw: [(u) => { mark(u, Date.now() / 1000, t("charging_plan.now"), [2, 2], false); mark(u, box.state.leaves, t("charging_plan.leave"), [], false); }],
      setCursor: [words],
    },
  }, data);
}

/** Rows of equal power, price and CO2 as one. */
export function planTable(chart) {
  const { times_s: x, power_kw: power, price, carbon, known_s: known } = chart, rows = [];
  for (let at = 0; at + 1 < x.length; at++) {
    const same = [power[at], price[at], carbon[at], x[at] >= known].join();
    if (rows.at(-1)?.same === same) rows.at(-1).until = x[at + 1];
    else rows.push({ same, from: x[at], until: x[at + 1], at });
  }
  const heads = [t("charging_plan.from"), t("charging_plan.until"), `${t("charging_plan.power")} (kW)`];
  if (price.length) heads.push(`${t("charging_plan.price")} (${chart.price_unit})`);
  if (carbon.length) heads.push("CO₂ (g/kWh)");
  return table(heads, rows.map(({ from, until, at }) => [clock(from * 1e6, { weekday: "short", hour: "2-digit", minute: "2-digit" }), hm(until), number(power[at], 2),
    ...(price.length ? [number(price[at], 2) + (x[at] >= known ? ` (${t("charging_plan.is_forecast")})` : "")] : []), ...(carbon.length ? [number(carbon[at])] : [])]));
}
export function table(heads, rows) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((text, at) => element("th", { scope: "col", textContent: text, className: at > 1 ? "number" : "" })))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text, at) => element("td", { textContent: text, className: at > 1 ? "number" : "" }))))));
}

/** A depot's load. `chart`: LoadChart; building and sun as they are now go on as level lines. */
export function drawLoad(box, chart) {
  const x = chart.times_s;
  if (!x.length) return;
  const flat = (value) => x.map(() => value);
  box.state = chart;
  put(box, css("--price"), {
    height: 270,
    series: [{}, { stroke: css("--power"), width: 1.5, fill: soft(css("--power"), 34), paths: steps, points: { show: false } },
      { stroke: css("--house"), width: 1.5, dash: [1.5, 3], points: { show: false } },
      { stroke: css("--sun"), width: 2, dash: [5, 3], points: { show: false } },
      { stroke: css("--bad"), width: 2.5, paths: steps, points: { show: false } }],
    axes: [{ ...axis(), values: hours, space: 64, size: 36 }, { ...axis(), size: 48, values: (_, at) => at.map((one) => `${number(one)}`), label: "kW", labelSize: 14, labelFont: "11px Inter, sans-serif" }],
    scales: { y: { range: (_, __, high) => [0, Math.max(1, (high ?? 1) * 1.15)] } },
    hooks: {
      drawClear: [(u) => box.state.dimmed.forEach(([from, until, kw]) => hatch(u, from, until, `${t("charging_depot.dimming")} ${number(kw)} kW`))],
      draw: [(u) => mark(u, Date.now() / 1000, t("charging_plan.now"), [2, 2], false)],
    },
  }, [x, chart.planned_kw, flat(chart.building_kw), flat(chart.solar_kw), chart.limit_kw]);
}
export function loadTable(chart) {
  return table([t("charging_plan.from"), "", t("charging_depot.planned"), t("charging_depot.limit")], chart.times_s.slice(0, -1).map((at, place) => [hm(at), "", `${number(chart.planned_kw[place], 1)} kW`, `${number(chart.limit_kw[place], 1)} kW`]));
}

/** Least and most power with the plan between. `chart`: BandChart. */
export function drawBand(box, chart) {
  if (!chart.times_s.length) return;
  put(box, css("--price"), {
    height: 210,
    series: [{}, { stroke: css("--price"), width: 1, paths: steps, points: { show: false } }, { stroke: css("--price"), width: 1, dash: [5, 3], paths: steps, points: { show: false } }, { stroke: css("--power"), width: 2.2, paths: steps, points: { show: false } }],
    bands: [{ series: [1, 2], fill: soft(css("--price"), 18) }],
    axes: [{ ...axis(), values: hours, space: 64, size: 36 }, { ...axis(), size: 48, label: "kW", labelSize: 14, labelFont: "11px Inter, sans-serif", values: (_, at) => at.map((one) => `${number(one)}`) }],
    scales: { y: { range: (_, __, high) => [0, Math.max(1, (high ?? 1) * 1.12)] } },
    hooks: { draw: [(u) => mark(u, Date.now() / 1000, t("charging_plan.now"), [2, 2])] },
  }, [chart.times_s, chart.high_kw, chart.low_kw, chart.planned_kw]);
}
export function bandTable(chart) {
  return table([t("charging_plan.from"), "", t("charging_depot.least"), t("charging_depot.most")], chart.times_s.slice(0, -1).map((at, place) => [hm(at), "", number(chart.low_kw[place], 1), number(chart.high_kw[place], 1)]));
}

/** Health over time with its interval. `chart`: times_s, percent, low, high. */
export function drawHealth(box, chart) {
  const dates = (_, at) => at.map((one) => clock(one * 1e6, { month: "short", year: "2-digit" }));
  const floor = Math.floor(Math.min(...chart.low, 90) / 5) * 5;
  put(box, css("--price"), {
    height: 220,
    series: [{}, { stroke: soft(css("--power"), 50), width: 1, points: { show: false } }, { stroke: soft(css("--power"), 50), width: 1, points: { show: false } }, { stroke: css("--power"), width: 2.4, points: { show: chart.percent.length < 40, size: 5 } }],
    bands: [{ series: [1, 2], fill: soft(css("--power"), 20) }],
    axes: [{ ...axis(), values: dates, space: 70 }, { ...axis(), size: 44, values: (_, at) => at.map((one) => `${number(one, 1)} %`) }],
    scales: { y: { range: () => [floor, 102] } },
  }, [chart.times_s, chart.high, chart.low, chart.percent]);
}
