"""Each of the mistakes of `mistake_table` ends at once, with the config id, the value and what to do; none runs on silently."""

import logging
import shutil
import time
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from mistake_table import AT_WORK, BEFORE, ENGINES, REMOVED

import monai_lighter
from monai_lighter import Workflow
from monai_lighter.errors import in_terms_of_config

TEMPLATE = Path(monai_lighter.__file__).parent / "templates" / "segmentation" / "scripts" / "dataset.py"


def make(bundle, mistake):
    """Writes the config with the mistake, and gives its path."""
    file = bundle / "configs" / f"{mistake.base}.yaml"
    config = yaml.safe_load(ENGINES if mistake.base == "engines" else file.read_text())
    for id, value in mistake.edit.items():
        *path, key = id.split("::")
        node = config
        for name in path:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        if value is REMOVED:
            del node[key]
        else:
            node[int(key) if isinstance(node, list) else key] = value
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    for name, text in mistake.files.items():
        path = bundle / name
        path.parent.mkdir(exist_ok=True)
        if text is None:
            path.unlink()
        elif text.startswith("@append:"):
            path.write_text(path.read_text() + text.removeprefix("@append:"))
        elif text == "@template":
            shutil.copy(TEMPLATE, path)
        elif text == "@weights":
            torch.save(torch.nn.Linear(1, 1).state_dict(), path)
        else:
            path.write_text(text)
    return str(file)


def run(mistake, file):
    """What the command says in the end; None where it does not end with an error."""
    try:
        workflow = Workflow(file, logging_file=False, run_id=mistake.run_id, **mistake.arguments)
        workflow.initialize()
        workflow.run()
    except Exception as error:
        return in_terms_of_config(error) or f"traceback: {type(error).__name__}: {error}"
    return None


@pytest.fixture
def said(bundle, caplog, record_property, monkeypatch):
    """Makes a mistake in the bundle and gives what the command says of it: its error, else what it logs and warns of."""

    def say(mistake):
        monkeypatch.chdir(bundle)
        file = make(bundle, mistake)
        begin = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
            warnings.simplefilter("always")
            message = run(mistake, file)
        seconds = f"{time.perf_counter() - begin:.2f}"
        if message is None:
            told = [*(record.getMessage() for record in caplog.records), *(str(warning.message) for warning in caught)]
            message = "\n".join(["it goes on, with a warning:", *told])
        row = {"what": mistake.what, "seconds": seconds, "message": message, "folder": str(bundle)}
        record_property("mistake", row)
        return message

    return say


@pytest.mark.parametrize("mistake", BEFORE, ids=lambda mistake: mistake.what)
def test_before_anything_is_run(mistake, said):
    message = said(mistake)
    assert [word for word in mistake.says if word not in message] == [], message


@pytest.mark.slow
@pytest.mark.parametrize("mistake", AT_WORK, ids=lambda mistake: mistake.what)
def test_in_a_step(mistake, said):
    message = said(mistake)
    assert [word for word in mistake.says if word not in message] == [], message


def test_the_table_is_long_enough_and_has_each_mistake_once():
    names = [mistake.what for mistake in (*BEFORE, *AT_WORK)]
    assert len(names) >= 80
    assert len(names) == len(set(names))
