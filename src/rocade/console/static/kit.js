// What every page can do: menus, dialogs, notices, instants in the reader's time zone, forms that need a passkey touch,
// and pieces that are fetched anew when the server says that something changed. How pages use it: docs/console.md.
import { age, clock, language, listen, t } from "./live.js";

const STYLES = { full: { dateStyle: "medium", timeStyle: "medium" }, short: { dateStyle: "short", timeStyle: "short" }, date: { dateStyle: "medium" }, time: { timeStyle: "short" }, day: { weekday: "short", hour: "numeric", minute: "2-digit" } };
const isToday = (us) => new Date(us / 1000).toDateString() === new Date().toDateString();

/** Word all instants of a piece of the page: <time data-us="…" data-style="full|short|date|time|when|ago">; when: the weekday too, unless today. */
export function word(root = document) {
  for (const node of root.querySelectorAll("time[data-us]")) {
    const us = Number(node.dataset.us), style = node.dataset.style ?? "short";
    node.textContent = style === "ago" ? age(us) : clock(us, STYLES[style === "when" ? (isToday(us) ? "time" : "day") : style]);
    node.title = clock(us, STYLES.full);
  }
}

/** Say something in the region that is read aloud. kind: good | doubt | bad | plain */
export function say(text, kind = "plain", code = "") {
  const notice = document.createElement("div");
  notice.className = `notice ${kind}`;
  const words = document.createElement("p");
  words.textContent = text + (code ? " " : "");
  if (code) words.append(Object.assign(document.createElement("code"), { textContent: code }));
  const close = Object.assign(document.createElement("button"), { type: "button", className: "icon close", textContent: "×" });
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", t("kit.dismiss"));
  notice.append(words, close);
  document.getElementById("notices").replaceChildren(notice);
}

// ---- menus, dialogs, notices -------------------------------------------------------------------------------------
const burger = document.querySelector(".burger");
burger?.addEventListener("click", () => burger.setAttribute("aria-expanded", String(burger.getAttribute("aria-expanded") !== "true")));

const openMenus = () => document.querySelectorAll("details.menu[open]");
document.addEventListener("click", (event) => {
  for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
  const opener = event.target.closest?.("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens)?.showModal();
  event.target.closest?.("[data-dismiss]")?.closest(".notice")?.remove();
  if (event.target.matches?.("dialog")) event.target.close(); // on the backdrop
  const copier = event.target.closest?.("[data-copies]");
  if (copier) navigator.clipboard.writeText(document.getElementById(copier.dataset.copies).textContent.trim()).then(() => say(copier.dataset.done, "good"));
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) { menu.open = false; menu.querySelector("summary").focus(); }
  if (burger?.getAttribute("aria-expanded") === "true") { burger.setAttribute("aria-expanded", "false"); burger.focus(); }
});

// ---- acts that need a fresh touch --------------------------------------------------------------------------------
// htmx asks before it sends; the answer of the passkey goes along as a header, bound by the server to act and subject.
const touched = new WeakMap();
document.addEventListener("htmx:confirm", async (event) => {
  const form = event.detail.elt.closest("[data-touch]");
  if (!form) return;
  event.preventDefault();
  say(t("kit.touch"));
  try {
    const { touch } = await import("./passkey.js");
    const query = boundQuery(form);
    touched.set(event.detail.elt, { proof: await touch(form.dataset.touch, `${form.dataset.subject}${query && `?${query}`}`), query });
  } catch (error) {
    console.info(error);
    say(`${t("kit.untouched")} ${error.name === "NotAllowedError" ? "" : error.message}`.trim(), "bad");
    return;
  }
  document.getElementById("notices").replaceChildren();
  event.detail.issueRequest(true);
});
document.addEventListener("htmx:configRequest", (event) => {
  const given = touched.get(event.detail.elt);
  if (!given) return;
  event.detail.headers["Rocade-Touch"] = given.proof;
  if (given.query) event.detail.path += `?${given.query}`;
  for (const name of new URLSearchParams(given.query).keys()) event.detail.formData.delete(name);
  touched.delete(event.detail.elt);
});
/** The fields a touch is bound to (`data-bound="name name"`), as the query they are sent in. */
function boundQuery(form) {
  const names = (form.dataset.bound ?? "").split(" ");
  return new URLSearchParams([...new FormData(form)].filter(([name]) => names.includes(name))).toString();
}
document.addEventListener("htmx:sendError", () => say(t("kit.offline"), "bad"));
document.addEventListener("htmx:afterRequest", (event) => { // done: the dialog that asked for it closes; refused: it closes too, the notice says why
  const dialog = event.detail.elt.closest("dialog");
  if (dialog && !("stays" in dialog.dataset)) dialog.close();
});
document.addEventListener("htmx:load", (event) => { word(event.detail.elt); follow(event.detail.elt); reach(event.detail.elt); });

/** What scrolls is reached by keyboard. */
function reach(root) {
  for (const node of root.querySelectorAll(".scroll:not([tabindex])")) { node.tabIndex = 0; node.setAttribute("role", node.getAttribute("role") ?? "group"); }
}

// ---- pieces that follow events: <div data-listen="/live/…" data-event="changed" hx-get="…" hx-trigger="changed"> ----
function follow(root) {
  const nodes = [...root.querySelectorAll("[data-listen]"), ...(root.matches?.("[data-listen]") ? [root] : [])];
  for (const node of nodes) {
    if (node.dataset.follows) continue;
    node.dataset.follows = "yes";
    listen(node.dataset.listen, { [node.dataset.event ?? "changed"]: () => window.htmx.trigger(node, node.dataset.event ?? "changed") });
  }
}

word();
reach(document);
follow(document.body);
setInterval(() => word(), 30_000);
export { language };
