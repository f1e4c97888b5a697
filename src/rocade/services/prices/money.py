"""Prices as people write them -> integer minor units of the list's currency; what could mean two things is refused.

`12,5` `1 234,56` `1.234,56` `1,234.56` `1'234.56` `€ 12.50` `12.50 EUR` are read; `1,234` in a currency with two decimals is
not, for it could be a thousand or one and a bit. More decimals than the currency has, a sign, an exponent are refused.
Minor digits: ISO 4217, table A.1 (the exceptions from two stand below).
"""

from __future__ import annotations

import re

from rocade.core.money import MINOR_DIGITS

_TWO = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY "
    "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR "
    "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG "
)
CURRENCIES = frozenset(MINOR_DIGITS) | frozenset(_TWO.split())
SIGNS = {"€": "EUR", "£": "GBP", "$": "USD", "¥": "JPY"}
PRICE_LIMIT_MINOR = 10**12
_GROUPS = re.compile(r"[ '\u2019\u00a0\u202f]")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_PLAIN = re.compile(r"([0-9]{1,10})[.,]([0-9]{2})")


def parse(text: str, currency: str, digits: int) -> int:
    """Minor units. Raises: ValueError with a sentence that says what is wrong and what to write."""
    if digits == 2 and (plain := _PLAIN.fullmatch(text)):
        return int(plain[1] + plain[2])
    number = _without_currency(text.strip(), currency)
    number = _GROUPS.sub("", number)
    if number.startswith(("-", "+")):
        raise ValueError("a price has no sign; write the amount alone")
    if not _NUMBER.fullmatch(number) or not number.isascii():
        raise ValueError(f"{_short(text)} is not a price; write it like {example(digits)}")
    whole, decimals = _split(number, digits, text)
    if len(decimals) > digits:
        raise ValueError(f"{_short(text)} has more decimals than {currency}, which has {digits}; round it")
    price = int(whole + decimals.ljust(digits, "0"))
    if price >= PRICE_LIMIT_MINOR:
        raise ValueError(f"{_short(text)} is beyond every price of a part; check the column")
    return price


def example(digits: int) -> str:
    return "1234" + ("." + "50"[:2].ljust(digits, "0") if digits else "")


def show(price_minor: int, digits: int) -> str:
    """A price as it is written in reports: 1234.50."""
    return f"{price_minor / 10**digits:.{digits}f}" if digits else str(price_minor)


def _split(number: str, digits: int, text: str) -> tuple[str, str]:
    """Whole part and decimals. One kind of separator that stands once is the decimal sign unless three digits follow it."""
    signs = [sign for sign in number if sign in ".,"]
    if not signs:
        return number, ""
    if len(set(signs)) == 2:
        if signs.count(signs[-1]) > 1:
            raise ValueError(f"{_short(text)} has its separators mixed up; write it like {example(digits)}")
        whole, _, decimals = number.rpartition(signs[-1])
        return _joined(whole, signs[0], text, digits), decimals
    whole, _, decimals = number.rpartition(signs[0])
    if len(signs) > 1 or (len(decimals) == 3 and digits == 0):
        return _joined(number, signs[0], text, digits), ""
    if len(decimals) == 3 and digits != 3 and len(whole) <= 3:
        raise ValueError(
            f"{_short(text)} could mean {whole}{decimals} or {whole}.{decimals}; write it like {example(digits)}"
        )
    return whole, decimals


def _joined(whole: str, sign: str, text: str, digits: int) -> str:
    """A number whose thousands are set apart; every group but the first has three digits."""
    first, *rest = whole.split(sign)
    if len(first) > 3 or any(len(group) != 3 for group in rest):
        raise ValueError(f"{_short(text)} has its separators mixed up; write it like {example(digits)}")
    return first + "".join(rest)


def _without_currency(text: str, currency: str) -> str:
    for mark in (currency, *(sign for sign, of in SIGNS.items() if of == currency)):
        if text.upper().startswith(mark) or text.upper().endswith(mark):
            return text.upper().replace(mark, "", 1).strip()
    other = next((of for sign, of in SIGNS.items() if sign in text), None) or next(
        (word for word in re.findall(r"[A-Z]{3}", text) if word in CURRENCIES), None
    )
    if other:
        raise ValueError(f"the amount is in {other}, the list is in {currency}; a list has one currency")
    return text


def _short(text: str) -> str:
    return repr(text[:24])
