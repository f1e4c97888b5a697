// The npm package `soap`, as its users use it: WSDL over mutual TLS, RSA-SHA256 signature, both SOAP versions.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { Agent } from "node:https";

const require = createRequire(`${process.env.NODE_MODULES}/`);
const soap = require("soap");
const given = JSON.parse(process.env.GIVEN);
const key = readFileSync(given.key), certificate = readFileSync(given.certificate);
const tls = {
  cert: readFileSync(`${given.site}/certificate.pem`),
  key: readFileSync(`${given.site}/key.pem`),
  ca: readFileSync(`${given.site}/trust.pem`),
};
const is12 = given.version === "1.2";
const client = await soap.createClientAsync(`${given.address}/v1/soap?wsdl`, {
  forceSoap12Headers: is12,
  wsdl_options: { httpsAgent: new Agent(tls) },
});
client.setEndpoint(`${given.address}/v1/soap`);

const security = new soap.WSSecurityCert(key, certificate, "", {
  signatureAlgorithm: "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
  digestAlgorithm: "http://www.w3.org/2001/04/xmlenc#sha256",
});
const connected = new soap.ClientSSLSecurity(tls.key, tls.cert, tls.ca);
client.setSecurity({
  addOptions: (options) => connected.addOptions(options),
  toXML: () => "",
  postProcess: (xml, envelope) => security.postProcess(xml, envelope),
});

const service = is12 ? client.Exchange.Soap12 : client.Exchange.Soap11;
const ask = (name, question) =>
  new Promise((done, failed) => service[name](question, (error, found) => (error ? failed(error) : done(found))));

const price = await ask("GetPrice", { PriceListID: "acme-fr-retail", ItemID: "1610001234", RequestID: `a${Date.now()}` });
const sites = await ask("GetSites", { RequestID: `b${Date.now()}` });
let fault = "";
try {
  await ask("GetPrice", { PriceListID: "acme-fr-retail", ItemID: "nothing", RequestID: `c${Date.now()}` });
} catch (error) {
  fault = String(error.message ?? error);
}
const line = price.PartsPrice, site = [sites.PointOfSale].flat()[0];
console.log(JSON.stringify({ price: String(line.UnitPriceMinorAmount), sites: site.PartyID, fault }));
