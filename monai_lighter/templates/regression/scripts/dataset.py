"""The cases of a table."""

import csv
from pathlib import Path

import numpy as np


def cases(table: str) -> list[dict]:
    """Return the data list of a table, ``[{"image": file, "label": (1,) float32}]``.

    Args:
        table: csv file with the columns ``image``, a path that is relative to its folder, and ``label``, a number.
            Without the column ``label`` the cases have none.
    """
    items: list[dict] = []
    with open(table, newline="") as file:
        for row in csv.DictReader(file):
            items.append({"image": str(Path(table).parent / row["image"])})
            if row.get("label"):
                items[-1]["label"] = np.array([row["label"]], np.float32)
    return items
