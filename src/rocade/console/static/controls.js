// Commands by hand: each one's life as it happens.
import { listen, page } from "./live.js";
import { place } from "./my.js";

const said = document.getElementById("charge-said");
listen(`/my/${page.ref}/commands/live`, {
  commands: ({ html }) => {
    const list = document.getElementById("commands");
    place(list, html);
    const last = list.querySelector(".command"), step = last?.querySelector(".life [aria-current] span, .life li.step-bad span") ?? last?.querySelector(".life li.step-done:last-child span");
    const text = last ? `${last.querySelector("b").textContent}: ${step?.textContent ?? ""}` : "";
    if (said.textContent !== text) said.textContent = text;
  },
});
