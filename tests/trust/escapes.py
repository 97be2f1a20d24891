"""Configs that run something in spite of an allow list, each of which leaves a marker file when it fires."""

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


def touch(marker: Path) -> str:
    return f"touch '{marker}'"


def write(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def pickled(marker):
    return list(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())


def located(reader, marker):
    return {"_target_": "LoadImaged", "keys": "x", "reader": reader, "args": ["touch", str(marker)]}


LOADER = {"_target_": "DataLoader", "dataset": [1], "num_workers": 1, "multiprocessing_context": "spawn"}


def through(expression, module="enum", **more):
    """A config with an expression that gives ``eval``, and what is planted for it."""
    return lambda m: {"i": f"$import {module}", **more, "a": f"${expression}(\"open({str(m)!r}, 'w')\")"}


def graph(marker):
    placeholder = f'$[@g.placeholder(\'x=open("{marker}", "w")\'), @g.output(None)]'
    module = "torch.ao.quantization.fx.graph_module.FusedGraphModule"
    network = {"_target_": "torch.nn.Identity"}
    made = {"_target_": module, "root": network, "graph": "@g", "preserved_attr_names": "$set(@h[:0])"}
    return {"g": {"_target_": "torch.fx.Graph"}, "h": placeholder, "a": made}


def formatter(called, m):
    return f"${called}.get_field('0.os.system', (glob,), {{}})[0]({touch(m)!r})"


# name: (config from the marker, id whose evaluation fires it)
ESCAPES = {
    "method of a table by name": (
        lambda m: {
            "i": "$import pandas as pd",
            "a": f"$pd.DataFrame(dict(a=[1])).aggregate('eval', expr='\\x40inspect.os.system(\"touch {m}\")')",
        },
        "a",
    ),
    # as a target, or in an expression
    "target": (lambda m: {"a": {"_target_": "os.system", "command": touch(m)}}, "a"),
    "target in a package": (lambda m: {"a": {"_target_": "torch.os.system", "command": touch(m)}}, "a"),
    "target in monai": (lambda m: {"a": {"_target_": "monai.config.deviceconfig.os.system", "command": touch(m)}}, "a"),
    "target with dots": (lambda m: {"a": {"_target_": "os..system", "command": touch(m)}}, "a"),
    "target of numpy": (
        lambda m: {"a": {"_target_": "numpy.testing._private.utils.runstring", "astr": write(m), "dict": {}}},
        "a",
    ),
    "process": (lambda m: {"a": {"_target_": "subprocess.call", "args": ["touch", str(m)]}}, "a"),
    "alias of a process": (
        lambda m: {"a": {"_target_": "monai.utils.misc.subprocess.check_output", "args": ["touch", str(m)]}},
        "a",
    ),
    "short name": (lambda m: {"a": {"_target_": "run_cmd", "cmd_list": ["touch", str(m)]}}, "a"),
    "callable mode": (
        lambda m: {"f": {"_target_": "os.system", "_mode_": "callable", "command": touch(m)}, "a": "$@f()"},
        "a",
    ),
    "nested target": (
        lambda m: {
            "a": {
                "_target_": "torch.utils.data.DataLoader",
                "dataset": [{"_target_": "os.system", "command": touch(m)}],
            }
        },
        "a",
    ),
    "disabled by expression": (
        lambda m: {"a": {"_target_": "torch.nn.Identity", "_disabled_": f"$__import__('os').system({touch(m)!r})"}},
        "a",
    ),
    "requires": (
        lambda m: {"a": {"_target_": "torch.nn.Identity", "_requires_": [f"$torch.os.system({touch(m)!r})"]}},
        "a",
    ),
    "target by reference": (lambda m: {"f": "os.system", "a": {"_target_": "@f", "command": touch(m)}}, "a"),
    "target by macro": (lambda m: {"f": "os.system", "a": {"_target_": "%f", "command": touch(m)}}, "a"),
    "target by expression": (lambda m: {"a": {"_target_": "$torch.os.system", "command": touch(m)}}, "a"),
    "computed target": (lambda m: {"a": {"_target_": "$'.'.join(['os', 'system'])", "command": touch(m)}}, "a"),
    "relative reference": (lambda m: {"x": {"f": "os.system", "a": {"_target_": "@##f", "command": touch(m)}}}, "x::a"),
    "reader by name": (
        lambda m: {"a": {"_target_": "LoadImage", "reader": "subprocess.Popen", "args": ["touch", str(m)]}},
        "a",
    ),
    "open": (lambda m: {"a": {"_target_": "open", "file": str(m), "mode": "w"}}, "a"),
    "builtin": (lambda m: {"f": {"_target_": "eval", "_mode_": "callable"}, "a": f"$@f({write(m)!r})"}, "a"),
    "expression": (lambda m: {"a": f"$__import__('os').system({touch(m)!r})"}, "a"),
    "expression by alias": (lambda m: {"i": ["$import os as glob"], "a": f"$glob.system({touch(m)!r})"}, "a"),
    "expression by from-import": (
        lambda m: {"i": "$from os import system as sorted", "a": f"$sorted({touch(m)!r})"},
        "a",
    ),
    "imported module by reference": (lambda m: {"i": ["$import os"], "a": f"$@i#0.system({touch(m)!r})"}, "a"),
    "function by reference": (lambda m: {"f": "$torch.os.system", "a": f"$@f({touch(m)!r})"}, "a"),
    "getattr": (lambda m: {"a": f"$getattr(getattr(torch, 'o' + 's'), 'system')({touch(m)!r})"}, "a"),
    "getattr, constant": (lambda m: {"a": f"$getattr(torch, 'os').system({touch(m)!r})"}, "a"),
    "inner attributes": (
        lambda m: {
            "a": "$[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
            f".__init__.__globals__['system']({touch(m)!r})"
        },
        "a",
    ),
    "lambda": (lambda m: {"a": f"$(lambda o: o.system({touch(m)!r}))(torch.os)"}, "a"),
    "methodcaller": (
        lambda m: {"i": "$import operator", "a": f"$operator.methodcaller('system', {touch(m)!r})(torch.os)"},
        "a",
    ),
    "comprehension": (lambda m: {"a": f"$[f({touch(m)!r}) for f in [monai.utils.misc.subprocess.getoutput]]"}, "a"),
    "hidden by a local name": (lambda m: {"a": f"$((lambda eval: 0), eval({write(m)!r}))"}, "a"),
    "wide letters": (lambda m: {"a": f"$torch.\uff4f\uff53.\uff53\uff59\uff53\uff54\uff45\uff4d({touch(m)!r})"}, "a"),
    "hash sign": (lambda m: {"a": f"$[torch.os.system({touch(m)!r})][0#]"}, "a"),
    "reference in quotes": (lambda m: {"and": 0, "a": f"$'@and' and torch.os.system({touch(m)!r})"}, "a"),
    "import_module": (lambda m: {"a": f"$monai.utils.module.import_module('os').system({touch(m)!r})"}, "a"),
    "optional_import": (lambda m: {"a": f"$monai.utils.optional_import('os')[0].system({touch(m)!r})"}, "a"),
    "instantiate": (lambda m: {"a": f"$monai.utils.instantiate('os.system', 'default', command={touch(m)!r})"}, "a"),
    "another config": (
        lambda m: {"a": "$monai.bundle.ConfigParser({'x': '$' + \"" + write(m).replace("'", "\\'") + '"}).x'},
        "a",
    ),
    "open for writing": (lambda m: {"a": f"$open({str(m)!r}, 'w')"}, "a"),
    "open with a mode that is computed": (lambda m: {"a": f"$open({str(m)!r}, chr(119))"}, "a"),
    "key with a path": (lambda m: {"a": {"command": touch(m)}, "a::_target_": "os.system"}, "a"),
    "functools.partial": (
        lambda m: {"i": "$import functools", "a": f"$functools.partial(torch.os.system, {touch(m)!r})()"},
        "a",
    ),
    "setattr": (lambda m: {"a": f"$(setattr(torch, 'zeros', torch.os.system), torch.zeros({touch(m)!r}))"}, "a"),
    # by a detour
    "second alias": (
        lambda m: {"i": ["$import subprocess as s, json as s"], "a": f"$s.run(['touch', {str(m)!r}])"},
        "a",
    ),
    "second statement": (
        lambda m: {"i": ["$import subprocess as s; import json as s"], "a": f"$s.run(['touch', {str(m)!r}])"},
        "a",
    ),
    "relative import": (lambda m: {"i": "$from .subprocess import run as s", "a": f"$s(['touch', {str(m)!r}])"}, "a"),
    "modules in a list": (
        lambda m: {
            "mods": ["$import os", "$import builtins"],
            "a": f"$@mods[1].getattr(@mods[0], 'sys' + 'tem')({touch(m)!r})",
        },
        "a",
    ),
    "module of a list": (
        lambda m: {"mods": ["$import os"], "a": f"$@mods[-1].close(@mods[-1].open({str(m)!r}, 64))"},
        "a",
    ),
    "modules handed on": (
        lambda m: {"mods": ["$import os"], "more": {"x": "@mods"}, "a": f"$[o.mkdir({str(m)!r}) for o in @more['x']]"},
        "a",
    ),
    "reader in an expression": (
        lambda m: {"a": f"$monai.transforms.LoadImage(reader='subprocess.Popen', args=['touch', {str(m)!r}])"},
        "a",
    ),
    "reader by position": (
        lambda m: {"a": f"$monai.transforms.LoadImage('sub' + 'process.Popen', args=['touch', {str(m)!r}])"},
        "a",
    ),
    "reader by keywords": (
        lambda m: {
            "a": "$monai.transforms.LoadImage(**{'rea' + 'der': 'sub' + 'process.Popen', 'args': "
            f"['touch', {str(m)!r}]}})"
        },
        "a",
    ),
    "computed reader": (lambda m: {"a": located("$'sub' + 'process.Popen'", m)}, "a"),
    "computed reader by reference": (lambda m: {"t": "$'sub' + 'process.Popen'", "a": located("@t", m)}, "a"),
    "pickle in a pipe": (
        lambda m: {
            "d": {
                "_target_": "torch.utils.data.datapipes.iter.RoutedDecoder",
                "datapipe": f"$[('x.pickle', bytes({pickled(m)}))]",
            },
            "a": "$list(@d)",
        },
        "a",
    ),
    "pickle for a decoder": (
        lambda m: {
            "a": f"$torch.utils.data.datapipes.utils.decoder.basichandlers('pickle', bytes({pickled(m)}))",
        },
        "a",
    ),
    "pickle in a tensor": (
        lambda m: {
            "a": "$torch.distributed.distributed_c10d._tensor_to_object("
            f"torch.tensor({pickled(m)}, dtype=torch.uint8), {len(pickled(m))}, None)"
        },
        "a",
    ),
    "inner function": (lambda m: {"i": "$import uuid", "a": f"$uuid._get_command_stdout('touch', {str(m)!r})"}, "a"),
    "log file": (
        lambda m: {"i": "$import logging", "a": f"$logging.basicConfig(filename={str(m)!r}, force=True)"},
        "a",
    ),
    "mode by keyword": (lambda m: {"i": "$from pathlib import Path", "a": f"$Path({str(m)!r}).open(mode='w')"}, "a"),
    "starred open": (lambda m: {"a": f"$open(*[{str(m)!r}, 'w'])"}, "a"),
    "open handed on": (lambda m: {"a": f"$list(map(open, [{str(m)!r}], ['w']))"}, "a"),
    "moved file": (
        lambda m: {
            "i": "$from pathlib import Path",
            "a": f"$Path({str(m.parent / 'bundle/victim')!r}).replace({str(m)!r})",
        },
        "a",
    ),
    "moved file, by getattr": (
        lambda m: {
            "i": "$from pathlib import Path",
            "a": f"$getattr(Path({str(m.parent / 'bundle/victim')!r}), 'replace')({str(m)!r})",
        },
        "a",
    ),
    "storage in a file": (
        lambda m: {"a": f"$torch.zeros(4).untyped_storage().from_file({str(m)!r}, True, 16).fill_(65)"},
        "a",
    ),
    # through modules that are harmless by themselves
    "lambda, again": (through("(lambda m: m.bltns.vars(m.bltns)['ev' + 'al'])(enum)"), "a"),
    "default argument": (through("(lambda m=enum: m.bltns.vars(m.bltns)['ev' + 'al'])()"), "a"),
    "comprehension, again": (through("[m.bltns.vars(m.bltns)['ev' + 'al'] for m in [enum]][0]"), "a"),
    "walrus": (through("((m := enum), m.bltns.vars(m.bltns)['ev' + 'al'])[1]"), "a"),
    "item of a list": (through("[enum][0].bltns.vars([enum][0].bltns)['ev' + 'al']"), "a"),
    "item of a dictionary": (through("{1: enum}[1].bltns.vars({1: enum}[1].bltns)['ev' + 'al']"), "a"),
    "condition": (through("(enum if 1 else 0).bltns.vars((enum if 1 else 0).bltns)['ev' + 'al']"), "a"),
    "map": (through("[b.vars(b)['ev' + 'al'] for b in map(lambda m: m.bltns, [enum])][0]"), "a"),
    "module of a module": (through("(lambda m: m.enum.bltns.vars(m.enum.bltns)['ev' + 'al'])(re)", "re"), "a"),
    "list of another item": (through("@e[0].bltns.vars(@e[0].bltns)['ev' + 'al']", e="$[enum]"), "a"),
    "list of imports": (through("[m.bltns.vars(m.bltns)['ev' + 'al'] for m in @e][0]", e=["$import enum"]), "a"),
    "default of getattr": (through("getattr(1, 'none', eval)"), "a"),
    "dataset of modules": (
        lambda m: {
            "f": {
                "_target_": "Lambda",
                "func": f"$lambda m: m.bltns.vars(m.bltns)['ev' + 'al'](\"open({str(m)!r}, 'w')\")",
            },
            "d": {"_target_": "Dataset", "data": ["$import enum"], "transform": "@f"},
            "a": "$@d[0]",
        },
        "a",
    ),
    "inner module": (
        lambda m: {
            "i": "$import pprint",
            "a": f"$(lambda m: m._dataclasses._create_fn('f', [], [\"open({str(m)!r}, 'w')\"]))(pprint)()",
        },
        "a",
    ),
    "inner function, again": (
        lambda m: {"i": "$import uuid", "a": f"$(lambda m: m._get_command_stdout('touch', {str(m)!r}))(uuid)"},
        "a",
    ),
    "formatter": (lambda m: {"i": "$import string", "g": "$import glob", "a": formatter("string.Formatter()", m)}, "a"),
    "formatter as a target": (
        lambda m: {"g": "$import glob", "f": {"_target_": "string.Formatter"}, "a": formatter("@f", m)},
        "a",
    ),
    "method of a formatter": (
        lambda m: {
            "i": "$import string",
            "g": "$import glob",
            "a": f"$string.Formatter.get_field(string.Formatter(), '0.os.system', (glob,), {{}})[0]({touch(m)!r})",
        },
        "a",
    ),
    "bytes that are a pickle": (
        lambda m: {
            "l": LOADER,
            "a": f"$@l.multiprocessing_context.reducer.ForkingPickler.loads(b'cos\\nsystem\\n(S\"touch {m}\"\\ntR.')",
        },
        "a",
    ),
    "subclass": (graph, "a"),
    # as an allow list of targets is got past: other packages' ways to the same object, callers, constructors that evaluate
    "builtin by its name": (
        lambda m: {"a": {"_target_": "builtins.exec", "_mode_": "callable"}, "b": f"$@a({write(m)!r})"},
        "b",
    ),
    "re-export in torch": (lambda m: {"a": {"_target_": "torch.serialization.os.system", "command": touch(m)}}, "a"),
    "re-export in numpy": (lambda m: {"a": f"$np.testing._private.utils.os.system({touch(m)!r})"}, "a"),
    "globals of a constructor": (
        lambda m: {"a": f"$monai.transforms.LoadImage.__init__.__globals__['__builtins__']['eval']({write(m)!r})"},
        "a",
    ),
    "re-export of a caller": (lambda m: {"a": f"$monai.utils.module.locate('os.system')({touch(m)!r})"}, "a"),
    "modules of the interpreter": (
        lambda m: {"i": "$import sys", "a": f"$sys.modules['os'].system({touch(m)!r})"},
        "a",
    ),
    "partial as a target": (
        lambda m: {"a": {"_target_": "$__import__('functools').partial(torch.os.system, " + repr(touch(m)) + ")"}},
        "a",
    ),
    "function as data": (
        lambda m: {"f": {"_target_": "Lambda", "func": "$torch.os.system"}, "a": f"$@f({touch(m)!r})"},
        "a",
    ),
    "open as data": (lambda m: {"f": {"_target_": "Lambda", "func": "$open"}, "a": f"$@f.func({str(m)!r}, 'w')"}, "a"),
    "expression of MONAI as a target": (
        lambda m: {"a": {"_target_": "monai.bundle.ConfigExpression", "config": "$" + write(m)}, "b": "$@a.evaluate()"},
        "b",
    ),
    "globals of a class by its path": (
        lambda m: {
            "a": {"_target_": "torch.nn.Module.__init__.__globals__.__class__"},
            "b": f"$torch.os.system({touch(m)!r})",
        },
        "b",
    ),
    "type of an instance": (
        lambda m: {
            "l": {"_target_": "LoadImage"},
            "a": f"$type(@l)(reader='sub' + 'process.Popen', args=['touch', {str(m)!r}])",
        },
        "a",
    ),
    "class that is kept as a function": (
        lambda m: {
            "f": {"_target_": "LoadImage", "_mode_": "callable"},
            "a": f"$@f(reader='sub' + 'process.Popen', args=['touch', {str(m)!r}])",
        },
        "a",
    ),
    "readers in a list": (
        lambda m: {"r": ["NibabelReader", "subprocess.Popen"], "a": located("@r", m)},
        "a",
    ),
    "reader by two references": (lambda m: {"r": "@s", "s": "subprocess.Popen", "a": located("@r", m)}, "a"),
    "pickles by a keyword": (
        lambda m: {
            "p": f"$open({str(m.parent / 'evil.pkl')!r}, 'wb').write(bytes({pickled(m)}))",
            "a": f"$(@p, torch.load({str(m.parent / 'evil.pkl')!r}, weights_only=False))",
        },
        "a",
    ),
    "pickles by numpy": (
        lambda m: {
            "p": f"$open({str(m.parent / 'evil.npy')!r}, 'wb').write(bytes({pickled(m)}))",
            "a": f"$(@p, np.load({str(m.parent / 'evil.npy')!r}, allow_pickle=True))",
        },
        "a",
    ),
    # expressions
    "format specification": (lambda m: {"a": f'$f"{{1:{{open({str(m)!r}, chr(119))}}}}"'}, "a"),
    "f-string": (lambda m: {"a": f'$f"{{open({str(m)!r}, chr(119))}}"'}, "a"),
    "chosen by a condition": (lambda m: {"a": f"$(open if 1 else 0)({str(m)!r}, 'w')"}, "a"),
    "chosen by an or": (lambda m: {"a": f"$(0 or open)({str(m)!r}, 'w')"}, "a"),
    "taken from a list": (lambda m: {"a": f"$[open][0]({str(m)!r}, 'w')"}, "a"),
    "taken from an iterator": (lambda m: {"a": f"$next(iter((open,)))({str(m)!r}, 'w')"}, "a"),
    "taken from a dictionary": (lambda m: {"a": f"$dict(f=open)['f']({str(m)!r}, 'w')"}, "a"),
    "vectorized": (lambda m: {"a": f"$np.vectorize(open)([{str(m)!r}], ['w'])"}, "a"),
    "returned by a lambda": (lambda m: {"a": f"$(lambda: open)()({str(m)!r}, 'w')"}, "a"),
    "default of a lambda": (lambda m: {"a": f"$(lambda f=open: f({str(m)!r}, 'w'))()"}, "a"),
    "condition of a comprehension": (lambda m: {"a": f"$[0 for x in [1] if open({str(m)!r}, 'w')]"}, "a"),
    "iterable of a comprehension": (lambda m: {"a": f"$[x for x in open({str(m)!r}, 'x+')]"}, "a"),
    "hidden by a comprehension": (lambda m: {"a": f"$([eval for eval in [1]], eval({write(m)!r}))"}, "a"),
    "hidden by a second generator": (lambda m: {"a": f"$[1 for x in [eval({write(m)!r})] for eval in [x]]"}, "a"),
    "keywords in a dictionary": (lambda m: {"a": f"$open(**{{'file': {str(m)!r}, 'mode': 'w'}})"}, "a"),
    "keywords that are computed": (lambda m: {"a": f"$open(**dict(file={str(m)!r}, mode='w'))"}, "a"),
    "opener": (lambda m: {"a": f"$open({str(m)!r}, opener=lambda path, flags: torch.os.open(path, 66))"}, "a"),
    "file that print writes to": (lambda m: {"a": f"$print('x', file=open({str(m)!r}, 'a'))"}, "a"),
    "saved array": (lambda m: {"a": f"$np.save(open({str(m)!r}, 'wb'), 1)"}, "a"),
    "method that is handed on": (
        lambda m: {
            "i": "$import pandas as pd",
            "t": "$pd.DataFrame({'x': [1]})",
            "a": f"$(lambda f: f({str(m)!r}))(@t.to_pickle)",
        },
        "a",
    ),
    "method by its name": (
        lambda m: {
            "i": "$import pandas as pd",
            "t": "$pd.DataFrame({'x': [1]})",
            "a": f"$@t.pipe(lambda t: t.to_csv({str(m)!r}))",
        },
        "a",
    ),
    "flag that is no flag": (
        lambda m: {
            "a": f"$setattr(torch.backends.cudnn, 'x', torch.os.system) or torch.backends.cudnn.x({touch(m)!r})"
        },
        "a",
    ),
    "reversed operator": (
        lambda m: {"i": "$import operator", "a": f"$operator.call(torch.os.system, {touch(m)!r})"},
        "a",
    ),
    # what an item is depends on where it is looked for
    "builtin under the name of an import": (
        lambda m: {
            "x": {"_target_": "torch.nn.Identity", "y": "$from math import floor as eval"},
            "a": f"$eval({write(m)!r})",
        },
        "",
    ),
    "package under another's name": (lambda m: {"i": "$import os as torch", "a": f"$torch.system({touch(m)!r})"}, "a"),
    "keys that are one id": (
        lambda m: {
            "x": {
                "y::f": "os.system",
                "y": {"f": "torch.nn.Identity"},
                "a": {"_target_": "@x::y::f", "command": touch(m)},
            }
        },
        "x::a",
    ),
    "target in a macro of a macro": (
        lambda m: {"f": "%g", "g": "os.system", "a": {"_target_": "%f", "command": touch(m)}},
        "a",
    ),
    "two imports of one name": (
        lambda m: {"i": ["$import glob as g", "$import os as g"], "a": f"$g.system({touch(m)!r})"},
        "a",
    ),
}
"""``""`` where it fires in a part of the config alone."""

NEVER_LISTED = (
    {"_target_": "PerceptualLoss", "spatial_dims": 2},  # runs what torch.hub downloads
    {"_target_": "TrtHandler", "model": "@n", "base_path": "x"},
    {"_target_": "MLFlowHandler", "tracking_uri": "http://example.com"},
    {"_target_": "monai.networks.layers.gmm.GaussianMixtureModel", "channel_count": "1; touch x"},  # compiles with it
    {"_target_": "monai.networks.nets.transchex.Transchex"},
    {"_target_": "torch.utils.data.datapipes.iter.Mapper"},
    {"_target_": "torch.jit.load", "f": "models/model.ts"},
    {"_target_": "torch.hub.load", "repo_or_dir": "x/y", "model": "z"},
    {"_target_": "torch.fx.GraphModule"},
    {"_target_": "lightning.pytorch.LightningModule.load_from_checkpoint", "checkpoint_path": "x"},
    {"_target_": "lightning.pytorch.cli.LightningCLI"},
    {"_target_": "monai_lighter.Workflow", "config_file": "x"},
    {"_target_": "monai.bundle.ConfigWorkflow", "config_file": "x"},
    {"_target_": "monai.bundle.PythonicWorkflow"},
    "$monai.bundle.create_workflow('scripts.train.Evil')",
    "$pd.eval('@x.y()')",
    "$@t.eval('@x.y()')",
    "$@['imports']",
    {"_target_": "monai.apps.download_and_extract", "url": "http://example.com"},
    {"_target_": "PatchInferer", "merger_cls": "subprocess.Popen"},
    {"_target_": "SaveImage", "writer": "subprocess.Popen"},
    {"_target_": "TorchVision", "name": "functional"},
    {"_target_": "PersistentDataset", "data": [], "transform": None, "weights_only": False},
    {"_target_": "NumpyReader", "allow_pickle": True},
    {"_target_": "NumpyReader", "allow_pickle": "$1 > 0"},
    {"_target_": "SupervisedTrainer", "compile": True, "compile_kwargs": {"options": {"cpp.cxx": "models/evil"}}},
    {"_target_": "UNet", "_mode_": "debug"},
    {"_target_": "UNet", "_debug_": True},
    {"_target_": "stranger.Net"},
    {"_target_": "os.system"},
    {"_target_": ["os.system"]},
    {"_target_": {"_target_": "torch.nn.Identity"}},
    {"_target_": "@nothing"},
    {"args": {"validate": {"ckpt_path": "x", "weights_only": False}}},
    {"args": {"validate": {"ckpt_path": "x", "weights_only": "@x"}}},
    {"x::weights_only": False},
    "$@t.fit(@s, weights_only=False)",
    "$@t.fit(@s, **{'weights_only': False})",
    "$@t.fit(@s, **dict(weights_only=False))",
    "$@r.read('x', allow_pickle=True)",
    "$torch.load('x', None, @p)",
    "$torch.load('x', pickle_module=@p)",
    "$torch.load('x', **@p)",
    "$np.load('x', None, True)",
    "$list(map(torch.load, ['x']))",
    "$torch.compile(@n, options={'cpp.cxx': 'evil'})",
    "$dist.init_process_group(backend='gloo', init_method='tcp://example.com:1')",
    "$pd.read_csv('x', storage_options={'a': 1})",
    "$pd.read_csv('x').to_pickle",
    "$os.environ.update(LD_PRELOAD='x.so')",
    "$os.environ.setdefault('A', 'b')",
    "$dict.update(os.environ, A='b')",
    "$[os.environ]",
    "$[0 for os.environ['LD_PRELOAD'] in ['./x']]",
    "$[0 for glob.glob in [print]]",
    "$'{0.__class__}'.format(@x)",
    "$'{0:{1.__class__}}'.format(@x, @y)",
    "$@x.format(@y)",
    "$@x.replace(*@y)",
    "$@x.replace('a')",
    "$Path('x').replace('y')",
    "$@n._modules",
    "$@n.__class__",
    "$getattr(@n, 'x')",
    "$type('x', (), {})",
    "$os",
    "$[os]",
    "$len(@imports)",
    "$'%s' % torch",
    "$(x := 1)",
    "$x = 1",
    "$1 +",
    "$1; 2",
    "$import subprocess",
    "$from os import system",
    "$import os; import glob",
    "$import glob, os",
    "$from . import os",
    "$" + "(" * 500 + ")" * 500,
    "%/etc/x.json::y",
    "%../x.json::y",
    "@imports",
    "@imports::0",
)
"""Items that are code, whether or not they would do anything here."""


def write_config(root: Path, config: dict, name: str = "configs/inference.json") -> Path:
    """A bundle whose config is the given one."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1))
    return root


def evaluate(root: Path, *ids: str) -> Any:
    """The value of the last of some items under MONAI, if it has one; what is planted in them fires."""
    parser, value = ConfigParser(), None
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        parser.read_config(root / "configs/inference.json")
        for id in ids:
            with contextlib.suppress(Exception):
                value = parser.get_parsed_content(id) if id in parser else None
    return value
