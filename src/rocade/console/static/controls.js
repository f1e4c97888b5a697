// Commands by hand: each one's life as it happens.
import { listen, page } from "./live.js";
import { tell } from "./charging-life.js";
import { place } from "./my.js";

const stream = listen(`/my/${page.ref}/commands/live`, { commands: ({ html }) => { place(document.getElementById("commands"), html); tell(); } });
document.addEventListener("htmx:afterSwap", () => tell());
addEventListener("emptied", () => stream.close());
tell();
