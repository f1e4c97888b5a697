"""The command that explains: a refusal, a flag, a gap, an entry, a code; one call of the HTTP API.

Codes need no region: they are explained from the program itself, also where nothing runs.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.core import why as facts


@click.command(
    epilog=example(
        "why trust.certificate.expired --language fr",
        "why 4f1d2c3b5a697887 --config ./eu",
        "why audit:17 --config ./eu",
    )
)
@click.argument("id")
@click.option(
    "--language", type=click.Choice(facts.LANGUAGES), default="en", show_default=True, help="Language of the sentences."
)
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
@config_option
@click.pass_obj
def why(load: Load, id: str, language: str, config: Path | None, *, as_json: bool) -> None:
    """Explain ID (of a refusal, flag, gap, grant, look, entry ...) or CODE: what happened and what it rests on."""
    if facts.is_code(id):
        chain = facts.Chain(id, facts.code_facts(id))
        told = [(one.text, one.id) for one in facts.sentences(chain, language)]
    else:
        with ApiClient(load(config)) as api:
            answer = api.get(f"/v1/why/{quote(id, safe='')}", language=language)
        told = [(one["text"], one["id"] or "") for one in answer["sentences"]]
    if as_json:
        sentences = [{"text": text, "id": further or None} for text, further in told]
        click.echo(msgspec.json.encode({"id": id, "language": language, "sentences": sentences}).decode())
        return
    for text, further in told:
        click.echo(text + (f"  [{further}]" if further and further != id else ""))


COMMANDS = (why,)
