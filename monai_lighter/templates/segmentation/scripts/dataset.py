"""The cases of a table."""

import csv
from pathlib import Path


def cases(table: str) -> list[dict]:
    """Return the data list of a table, ``[{"image": file, "label": file}]``; of several channels ``{"image": [file, …], …}``.

    Args:
        table: csv file with the columns ``image`` and ``label``, paths that are relative to its folder; channels that are files
            of their own in ``image``, ``image_2``, ``image_3``, …. Without the column ``label`` the cases have none. Other
            columns, such as ``subject``, are kept as they are.
    """
    folder = Path(table).parent
    items: list[dict] = []
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "image" not in (reader.fieldnames or ()):
            raise ValueError(f"{table} must have the columns image and label, it has {reader.fieldnames}.")
        others = [name for name in reader.fieldnames or () if name.startswith("image_")]
        for row in reader:
            paths = {key: str(folder / row[key]) for key in ("image", "label", *others) if key in row}
            channels = [paths.pop(name) for name in others]
            case: dict = {key: value for key, value in row.items() if key not in others} | paths
            items.append({**case, "image": [case["image"], *channels]} if channels else case)
    return items
