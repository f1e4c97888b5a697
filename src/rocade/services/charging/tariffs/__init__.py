"""Prices and CO2 of the grid from files, as series for plans.

    parsed = read_prices(content, clock="Europe/Paris", zone="FR", currency="EUR")   CSV, or XML as ENTSO-E publishes it
    parsed = read_carbon(content, unit="kg/kWh")
    parsed.series, parsed.notes

What cannot be meant is refused with its line and what to do (`charging.file.*`, `xml.*`); what is merely not there (holes, values not
yet published, rows of other zones) stands in the notes: nothing is dropped silently.
"""

from rocade.services.charging.tariffs.entsoe import read_entsoe
from rocade.services.charging.tariffs.model import Note, Parsed
from rocade.services.charging.tariffs.table import read_carbon
from rocade.services.charging.tariffs.table import read_prices as read_price_table

__all__ = ["Note", "Parsed", "read_carbon", "read_entsoe", "read_price_table", "read_prices"]


def read_prices(
    content: bytes, *, clock: str = "", zone: str = "", currency: str = "", unit: str = "", sequence: int = 0
) -> Parsed:
    """A price file of either form; the first sign tells which. Raises: Refused `charging.file.*`, `xml.*`, `charging.zone`."""
    if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return read_entsoe(content, zone=zone, currency=currency, sequence=sequence)
    return read_price_table(content, clock=clock, zone=zone, currency=currency, unit=unit, sequence=sequence)
