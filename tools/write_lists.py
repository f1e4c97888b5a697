"""Write the lists that documents would otherwise repeat by hand: docs/errors.md and docs/decisions/README.md.

Flow: parse each file below src -> every call of Refused, Unavailable, Corrupt, Misconfigured with a code -> one line per
code, sorted; what an f-string fills in at run time is shown as `<name>`. Then the first line of every decision.
`make lists` writes; `--check` compares instead and exits 1, naming the list that is old.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ERRORS = ROOT / "docs/errors.md"
DECISIONS = ROOT / "docs/decisions/README.md"
FAMILIES = {
    "Refused": "the caller's fault; do not retry unchanged",
    "Unavailable": "not now; retry later, nothing was half done",
    "Corrupt": "stored data is not what was written; stop and alarm",
    "Misconfigured": "the set-up is wrong; found at start",
}
ERRORS_HEAD = """\
# Error codes

Codes are stable: clients may rely on them. HTTP answers carry them in RFC 9457 problem documents (`code`), the audit
log as `reason`. Made from the source by `make lists`; a test compares. `<...>` is filled in at run time;
two messages of one code are joined by a slash.

"""


DECISIONS_HEAD = """\
# Decisions

One page per choice of engine, dependency or format: context, decision, figures, consequences. Numbers are never
reused; a decision that is replaced stays and says by which. This list is made by `make lists`; a test compares.

"""


def text_of(node: ast.expr) -> str | None:
    """The text of a literal or f-string, None for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) or f"<{_name(value)}>" for value in values)
        case ast.IfExp(body=body, orelse=orelse):
            both = text_of(body), text_of(orelse)
            return " or ".join(filter(None, both)) or None
    return None


def _name(value: ast.expr) -> str:
    inner = value.value if isinstance(value, ast.FormattedValue) else value
    return ast.unparse(inner).rsplit(".", 1)[-1].split("(")[0].split("[")[0].strip("_'\" ")


def calls(source: str) -> Iterator[tuple[str, str, str]]:
    """(family, code, message) of every error made in one file."""
    if not any(f"{family}(" in source for family in FAMILIES):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAMILIES and node.args:
            code = text_of(node.args[0])
            message = text_of(node.args[1]) if len(node.args) > 1 else None
            if code:
                yield node.func.id, code, message or "<message>"


def errors() -> str:
    found: dict[str, dict[str, list[str]]] = {family: {} for family in FAMILIES}
    for file in sorted((ROOT / "src").rglob("*.py")):
        for family, code, message in calls(file.read_text("utf-8")):
            messages = found[family].setdefault(code, [])
            if message not in messages:
                messages.append(message)
    sections = []
    for family, explanation in FAMILIES.items():
        rows = [
            f"| `{code}` | {' / '.join(sorted(messages)).replace('|', '/')} |"
            for code, messages in sorted(found[family].items())
        ]
        sections.append("\n".join([f"## {family}: {explanation}", "", "| code | message |", "|---|---|", *rows, ""]))
    return ERRORS_HEAD + "\n".join(sections)


def decisions() -> str:
    lines = []
    for file in sorted(DECISIONS.parent.glob("[0-9]*.md")):
        title = file.read_text("utf-8").splitlines()[0].lstrip("# ").removeprefix(file.name[:4]).lstrip(" .:-")
        lines.append(f"- [{file.name[:4]}]({file.name}) {title}")
    return DECISIONS_HEAD + "\n".join(lines) + "\n"


def main() -> int:
    wanted = {ERRORS: errors(), DECISIONS: decisions()}
    old = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        print("".join(f"{path.relative_to(ROOT)} is old: run make lists\n" for path in old), end="")
        return 1 if old else 0
    for path in old:
        path.write_text(wanted[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
