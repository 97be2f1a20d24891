"""The cases of a table."""

import csv
from pathlib import Path


def cases(table: str) -> list[dict[str, str]]:
    """Return the data list of a table, ``[{"image": file, "label": file}]``.

    Args:
        table: csv file with the columns ``image`` and ``label``, paths that are relative to its folder. Without the column
            ``label`` the cases have none.
    """
    folder = Path(table).parent
    with open(table, newline="") as file:
        return [{key: str(folder / value) for key, value in row.items()} for row in csv.DictReader(file)]
