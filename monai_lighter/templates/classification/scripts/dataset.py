"""The cases of a table."""

import csv
from pathlib import Path


def cases(table: str) -> list[dict]:
    """Return the data list of a table, ``[{"image": file, "label": class}]``.

    Args:
        table: csv file with the columns ``image``, a path that is relative to its folder, and ``label``, a class from 0
            on. Without the column ``label`` the cases have none.
    """
    items: list[dict] = []
    with open(table, newline="") as file:
        for row in csv.DictReader(file):
            items.append({"image": str(Path(table).parent / row["image"])})
            if row.get("label"):
                items[-1]["label"] = int(row["label"])
    return items
