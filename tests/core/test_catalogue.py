"""The packaged catalogue, and what a broken one is told."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from rocade.core.catalogue import BRANDS_FROM, VEHICLE_KINDS, Wakes, load, standard
from rocade.core.errors import Misconfigured, Refused
from rocade.core.signals import BRAND_SIGNALS_FROM

HEAD = "id,name,kind,datatype,unit,min,max,allowed"
OVERLAY_HEAD = f"{HEAD},max_rate,stuck_after_s,exponent"
SPEED = "1,Vehicle.Speed,sensor,float,km/h,,,"
BRAND = 'brand = "acme"\ntitle = "Acme"\nowner = "us"\ncolours = {}\nkinds = ["car"]\n'


def write(folder: Path, **files: str) -> Path:
    """A small valid catalogue, with some files replaced."""
    plain = {
        "signals": f"{HEAD}\n{SPEED}\n",
        "plausible": "name,min,max,max_rate,stuck_after_s,exponent\n",
        "overlay": f"{OVERLAY_HEAD}\n",
        "aliases": "alias,signal,factor,offset\n",
    }
    for name, text in (plain | files).items():
        (folder / (f"{name}.toml" if name == "acme" else f"{name}.csv")).write_text(text, "utf-8")
    return folder


def test_every_leaf_of_vss_6_has_the_id_it_always_had() -> None:
    vss = [(signal.id, signal.name) for signal in standard() if signal.id < BRAND_SIGNALS_FROM]
    assert [signal_id for signal_id, _ in vss] == list(range(1, 1268))
    digest = hashlib.sha256("\n".join(f"{signal_id},{name}" for signal_id, name in vss).encode()).hexdigest()
    assert digest == "dc3c04f99b324a2d6f32776a390920396a6ebac78331afcead2385e97eb00e02", (
        "ids never change: add new signals at the end, see tools/import_vss.py"
    )


def test_signals_beyond_vss_keep_their_ids_too() -> None:
    frozen = {row["name"]: int(row["id"]) for row in csv.DictReader((Path(__file__).parent / "frozen_ids.csv").open())}
    now = {signal.name: signal.id for signal in standard() if signal.id >= BRAND_SIGNALS_FROM}
    assert {name: now.get(name) for name in frozen} == frozen
    assert now.keys() <= frozen.keys(), "a new signal: add its line to frozen_ids.csv"


@pytest.mark.parametrize(
    ("name", "datatype", "unit"),
    [
        ("Vehicle.Speed", "float", "km/h"),
        ("Vehicle.TraveledDistance", "uint32", "m"),
        ("Vehicle.CurrentLocation.Latitude", "double", "degrees"),
        ("Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", "float", "percent"),
        ("Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit", "uint8", "percent"),
        ("Vehicle.Powertrain.TractionBattery.CurrentVoltage", "float", "V"),
        ("Vehicle.Powertrain.FuelSystem.AbsoluteLevel", "float", "l"),
        ("Vehicle.Powertrain.CombustionEngine.DieselExhaustFluid.Level", "uint8", "percent"),
        ("Vehicle.Powertrain.CombustionEngine.Exhaust.NitrogenOxidesAfter", "float", "ppm"),
        ("Vehicle.Rider.Cadence", "float", "rpm"),
    ],
)
def test_signals_that_matter_have_the_type_and_unit_of_the_standard(name: str, datatype: str, unit: str) -> None:
    signal = standard().by_name(name)
    assert (signal.datatype, signal.unit) == (datatype, unit)
    assert standard().by_id(signal.id) is signal


def test_positions_are_double_and_exact_to_1e_7_degrees() -> None:
    positions = [signal for signal in standard() if signal.is_position]
    assert len(positions) == 2
    assert {(signal.datatype, signal.exponent) for signal in positions} == {("double", -7)}


@pytest.mark.parametrize("kind", VEHICLE_KINDS)
def test_every_kind_of_vehicle_has_a_brand(kind: str) -> None:
    assert [brand for brand in standard().brands.values() if kind in brand.kinds and brand.brand != "other"]


def test_the_brands_of_the_first_issue_are_there_with_names_and_colours() -> None:
    brands = standard().brands
    assert {"peugeot", "citroen", "ds", "opel", "renault", "hyundai"} <= brands.keys()
    assert all(brand.title and brand.owner and {"primary", "ink"} <= brand.colours.keys() for brand in brands.values())


@pytest.mark.parametrize(
    ("name", "brand", "signal", "factor"),
    [
        ("SocDisp", "hyundai", "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", 1.0),
        ("VBatt", "hyundai", "Vehicle.Powertrain.TractionBattery.CurrentVoltage", 1.0),
        ("Odometer", "hyundai", "Vehicle.TraveledDistance", 1000.0),
        ("Soc", "renault", "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", 1.0),
        ("Vehicle.OBD.EngineSpeed", "", "Vehicle.Powertrain.CombustionEngine.Speed", 1.0),
        ("Vehicle.TravelledDistance", "renault", "Vehicle.TraveledDistance", 1000.0),
    ],
)
def test_a_brands_name_or_an_old_one_leads_to_the_signal_and_its_conversion(
    name: str, brand: str, signal: str, factor: float
) -> None:
    meaning = standard().meaning(name, brand)
    assert (meaning.signal.name, meaning.factor) == (signal, factor)


def test_a_brands_names_mean_nothing_for_another_brand() -> None:
    assert standard().find("VBatt", "renault") is None
    assert standard().find("BAT_SOC", "hyundai") is None, "0x549 is not the traction battery"


@pytest.mark.parametrize(
    ("call", "argument", "code"),
    [
        ("by_id", 999_999, "catalogue.signal.unknown"),
        ("by_id", -1, "catalogue.signal.unknown"),
        ("by_name", "Vehicle.Nothing", "catalogue.signal.unknown"),
        ("meaning", "x" * 10_000, "catalogue.signal.unknown"),
        ("overlay", "nobody", "catalogue.brand.unknown"),
    ],
)
def test_an_unknown_thing_is_refused_briefly(call: str, argument: object, code: str) -> None:
    with pytest.raises(Refused) as refused:
        getattr(standard(), call)(argument)
    assert refused.value.code == code
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("files", "entry"),
    [
        ({"signals": f"{HEAD}\n{SPEED}\n1,Vehicle.Other,sensor,float,,,,\n"}, "1"),
        ({"signals": f"{HEAD}\n{SPEED}\n2,Vehicle.Speed,sensor,float,,,,\n"}, "Vehicle.Speed"),
        ({"signals": f"{HEAD}\n70000,Vehicle.Speed,sensor,float,,,,\n"}, "Vehicle.Speed"),
        ({"signals": f"{HEAD}\n1,Vehicle.Speed,sensor,float16,,,,\n"}, "Vehicle.Speed"),
        ({"signals": f"{HEAD}\n1,Vehicle.Speed,gauge,float,,,,\n"}, "Vehicle.Speed"),
        ({"signals": f"{HEAD}\n1,Vehicle.Speed,sensor,float,,9,1,\n"}, "Vehicle.Speed"),
        ({"signals": f"{HEAD}\none,Vehicle.Speed,sensor,float,,,,\n"}, "Vehicle.Speed"),
        (
            {"signals": f"{HEAD}\n1,Vehicle.CurrentLocation.Latitude,sensor,float,,,,\n"},
            "Vehicle.CurrentLocation.Latitude",
        ),
        ({"plausible": "name,min\nVehicle.Nothing,1\n"}, "Vehicle.Nothing"),
        ({"overlay": f"{OVERLAY_HEAD}\n7,Vehicle.Mine,sensor,float,,,,,,,\n"}, "Vehicle.Mine"),
        ({"aliases": "alias,signal\nOld,Vehicle.Nothing\n"}, "Old"),
        ({"aliases": "alias,signal\nVehicle.Speed,Vehicle.Speed\n"}, "Vehicle.Speed"),
        ({"aliases": "alias,signal,factor\nOld,Vehicle.Speed,much\n"}, "Old"),
        ({"acme": "brand = "}, "whole file"),
        ({"acme": BRAND.replace("acme", "other")}, "brand"),
        ({"acme": BRAND.replace('"car"', '"tank"')}, "kinds"),
        ({"acme": f"{BRAND}surprise = 1\n"}, "whole file"),
        ({"acme": f'{BRAND}[aliases]\nV = {{ signal = "Vehicle.Nothing" }}\n'}, "V"),
        ({"acme": f'{BRAND}[[signals]]\nid = 65536\nname = "Vehicle.Acme.X"\ndatatype = "float"\n'}, "Vehicle.Acme.X"),
    ],
)
def test_a_broken_catalogue_names_file_and_entry(tmp_path: Path, files: dict[str, str], entry: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(Misconfigured) as wrong:
        load(tmp_path, tmp_path)
    assert wrong.value.code == "catalogue.invalid"
    assert wrong.value.facts["entry"] == entry


def test_a_small_catalogue_loads_and_a_brand_adds_signals_of_its_own(tmp_path: Path) -> None:
    signal = f'[[signals]]\nid = {BRANDS_FROM}\nname = "Vehicle.Acme.Ready"\ndatatype = "boolean"\n'
    write(tmp_path, acme=BRAND + signal, plausible="name,min,max,exponent\nVehicle.Speed,-5,300,-2\n")
    catalogue = load(tmp_path, tmp_path)
    assert (catalogue.by_id(1).min, catalogue.by_id(1).exponent) == (-5, -2)
    assert catalogue.by_name("Vehicle.Acme.Ready").brand == "acme"
    assert BRANDS_FROM in catalogue
    assert len(catalogue) == 2


def test_brands_say_which_model_obeys_which_act() -> None:
    brands = standard().brands
    vespelle, lune, peugeot, renault = (brands[name].commands for name in ("vespelle", "lune", "peugeot", "renault"))
    assert [vespelle.can("charge.start", model) for model in ("Volta", "Classica", "?")] == ["yes", "no", "yes"]
    assert [lune.can("doors.lock", model) for model in ("Lune E", "Lune")] == ["yes", "no"]
    assert [peugeot.can(act, "e-208") for act in ("charge.start", "charge.limit")] == ["yes", "unknown"]
    assert renault.can("charge.start", "Twizy") == "unknown"
    assert peugeot.dialect
    assert (peugeot.dialect.process["901"], peugeot.dialect.returned["400"]) == ("waking", "token")
    assert (peugeot.wakes, renault.wakes) == (Wakes(6, 1200), None)
