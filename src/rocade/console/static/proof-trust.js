// Whom a proof rests on: keys, certificates and signed envelopes, checked with the browser's own cryptography (WebCrypto).
// The same rules as trust/identity: envelope.py, issuers.py, signers.py. Nothing is asked of anybody.

export class Refused extends Error {
  constructor(code) { super(code); this.code = code; }
}
export const refuse = (what) => { throw new Refused(`proof.${what}`); };

// --- bytes -------------------------------------------------------------------------------------------------------------

const encoder = new TextEncoder(), decoder = new TextDecoder("utf-8", { fatal: true });
export const utf8 = (text) => encoder.encode(text);
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

export function textOf(bytes) {
  try { return decoder.decode(bytes); } catch { return refuse("malformed"); }
}

export function unhex(text) {
  if (typeof text !== "string" || !/^([0-9a-f]{2})*$/.test(text)) refuse("malformed");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function base64(text) {
  if (typeof text !== "string" || text.length % 4 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) refuse("malformed");
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

export function joined(...parts) {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}

// --- DER ---------------------------------------------------------------------------------------------------------------

function element(bytes, at) {
  let size = bytes[at + 1], begin = at + 2;
  if (size > 0x80) {
    const many = size & 0x7f;
    if (many > 3) refuse("signer");
    size = bytes.slice(begin, begin + many).reduce((sum, byte) => sum * 256 + byte, 0);
    begin += many;
  }
  if (begin + size > bytes.length || size === undefined) refuse("signer");
  return { tag: bytes[at], body: bytes.slice(begin, begin + size), whole: bytes.slice(at, begin + size) };
}

function elements(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; at += found.at(-1).whole.length) found.push(element(bytes, at));
  return found;
}

function instantUs({ tag, body }) {
  const text = textOf(body), year = tag === 0x17 ? (Number(text.slice(0, 2)) < 50 ? "20" : "19") + text : text;
  const [, y, month, day, hour, minute, second] = year.match(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/) ?? refuse("signer");
  return Date.UTC(y, month - 1, day, hour, minute, second) * 1000;
}

// --- keys --------------------------------------------------------------------------------------------------------------

const P256 = unhex("3059301306072a8648ce3d020106082a8648ce3d030107034200");
const ECDSA_SHA256 = unhex("300a06082a8648ce3d040302");

/** A P-256 key from its SubjectPublicKeyInfo: the point, and the id it is named by (SHA-1 of the point, RFC 5280 4.2.1.2). */
async function keyOf(info) {
  if (info.length !== P256.length + 65 || !same(info.slice(0, P256.length), P256)) refuse("signer");
  const point = info.slice(P256.length);
  return { point, id: hex(new Uint8Array(await crypto.subtle.digest("SHA-1", point))) };
}

async function isSignedBy(key, signature, ...signed) {
  let numbers;
  try { numbers = elements(element(signature, 0).body).map(({ body }) => body); } catch { return false; }
  if (numbers.length !== 2) return false;
  const plain = new Uint8Array(64);
  for (const [at, number] of numbers.entries()) {
    const digits = number[0] === 0 ? number.slice(1) : number;
    if (digits.length > 32) return false;
    plain.set(digits, 32 * at + 32 - digits.length);
  }
  const kind = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key.point, kind, false, ["verify"]);
  return crypto.subtle.verify(kind, imported, plain, joined(...signed));
}

function pemBodies(text, label) {
  const found = text.matchAll(new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]+)-----END ${label}-----`, "g"));
  return Array.from(found, ([, body]) => base64(body.replace(/\s/g, "")));
}

/** What a PEM file gives to trust: a public key, or a certificate with its key. */
export async function readTrust(text) {
  try {
    const [certificate] = pemBodies(text, "CERTIFICATE"), [key] = pemBodies(text, "PUBLIC KEY");
    if (certificate) {
      const read = await certificateOf(certificate);
      return { key: read.key, certificate: read };
    }
    return { key: await keyOf(key) };
  } catch { throw new Refused("proof.key"); }
}

// --- envelopes (DSSE) --------------------------------------------------------------------------------------------------

/** The payload of an envelope signed as this type by one of `keys` (id -> key), and who that was. Every known signer must hold. */
export async function unseal(kind, envelope, keys) {
  const { payloadType, payload, signatures } = envelope ?? {};
  if (typeof payloadType !== "string" || payloadType !== kind || !Array.isArray(signatures)) refuse("signer");
  let content;
  try { content = base64(payload); } catch { refuse("signer"); }
  const known = signatures.filter((one) => keys.has(one?.keyid) && (one.algorithm ?? "ecdsa-p256-sha256") === "ecdsa-p256-sha256");
  if (!known.length) refuse("signer");
  const before = utf8(`DSSEv1 ${utf8(kind).length} ${kind} ${content.length} `);
  for (const one of known) {
    let signature;
    try { signature = base64(one.sig); } catch { refuse("signer"); }
    if (!(await isSignedBy(keys.get(one.keyid), signature, before, content))) refuse("signer");
  }
  return { content, signer: known[0].keyid };
}

const STATEMENTS = ["application/vnd.rocade.price-key", "application/vnd.rocade.audit-key"];

/** Keys that the trusted key signed a statement about. */
export async function stated(statements, trust) {
  const found = new Map(), keys = new Map([[trust.key.id, trust.key]]);
  for (const statement of statements) {
    for (const kind of STATEMENTS) {
      try {
        const key = await keyOf((await unseal(kind, statement, keys)).content);
        found.set(key.id, key);
      } catch { /* a statement of another kind or of somebody else vouches for nobody */ }
    }
  }
  return found;
}

// --- certificates (RFC 5280), as far as signers of receipts need them --------------------------------------------------

const OID = { constraints: "551d13", usage: "551d0f", name: "551d11", subjectKey: "551d0e", authorityKey: "551d23", extended: "551d25" };
const AUTHORITY = "30060101ff020100";
const PEERS = ["06082b06010505070301", "06082b06010505070302"];

async function certificateOf(der) {
  const [signed, algorithm, signature] = elements(element(der, 0).body);
  const fields = elements(signed.body);
  if (fields[0].tag !== 0xa0 || !same(fields[2].whole, algorithm.whole)) refuse("signer");
  const [, , , issuer, validity, subject, info] = fields, [begin, end] = elements(validity.body).map(instantUs);
  const more = fields.find(({ tag }) => tag === 0xa3);
  const extensions = new Map();
  for (const one of more ? elements(elements(more.body)[0].body) : []) {
    const parts = elements(one.body), name = hex(parts[0].body);
    if (extensions.has(name)) refuse("signer");
    extensions.set(name, parts.at(-1).body);
  }
  return {
    signed: signed.whole, algorithm: algorithm.whole, signature: signature.body.slice(1), issuer: issuer.whole, subject: subject.whole,
    begin, end, key: await keyOf(info.whole), extensions,
  };
}

const extension = (certificate, name) => hex(certificate.extensions.get(OID[name]) ?? []);
const isIssued = (certificate, by) => same(certificate.issuer, by.subject) && same(certificate.algorithm, ECDSA_SHA256)
  && isSignedBy(by.key, certificate.signature, certificate.signed);

function usageOf(certificate) {
  const bits = certificate.extensions.get(OID.usage);
  return bits ? element(bits, 0).body[1] ?? 0 : 0;
}

/** The keys of these chains that belong to the service of this name, by the issuer table that the root signed. */
export async function certified(chains, table, trust, service) {
  const root = trust.certificate, found = new Map();
  if (!chains.length || !root || !same(root.issuer, root.subject)) return found;
  const { content } = await unseal("application/vnd.rocade.issuers+json", table, new Map([[root.key.id, root.key]]));
  const { trust_domain: domain, issuers } = JSON.parse(textOf(content));
  const authorities = [];
  for (const { region, kind, purpose, certificate: pem } of issuers) {
    const read = await certificateOf(pemBodies(pem, "CERTIFICATE")[0]);
    const isAuthority = extension(read, "constraints") === AUTHORITY && usageOf(read) & 0x04;
    if (!isAuthority || extension(read, "subjectKey") !== `0414${read.key.id}` || !(await isIssued(read, root))) refuse("signer");
    authorities.push({ ...read, region, kind, purpose });
  }
  for (const chain of chains) {
    const leaf = await certificateOf(pemBodies(chain, "CERTIFICATE")[0]);
    const by = authorities.find((one) => extension(leaf, "authorityKey") === `30168014${one.key.id}`);
    if (!by || by.kind !== "service" || by.purpose !== "operational" || !(await isIssued(leaf, by))) refuse("signer");
    const names = elements(element(leaf.extensions.get(OID.name) ?? refuse("signer"), 0).body).filter(({ tag }) => tag === 0x86);
    const isNamed = names.length === 1 && textOf(names[0].body) === `spiffe://${domain}/${by.region}/service/${service}`;
    const purposes = leaf.extensions.has(OID.extended) ? elements(element(leaf.extensions.get(OID.extended), 0).body).map(({ whole }) => hex(whole)) : [];
    const isLeaf = extension(leaf, "constraints") === "3000" && (usageOf(leaf) & 0x86) === 0x80;
    const isInTime = by.begin <= leaf.begin + 1e6 && leaf.begin + 1e6 < by.end + 1e6 && leaf.end <= by.end && leaf.begin <= leaf.end;
    if (!isNamed || !isLeaf || !isInTime || purposes.sort().join() !== PEERS.join()) refuse("signer");
    found.set(leaf.key.id, { ...leaf.key, begin: leaf.begin, end: leaf.end });
  }
  return found;
}
