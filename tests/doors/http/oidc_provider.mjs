// An OpenID Connect provider for tests: the foreign package `oidc-provider`, one client, anybody may sign in.
import { Provider } from "oidc-provider";

const { issuer, port, client, keys } = JSON.parse(process.argv[2]);
const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys },
  cookies: { keys: ["for tests alone"] },
  features: { devInteractions: { enabled: true } },
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.on("server_error", (_, error) => console.error(error));
provider.listen(port, "127.0.0.1", () => console.log("ready"));
