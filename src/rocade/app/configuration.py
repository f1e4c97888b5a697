"""Configuration of one region: `DIR/rocade.toml`, read strictly; unknown keys are refused.

Everything has a default that runs on one box; `rocade init` writes a commented file. The environment wins over the
file for what operators inject: `ROCADE_DATABASE_URL`, `ROCADE_HISTORY_URL`, `ROCADE_LOG_URL`, `ROCADE_CONFIG`.
Every setting is described in docs/operate.md (a test compares).
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from rocade.core.errors import Misconfigured

ROLES = ("store", "gateway", "worker", "api", "exchange", "relay", "charging", "sharing", "all")


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "0.0.0.0"
    port: int = 8883
    max_connections: int = 20_000
    tick_ms: int = 20
    """Longest wait that gathers publishes into one commit."""
    buffer_mb: int = 256
    """Bytes of unacknowledged publishes held before sockets are no longer read."""
    vehicle_messages_per_s: float = 200.0
    vehicle_kib_per_s: float = 4096.0


class Est(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "0.0.0.0"
    port: int = 8085


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    processes: int = 1
    """API processes of `--role all`; they share the ports."""
    api_host: str = "0.0.0.0"
    api_port: int = 8443
    pages_port: int = 8080
    """Loopback only, as http://localhost:<port>."""
    public_url: str = ""
    """Where people open the console away from this machine, e.g. https://rocade.example.org; empty = loopback only."""
    public_port: int = 0
    """Serve the console there ourselves, with the certificate below; 0 = a proxy forwards to pages_port."""
    public_certificate: str = ""
    public_key: str = ""
    pmtiles: str = ""
    """A PMTiles file with street maps; empty = country outlines."""


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines that carry services between sites; `port` 0 = no relay."""

    host: str = "0.0.0.0"
    port: int = 0


class Soap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    authorities: str = ""
    """A PEM file, relative to DIR, of issuers whose certificates may sign SOAP envelopes besides the region's own (RSA)."""


class Sftp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drop folders at the hub, for points of sale with old systems; `port` 0 = none. Needs the extra rocade[sftp]."""

    host: str = "0.0.0.0"
    port: int = 0
    encoding: str = "utf-8"
    """How files without a byte order mark are written: utf-8, cp1252 or iso-8859-15."""


class Exchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dealers' permanent line; `processes` 0 = none."""

    host: str = "0.0.0.0"
    port: int = 8884
    processes: int = 0
    """Exchange processes of `--role all`; they share the port."""
    max_connections: int = 20_000
    tick_ms: int = 20
    """Longest wait that gathers messages into one commit."""
    messages_per_s: float = 50.0
    """What one point of sale may send, sustained; bursts of a minute's worth."""
    kib_per_s: float = 1024.0
    technical_days: float = 90.0
    """How long messages of each class are kept; receipts and digests stay."""
    customer_days: float = 365.0
    fiscal_days: float = 3660.0


class OpenId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An external OpenID Connect provider people may sign in with; `issuer` '' = none."""

    issuer: str = ""
    client_id: str = ""
    secret_file: str = ""
    """A file with the client's secret, relative to DIR; empty = a public client (PKCE alone)."""
    name: str = "OpenID"
    """What the button on the sign-in page says."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    """Empty = tables in the database; `nats://host:port[,host:port]` = NATS JetStream."""
    retention_hours: float = 24.0
    max_gb: float = 20.0


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    processes: int = 1
    cycle_ms: int = 350
    max_block_records: int = 6000
    max_block_mb: int = 16
    lease_s: float = 6.0


class Blobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where objects are kept; see `fabric.blobs`."""

    url: str = ""
    """Empty = the folder DIR/blobs; else file:///folder, s3://bucket/prefix, gs://, az://."""


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What vehicles sent, as it was sealed at the intake, kept as objects longer than the log keeps it."""

    keep_days: float = 0.0
    """0 = no archive."""


class Custody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the region key is that everything sealed hangs on; docs/sealing.md."""

    kind: str = "file"
    """"file" or "pkcs11"."""
    directory: str = "custody"
    """Of kind file: the folder of the key, relative to DIR; best on a mount of another party."""
    library: str = ""
    """Of kind pkcs11: the token's library, its label, and a file with the PIN (mode 0600, relative to DIR)."""
    token: str = ""
    pin_file: str = ""
    lease_s: float = 60.0
    """How long keys in memory go on when custody does not answer."""


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `rocade backup` writes to; folders are relative to DIR, buckets are URLs. docs/backup.md."""

    to: str = ""
    keys_to: str = ""
    """The keys part, apart from the rest. Named here, each puncture of the keys renews it by itself."""
    keep_days: float = 0.0
    """Backups older than that go when a new one is whole; 0 = none goes."""
    keep_keys_days: float = 7.0


class Charging(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Charge control; `processes` 0 = goals are kept and planned, nobody follows them."""

    processes: int = 0
    """Charging processes of `--role all`; they share the vehicles."""


class Sharing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Feeds to third parties; `processes` 0 = by server-sent events and Parquet, nothing is sent by webhook."""

    processes: int = 0
    """Sharing processes of `--role all`; they share the feeds."""
    keep_hours: float = 24.0
    """How long records wait for who does not fetch them."""
    networks: tuple[str, ...] = ()
    """Networks that are not public and that webhooks may reach all the same, such as "10.20.0.0/16"."""
    roots: str = ""
    """A file of further root certificates that receivers may have theirs from, relative to DIR."""


class Ocpp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The door of charging stations, in the charging processes; port 0 = that listener is off."""

    host: str = "0.0.0.0"
    port: int = 0
    """With TLS: security profiles 2 and 3."""
    plain_host: str = "127.0.0.1"
    plain_port: int = 0
    """Without TLS, security profile 1: passwords in clear, for networks of the stations' own."""
    max_connections: int = 10_000
    messages_per_s: float = 20.0
    """What one station may send, sustained; bursts of half a minute's worth."""
    tick_ms: int = 20
    """Longest wait that gathers messages into one commit."""
    keep_days: float = 400.0
    """How long meter values and events of stations are kept."""


class RetentionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[retention]]` table. `signal`, `brand`, `region` '' = all; exactly one rule must have none of them."""

    days: float = 730.0
    signal: str = ""
    brand: str = ""
    region: str = ""
    """Where the vehicle is registered to live, for fleets of several countries in one region."""
    counted_from: str = "arrival"
    """"arrival" or "event"."""


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape: the tables of rocade.toml. `directory` is where the file stands."""

    region: str
    trust_domain: str
    directory: str = ""
    server_names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    database_url: str = ""
    history_url: str = ""
    mqtt: Mqtt = Mqtt()
    est: Est = Est()
    http: Http = Http()
    exchange: Exchange = Exchange()
    relay: Relay = Relay()
    soap: Soap = Soap()
    sftp: Sftp = Sftp()
    openid: OpenId = OpenId()
    log: Log = Log()
    worker: Worker = Worker()
    blobs: Blobs = Blobs()
    archive: Archive = Archive()
    custody: Custody = Custody()
    backup: Backup = Backup()
    charging: Charging = Charging()
    ocpp: Ocpp = Ocpp()
    sharing: Sharing = Sharing()
    retention: tuple[RetentionRule, ...] = (RetentionRule(),)

    @property
    def root(self) -> Path:
        return Path(self.directory)

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    @property
    def server(self) -> Path:
        return self.root / "server"

    @property
    def operator(self) -> Path:
        return self.root / "operator"

    @property
    def socket_directory(self) -> Path:
        """A private folder with a path short enough for a unix socket (107 bytes)."""
        run = self.root / "run"
        if len(str(run)) <= 80:
            return run
        digest = sha256(str(self.root.resolve()).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"rocade-{os.getuid()}-{digest}"

    @property
    def site(self) -> str:
        """The one address people sign in at."""
        return self.http.public_url or f"http://localhost:{self.http.pages_port}"

    @property
    def issuer(self) -> str:
        """Where machines reach the API: the issuer of access tokens."""
        return f"https://{self.server_names[0]}:{self.http.api_port}"

    @property
    def blobs_url(self) -> str:
        return self.blobs.url or (self.root / "blobs").resolve().as_uri()

    @property
    def effective_history_url(self) -> str:
        return self.history_url or f"chdb+unix://{self.socket_directory / 'store.sock'}"

    @property
    def owns_store(self) -> bool:
        return not self.history_url


def load(path: Path | str | None = None, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Read a configuration file (argument, else `ROCADE_CONFIG`, else ./rocade.toml). An empty `environment`: the file alone.

    Raises: Misconfigured `app.configuration.missing`, `app.configuration.invalid`.
    """
    file = Path(path or environment.get("ROCADE_CONFIG") or "rocade.toml")
    if file.is_dir():
        file = file / "rocade.toml"
    if not file.is_file():
        raise Misconfigured(
            "app.configuration.missing",
            f"no configuration at {file}; run `rocade init DIR --region eu` or pass --config",
        )
    try:
        raw = tomllib.loads(file.read_text())
        raw["directory"] = str(file.resolve().parent)
        for key, variable in (("database_url", "ROCADE_DATABASE_URL"), ("history_url", "ROCADE_HISTORY_URL")):
            if value := environment.get(variable):
                raw[key] = value
        if value := environment.get("ROCADE_LOG_URL"):
            raw["log"] = {**raw.get("log", {}), "url": value}
        return msgspec.convert(raw, Configuration)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured("app.configuration.invalid", f"{file}: {error}") from error


def render(configuration: Configuration) -> str:
    """The commented file that `rocade init` writes: what differs from the defaults is active, the rest is shown."""
    lines = [
        "# One region of Rocade. Every setting is explained in docs/operate.md; commented lines show the defaults.",
        f'region = "{configuration.region}"',
        f'trust_domain = "{configuration.trust_domain}"',
        "server_names = [" + ", ".join(f'"{name}"' for name in configuration.server_names) + "]",
        '# database_url = ""   # empty = embedded PostgreSQL; or postgresql://user:password@host/database',
        '# history_url = ""    # empty = embedded ClickHouse; or http(s)://user:password@host:8123/database',
    ]
    for name in (
        "mqtt",
        "est",
        "http",
        "exchange",
        "relay",
        "soap",
        "sftp",
        "openid",
        "log",
        "blobs",
        "archive",
        "worker",
        "custody",
        "backup",
        "charging",
        "ocpp",
        "sharing",
    ):
        lines += ["", render_section(name, getattr(configuration, name))]
    for rule in configuration.retention:
        lines.append("\n[[retention]]")
        lines += [f"{name} = {msgspec.json.encode(getattr(rule, name)).decode()}" for name in rule.__struct_fields__]
    return "\n".join(lines) + "\n"


def render_section(name: str, section: msgspec.Struct) -> str:
    """One table: what differs from the defaults is active, the rest is shown."""
    defaults, lines = type(section)(), [f"[{name}]"]
    for field in section.__struct_fields__:
        value, default = getattr(section, field), getattr(defaults, field)
        text = msgspec.json.encode(value).decode() if isinstance(value, str | tuple) else str(value).lower()
        lines.append(f"{'' if value != default else '# '}{field} = {text}")
    return "\n".join(lines)
