// Passkeys in the browser: sign in, register, and a touch that confirms one act. The server's side: doors/http/signin.py.
import { t } from "./live.js";

/** Ask the API; a problem document becomes an Error with its detail and `code`. */
export async function ask(address, body, { method = "POST", touch: proof = "" } = {}) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (proof) headers["rocade-touch"] = proof;
  const response = await fetch(address, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(said.detail ?? response.statusText), { code: said.code ?? "", facts: said.facts ?? {} });
  return said;
}

const octets = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const named = (list = []) => list.map((one) => ({ ...one, id: octets(one.id) }));

function answered(credential) {
  const { id, rawId, type, response } = credential;
  const parts = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"])
    if (response[name]) parts[name] = text(response[name]);
  if (response.getTransports) parts.transports = response.getTransports();
  return { id, rawId: text(rawId), type, response: parts, clientExtensionResults: credential.getClientExtensionResults() };
}

/** Let the authenticator sign; `options` as the server gave them. */
async function sign(options) {
  const publicKey = { ...options, challenge: octets(options.challenge), allowCredentials: named(options.allowCredentials) };
  return answered(await navigator.credentials.get({ publicKey }));
}

/** Sign in with a passkey of this region; answers `{person, next}`. */
export async function signIn() {
  const credential = await sign(await ask("/v1/signin/options", {}));
  return ask("/v1/signin", { credential });
}

/** Make a passkey on this device or another; `proof` is a touch where there is a passkey already. */
export async function register(name, proof = "") {
  const options = await ask("/v1/account/passkeys/options", {}, { touch: proof });
  const publicKey = {
    ...options,
    challenge: octets(options.challenge),
    user: { ...options.user, id: octets(options.user.id) },
    excludeCredentials: named(options.excludeCredentials),
  };
  const credential = answered(await navigator.credentials.create({ publicKey }));
  return ask("/v1/account/passkeys", { credential, name });
}

/** A fresh touch of a passkey, good for one act on one subject within a minute. */
export async function touch(act, subject = "") {
  const credential = await sign(await ask("/v1/touches/options", { act, subject }));
  return (await ask("/v1/touches", { credential })).touch;
}

/** What went wrong, in the reader's language where it has words for it. */
export function excuse(error) {
  if (error.name === "NotAllowedError" || error.name === "AbortError") return t("signin.cancelled");
  if (error.name === "InvalidStateError") return t("signin.registered_already");
  const key = `signin_problem.${(error.code ?? "").replaceAll(".", "_")}`;
  const said = t(key, error.facts ?? {});
  return said === key ? error.message : said;
}
