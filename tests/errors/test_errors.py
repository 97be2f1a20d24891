import pickle
import subprocess
import sys

import pytest
from torch.nn import Linear, Sequential

from monai_lighter.errors import (
    BundleError,
    CaseError,
    ConfigError,
    ConfigFileError,
    Finding,
    did_you_mean,
    in_short,
    join_sentences,
    print_errors_briefly,
)


def test_a_finding_says_where_what_and_what_to_do():
    finding = Finding("system::optimizer::lr", "must be > 0, got -1", "Raise it.")
    assert str(finding) == "system::optimizer::lr: must be > 0, got -1. Raise it."
    assert str(finding._replace(hint="")) == "system::optimizer::lr: must be > 0, got -1."


def test_a_config_error_has_every_finding_on_a_line():
    error = ConfigError([Finding("a", "wrong", "Mend it."), Finding("b", "wrong too")])
    assert str(error) == "a: wrong. Mend it.\nb: wrong too."
    assert [finding.id for finding in error.findings] == ["a", "b"]
    assert isinstance(error, ValueError)
    assert error.exit_code == 2


def test_a_missing_config_file_is_a_file_not_found_error_with_a_plain_message():
    error = ConfigFileError([Finding("config_file", "no such file", "Mend the path.")])
    assert isinstance(error, FileNotFoundError)
    assert str(error) == "config_file: no such file. Mend the path."


def test_a_case_error_keeps_its_message_through_the_wrapping_of_a_worker():
    text = (
        "Caught CaseError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1\nmonai_lighter.errors.errors.CaseError: system::dataloaders::train: case a.nii failed\n'
    )
    assert str(CaseError(text)) == "system::dataloaders::train: case a.nii failed"
    assert str(pickle.loads(pickle.dumps(CaseError("plain")))) == "plain"


@pytest.mark.parametrize(
    ("word", "options", "hint"),
    [
        ("max_epoch", ["max_epochs", "devices"], "Did you mean 'max_epochs'?"),
        ("xyz", ["b", "a"], "Use one of: a, b."),
        ("xyz", [], ""),
        ("1", [1, "two"], "Did you mean '1'?"),
    ],
)
def test_did_you_mean(word, options, hint):
    assert did_you_mean(word, options) == hint


def test_what_torch_says_of_weights_that_do_not_fit_is_numbers_and_examples():
    trained = Sequential(*(Linear(2, 2) for _ in range(30)))
    with pytest.raises(RuntimeError) as caught:
        Sequential(Linear(3, 2), *(Linear(2, 2) for _ in range(3)), Sequential(Linear(2, 2))).load_state_dict(
            trained.state_dict()
        )
    assert in_short(caught.value) == (
        "RuntimeError: Error(s) in loading state_dict for Sequential: "
        'Missing key(s) in state_dict (2): "4.0.weight", "4.0.bias"; '
        'Unexpected key(s) in state_dict (52): "5.weight", "5.bias", "6.weight", …; '
        "Other sizes (1): 0.weight: copying a param with shape torch.Size([2, 2]) from checkpoint, "
        "the shape in current model is torch.Size([2, 3])."
    )


def test_an_error_in_short():
    assert in_short(ValueError("wrong\nin two lines")) == "ValueError: wrong\nin two lines"
    assert in_short(ImportError("no module x\n\nOriginal traceback: …")) == "ImportError: no module x"


SCRIPT = """
import sys
from monai_lighter.errors import *
print_errors_briefly()
print_errors_briefly()
raise {error}
"""


def run(error, **variables):
    command = [sys.executable, "-c", SCRIPT.format(error=error)]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "", **variables})


@pytest.mark.slow
def test_a_process_ends_with_the_message_and_exit_code_and_no_traceback():
    done = run("ConfigError([Finding('a', 'wrong', 'Mend it.')])")
    assert done.returncode == 2
    assert done.stderr == "\na: wrong. Mend it.\n(MONAI_DEBUG=true shows the traceback)\n"
    assert run("CaseError('broken')").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_the_traceback_is_shown_when_asked_for(value):
    done = run("ConfigError([Finding('a', 'wrong')])", MONAI_DEBUG=value)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "a: wrong." in done.stderr


@pytest.mark.slow
def test_other_errors_are_shown_as_ever():
    done = run("RuntimeError('mine')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "MONAI_DEBUG" not in done.stderr


def test_the_hook_itself(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: shown.append(error))
    print_errors_briefly()
    hook = sys.excepthook
    print_errors_briefly()
    assert sys.excepthook is hook
    error = BundleError("plain")
    with pytest.raises(SystemExit) as exit:
        hook(BundleError, error, None)
    assert exit.value.code == 1
    assert "plain" in capsys.readouterr().err
    hook(KeyError, KeyError("x"), None)
    assert shown[0][0] is KeyError


def test_sentences_become_one_text():
    assert join_sentences("a: no such file: 'x'", "", "Mend it!", "Go on") == "a: no such file: 'x'. Mend it! Go on"
    assert join_sentences("as it is", "") == "as it is"
