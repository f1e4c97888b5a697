// Played by the npm package `em-ocpp-chargepoint-simulator` in batch mode, which hands in connect, logger and axios.
module.exports = async (connect) => {
  const said = {};
  const cp = await connect(process.env.STATION);
  try {
    const answer = (request, payload) => cp.sendResponse(request.uniqueId, payload);
    cp.answerGetConfiguration((request) => answer(request, { configurationKey: [], unknownKey: request.payload.key }));
    cp.answerClearChargingProfile((request) => answer(request, { status: "Unknown" }));
    // it has a way to register answers, and no method of its own for this one
    cp.registeredCallbacks.set("SetChargingProfile", {
      cb: (request) => {
        said.profile = request.payload.csChargingProfiles.chargingProfilePurpose;
        answer(request, { status: "Accepted" });
      },
    });
    await cp.sendBootnotification({ chargePointVendor: "em", chargePointModel: "simulator" });
    await cp.sendStatusNotification({ connectorId: 1, errorCode: "NoError", status: "Preparing" });
    await cp.sendAuthorize({ idTag: "EM" });
    const begun = { connectorId: 1, idTag: "EM", meterStart: 1377, timestamp: new Date().toISOString() };
    cp.transaction = await cp.startTransaction(begun);
    const value = { timestamp: new Date().toISOString(), sampledValue: [{ value: "1387" }] };
    await cp.meterValues({ connectorId: 1, transactionId: cp.transaction.transactionId, meterValue: [value] });
    console.log("ready");
    for (let turn = 0; !said.profile && turn < 600; turn++) await cp.sleep(50);
    const ended = { transactionId: cp.transaction.transactionId, meterStop: 1399, timestamp: new Date().toISOString() };
    await cp.stopTransaction(ended);
    console.log(JSON.stringify(said));
  } finally {
    cp.close();
  }
};
