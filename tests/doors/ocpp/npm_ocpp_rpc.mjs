// The npm package `ocpp-rpc` as a charging station, in strict mode: it checks every message of the central system too.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_MODULES}/`);
const { RPCClient, createValidator } = require("ocpp-rpc");
const given = JSON.parse(process.env.GIVEN);
const is16 = given.version === "ocpp1.6";
const told = { broken: [], asked: [], profile: null };
// Version 2.2.1 names its schemas of OCPP 2.1 in a way its own validator does not look for: the same schemas, renamed.
const named = (schema) => ({ ...schema, $id: schema.$id.replace(/Request$/, ".req").replace(/Response$/, ".conf") });
const schemas = require("ocpp-rpc/lib/schemas/ocpp2_1.json").map(named);
const client = new RPCClient({
  endpoint: given.address,
  identity: given.id,
  password: given.password,
  protocols: [given.version],
  strictMode: true,
  strictModeValidators: [createValidator("ocpp2.1", schemas)],
  reconnect: false,
});
client.on("strictValidationFailure", (event) => told.broken.push(String(event.error ?? event)));
client.on("badMessage", (event) => told.broken.push(String(event.error ?? event)));
client.handle(({ method }) => {
  told.asked.push(method);
  if (method === "ClearChargingProfile") return { status: "Unknown" };
  if (method === "GetConfiguration") return { configurationKey: [], unknownKey: [] };
  if (method === "GetChargingProfiles") return { status: "NoProfiles" };
  if (method === "TriggerMessage") return { status: "Rejected" };
  throw new Error("not served");
});
const limited = new Promise((done) =>
  client.handle("SetChargingProfile", ({ params }) => {
    told.profile = params.csChargingProfiles ?? params.chargingProfile;
    done();
    return { status: "Accepted" };
  }),
);
await client.connect();
const now = () => new Date().toISOString();
const boot = is16
  ? { chargePointVendor: "npm", chargePointModel: "rpc" }
  : { reason: "PowerUp", chargingStation: { vendorName: "npm", model: "rpc" } };
told.boot = (await client.call("BootNotification", boot)).status;
if (is16) {
  await client.call("StatusNotification", { connectorId: 1, errorCode: "NoError", status: "Preparing" });
  told.authorized = (await client.call("Authorize", { idTag: "NPM" })).idTagInfo.status;
  const begun = { connectorId: 1, idTag: "NPM", meterStart: 100, timestamp: now() };
  const { transactionId } = await client.call("StartTransaction", begun);
  const meterValue = [{ timestamp: now(), sampledValue: [{ value: "1100", unit: "Wh" }] }];
  await client.call("MeterValues", { connectorId: 1, transactionId, meterValue });
  console.log("ready");
  await limited;
  await client.call("StopTransaction", { transactionId, meterStop: 3100, timestamp: now() });
} else {
  await client.call("StatusNotification", { timestamp: now(), connectorStatus: "Occupied", evseId: 1, connectorId: 1 });
  const idToken = { idToken: "NPM", type: "ISO14443" };
  told.authorized = (await client.call("Authorize", { idToken })).idTokenInfo.status;
  const event = (eventType, seqNo, value, more = {}) =>
    client.call("TransactionEvent", {
      eventType, seqNo, timestamp: now(), triggerReason: "Authorized", evse: { id: 1, connectorId: 1 },
      transactionInfo: { transactionId: "npm-1" }, meterValue: [{ timestamp: now(), sampledValue: [{ value }] }], ...more,
    });
  await event("Started", 0, 100, { idToken });
  await event("Updated", 1, 1100);
  console.log("ready");
  await limited;
  await event("Ended", 2, 3100);
}
told.alive = (await client.call("Heartbeat", {})).currentTime;
await client.close();
console.log(JSON.stringify(told));
