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


def said(bundle, mistake, caplog, record_property, monkeypatch):
    monkeypatch.chdir(bundle)
    file = make(bundle, mistake)
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        message = run(mistake, file)
    seconds = time.perf_counter() - begin
    if message is None:
        message = "\n".join([r.getMessage() for r in caplog.records] + [str(w.message) for w in caught])
        message = f"told and went on: {message}"
    record_property("mistake", {"what": mistake.what, "seconds": f"{seconds:.2f}", "message": message})
    return message


@pytest.mark.parametrize("mistake", BEFORE, ids=lambda mistake: mistake.what)
def test_before_anything_is_run(mistake, bundle, caplog, record_property, monkeypatch):
    message = said(bundle, mistake, caplog, record_property, monkeypatch)
    assert [word for word in mistake.says if word not in message] == [], message


@pytest.mark.slow
@pytest.mark.parametrize("mistake", AT_WORK, ids=lambda mistake: mistake.what)
def test_in_a_step(mistake, bundle, caplog, record_property, monkeypatch):
    message = said(bundle, mistake, caplog, record_property, monkeypatch)
    assert [word for word in mistake.says if word not in message] == [], message
