"""Price lists by the command line, on a whole running region: made, tried, published, corrected, asked, fetched by anybody's cache."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import httpx
import msgspec
from tests.app.stand import Region

from rocade.trust.identity import envelope
from rocade.trust.identity.tls import client_context
from rocade.wire.prices import Head

FILE = "ref;price;label\n7701;12,50;Filter\n7702;3.00;Belt\n7703;1 200,00;Pump\n"


def test_a_list_is_published_by_the_command_line_and_its_files_are_had_over_https(
    region: Region, tmp_path: Path
) -> None:
    region.rocade("prices", "add", "lune-fr", "--brand", "lune", "--country", "FR", "--currency", "EUR")
    region.rocade("prices", "add", "lune-fr", "--brand", "lune", "--country", "FR", "--currency", "EUR", code=1,
                  says="prices.list.exists")  # fmt: skip
    file = tmp_path / "prices.csv"
    file.write_text(FILE.replace("3.00", "3,0,0").replace("Pump", "Pump;too much"))
    said = region.rocade("prices", "publish", file, "--list", "lune-fr", code=1)
    assert re.findall(r"^line (\d+)", said, re.MULTILINE) == ["3", "4"]

    file.write_text(FILE)
    tried = region.rocade(
        "prices", "publish", file, "--list", "lune-fr", "--at", "2026-10-01T00:00:00+02:00", "--dry-run"
    )
    assert "new 3" in tried
    assert "number 1" in region.rocade(*re.search(r"rocade (.+)", tried)[1].split(), code=0)  # type: ignore[index]  # said
    refused = region.rocade("prices", "publish", file, "--list", "lune-fr", "--at", "2026-10-25T02:30[Europe/Paris]", code=1,
                            says="prices.instant.twice")  # fmt: skip
    assert refused == ""
    file.write_text(FILE.replace("12,50", "1250"))
    region.rocade("prices", "publish", file, "--list", "lune-fr", code=1, says="factors")
    file.write_text(FILE.replace("12,50", "13,10"))
    assert "number 2" in region.rocade("prices", "publish", file, "--list", "lune-fr")
    assert "released" in region.rocade("prices", "show", "--list", "lune-fr")
    assert "lune-fr" in region.rocade("prices", "lists")

    with region.api() as api:
        asked = [api.get("/v1/price-lists/lune-fr/price", ref="7701", known=known)["price_minor"] for known in (1, 2)]
        assert asked == [1250, 1310]
        sealed = msgspec.json.encode(api.get("/v1/price-lists/lune-fr/head"))
    assert envelope.is_envelope(sealed)
    head = msgspec.json.decode(_payload(sealed), type=Head)
    configuration = region.configuration
    with httpx.Client(base_url=f"https://localhost:{configuration.http.api_port}", trust_env=False,
                      verify=client_context(configuration.operator)) as client:  # fmt: skip
        answer = client.get(f"/v1/price-blobs/{head.blob.sha256}")
        assert sha256(answer.content).hexdigest() == head.blob.sha256
        assert "immutable" in answer.headers["cache-control"]
        again = client.get(f"/v1/price-blobs/{head.blob.sha256}", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304


def _payload(sealed: bytes) -> bytes:
    import base64

    return base64.b64decode(msgspec.json.decode(sealed, type=envelope.Envelope).payload)
