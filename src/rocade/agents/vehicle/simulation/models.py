"""What kinds of vehicles there are to simulate, with the numbers their physics needs. All invented, all plausible."""

from __future__ import annotations

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model. `powertrain`: electric, petrol, diesel, hybrid (plug-in), muscle, assisted (e-bike).

    Units: kg, m2 (drag area), m/s, m/s2, kW, kWh, V, ohm, litres.
    """

    key: str
    brand: str
    model: str
    kind: str
    """As in the registry: car, van, bicycle, moped, standing_scooter."""
    powertrain: str
    mass_kg: float
    drag_area_m2: float
    rolling: float
    top_mps: float
    acceleration: float
    power_kw: float
    battery_kwh: float = 0.0
    battery_v: float = 0.0
    battery_ohm: float = 0.0
    regeneration_kw: float = 0.0
    standby_kw: float = 0.0
    engine_litres: float = 0.0
    tank_l: float = 0.0
    share: float = 1.0
    """Weight when a fleet is drawn."""

    @property
    def has_battery(self) -> bool:
        return self.battery_kwh > 0

    @property
    def has_engine(self) -> bool:
        return self.engine_litres > 0

    @property
    def has_rider_power(self) -> bool:
        return self.powertrain in ("muscle", "assisted")

    @property
    def has_cabin(self) -> bool:
        return self.kind in ("car", "van")


def _model(key: str, brand: str, model: str, kind: str, powertrain: str, **numbers: float) -> Model:
    return Model(key=key, brand=brand, model=model, kind=kind, powertrain=powertrain, **numbers)


MODELS: tuple[Model, ...] = (
    _model(
        "electric_car", "peugeot", "e-208", "car", "electric", mass_kg=1600, drag_area_m2=0.63, rolling=0.0095, top_mps=41,
        acceleration=2.6, power_kw=100, battery_kwh=48, battery_v=400, battery_ohm=0.09, regeneration_kw=60, standby_kw=0.5, share=3,
    ),
    _model(
        "electric_suv", "hyundai", "Kona", "car", "electric", mass_kg=1830, drag_area_m2=0.74, rolling=0.0095, top_mps=46,
        acceleration=2.8, power_kw=150, battery_kwh=64, battery_v=356, battery_ohm=0.08, regeneration_kw=80, standby_kw=0.6, share=2,
    ),
    _model(
        "quadricycle", "renault", "Twizy", "car", "electric", mass_kg=560, drag_area_m2=0.64, rolling=0.011, top_mps=22,
        acceleration=1.6, power_kw=13, battery_kwh=6.1, battery_v=52, battery_ohm=0.02, regeneration_kw=4, standby_kw=0.1, share=1,
    ),
    _model(
        "petrol_car", "citroen", "C3", "car", "petrol", mass_kg=1240, drag_area_m2=0.69, rolling=0.0105, top_mps=47,
        acceleration=2.2, power_kw=74, standby_kw=0.5, engine_litres=1.2, tank_l=45, share=2,
    ),
    _model(
        "diesel_car", "opel", "Astra", "car", "diesel", mass_kg=1480, drag_area_m2=0.66, rolling=0.0105, top_mps=55,
        acceleration=2.2, power_kw=96, standby_kw=0.5, engine_litres=1.5, tank_l=52, share=1.5,
    ),
    _model(
        "hybrid_car", "ds", "DS 7", "car", "hybrid", mass_kg=1890, drag_area_m2=0.78, rolling=0.0105, top_mps=60,
        acceleration=2.7, power_kw=165, battery_kwh=14.2, battery_v=345, battery_ohm=0.12, regeneration_kw=45, standby_kw=0.6,
        engine_litres=1.6, tank_l=43, share=1.5,
    ),
    _model(
        "electric_van", "peugeot", "e-Expert", "van", "electric", mass_kg=2350, drag_area_m2=1.12, rolling=0.011, top_mps=36,
        acceleration=1.9, power_kw=100, battery_kwh=72, battery_v=400, battery_ohm=0.07, regeneration_kw=60, standby_kw=0.6, share=1,
    ),
    _model(
        "diesel_van", "citroen", "Jumpy", "van", "diesel", mass_kg=2200, drag_area_m2=1.1, rolling=0.011, top_mps=44,
        acceleration=1.8, power_kw=106, standby_kw=0.6, engine_litres=2.0, tank_l=70, share=1,
    ),
    _model(
        "electric_moped", "vespelle", "Volta", "moped", "electric", mass_kg=190, drag_area_m2=0.5, rolling=0.013, top_mps=12.5,
        acceleration=1.7, power_kw=4, battery_kwh=4.2, battery_v=48, battery_ohm=0.03, regeneration_kw=0.8, standby_kw=0.03, share=1,
    ),
    _model(
        "petrol_moped", "vespelle", "Classica", "moped", "petrol", mass_kg=200, drag_area_m2=0.5, rolling=0.013, top_mps=12.5,
        acceleration=1.5, power_kw=3, standby_kw=0.03, engine_litres=0.05, tank_l=7, share=0.7,
    ),
    _model(
        "e_bike", "lune", "Lune E", "bicycle", "assisted", mass_kg=105, drag_area_m2=0.52, rolling=0.006, top_mps=7.2,
        acceleration=0.9, power_kw=0.25, battery_kwh=0.5, battery_v=36, battery_ohm=0.12, standby_kw=0.004, share=1.3,
    ),
    _model(
        "bicycle", "lune", "Lune", "bicycle", "muscle", mass_kg=92, drag_area_m2=0.5, rolling=0.006, top_mps=6.4,
        acceleration=0.8, power_kw=0.3, share=0.7,
    ),
    _model(
        "standing_scooter", "lune", "Patin", "standing_scooter", "electric", mass_kg=100, drag_area_m2=0.55, rolling=0.014,
        top_mps=6.9, acceleration=1.1, power_kw=0.5, battery_kwh=0.55, battery_v=36, battery_ohm=0.12, regeneration_kw=0.12,
        standby_kw=0.005, share=1.2,
    ),
)  # fmt: skip
