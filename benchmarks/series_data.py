"""Made-up measurements with the faults of real ones: weather, a house's energy, hourly rides. Written before
any model saw them; no number here follows from what a model does well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

HOURS, YEAR = 24, 365
Columns = Mapping[str, np.ndarray]


def smooth(rng: np.random.Generator, steps: int, memory: float, size: float = 1.0) -> np.ndarray:
    """(steps,) an autoregression of order one that forgets over `memory` steps; size: standard deviation."""
    kept = np.exp(-1.0 / memory)
    noise = rng.normal(0, size * np.sqrt(1 - kept**2), steps)
    out = np.empty(steps)
    last = rng.normal(0, size)
    for t in range(steps):
        last = out[t] = kept * last + noise[t]
    return out


def calendar(hours: int) -> tuple[np.ndarray, ...]:
    """Times as text, hour, weekday, month from 1 and day of the year, for so many hours from 2015 on."""
    at = np.datetime64("2015-01-01T00", "h") + np.arange(hours)
    months = at.astype("datetime64[M]").astype(int) % 12 + 1
    days = (at.astype("datetime64[D]") - at.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    weekdays = (at.astype("datetime64[D]").astype(int) + 3) % 7
    return np.datetime_as_string(at), np.arange(hours) % HOURS, weekdays, months, days


def weather(seed: int = 0, years: int = 5) -> Columns:
    """Hours of a station in the middle of Europe: 21 channels beside the time."""
    rng, steps = np.random.default_rng(seed), years * YEAR * HOURS
    at, hour, _, month, day = calendar(steps)
    season, sun = -np.cos(2 * np.pi * (day - 20) / YEAR), np.cos(2 * np.pi * (hour - 13) / HOURS)
    system, front = smooth(rng, steps, 60), smooth(rng, steps, 9)  # pressure systems, fronts inside them
    pressure = 989 + 8.5 * system - 2 * front + rng.normal(0, 0.15, steps)
    cover = 1 / (1 + np.exp(-1.4 * (-system + 0.9 * front + smooth(rng, steps, 4, 0.6))))
    okta = np.clip(np.rint(8 * cover + rng.normal(0, 0.5, steps)), 0, 8)
    height = np.maximum(0, 0.25 + 0.35 * season + (0.75 + 0.2 * season) * sun)
    radiation = 720 * height * (1 - 0.75 * (okta / 8) ** 1.5) * np.exp(rng.normal(0, 0.12, steps))
    warmth = smooth(rng, steps, 90, 3.6) + 1.2 * system
    swing = (2.2 + 2.6 * (1 + season) / 2) * (1.3 - cover)
    degrees = 9.4 + 9.2 * season + warmth + swing * np.roll(sun, 2) + smooth(rng, steps, 3, 0.5)
    spread = np.exp(
        0.9 + 0.25 * season + 0.5 * np.roll(sun, 2) - 0.9 * (cover - 0.5) + smooth(rng, steps, 12, 0.35)
    )
    dew = degrees - spread
    most, real = (6.11 * np.exp(17.27 * t / (237.3 + t)) for t in (degrees, dew))
    wind = np.exp(0.5 + 0.35 * front - 0.25 * system + 0.15 * sun + smooth(rng, steps, 5, 0.4))
    gust = wind * (1.25 + rng.gamma(2.0, 0.18, steps))
    turned = 230 + 70 * smooth(rng, steps, 30) + 40 * front + rng.normal(0, 14 / np.sqrt(wind), steps)
    wet = (front - 0.7 * system + smooth(rng, steps, 3, 0.5) > 1.35) & (cover > 0.5)
    rain = np.where(wet, rng.gamma(0.6, 1.3, steps).round(1), 0.0)
    view = np.clip(40 * np.exp(-1.4 / np.maximum(spread, 0.3)) * np.exp(rng.normal(0, 0.2, steps)), 0.1, 60)
    soil = (
        9.4 + 7.5 * np.roll(season, 20 * HOURS) + 0.5 * smooth(rng, steps, 200, 3.0) + 0.8 * np.roll(sun, 6)
    )
    carbon = 412 + 9 * cover - 7 * height + smooth(rng, steps, 24, 6) + rng.normal(0, 1.2, steps)
    return {
        "time": at, "pressure": pressure.round(2), "temperature": degrees.round(2),
        "potential": (degrees + 273.15 + 0.075 * (1000 - pressure)).round(2), "dew": dew.round(2),
        "humidity": np.rint(100 * real / most).clip(1, 100), "vapour_most": most.round(2),
        "vapour": real.round(2), "vapour_deficit": (most.round(2) - real.round(2)).round(2),
        "density": (pressure * 100 / (287.05 * (degrees + 273.15))).round(4), "wind": wind.round(2),
        "gust": gust.round(2), "direction": np.rint(turned) % 360, "rain": rain, "cloud": okta,
        "radiation": radiation.round(1), "visibility": view.round(1), "soil": soil.round(2),
        "carbon": carbon.round(1), "raining": (rain > 0).astype(float), "hour": hour, "month": month,
    }  # fmt: skip


def energy(seed: int = 0, days: int = 137) -> Columns:
    """Ten-minute steps of a house: 28 channels, two of which are noise and the same."""
    rng, steps = np.random.default_rng(seed + 1), days * 144
    clock = np.arange(steps) / 6 % HOURS
    trend = np.linspace(0, 1, steps)
    sun = np.cos(2 * np.pi * (clock - 14.5) / HOURS)
    weather = smooth(rng, steps, 300)
    out = 5 + 9 * trend + 2.8 * sun * (0.6 + 0.5 * trend) + 3.2 * weather + smooth(rng, steps, 12, 0.4)
    awake = 1 / (1 + np.exp(-2 * (clock - 7))) * 1 / (1 + np.exp(2 * (clock - 23)))
    evening = np.exp(-0.5 * ((clock - 18.5) / 2.2) ** 2) + 0.5 * np.exp(-0.5 * ((clock - 11.5) / 1.6) ** 2)
    busy = smooth(rng, steps, 8)
    started = np.exp(1.1 * busy + 1.3 * evening * awake + 0.5 * awake - 1.2)
    appliances = np.clip(
        10 * np.rint(4.2 + 2.2 * awake + 6.5 * started * (0.4 + rng.gamma(1.2, 0.5, steps))), 10, 1080
    )
    lamp = (smooth(rng, steps, 12) + 1.4 * evening + 0.5 * awake - 1.5 - 0.8 * trend) > 0
    lights = np.where(lamp, 10 * rng.choice([1, 2, 3, 4], steps, p=[0.45, 0.3, 0.17, 0.08]), 0)
    made = {"appliances": appliances, "lights": lights}
    shared, damp = smooth(rng, steps, 200, 0.5), smooth(rng, steps, 150, 2.0) + 1.5 * weather
    for room in range(1, 10):
        own = smooth(rng, steps, 80 + 15 * room, 0.4)
        leak = 0.9 if room == 6 else 0.06 + 0.02 * room  # the sixth is outside
        heat = leak * (out - 9) + shared + own + 0.15 * busy * (room in (1, 3, 7)) + 0.3 * np.roll(sun, 12)
        made[f"T{room}"] = np.round((7 if room == 6 else 19.5 + 0.25 * room) + heat, 2)
        air = 40 - 0.9 * heat + damp * (0.8 + 0.05 * room) + smooth(rng, steps, 40, 1.0)
        air = air + (9 * np.maximum(0, smooth(rng, steps, 5) - 1.2) if room == 5 else 0)  # the bath
        made[f"RH{room}"] = np.round(np.clip(air * (1.4 if room == 6 else 1.0), 1, 99.9), 2)
    wind = np.clip(4 + 2 * smooth(rng, steps, 90) - weather, 0, 14).round(1)
    dew = out - np.exp(0.9 + 0.5 * sun + smooth(rng, steps, 60, 0.3))
    noise, view = (50 * rng.random(steps)).round(6), np.rint(38 + 11 * smooth(rng, steps, 40)).clip(1, 66)
    at = np.datetime64("2016-01-11T17:00", "m") + 10 * np.arange(steps)
    return {
        "time": np.datetime_as_string(at), **made, "T_out": out.round(2),
        "pressure": (755 + 6 * smooth(rng, steps, 400) - 1.5 * weather).round(1),
        "RH_out": np.clip(np.rint(100 * np.exp(-0.06 * (out - dew))), 24, 100), "wind": wind,
        "visibility": np.where(rng.random(steps) < 0.4, 40, view),
        "dew": dew.round(2), "rv1": noise, "rv2": noise,
    }  # fmt: skip


def rides(seed: int = 0, years: int = 6) -> Columns:
    """Hours of bikes lent: a day of commuters and one of leisure, a week, a year, weather, and rain."""
    rng, steps = np.random.default_rng(seed + 2), years * YEAR * HOURS
    at, hour, weekday, _, day = calendar(steps)
    season, sun = -np.cos(2 * np.pi * (day - 20) / YEAR), np.cos(2 * np.pi * (hour - 15) / HOURS)
    degrees = 13 + 10 * season + 3.5 * sun + smooth(rng, steps, 70, 3.5) + smooth(rng, steps, 4, 0.4)
    wet = smooth(rng, steps, 6) + 0.8 * smooth(rng, steps, 60) > 1.5
    rush = (
        np.exp(-0.5 * ((hour - 8) / 1.1) ** 2)
        + 1.15 * np.exp(-0.5 * ((hour - 17.5) / 1.5) ** 2)
        + 0.25 * (hour > 6)
    )
    leisure = np.exp(-0.5 * ((hour - 14) / 3.6) ** 2)
    mood = np.exp(0.035 * (degrees - 13) - 0.9 * wet + smooth(rng, steps, 10, 0.2))
    free = weekday >= 5
    commuters = rng.poisson((6 + 210 * np.where(free, 0.45 * leisure, rush)) * mood**0.6)
    casual = rng.poisson((1 + np.where(free, 110, 35) * leisure) * mood**1.5)
    return {"time": at, "temperature": degrees.round(1), "casual": casual, "commuters": commuters}
