import pytest
import yaml

from monai_lighter import ConfigError, Workflow
from monai_lighter.workflow.check_config import Check

FIRST = {"net": {"channels": [4, 8]}, "lr": 0.1, "system": {"model": "@net"}}
MESSAGES = {
    "system::optimiser::lr": "Use one of: net, net::channels, system.",
    "net::channels::7": "Did you mean 'net::channels'?",
    "lr::x": "Use one of: net, net::channels, system.",
    "+net": "Add a list to a list, a section to a section.",
    "+nett::a": "Did you mean 'net'?",
}


def write(path, *configs):
    files = [path / f"{i}.yaml" for i in range(len(configs))]
    for file, config in zip(files, configs, strict=True):
        file.write_text(yaml.safe_dump(config, sort_keys=False))
    return ",".join(map(str, files))


def test_all_items_of_a_file_that_fit_nothing_before_it_are_reported(tmp_path):
    files = write(tmp_path, FIRST, {**dict.fromkeys(MESSAGES, 1), "lr": 0.2})
    with pytest.raises(ConfigError) as caught:
        Workflow(files, logging_file=False)
    second = tmp_path / "1.yaml"
    found = [str(finding) for finding in caught.value.findings]
    assert found == [f"{id}: {second} has no place for it in the files before. {hint}" for id, hint in MESSAGES.items()]


def test_an_item_within_a_macro_is_changed_where_the_macro_leads(tmp_path):
    files = write(tmp_path, {"net": "%configs/common.yaml::net"}, {"net::channels": [8]})
    (error,) = Check(files).errors
    assert str(error) == (
        f"net::channels: {tmp_path / '1.yaml'} has no place for it in the files before. "
        "'net' is the macro '%configs/common.yaml::net': change it where it stands, or replace 'net' as a whole."
    )


def test_items_that_fit_are_merged(tmp_path):
    run = Workflow(write(tmp_path, FIRST, {"net::channels::0": 2, "+net": {"strides": [2]}}), logging_file=False)
    assert run.parser["net"] == {"channels": [2, 8], "strides": [2]}


@pytest.mark.parametrize(("text", "kind"), [("", "nothing"), ("- a", "a list"), ("hello", "a str")])
def test_a_file_that_holds_no_items(tmp_path, text, kind):
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"train.yaml must hold config items, name: value, it holds {kind}"):
        Workflow(str(tmp_path / "train.yaml"), logging_file=False)


def test_names_of_items_that_are_no_texts(tmp_path):
    (tmp_path / "train.yaml").write_text("1.5: x\nyes: 3\na: 1\n")
    with pytest.raises(ConfigError) as caught:
        Workflow(str(tmp_path / "train.yaml"), logging_file=False)
    file = tmp_path / "train.yaml"
    assert [str(finding) for finding in caught.value.findings] == [
        f"1.5: {file} has an item whose name must be a text, got the float 1.5. Quote the name, or take another.",
        f"True: {file} has an item whose name must be a text, got the bool True. Quote the name, or take another.",
    ]


def test_one_of_several_files_that_is_not_there(tmp_path):
    files = write(tmp_path, FIRST, FIRST)
    (tmp_path / "1.yaml").unlink()
    (error,) = Check(files).errors
    assert str(error) == f"config_file: Cannot find the config file: {tmp_path}/1.yaml. Mend the path."
