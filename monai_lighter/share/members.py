"""The networks of the folds of a study as one bundle: which they are, and how a package names them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.items import at, copied, items, locate, located, normalize, plain_config, reached, referenced
from monai_lighter.errors import Finding
from monai_lighter.share.layout import CONFIG_SUFFIXES, Bundle, SharingError
from monai_lighter.share.plain_weights import name_metric
from monai_lighter.share.portable import make_config_portable
from monai_lighter.share.runs import PLACES, compare_with_run, used_for_predictions
from monai_lighter.study.case_tables import read_case_table
from monai_lighter.study.study_folder import COMPLETE, ParameterSet, Study, StudyRequest, read_study

__all__ = ["Members", "find_members"]

CONFIGS = ("inference", "evaluate")
"""Those that apply what was trained."""
LOADED, ENSEMBLE = "load_weights", "monai_lighter.Ensemble"
BEST = "models/model.pt"
HEADER = "# configs/{name} of the bundle, with the {count} networks of a study as one ({where}); macros are expanded.\n"


class Members(NamedTuple):
    """The trials of a study that become one bundle.

    Attributes:
        study: whose they are.
        chosen: its best parameter set.
        bundle: that was trained.
        configs: files of the training config.
        weights: of each trial, a plain state dict.
    """

    study: Study
    chosen: ParameterSet
    bundle: Bundle
    configs: list[Path]
    weights: list[Path]

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was told to set: config id to its value in the first trial. Places of that machine are left out."""
        run = ConfigParser.load_config_file(str(self.chosen.trials[0].config_path))
        ids = [normalize(id) for id in {**self.study.request.fixed, **self.chosen.trials[0].parameters}]
        values = {id: at(run, where) for id in ids if id not in PLACES and (where := locate(run, id)) is not None}
        return {id: value for id, value in values.items() if not (isinstance(value, str) and Path(value).is_absolute())}

    @property
    def names(self) -> list[str]:
        """Files of the weights in the package."""
        return [f"models/model_{i}.pt" for i in range(len(self.weights))]

    def describe(self) -> str:
        """What the package is, in a sentence."""
        over = self.chosen.trials[0].over
        parameters = ", ".join(f"{id} {json.dumps(value)}" for id, value in self.settings.items() if id not in over)
        said = f"{len(self.weights)} networks of a study as one, which differ in {', '.join(over)}"
        said = f"{said}; their parameters: {parameters}" if parameters else said
        return f"{said}. Results are those of each network by itself on the cases that it was not trained on."

    def read_results(self) -> dict[str, float]:
        """What the networks have come to: mean of the study's metric over them and its standard deviation, and the mean over all
        cases of each metric and class of the out-of-fold table."""
        name = name_metric(self.chosen.trials[0].metric or self.study.request.metric)
        results = {name: self.chosen.mean, f"{name}_std": self.chosen.std}
        if self.study.out_of_fold_path.is_file():
            for key, by_case in read_case_table(self.study.out_of_fold_path).values.items():
                values = np.array([*by_case.values()])
                present = values[np.isfinite(values)]
                label = "_".join(
                    part.replace(" ", "_") for part in ("out_of_fold", key.loader, key.metric, key.label) if part
                )
                results[label] = float(present.mean()) if len(present) else None
        return {label: round(value, 4) for label, value in results.items() if value is not None}

    def put_into(self, package: Bundle) -> list[Finding]:
        """Gives the configs of a package that apply a network an `Ensemble` in its place, and what the study has set.

        Returns:
            What was changed; what of the study's settings could not be; which other configs name weights that the
            package has not.

        Raises:
            SharingError: a config in which the network cannot be found, or one for prediction that says what the trials did not
                have.
        """
        train = package.read(package.require("train"))
        plain = plain_config(train)
        used = {**used_for_predictions(plain), **dict(reached(plain, f"system{ID_SEP_KEY}inferer"))}
        changes = [Finding("models", self.describe().rstrip("."))]
        for name in filter(package.config, CONFIGS):
            file = package.require(name)
            content = package.read(file)
            original = copied(content)
            apart = [
                id for id in self.settings if any(id == each or id.startswith(f"{each}{ID_SEP_KEY}") for each in used)
            ]
            for id, value in self.settings.items():
                places = _find_shared(original, train, id)
                for place in places:
                    _set(content, place, value)
                apart = [each for each in apart if each != id or not places]
            if apart:
                problem = (
                    f"has not what the study has set: it shares none of {', '.join(apart)} with the training config"
                )
                changes.append(Finding(f"configs/{file.name}", problem))
            wrong, _ = compare_with_run(self.bundle, self.weights[0], (file.name, content))
            if wrong:
                raise SharingError(*wrong)
            where = self._replace_network(content, file.name)
            text = yaml.safe_dump(copied(content), sort_keys=False, width=120, default_flow_style=None)
            header = HEADER.format(name=file.name, count=len(self.weights), where=where)
            file.unlink()
            file.with_suffix(".yaml").write_text(header + make_config_portable(text, self.bundle.root)[0], "utf-8")
        left = ", ".join(str(each.number) for each in self.study.sets if each.mean is None)
        if left:
            changes.append(Finding("study", f"has parameter sets that are not whole and were left out: {left}"))
        return [*changes, *_find_lost(package)]

    def _replace_network(self, content: dict[str, Any], name: str) -> str:
        """Puts the ensemble into a config, and gives its id."""
        system = content.get("system")
        model = system.get("model") if isinstance(system, dict) else None
        if not isinstance(system, dict) or model is None:
            problem = f"is not in {name}, so that no Ensemble can be put in its place"
            raise SharingError.of("system::model", problem, "Write the network there.")
        weights: Any = [f"$@bundle_root + '/{file}'" for file in self.names]
        if isinstance(model, dict) and str(model.get("_target_", "")).endswith(LOADED):
            given = referenced(model.get("ckpt_path"))
            model = model["model"]
            if given in content:
                content[given], weights = weights, f"@{given}"
        id = referenced(model)
        if id is None or id not in content:
            system["model"] = {"_target_": ENSEMBLE, "networks": model, "weights": weights}
            return "system::model"
        _move(content, id)
        content[id] = {"_target_": ENSEMBLE, "networks": content[id], "weights": weights}
        system["model"] = f"@{id}"
        return id


def _find_lost(package: Bundle) -> Iterator[Finding]:
    """Configs that name the weights of one network."""
    for file in sorted((package.root / "configs").glob("*.*")):
        content = ConfigParser.load_config_file(str(file)) if file.suffix in CONFIG_SUFFIXES else None
        if any(isinstance(value, str) and BEST in value for _, value in items(content)):
            yield Finding(
                f"configs/{file.name}", f"names {BEST}, which a bundle of folds does not have", "Take it out."
            )


def _find_shared(content: dict[str, Any], train: dict[str, Any], id: str) -> list[str]:
    """Where items stand of which a config has what the training config has: the same value, or none in a section of the same
    target, under the id; or the same component, of which it is an argument, anywhere."""
    own, known = locate(content, id), locate(train, id)
    section, _, key = id.rpartition(ID_SEP_KEY)
    (place, here), (_, there) = located(content, section), located(train, section)
    alike = (
        section and isinstance(here, dict) and isinstance(there, dict) and here.get("_target_") == there.get("_target_")
    )
    if own is not None and known is not None:
        places = [own] if at(content, own) == at(train, known) else []
    else:
        places = [f"{place}{ID_SEP_KEY}{key}"] if own is known is None and alike else []
    if isinstance(there, dict) and "_target_" in there:
        places += [f"{where}{ID_SEP_KEY}{key}" for where, value in items(content) if value == there]
    return [*dict.fromkeys(places)]


def _set(content: dict[str, Any], id: str, value: Any) -> None:
    parent, _, key = id.rpartition(ID_SEP_KEY)
    holder: Any = at(content, parent) if parent else content
    holder[int(key) if isinstance(holder, list) else key] = value


def _move(content: dict[str, Any], id: str) -> None:
    """References to parts of an item that becomes ``networks`` of one in its place."""
    for where, value in [*items(content)]:
        if isinstance(value, str) and f"@{id}::" in normalize(value):
            _set(content, where, normalize(value).replace(f"@{id}::", f"@{id}::networks::"))


def find_members(folder: str | Path) -> Members | None:
    """The networks of the best parameter set of a study; None where the folder is none of a study.

    Raises:
        SharingError: there is no best one, since trials failed or are not done; it is of one network, of MONAI's engines, or of a
            bundle that is not there; weights are not.
    """
    if StudyRequest.read(Path(folder)) is None:
        return None
    study = read_study(folder)
    if not study.request.native:
        hint = "Package the bundle with the weights of one trial: monai-lighter package BUNDLE --weights FILE."
        raise SharingError.of(
            str(folder), "is a study of MONAI's engines, whose configs have no place for an Ensemble", hint
        )
    chosen = study.best
    if chosen is None:
        raise SharingError(*_list_unfinished(study, folder))
    if len(chosen.trials) < 2:
        hint = "Package the bundle with its weights: monai-lighter package BUNDLE --weights FILE."
        raise SharingError.of(str(folder), "has one trial for each parameter set, and no folds to be one bundle", hint)
    missing = [str(trial.folder) for trial in chosen.trials if trial.weights_path is None]
    if missing:
        hint = "Remove their folders and give the study's command again."
        raise SharingError.of(str(folder), f"lacks the weights of {', '.join(missing)}", hint)
    configs = [Path(chosen.trials[0].cwd, file).resolve() for file in study.request.configs]
    absent = next((file for file in configs if not file.is_file()), None)
    if absent is not None:
        problem = f"was made with {absent}, which is not there"
        raise SharingError.of(str(folder), problem, "Package it on the machine that the bundle is on.")
    weights = [trial.weights_path for trial in chosen.trials if trial.weights_path is not None]
    return Members(study, chosen, Bundle(configs[0].parent.parent), configs, weights)


def _list_unfinished(study: Study, folder: str | Path) -> Iterator[Finding]:
    trials = [trial for trial in study.trials if trial.state != COMPLETE or trial.value is None]
    for trial in trials[:5]:
        state = trial.state if trial.state != COMPLETE else "without a value"
        note = f": {trial.note.strip().splitlines()[-1]}" if trial.note.strip() else ""
        yield Finding(str(trial.folder), f"fold {trial.fold} is {state}{note}", f"Its log is {trial.log_path}.")
    missing = study.request.trials_per_set
    problem = f"has no parameter set of which all {missing} trials are complete"
    yield Finding(str(folder), problem, "Give the study's command again, which goes on with what is not done.")
