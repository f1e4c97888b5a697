// The state of the agent, read anew while somebody looks; nothing moves under a finger that is using it.
const EVERY_MS = 10_000;

setInterval(async () => {
  const main = document.getElementById("content");
  if (document.hidden || main.contains(document.activeElement)) return;
  try {
    const answer = await fetch("/", { redirect: "error" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
    if (answer.ok && fresh) main.replaceChildren(...fresh.childNodes);
  } catch { /* the agent restarts, or the session is over: what is shown stays, with its own times */ }
}, EVERY_MS);
