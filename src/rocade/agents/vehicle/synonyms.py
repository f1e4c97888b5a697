"""Names people give to columns, in English, French and Chinese, and what values then look like.

One line per signal: name patterns (words in any order, all must occur; `!word` must not), the range the values lie in,
the units they may have. Chinese names are matched as substrings. More specific patterns win because they have more words.
"""

from __future__ import annotations

import re
import unicodedata

import msgspec

_BATTERY = "Vehicle.Powertrain.TractionBattery."
_ENGINE = "Vehicle.Powertrain.CombustionEngine."


class Meant(msgspec.Struct, frozen=True):
    """A signal that a column may mean. `low`, `high` in the first unit; `units` the likely ones, most likely first."""

    signal: str
    patterns: tuple[str, ...]
    low: float = -1e12
    high: float = 1e12
    units: tuple[str, ...] = ()
    is_text: bool = False


def _m(signal: str, patterns: str, low: float = -1e12, high: float = 1e12, units: str = "") -> Meant:
    return Meant(signal, tuple(p.strip() for p in patterns.split("|")), low, high, tuple(units.split()))


def _t(signal: str, patterns: str) -> Meant:
    return Meant(signal, tuple(p.strip() for p in patterns.split("|")), is_text=True)


MEANT: tuple[Meant, ...] = (
    _m("Vehicle.CurrentLocation.Latitude", "lat | latitude | position lat | gps lat | 纬度", -90, 90, "degrees"),
    _m("Vehicle.CurrentLocation.Longitude", "lon | long | lng | longitude | position long | gps lon | 经度", -180, 180, "degrees"),
    _m("Vehicle.CurrentLocation.Altitude", "alt | altitude | elevation | ele | hauteur | 海拔 | 高度", -450, 9000, "m feet"),
    _m("Vehicle.CurrentLocation.Heading", "heading | course | bearing | cap | azimut | azimuth | 航向 | 方向角", 0, 360, "degrees"),
    _m("Vehicle.CurrentLocation.HorizontalAccuracy", "accuracy | gps accuracy | precision | 精度", 0, 10000, "m"),
    _m("Vehicle.CurrentLocation.Speed", "gps speed | speed gps | vitesse gps | ground speed | GPS速度", 0, 400, "km/h m/s mph knots"),
    _m("Vehicle.Speed", "speed !wind !limit !engine !motor !fan | vehicle speed | vitesse !vent !limite | velocity | 车速 | 速度", -40, 400, "km/h m/s mph"),
    _m("Vehicle.TraveledDistance", "odometer | odo | mileage | kilometrage | compteur | total distance | 累计里程 | 总里程", 0, 5e9, "km m miles"),
    _m("Vehicle.TraveledDistanceSinceStart", "distance | trip distance | trip km | trajet | 里程", 0, 1e7, "m km miles"),
    _m(f"{_BATTERY}StateOfCharge.Current", "soc | state charge | battery level | battery percent | charge level | niveau batterie | etat charge | batterie | 电量 | 剩余电量 | 荷电", 0, 100, "percent ratio"),
    _m(f"{_BATTERY}StateOfHealth", "soh | state health | etat sante | 健康度", 0, 100, "percent ratio"),
    _m(f"{_BATTERY}CurrentVoltage", "voltage !aux !12v !cell | battery voltage | pack voltage | tension | tension batterie | 总电压 | 电压", 0, 1500, "V mV"),
    _m(f"{_BATTERY}CurrentCurrent", "current | battery current | pack current | courant | intensite | 总电流 | 电流", -2000, 2000, "A mA"),
    _m(f"{_BATTERY}CurrentPower", "power !engine !motor !steering | battery power | puissance | 功率", -1.5e6, 1.5e6, "W kW"),
    _m(f"{_BATTERY}Temperature.Average", "battery temperature | battery temp | temp batterie | temperature batterie | 电池温度", -50, 120, "Celsius Fahrenheit"),
    _m(f"{_BATTERY}Range", "range | remaining range | autonomie | 续航", 0, 2e6, "km m miles"),
    _m("Vehicle.LowVoltageBattery.CurrentVoltage", "12v voltage | voltage 12v | aux voltage | tension 12v | 蓄电池电压", 0, 60, "V mV"),
    _m("Vehicle.Powertrain.ElectricMotor.Speed", "motor speed | motor rpm | 电机转速", -40000, 40000, "rpm"),
    _m("Vehicle.Powertrain.ElectricMotor.Torque", "motor torque | 电机转矩", -5000, 5000, "Nm"),
    _m("Vehicle.Powertrain.ElectricMotor.Temperature", "motor temperature | motor temp | 电机温度", -60, 250, "Celsius Fahrenheit"),
    _m(f"{_ENGINE}Speed", "rpm | engine speed | engine rpm | regime | regime moteur | 转速", 0, 20000, "rpm"),
    _m(f"{_ENGINE}EngineCoolant.Temperature", "coolant temperature | coolant temp | engine temp | temperature eau | liquide refroidissement | 水温 | 冷却液", -60, 160, "Celsius Fahrenheit"),
    _m(f"{_ENGINE}EngineOil.Temperature", "oil temperature | oil temp | temperature huile | 机油温度", -60, 220, "Celsius Fahrenheit"),
    _m(f"{_ENGINE}TPS", "throttle | throttle position | papillon | 节气门", 0, 100, "percent"),
    _m("Vehicle.Powertrain.FuelSystem.RelativeLevel", "fuel level | fuel percent | niveau carburant | carburant | 油量 | 燃油", 0, 100, "percent"),
    _m("Vehicle.Powertrain.FuelSystem.Rate", "fuel rate | fuel flow | debit carburant | 油耗率", 0, 500, "l/h"),
    _m("Vehicle.Powertrain.FuelSystem.InstantConsumption", "consumption | fuel consumption | consommation | 油耗", 0, 500, "l/100km"),
    _m("Vehicle.Chassis.Accelerator.PedalPosition", "accelerator | accelerator pedal | pedale accelerateur | 油门 | 加速踏板", 0, 100, "percent"),
    _m("Vehicle.Chassis.Brake.PedalPosition", "brake pedal | pedale frein | 制动踏板", 0, 100, "percent"),
    _m("Vehicle.Acceleration.Longitudinal", "acceleration | accel x | longitudinal acceleration | 加速度", -150, 150, "m/s^2"),
    _m("Vehicle.Cabin.HVAC.AmbientAirTemperature", "cabin temperature | cabin temp | interior temperature | habitacle | 车内温度", -60, 95, "Celsius Fahrenheit"),
    _m("Vehicle.Exterior.AirTemperature", "temperature | temp | outside temperature | ambient temperature | temperature exterieure | 温度 | 环境温度 | 气温", -60, 70, "Celsius Fahrenheit Kelvin"),
    _m("Vehicle.Exterior.Humidity", "humidity | humidite | 湿度", 0, 100, "percent"),
    _m("Vehicle.Exterior.WindSpeed", "wind speed | windspeed | wind speed av | vitesse vent | 风速", 0, 120, "m/s km/h"),
    _m("Vehicle.Exterior.WindDirection", "wind direction | wind dir | direction vent | 风向", 0, 360, "degrees compass"),
    _m("Vehicle.Exterior.Precipitation", "precipitation | rain | pluie | 降水 | 降雨", 0, 500, "mm"),
    _t("Vehicle.Exterior.Weather", "weather | meteo | temps qu'il fait | 天气"),
    _m("Vehicle.Exterior.TrafficLevel", "traffic | trafic | 拥堵", 0, 2),
    _m("Vehicle.Exterior.SpeedLimit", "speed limit | limit | limitation | vitesse limite | 限速", 0, 200, "km/h mph"),
    _m("Vehicle.Rider.HeartRate", "heart rate | heart | hr | frequence cardiaque | 心率", 20, 250, "bpm"),
    _m("Vehicle.Rider.Cadence", "cadence | pedalling rate | 踏频", 0, 250, "rpm"),
    _m("Vehicle.Rider.Power", "rider power | puissance cycliste | 骑行功率", 0, 3000, "W"),
    _m("Vehicle.Powertrain.Transmission.CurrentGear", "gear | rapport | vitesse engagee | 档位", -2, 20),
)  # fmt: skip

UNITS = {
    "km/h": "km/h", "kmh": "km/h", "kph": "km/h", "kmph": "km/h", "m/s": "m/s", "mps": "m/s", "mph": "mph", "kn": "knots",
    "knots": "knots", "%": "percent", "pct": "percent", "percent": "percent", "°c": "Celsius", "degc": "Celsius",
    "celsius": "Celsius", "c": "Celsius", "°f": "Fahrenheit", "degf": "Fahrenheit", "f": "Fahrenheit", "k": "Kelvin", "v": "V",
    "volt": "V", "mv": "mV", "a": "A", "amp": "A", "ma": "mA", "kw": "kW", "w": "W", "wh": "Wh", "kwh": "kWh", "m": "m",
    "km": "km", "mi": "miles", "miles": "miles", "ft": "feet", "rpm": "rpm", "tr/min": "rpm", "bpm": "bpm", "deg": "degrees",
    "°": "degrees", "mm": "mm", "nm": "Nm", "l/h": "l/h", "bar": "bar", "kpa": "kPa", "公里/小时": "km/h", "米": "m",
}  # fmt: skip
"""How units are written in column names -> the catalogue's word."""
_ALIASES = {"velocity": "speed", "temp": "temperature", "windspeedav": "wind speed av", "gpsspeed": "gps speed"}


def split_name(name: str) -> tuple[list[str], str]:
    """Words of a column name, lower-case without accents, and the unit it carries (catalogue's word, or '')."""
    unit = ""
    match = re.search(r"[\[(（]([^\])）]{1,12})[\])）]\s*$", name)
    if match:
        unit, name = UNITS.get(match[1].strip().lower(), ""), name[: match.start()]
    name = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).lower()
    words = [word for word in re.split(r"[^a-z0-9\u4e00-\u9fff/%°']+", plain) if word]
    if len(words) > 1 and not unit and words[-1] in UNITS and words[-1] not in ("c", "f", "a", "v", "m", "k", "w"):
        unit = UNITS[words.pop()]
    return words, unit


def name_score(words: list[str], pattern: str) -> float:
    """How well a column's words fit a pattern: 1 = exactly, 0 = not at all."""
    if any("\u4e00" <= letter <= "\u9fff" for letter in pattern):
        joined = "".join(words)
        return len(pattern) / max(len(joined), 1) if pattern.lower() in joined else 0.0
    wanted = [word for word in pattern.split() if not word.startswith("!")]
    banned = {word[1:] for word in pattern.split() if word.startswith("!")}
    have = {_ALIASES.get(word, word) for word in words} | set(words)
    if banned & have or not all(_ALIASES.get(word, word) in have or word in have for word in wanted):
        return 0.0
    return len(wanted) / len(words) if len(words) >= len(wanted) else 0.0
