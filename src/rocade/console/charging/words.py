"""Money, energy, carbon and hours as a language writes them; reasons in the reader's words."""

from __future__ import annotations

from rocade.console.my.frame import figure
from rocade.core.money import MINOR_DIGITS
from rocade.core.why.texts import part

SIGNS = {"EUR": "€", "USD": "$", "GBP": "£", "CNY": "¥", "JPY": "¥", "CHF": "CHF", "SEK": "SEK"}
CENTS = {"EUR": "ct", "USD": "¢"}


def money(language: str, minor: int, currency: str) -> str:
    """An amount with its sign where this language puts it; '' without a currency."""
    if not currency:
        return ""
    digits, sign = MINOR_DIGITS.get(currency, 2), SIGNS.get(currency, currency)
    value = f"{abs(minor) / 10**digits:,.{digits}f}"
    minus = "−" if minor < 0 else ""
    if language == "fr":
        value = value.replace(",", "\u202f").replace(".", ",")
        return f"{minus}{value}\u00a0{sign}"
    return f"{minus}{sign}{value}" if len(sign) == 1 else f"{minus}{sign}\u00a0{value}"


def per_kwh(currency: str) -> tuple[str, float]:
    """The unit prices are drawn in, and the factor from currency per kWh."""
    return (f"{CENTS[currency]}/kWh", 100.0) if currency in CENTS else (f"{currency or '–'}/kWh", 1.0)


def carbon(language: str, grams: int) -> str:
    if abs(grams) < 950:
        return f"{figure(language, grams)}\u202fg CO₂"
    return f"{figure(language, grams / 1000, 1)}\u202fkg CO₂"


def energy(language: str, kwh: float) -> str:
    return f"{figure(language, kwh, 1)}\u202fkWh"


def power(language: str, kw: float) -> str:
    return f"{figure(language, kw, 1)}\u202fkW"


def hours(language: str, value: float) -> str:
    """Hours and minutes, short, with a sign of their own when they are lacking."""
    minutes = round(abs(value) * 60)
    whole, rest = divmod(minutes, 60)
    names = {"zh": ("小时", "分")}.get(language, ("h", "min"))
    text = (
        f"{whole}\u202f{names[0]}" * bool(whole)
        + " " * bool(whole and rest)
        + f"{rest}\u202f{names[1]}" * bool(rest or not whole)
    )
    return f"−{text}" if value < 0 and minutes else text


def because(language: str, code: str) -> str:
    """What a code means, '' where no catalogue has it."""
    return part(code, "means", language) if code else ""
