// The ingestion page: what the processes report, once a second, with the last two minutes as small lines.
import { css, element, light, listen, number, spark, t } from "./live.js";

const by = (id) => document.getElementById(id);
const KEPT = 120, lines = { connections: [], rate: [], points: [], ack: [], lag: [] };

function tile(name, value, digits, more = "") {
  by(name).textContent = value == null ? "–" : number(value, digits);
  by(`${name}-more`).textContent = more;
  lines[name] = [...lines[name], value ?? 0].slice(-KEPT);
  spark(by(`${name}-line`), lines[name], css("--accent"), name === "lag" ? 2 : 1);
}
function counts(id, none, found) {
  const entries = Object.entries(found).sort(([, one], [, other]) => other - one);
  if (!entries.length) { by(id).replaceChildren(element("p", { className: "none", textContent: t(none) })); return; }
  by(id).replaceChildren(element("table", {}, element("tbody", {}, ...entries.map(([reason, count]) => element("tr", {}, element("td", { className: "mono", textContent: reason }), element("td", { className: "number", textContent: number(count) }))))));
}

light("wait");
listen("/live/ingest", {
  status: (status) => {
    tile("connections", status.connections, 0);
    tile("rate", status.messages_per_s, status.messages_per_s < 10 ? 1 : 0);
    tile("points", status.points_per_s, 0);
    tile("ack", status.ack_p50_ms, 1, status.ack_p99_ms == null ? "" : `p50 · p99 ${number(status.ack_p99_ms, 1)} ms`);
    tile("lag", status.lag_s, 1);
    counts("refusals", "ingest.none", status.refusals);
    counts("quarantine", "ingest.no_quarantine", status.quarantine);
    by("processes").replaceChildren(...status.processes.map((one) => element("tr", {},
      element("td", { textContent: one.process }),
      element("td", {}, element("span", { className: `pill ${one.is_alive ? "good" : "bad"}`, textContent: t(one.is_alive ? "ingest.alive" : "ingest.gone") })),
      element("td", { className: "path wide", textContent: Object.entries(one.values).filter(([, value]) => typeof value === "number").map(([name, value]) => `${name} ${number(value, 2)}`).join(" · ") }))));
  },
});
