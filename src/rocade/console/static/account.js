// The sign-in page, the page of a one-time link, the one an application asks on, and one's own account: which button does what.
import { say } from "./kit.js";
import { page, t } from "./live.js";
import { ask, excuse, register, signIn, touch } from "./passkey.js";

/** Run one act of a button: once at a time, what goes wrong is said. */
async function run(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    console.info(error);
    say(excuse(error), "bad", error.code ?? "");
  }
  button.disabled = false;
}

const ASK_EVERY_MS = 1500;

/** Ask to be let in by an invitation and wait until whoever made it has confirmed the number. */
async function letIn() {
  let first = "";
  for (;;) {
    const { number, is_confirmed } = await ask("/v1/signin/link/asks", { secret: page.secret });
    if (is_confirmed) return;
    if (first && first !== number) throw Object.assign(new Error("nobody confirmed"), { code: "people.link.unconfirmed" });
    first = number;
    document.getElementById("number").textContent = number.replace(/(?<=^....)/, " ");
    document.getElementById("asked").hidden = false;
    await new Promise((done) => setTimeout(done, ASK_EVERY_MS));
  }
}

const ACTS = {
  async "sign-in"() {
    const { next } = await signIn();
    location.assign(page.back || next);
  },
  async link() {
    if (page.asks) await letIn();
    const { next } = await ask("/v1/signin/link", { secret: page.secret });
    location.assign(page.back || next);
  },
  async add(_, form) {
    const name = form.elements.name.value.trim() || t("account.passkey");
    const proof = page.passkeys ? await touch("account.passkey.add") : "";
    await register(name, proof);
    location.assign(page.passkeys ? "/account" : page.home);
  },
  async connect() {
    const proof = page.passkeys ? await touch("account.passkey.add") : "";
    location.assign((await ask("/v1/account/openid", undefined, { touch: proof })).location);
  },
  async rename(_, form) {
    await ask(`/v1/account/passkeys/${form.dataset.passkey}`, { name: form.elements.name.value }, { method: "PATCH" });
    location.reload();
  },
  async remove({ dataset: { passkey } }) {
    const proof = await touch("account.passkey.drop", `passkey:${passkey}`);
    await ask(`/v1/account/passkeys/${passkey}`, undefined, { method: "DELETE", touch: proof });
    location.reload();
  },
  async allow() {
    const remember = document.getElementById("remember")?.checked ?? false;
    location.assign((await ask("/v1/account/applications", { query: page.query, allow: true, remember })).location);
  },
  async deny() {
    location.assign((await ask("/v1/account/applications", { query: page.query, allow: false })).location);
  },
  async withdraw({ dataset: { application } }) {
    await ask(`/v1/account/applications/${application}`, undefined, { method: "DELETE" });
    location.reload();
  },
  async end({ dataset: { session } }) {
    const proof = page.passkeys ? await touch("account.session.end", `number:${session}`) : "";
    await ask(`/v1/account/sessions/${session}`, undefined, { method: "DELETE", touch: proof });
    location.reload();
  },
  async everywhere() {
    const proof = page.passkeys ? await touch("account.sign_out_everywhere") : "";
    await ask("/v1/signout/everywhere", {}, { touch: proof });
    location.assign("/signin");
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) run(button, () => ACTS[button.dataset.act](button));
});
document.addEventListener("submit", (event) => {
  if (!event.target.dataset.act) return;
  event.preventDefault();
  run(event.submitter, () => ACTS[event.target.dataset.act](event.submitter, event.target));
});
if (!window.PublicKeyCredential) {
  document.getElementById("no-passkeys")?.removeAttribute("hidden");
}
