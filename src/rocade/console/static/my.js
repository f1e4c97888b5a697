// On every page of owners and drivers: follows the vehicle's rights, empties the page when they end, copies and shares codes.
import { light, page, t } from "./live.js";
import { say, word } from "./kit.js";

const source = { now: null };
const handlers = new Map();
/** Handle an event of this page's stream; see console/my/live.py for what it sends. */
export const on = (name, handle) => { handlers.set(name, handle); source.now?.addEventListener(name, receive(name)); };
const receive = (name) => (event) => handlers.get(name)?.(JSON.parse(event.data));

/** What was shown is gone from the page, not only covered. An act of this page that ends its own right (erasing) is let finish. */
async function empty(which) {
  source.now?.close();
  source.now = null;
  while (acting) await new Promise((done) => setTimeout(done, 100));
  if (document.querySelector("[data-done]")) return;
  document.getElementById("sheet").replaceChildren(document.getElementById(which).content.cloneNode(true));
  document.title = "Rocade";
  document.getElementById("notices").replaceChildren();
  document.getElementById("content").focus();
  dispatchEvent(new Event("emptied"));
}

document.addEventListener("htmx:configRequest", (event) => { if (event.detail.verb !== "get") event.detail.parameters.zone = new Date().getTimezoneOffset(); }); // dates of forms end here, not in Greenwich
let acting = 0;
document.addEventListener("htmx:beforeRequest", (event) => { acting += Number(event.detail.requestConfig.verb !== "get"); });
document.addEventListener("htmx:afterRequest", (event) => { acting -= Number(event.detail.requestConfig.verb !== "get"); });

/** Consents or drivers are others than this page shows: fetch its board anew and say so, unless it was this page's own act. */
const shown = new Set(); // every state this page has shown: an event about one of them is no news
const note = () => shown.add(document.getElementById("board")?.dataset.version);
document.addEventListener("htmx:afterSwap", note);
note();
async function changed({ version }) {
  do await new Promise((done) => setTimeout(done, 200)); while (acting); // the answer to our own act may still be on its way
  const board = document.getElementById("board");
  if (!board?.dataset.version || shown.has(version)) return;
  window.htmx.trigger(board, "changed");
  say(t("my.changed"), "doubt");
}

async function reopen(address) { // the stream was refused or broke: find out which, and say it in words
  const answer = await fetch(address, { headers: { accept: "text/event-stream" }, signal: AbortSignal.timeout(4000) }).catch(() => null);
  answer?.body?.cancel();
  if (answer?.status === 401) empty("signed-out");
  else if (answer && [403, 404].includes(answer.status)) empty("ended");
  else setTimeout(() => follow(address), 2000);
}

export function follow(address) {
  const opened = source.now = new EventSource(address);
  opened.addEventListener("open", () => light("live"));
  for (const name of handlers.keys()) opened.addEventListener(name, receive(name));
  opened.addEventListener("rights", (event) => changed(JSON.parse(event.data)));
  opened.addEventListener("ended", (event) => empty(JSON.parse(event.data).code.startsWith("gate.") ? "ended" : "signed-out"));
  opened.addEventListener("list", () => location.reload());
  opened.addEventListener("error", () => { light("lost"); if (opened.readyState === EventSource.CLOSED && source.now === opened) reopen(address); });
  addEventListener("pagehide", () => opened.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest?.("[data-copy]"), share = event.target.closest?.("[data-share]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy).catch(() => getSelection().selectAllChildren(document.getElementById("the-code")));
    say(t("my.copied"), "good");
  }
  if (share) await navigator.share({ url: share.dataset.share }).catch(() => null);
});
const offerShare = (root) => { if (navigator.share) root.querySelectorAll("[data-share]").forEach((button) => { button.hidden = false; }); };
document.addEventListener("htmx:load", (event) => offerShare(event.detail.elt));
offerShare(document);
// what the gate refuses because a right ended meanwhile empties the page too
document.addEventListener("htmx:responseError", (event) => { if (page.ref && [401, 403].includes(event.detail.xhr.status)) reopen(`/my/live/${page.ref}`); });

/** Put a server-made piece of page in place. */
export function place(node, html) {
  if (!node || node.innerHTML === html) return;
  node.innerHTML = html;
  word(node);
}

if (page.ref) follow(`/my/live/${page.ref}`);
else if (page.has_cars) follow("/my/live");
