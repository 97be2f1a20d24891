"""The cases of a table."""

import csv
from pathlib import Path

import numpy as np


def cases(table: str) -> list[dict]:
    """Return the data list of a table, ``[{"image": file, "label": (1,) float32}]``; of several channels ``"image": [file, …]``.

    Args:
        table: csv file with the columns ``image``, a path that is relative to its folder, and ``label``, a number; channels
            that are files of their own in ``image``, ``image_2``, ``image_3``, …. Without the column ``label`` the cases have
            none.
    """
    folder = Path(table).parent
    items: list[dict] = []
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "image" not in (reader.fieldnames or ()):
            raise ValueError(f"{table} must have the columns image and label, it has {reader.fieldnames}.")
        others = [name for name in reader.fieldnames or () if name.startswith("image_")]
        for row in reader:
            files = [str(folder / row[name]) for name in ("image", *others)]
            own: dict = {key: value for key, value in row.items() if key != "label" and key not in others}
            items.append({**own, "image": files if others else files[0]})
            if row.get("label"):
                items[-1]["label"] = np.array([row["label"]], np.float32)
    return items
