"""Small made-up tables from three domains, in the form in which users keep them."""

from pathlib import Path

import numpy as np
import pandas as pd


def write_clicks(folder: Path, num_rows: int, num_users: int, num_items: int, rate: float, gain: float) -> list[str]:
    """Write rows with the click rate `rate`, and `gain` more for odd items; return the options of a run on them."""
    draw = np.random.default_rng(0)
    users, items = draw.integers(num_users, size=num_rows), draw.integers(num_items, size=num_rows)
    rows = pd.DataFrame({"user": users, "item": items})
    rows["click"] = (draw.random(num_rows) < rate + gain * (items % 2)).astype(int)
    rows.to_csv(folder / "rows.csv", index=False)
    (folder / "schema.yaml").write_text("fields:\n- column: user\n- column: item\nlabel: click\n")
    return ["--dataset", "csv", "--data_path", str(folder / "rows.csv"), "--schema", str(folder / "schema.yaml")]


def loans(num_rows: int = 400) -> pd.DataFrame:
    """A label in words, American dates, zip codes with leading zeros, free text, a leak, row ids, a constant."""
    draw = np.random.default_rng(0)
    grades = draw.integers(0, 4, num_rows)
    bad = draw.random(num_rows) < 0.1 + 0.2 * grades
    amounts = np.round(np.exp(draw.normal(8, 2, num_rows)), 2)
    purposes = [f"{draw.choice(['buy', 'repair'])} a {draw.choice(['car', 'house'])} nr {n}" for n in range(num_rows)]
    days = pd.Timestamp("2021-01-01") + pd.to_timedelta(np.sort(draw.integers(0, 800, num_rows)), "D")
    return pd.DataFrame(
        {
            "loan_id": np.arange(5000, 5000 + num_rows),
            "issued": days.strftime("%m/%d/%Y"),
            "amount": amounts,
            "grade": [f"grade {'ABCD'[g]}" for g in grades],
            "zip_code": [f"{z:05d}" for z in draw.integers(1000, 1040, num_rows)],
            "purpose": purposes,
            "country": "US",
            "recovered": np.where(bad, np.round(amounts / 10, 1) + 1, 0),
            "loan_status": np.where(bad, "Charged Off", "Fully Paid"),
        }
    )


def clinic(num_rows: int = 400) -> pd.DataFrame:
    """A label of Yes and No, times in ISO 8601, several conditions per row, 'NA' for missing ages."""
    draw = np.random.default_rng(1)
    known = np.asarray(["asthma", "back pain", "diabetes", "migraine"])
    conditions = [", ".join(known[draw.random(4) < 0.4]) for _ in range(num_rows)]
    minutes = np.sort(draw.integers(0, 60 * 24 * 90, num_rows))
    times = pd.Timestamp("2024-03-01") + pd.to_timedelta(minutes, "min")
    ages = draw.integers(0, 95, num_rows).astype(str)
    ages[::50] = "NA"
    missed = draw.random(num_rows) < np.where([("migraine" in cell) for cell in conditions], 0.6, 0.2)
    return pd.DataFrame(
        {
            "PatientId": draw.integers(1, 90, num_rows) * 7919,
            "Gender": draw.choice(["F", "M"], num_rows),
            "ScheduledDay": times.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Age": ages,
            "Conditions": conditions,
            "SMS_received": draw.integers(0, 2, num_rows),
            "No-show": np.where(missed, "Yes", "No"),
        }
    )


def shop(num_rows: int = 400) -> pd.DataFrame:
    """Clicks on products: ids, lists of tags, prices of several magnitudes, titles, Unix times, a 0/1 label."""
    draw = np.random.default_rng(2)
    products = draw.integers(0, 80, num_rows)
    prices = np.round(np.exp(np.random.default_rng(3).normal(3, 2.2, 80)), 2)
    return pd.DataFrame(
        {
            "user_id": [f"u{u:03d}" for u in draw.integers(0, 60, num_rows)],
            "product_id": products + 100,
            "brand": [None if p % 5 == 0 else ("Acme", "Nordlys")[p % 2] for p in products],
            "price": prices[products],
            "title": [f"{('red', 'blue')[p % 2]} shoes for kids {p}" for p in products],
            "tags": [[tag for k, tag in enumerate(("eco", "new", "sale")) if p >> k & 1] for p in products],
            "ts": 1_700_000_000 + np.sort(draw.integers(0, 20 * 86_400, num_rows)),
            "clicked": (draw.random(num_rows) < np.where(products % 2, 0.6, 0.2)).astype(int),
        }
    )
