// Passkeys on the agent's page: sign in, and add one. The agent's side: agents/dealer/pages/signing_in.py.
const octets = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const named = (list = []) => list.map((one) => ({ ...one, id: octets(one.id) }));

async function ask(address, body) {
  const response = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(String(response.status));
  return response.status === 204 ? null : response.json();
}

function answered({ id, rawId, type, response }) {
  const parts = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"])
    if (response[name]) parts[name] = text(response[name]);
  return { id, rawId: text(rawId), type, response: parts, clientExtensionResults: {} };
}

async function signIn() {
  const options = await ask("/signin/passkey/options", {});
  const publicKey = { ...options, challenge: octets(options.challenge), allowCredentials: named(options.allowCredentials) };
  await ask("/signin/passkey", { credential: answered(await navigator.credentials.get({ publicKey })) });
  location.assign("/");
}

async function register() {
  const options = await ask("/passkey/options", {});
  const user = { ...options.user, id: octets(options.user.id) };
  const publicKey = { ...options, user, challenge: octets(options.challenge), excludeCredentials: named(options.excludeCredentials) };
  await ask("/passkey", { credential: answered(await navigator.credentials.create({ publicKey })) });
}

for (const [id, act] of [["signin", signIn], ["register", register]]) {
  const button = document.getElementById(id);
  button?.addEventListener("click", async () => {
    const said = document.getElementById("said");
    button.disabled = true;
    try {
      await act();
      said.textContent = button.dataset.done ?? "";
    } catch {
      said.textContent = button.dataset.refused;
    }
    button.disabled = false;
  });
}
