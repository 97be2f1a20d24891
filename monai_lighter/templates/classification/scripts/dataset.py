"""The cases of a table."""

import csv
from pathlib import Path


def cases(table: str) -> list[dict]:
    """Return the data list of a table, ``[{"image": file, "label": class}]``; of several channels ``{"image": [file, …], …}``.

    Args:
        table: csv file with the columns ``image``, a path that is relative to its folder, and ``label``, a class from 0
            on; channels that are files of their own in ``image``, ``image_2``, ``image_3``, …. Without the column ``label``
            the cases have none.
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
                items[-1]["label"] = int(row["label"])
    return items
