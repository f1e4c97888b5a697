// The page that verifies proofs: takes the files, shows what they prove. It has everything it needs once it is loaded; nothing
// leaves the browser. Texts: the JSON block of the page, in the reader's language.
import { verify } from "./proof.js";
import { readTrust, Refused } from "./proof-trust.js";

const texts = JSON.parse(document.getElementById("texts").textContent), locale = document.documentElement.lang;
const at = (id) => document.getElementById(id), verdict = at("verdict"), sentences = at("sentences");
const chosen = { proof: [], key: [], witness: [] };
let latest = 0;

function money({ minor, currency }) {
  const digits = texts.three.includes(currency) ? 3 : texts.none.includes(currency) ? 0 : 2;
  const figures = String(Math.abs(minor)).padStart(digits + 1, "0"), sign = minor < 0 ? "-" : "";
  return `${sign}${figures.slice(0, figures.length - digits)}${digits ? `.${figures.slice(-digits)}` : ""} ${currency}`;
}

const instants = new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "medium", timeZone: "UTC" });
const shown = {
  at: (us) => `${instants.format(new Date(us / 1000))} UTC`,
  price: (value) => (value.minor === null ? "" : money(value)),
  vouched: (is) => (is ? texts.vouched : ""),
};

function sentence([key, values]) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => (shown[name] ? shown[name](values[name]) : String(values[name])));
}

function tell(state, heading, said) {
  verdict.dataset.state = state;
  verdict.textContent = heading;
  sentences.replaceChildren(...said.map((one) => Object.assign(document.createElement("li"), { textContent: one })));
}

async function check() {
  const mine = ++latest;
  if (!chosen.proof.length || !chosen.key.length) return tell("waiting", texts.waiting, []);
  let answer;
  try {
    const [trust, ...witnesses] = await Promise.all([...chosen.key, ...chosen.witness].map(async (file) => readTrust(await file.text())));
    const bytes = new Uint8Array(await chosen.proof[0].arrayBuffer());
    const said = await verify(bytes, { trust, witnesses, nowUs: Date.now() * 1000 });
    answer = ["proven", texts[said[0][0] === "forked" ? "is_forked" : "is_proven"], said.map(sentence)];
  } catch (error) {
    const code = error instanceof Refused ? error.code : "proof.malformed";
    answer = ["refused", texts.is_refused, [`${texts[code.slice(6)] ?? texts.malformed} [${code}]`]];
  }
  if (mine === latest) tell(...answer);
}

for (const name of Object.keys(chosen)) {
  at(name).addEventListener("change", ({ target }) => { chosen[name] = [...target.files]; check(); });
}
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  for (const file of event.dataTransfer.files) {
    const name = file.name.endsWith(".pem") ? (/witness/.test(file.name) ? "witness" : "key") : "proof";
    chosen[name] = name === "witness" ? [...chosen.witness, file] : [file];
    at(name).nextElementSibling.textContent = chosen[name].map((one) => one.name).join(", ");
  }
  check();
});
check();
