// One verifier for every proof that Rocade gives, in a browser: the same files and the same rules as trust/identity/proof.py,
// docs/proofs.md. `verify` returns what is proven as [text key, values], or throws Refused with the same code as `rocade verify`.
import { base64, certified, hex, joined, refuse, Refused, sha256, stated, textOf, unhex, unseal, utf8 } from "./proof-trust.js";

const TREE_HEAD = "application/vnd.rocade.tree-head+json", PRICE_HEAD = "application/vnd.rocade.price-head+json";
const RECEIPT_ROOT = "application/vnd.rocade.receipt-root+json", COSIGNATURE = "application/vnd.rocade.cosignature+json";
const WHAT = { receipt: [RECEIPT_ROOT, "exchange"], "audit entry": [TREE_HEAD, ""], erasure: [TREE_HEAD, ""] };
const ERASED = ["telemetry.erased", "people.erased"];
const HASH = 32, AHEAD_US = 300e6, MAX_BYTES = 4 << 20, PRICE_WIDTH = 64;
const WITHDRAWN = -(2 ** 63), LAST_US = 253402300799999999, FIRST_US = -62135596800000000;

/** `against`: {trust, witnesses, nowUs}; trust and witnesses as `readTrust` gives them. */
export async function verify(bytes, against) {
  if (bytes.length > MAX_BYTES) refuse("malformed");
  const file = json(bytes);
  const kinds = {
    "rocade.price-proof": price, "rocade.inclusion-proof": inclusion, "rocade.consistency-proof": growth, "rocade.fork-proof": growth,
  };
  try {
    return await (Object.hasOwn(kinds, file?.type) ? kinds[file.type] : () => refuse("malformed"))(file, against);
  } catch (error) {
    if (error instanceof Refused) throw error;
    return refuse("malformed");
  }
}

// --- forms: whatever is not as it should be is malformed ---------------------------------------------------------------

function json(bytes) {
  try { return JSON.parse(textOf(bytes)); } catch { return refuse("malformed"); }
}
const must = (holds) => holds || refuse("malformed");
const text = (value) => (must(typeof value === "string"), value);
const list = (value) => (must(Array.isArray(value)), value);
const whole = (value) => (must(Number.isSafeInteger(value) || (Number.isInteger(value) && [2 ** 62, WITHDRAWN].includes(value))), value);
const instant = (us) => (must(us >= FIRST_US && us <= LAST_US), us);

// --- trees -------------------------------------------------------------------------------------------------------------

async function rootOf(leaf, index, size, path, width = 2) {
  if (!(index >= 0 && index < size)) refuse("path");
  let node = leaf, rest = path;
  while (size > 1) {
    const place = index % width, low = index - place, many = Math.min(width, size - low) - 1;
    const others = rest.slice(0, many * HASH);
    rest = rest.slice(many * HASH);
    if (others.length < many * HASH) refuse("path");
    if (many) node = await sha256([1], others.slice(0, place * HASH), node, others.slice(place * HASH));
    index = Math.floor(index / width);
    size = Math.ceil(size / width);
  }
  if (rest.length) refuse("path");
  return node;
}

async function rootsOf(oldSize, oldRoot, size, path) {
  if (!(oldSize >= 1 && oldSize <= size)) refuse("path");
  if (oldSize === size) return path.length ? refuse("path") : [oldRoot, oldRoot];
  if (!path.length || path.length % HASH) refuse("path");
  const hashes = [];
  for (let at = 0; at < path.length; at += HASH) hashes.push(path.slice(at, at + HASH));
  const halve = (number) => Math.floor(number / 2), isOdd = (number) => number % 2 === 1;
  let place = oldSize - 1, last = size - 1;
  while (isOdd(place)) { place = halve(place); last = halve(last); }
  if (place === 0) hashes.unshift(oldRoot);
  let [old] = hashes, grown = old;
  for (const one of hashes.slice(1)) {
    if (last === 0) refuse("path");
    if (isOdd(place) || place === last) {
      [old, grown] = [await sha256([1], one, old), await sha256([1], one, grown)];
      while (place && !isOdd(place)) { place = halve(place); last = halve(last); }
    } else grown = await sha256([1], grown, one);
    place = halve(place);
    last = halve(last);
  }
  if (last) refuse("path");
  return [old, grown];
}

// --- heads -------------------------------------------------------------------------------------------------------------

async function openHead(head, kind, vouched, trust) {
  const { content, signer } = await unseal(kind, head, new Map([...vouched, [trust.key.id, trust.key]]));
  return { head: json(content), signer };
}

function treeHead({ head, signer }) {
  return { size: whole(head.size), root: text(head.root), at: whole(head.at_us), signer };
}

const who = (signer, trust) => ({ key: signer, vouched: signer !== trust.key.id });

async function seen(atUs, root, size, cosignatures, { witnesses, nowUs }) {
  if (atUs > nowUs + AHEAD_US) refuse("future");
  const said = [];
  for (const { key } of witnesses) {
    let saw;
    for (const one of cosignatures) {
      try { saw = json((await unseal(COSIGNATURE, one, new Map([[key.id, key]]))).content); } catch { continue; }
      if (saw.size === size && saw.root === root && saw.at_us <= nowUs + AHEAD_US) break;
      saw = undefined;
    }
    if (!saw) refuse("witness");
    said.push(["witnessed", { key: key.id, at: saw.at_us }]);
  }
  return said;
}

// --- an entry, a receipt, an erasure -----------------------------------------------------------------------------------

async function inclusion(file, against) {
  must(Object.hasOwn(WHAT, file.what));
  const { trust } = against, [kind, service] = WHAT[file.what];
  const content = base64(file.content), position = whole(file.position), path = base64(file.path);
  const vouched = await stated(list(file.signers ?? []), trust);
  let chained;
  try { chained = await certified(list(file.chains ?? []), file.issuers, trust, service); } catch { refuse("signer"); }
  const head = treeHead(await openHead(file.head, kind, [...vouched, ...chained], trust));
  const by = chained.get(head.signer);
  if (by && !(by.begin <= head.at && head.at < by.end)) refuse("signer");
  const witnessed = await seen(head.at, head.root, head.size, list(file.cosignatures ?? []), against);
  const root = await rootOf(await sha256([0], content), position, head.size, path);
  if (hex(root) !== head.root) refuse("path");
  const erased = file.what === "erasure" ? erasure(content, position) : [];
  return [
    ...erased,
    [file.what === "receipt" ? "included_receipt" : "included_entry", { position, size: head.size }],
    ["reads", { content: textOf(content) }],
    ["head", { at: instant(head.at), ...who(head.signer, trust) }],
    ...witnessed,
  ];
}

function erasure(content, position) {
  const [place, entry] = list(json(content));
  whole(place);
  if (!ERASED.includes(text(entry.action)) || (entry.outcome ?? "done") !== "done" || place !== position) refuse("erasure");
  const fact = new Proxy(entry.facts ?? {}, { get: (facts, name) => facts[name] ?? 0 });
  const counted = ["rows", "parts_before", "parts_after", "log_records", "archive_records", "keys"];
  return [
    ["erased", { subject: text(entry.subject), scope: fact.scope, at: instant(whole(entry.at_us)) }],
    ["erased_counts", Object.fromEntries(counted.map((name) => [name, fact[name]]))],
    ["erased_ledger", { erasure: fact.erasure, ledger: fact.ledger }],
  ];
}

// --- growth and forks --------------------------------------------------------------------------------------------------

async function growth(file, against) {
  const { trust } = against, path = base64(file.path ?? ""), cosignatures = list(file.cosignatures ?? []);
  const vouched = await stated(list(file.signers ?? []), trust), heads = [];
  for (const one of [file.old, file.new]) heads.push(await openHead(one, TREE_HEAD, vouched, trust));
  const [old, grown] = heads.map(treeHead);
  const signed = ["older", "newer"].map((name, at) => [name, { size: [old, grown][at].size, at: instant([old, grown][at].at), ...who([old, grown][at].signer, trust) }]);
  if (file.type === "rocade.fork-proof") {
    if (old.size !== grown.size || old.root === grown.root) refuse("fork");
    return [["forked", { size: grown.size }], ...signed];
  }
  await seen(old.at, "", 0, [], { ...against, witnesses: [] });
  const witnessed = await seen(grown.at, grown.root, grown.size, cosignatures, against);
  const roots = await rootsOf(old.size, unhex(old.root), grown.size, path);
  if (hex(roots[0]) !== old.root || hex(roots[1]) !== grown.root) refuse("path");
  return [["grown", { old: old.size, size: grown.size }], ...signed, ...witnessed];
}

// --- a price: the rule and the bytes of core/prices.py -----------------------------------------------------------------

function changeOf(raw) {
  const [seq, currency, entries = [], description = null] = list(raw);
  const read = list(entries).map((one) => (must(list(one).length >= 2), { from: whole(one[0]), minor: whole(one[1]) }));
  const [ref, family = "", label = "", superseded = ""] = description === null ? [""] : list(description);
  const named = description && [ref, family, label, superseded].map(text);
  must(named === null || named.every((part) => !part.includes("\x1f")));
  return { seq: whole(seq), currency: text(currency), entries: read, named };
}

function eight(number) {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigInt64(0, BigInt(number));
  return new Uint8Array(bytes.buffer);
}

function record({ seq, currency, entries, named }) {
  must(/^[A-Z]{3}$/.test(currency));
  const said = utf8(named ? named.join("\x1f") : ""), size = new DataView(new ArrayBuffer(4));
  size.setUint32(0, said.length);
  return joined(eight(seq), utf8(currency), new Uint8Array(size.buffer), said, ...entries.flatMap(({ from, minor }) => [eight(from), eight(minor)]));
}

function priceAt(changes, atUs, known) {
  let chosen = null;
  for (const { seq, currency, entries } of changes) {
    for (const { from, minor } of seq <= known ? entries : []) {
      const isLater = !chosen || from > chosen.from || (from === chosen.from && seq > chosen.seq);
      if (from <= atUs && isLater) chosen = { seq, currency, from, minor };
    }
  }
  return chosen;
}

async function price(file, against) {
  const { trust } = against, changes = list(file.changes).map(changeOf), path = base64(file.path);
  const at = whole(file.at_us), known = whole(file.known_seq), index = whole(file.index), ref = text(file.ref);
  must(file.price_minor === null || Number.isSafeInteger(file.price_minor));
  const { head, signer } = await openHead(file.head, PRICE_HEAD, await stated(list(file.signers ?? []), trust), trust);
  await seen(whole(head.signed_us), "", 0, [], against);
  if (head.list !== text(file.list)) refuse("list");
  const numbers = changes.map(({ seq }) => seq), isRising = numbers.every((seq, place) => !place || numbers[place - 1] < seq);
  must(numbers.length && isRising && numbers.at(-1) <= head.seq && known >= 1 && known <= head.seq);
  let leaf = null;
  for (const change of changes) leaf = leaf ? await sha256([2], leaf, record(change)) : await sha256([0], record(change));
  if (hex(await rootOf(leaf, index, whole(head.parts), path, PRICE_WIDTH)) !== head.state_root) refuse("path");
  if (changes[0].named?.[0] !== ref) refuse("list");
  const found = priceAt(changes, at, known);
  if (!found) refuse("price");
  const minor = found.minor === WITHDRAWN ? null : found.minor;
  if (minor !== file.price_minor || found.currency !== text(file.currency)) refuse("price");
  const says = { ref, list: head.list, brand: head.brand, at: instant(at), known, price: { minor, currency: found.currency } };
  return [
    [minor === null ? "price_withdrawn" : "price_costs", says],
    ["price_entry", { seq: found.seq, at: instant(found.from) }],
    ["price_whole", { count: numbers.length, seq: head.seq }],
    ["price_head", { seq: head.seq, at: instant(head.signed_us), ...who(signer, trust) }],
  ];
}
