"""What is known to be harmless and what is known to be dangerous, as lists of names.

A name stands for the object it leads to: `monai_lighter.inspection.judge` looks the objects up and compares by identity, so that
an alias or a re-export of an object gets the verdict of the object.
"""

from __future__ import annotations

__all__ = [
    "CALLERS",
    "DANGEROUS",
    "DANGEROUS_MODULES",
    "FILES",
    "HARMLESS",
    "HARMLESS_BASES",
    "HARMLESS_HOMES",
    "HARMLESS_STDLIB",
    "LOCATED",
    "LOOKED_AT",
    "PACKAGES",
]

PACKAGES = ("monai", "torch", "numpy", "lightning", "pytorch_lightning", "torchmetrics", "ignite", "monai_lighter")
"""Packages that may be imported to look a target up. No other is."""

PROCESS, CODE, PICKLE, NETWORK, FILES, IMPORT, NATIVE, CONFIG = (
    "runs programs",
    "runs code given as text or data",
    "loads pickles, which run code",
    "loads from the network",
    "removes, moves or overwrites files",
    "imports what a text names",
    "loads native code",
    "runs another config, which is code",
)


def _words(text: str) -> list[str]:
    return text.split()


def _of(module: str, names: str, why: str) -> dict[str, str]:
    return {f"{module}.{name}": why for name in _words(names)}


def _all(names: str, why: str) -> dict[str, str]:
    return dict.fromkeys(_words(names), why)


DANGEROUS: dict[str, str] = {
    **_of("builtins", "eval exec compile", CODE),
    **_of("builtins", "__import__ __build_class__ __loader__", IMPORT),
    **_of("builtins", "getattr setattr delattr globals locals vars", "reaches any attribute of any object"),
    **_of("builtins", "breakpoint", "starts the debugger, which runs .pdbrc"),
    **_of("os", "system popen fork forkpty posix_spawn posix_spawnp startfile kill killpg abort _exit", PROCESS),
    **_of("os", "execl execle execlp execlpe execv execve execvp execvpe", PROCESS),
    **_of("os", "spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe", PROCESS),
    **_of("os", "remove unlink rmdir removedirs rename renames replace truncate symlink link chmod chown", FILES),
    **_of("os", "mkfifo mknod setuid setgid chroot open write dup2 fdopen", FILES),
    **_of("os", "putenv unsetenv", "changes the environment"),
    **_of("sys", "modules meta_path path_hooks settrace setprofile addaudithook _getframe", IMPORT),
    **_of("operator", "methodcaller attrgetter call", "reaches any attribute of any object"),
    **_of("string", "Formatter", "reaches any attribute of any object"),
    **_of("types", "FunctionType LambdaType CodeType ModuleType MethodType", CODE),
    **_of(
        "pathlib.Path",
        "open write_text write_bytes unlink rename replace rmdir symlink_to hardlink_to chmod touch",
        FILES,
    ),
    **_of("shutil", "rmtree move copy copy2 copyfile copytree unpack_archive make_archive chown", FILES),
    **_of("multiprocessing", "Process Pool", PROCESS),
    **_of("multiprocessing.context", "Process SpawnProcess ForkProcess", PROCESS),
    **_of("gc", "get_objects get_referrers get_referents", "reaches any attribute of any object"),
    **_of("inspect", "getmembers currentframe stack getmodule getattr_static", "reaches any attribute of any object"),
    **_of("typing", "get_type_hints ForwardRef", CODE),
    **_of("logging", "FileHandler basicConfig", FILES),
    **_of(
        "logging.handlers", "RotatingFileHandler TimedRotatingFileHandler WatchedFileHandler BaseRotatingHandler", FILES
    ),
    **_of("logging.handlers", "SocketHandler DatagramHandler SysLogHandler SMTPHandler HTTPHandler", NETWORK),
    **_of("io", "FileIO", FILES),
    **_of("codecs", "open", FILES),
    **_of("pandas", "read_pickle eval", PICKLE),
    **_of("yaml", "load load_all unsafe_load unsafe_load_all full_load full_load_all", CODE),
    **_of("fire", "Fire", CODE),
    **_of("torch", "load", PICKLE),
    **_of("torch", "from_file UntypedStorage.from_file", FILES),
    **_of("torch.distributed.distributed_c10d", "_tensor_to_object", PICKLE),
    **_of("torch.serialization", "load add_safe_globals safe_globals _load _legacy_load", PICKLE),
    **_of("torch.fx", "GraphModule", CODE),
    **_of("torch._ops._Ops", "load_library import_module", NATIVE),
    **_of("torch._classes._Classes", "load_library", NATIVE),
    **_of("torch._C", "_load_for_lite_interpreter import_ir_module import_ir_module_from_buffer", CODE),
    **_of("torch.distributed.checkpoint", "load load_state_dict", PICKLE),
    **_of("torch.multiprocessing", "spawn start_processes", PROCESS),
    **_of("numpy", "load", PICKLE),
    **_of("numpy.lib.format", "read_array", PICKLE),
    **_of("numpy", "memmap fromregex", "reads or writes files"),
    **_of("numpy.ctypeslib", "load_library", NATIVE),
    **_of("monai.utils", "instantiate optional_import load_submodules require_pkg", IMPORT),
    **_of("monai.utils.module", "import_module locate", IMPORT),
    **_of("monai.utils.misc", "run_cmd", PROCESS),
    **_of("monai.utils.safeeval", "safe_eval", CODE),
    **_of("monai.apps", "download_url download_and_extract extractall download_mmar load_from_mmar", NETWORK),
    **_of(
        "monai.networks.utils", "convert_to_torchscript convert_to_onnx convert_to_trt", "compiles and writes programs"
    ),
    **_of("lightning.pytorch.core.module.LightningModule", "load_from_checkpoint", PICKLE),
    **_of("lightning.pytorch.core.datamodule.LightningDataModule", "load_from_checkpoint", PICKLE),
    **_of("pytorch_lightning.core.module.LightningModule", "load_from_checkpoint", PICKLE),
    **_of("lightning.fabric.utilities.cloud_io", "_load", PICKLE),
    **_of("monai_lighter", "Workflow", CONFIG),
    **_of("monai_lighter.workflow.project", "import_project", IMPORT),
}

CALLERS = ("functools.partial", "functools.partialmethod", "functools.reduce", "builtins.map", "builtins.filter")
"""Harmless with what is harmless: dangerous as a ``_target_``, where what they call comes from the config."""

LOCATED = {"reader", "writer", "merger_cls", "backbone"}
"""Arguments of MONAI's classes whose text is looked up as a ``_target_`` is, and called."""

DANGEROUS_MODULES: dict[str, str] = {
    **_all("subprocess _posixsubprocess pty", PROCESS),
    **_all("code codeop runpy timeit trace profile cProfile pdb bdb doctest unittest test dis", CODE),
    **_all("pickle _pickle cPickle marshal shelve dbm copyreg dill cloudpickle joblib", PICKLE),
    **_all("socket _socket socketserver ssl asyncio http urllib ftplib smtplib xmlrpc", NETWORK),
    **_all("poplib imaplib nntplib telnetlib webbrowser requests httpx aiohttp paramiko", NETWORK),
    **_all("importlib imp pkgutil zipimport site builtins _frozen_importlib pydoc ensurepip venv", IMPORT),
    **_all("logging.config", CODE),
    **_all("ctypes _ctypes cffi", NATIVE),
    **_all("pip setuptools distutils idlelib turtledemo lib2to3 antigravity", CODE),
    **_all("torch.hub torch.utils.model_zoo", NETWORK),
    **_all("torch.utils.cpp_extension torch._inductor torch.utils._cpp_extension_versioner", NATIVE),
    **_all("torch.package torch.fx.graph_module torch._dynamo torch.utils._config_module", CODE),
    **_all("torch.utils.data.datapipes", "decodes pickles, opens files, and calls what it is given"),
    **_all("torch.backends.xeon torch.distributed.run torch.distributed.launch torch.distributed.launcher", PROCESS),
    **_all("torch.distributed.elastic torch.distributed.rpc torch.distributed.nn torch.utils.collect_env", PROCESS),
    **_all("torch.utils.bottleneck torch.testing torch._jit_internal torch.jit.frontend", CODE),
    **_all("torch.jit.unsupported_tensor_ops torch.utils.benchmark torch._vendor", CODE),
    **_all("torch.utils.show_pickle torch._weights_only_unpickler torch.utils.serialization", PICKLE),
    **_all("numpy.f2py numpy.testing numpy.distutils numpy._core.tests numpy.core.tests", CODE),
    **_all("monai.bundle monai.fl", CONFIG),
    **_all("monai.auto3dseg monai.apps.auto3dseg monai.apps.nnunet monai.config.check_env", PROCESS),
    **_all("monai.apps.mmars monai.apps.utils", NETWORK),
    **_all("monai._extensions.loader", NATIVE),
    **_all("lightning.pytorch.cli lightning.fabric.cli lightning.app pytorch_lightning.cli", CODE),
    **_all("lightning.pytorch.core.saving pytorch_lightning.core.saving", PICKLE),
    **_all("ignite.distributed.launcher", PROCESS),
}
"""Modules all of whose functions and classes are dangerous, by where the object is defined."""

HARMLESS_BASES = _words(
    "torch.nn.Module torch.optim.Optimizer torch.optim.lr_scheduler.LRScheduler torch.utils.data.Dataset "
    "torch.utils.data.Sampler torch.utils.data.DataLoader torch.distributions.Distribution torch.Tensor torch.Generator "
    "monai.transforms.Transform monai.inferers.Inferer monai.inferers.Merger monai.inferers.Splitter monai.metrics.Metric "
    "monai.data.ImageReader monai.data.ImageWriter "
    "ignite.metrics.Metric ignite.engine.Engine ignite.handlers.Checkpoint ignite.handlers.ParamScheduler "
    "lightning.pytorch.Callback lightning.pytorch.LightningDataModule lightning.pytorch.Trainer "
    "lightning.pytorch.loggers.Logger lightning.pytorch.profilers.Profiler lightning.pytorch.strategies.Strategy "
    "lightning.pytorch.plugins.Precision lightning.pytorch.accelerators.Accelerator "
    "pytorch_lightning.Callback pytorch_lightning.LightningDataModule pytorch_lightning.Trainer "
    "pytorch_lightning.loggers.Logger torchmetrics.Metric torchmetrics.MetricCollection enum.Enum"
)
"""Classes of which every subclass that an inspected package defines is harmless to build."""

HARMLESS_HOMES = _words(
    "monai.handlers monai.engines monai.metrics monai.losses monai.optimizers monai.utils.enums monai.visualize monai.inferers "
    "monai.apps.detection monai.networks.layers monai.networks.blocks monai.networks.schedulers monai.data.grid_dataset "
    "torch.nn.functional torch.nn.init torch.optim.lr_scheduler torch.optim.swa_utils torch.utils.data.dataset "
    "torch.backends.cpu torch.backends.cuda torch.backends.cudnn torch.backends.mkl torch.backends.mkldnn torch.backends.mps "
    "torch.backends.openmp torch.backends.opt_einsum torch.backends.quantized "
    "torchmetrics.functional ignite.metrics ignite.handlers ignite.engine.events"
)
"""Modules whose functions and classes are harmless, by where the object is defined, unless they are listed as dangerous."""

HARMLESS: tuple[str, ...] = tuple(
    f"{module}.{name}"
    for module, names in {
        "builtins": "abs all any bin bool bytes bytearray callable chr complex dict divmod enumerate filter float format "
        "frozenset hash hex id int hasattr isinstance issubclass iter len list map max min next oct ord pow print range repr "
        "reversed round set slice sorted str sum tuple zip None True False Exception ValueError",
        "os": "getcwd cpu_count getenv listdir sep environ fspath scandir walk linesep pathsep name",
        "pathlib": "Path PurePath PosixPath WindowsPath PurePosixPath PureWindowsPath",
        "collections": "OrderedDict defaultdict Counter deque namedtuple ChainMap",
        "_codecs": "encode",
        "functools": "lru_cache wraps",
        "operator": "add sub mul truediv floordiv mod neg itemgetter eq ne lt le gt ge not_ and_ or_",
        "torch": "device dtype Size finfo iinfo tensor as_tensor from_numpy manual_seed set_float32_matmul_precision "
        "no_grad inference_mode is_tensor get_default_dtype set_default_dtype enable_grad set_grad_enabled "
        "set_num_threads get_num_threads memory_format layout cuda.is_available cuda.device_count cuda.current_device "
        "cuda.set_device cuda.get_device_name cuda.empty_cache cuda.amp.GradScaler amp.GradScaler amp.autocast autocast "
        "cuda.amp.autocast backends.mps.is_available get_num_interop_threads set_num_interop_threads initial_seed",
        "torch.distributed": "get_rank get_world_size is_initialized is_available init_process_group destroy_process_group "
        "barrier all_reduce",
        "torch.utils.data": "random_split default_collate Subset ConcatDataset get_worker_info",
        "numpy": "array asarray arange linspace zeros ones full empty concatenate stack mean std sum min max prod unique "
        "round argmax argmin sort argsort where transpose reshape squeeze expand_dims eye ndarray dtype random.seed "
        "random.randint random.rand random.permutation random.default_rng random.RandomState array_split split isin "
        "vstack hstack percentile quantile median clip cumsum allclose array_equal zeros_like ones_like full_like",
        "monai.utils": "set_determinism first ensure_tuple ensure_tuple_rep ensure_tuple_size min_version pytorch_after "
        "get_torch_version_tuple convert_to_tensor convert_to_numpy convert_to_dst_type list_to_dict progress_bar",
        "monai.data": "load_decathlon_datalist load_decathlon_properties partition_dataset partition_dataset_classes "
        "list_data_collate pad_list_data_collate decollate_batch no_collation set_track_meta get_track_meta "
        "select_cross_validation_folds resample_datalist MetaTensor MetaObj DataLoader ThreadDataLoader DistributedSampler "
        "create_test_image_2d create_test_image_3d worker_init_fn set_rnd get_valid_patch_size",
        "monai.engines": "default_prepare_batch PrepareBatchDefault PrepareBatchExtraInput",
        "monai.networks": "one_hot predict_segmentation normal_init eval_mode train_mode copy_model_state",
        "monai.networks.nets": "resnet10 resnet18 resnet34 resnet50 resnet101 resnet152 resnet200",
        "monai.transforms": "reset_ops_id allow_missing_keys_mode",
        "monai.apps.detection.networks.retinanet_network": "resnet_fpn_feature_extractor",
        "monai_lighter": "load_weights System BatchAdapter CriterionAdapter MetricsAdapter LoggingAdapter",
        "monai_lighter.models": "adjust_prefix_and_load_state_dict",
        "monai_lighter.collate": "collate_replace_corrupted",
        "lightning.pytorch": "seed_everything",
        "numpy.random": "RandomState",
    }.items()
    for name in _words(names)
)

SENDS = "sends data to a server"
LOOKED_AT: dict[str, str] = {
    **_all("monai.handlers.mlflow_handler monai.handlers.clearml_handlers", SENDS),
    **_all("ignite.handlers.clearml_logger ignite.handlers.mlflow_logger ignite.handlers.wandb_logger", SENDS),
    **_all("ignite.handlers.neptune_logger ignite.handlers.visdom_logger ignite.handlers.polyaxon_logger", SENDS),
    **_all("lightning.pytorch.loggers.wandb lightning.pytorch.loggers.neptune", SENDS),
    **_all("lightning.pytorch.loggers.comet lightning.pytorch.loggers.mlflow", SENDS),
    **_all(
        "monai.losses.perceptual torchmetrics.multimodal torchmetrics.text monai.apps.datasets",
        "downloads data or models",
    ),
    **_all("monai.handlers.trt_handler", "compiles a program"),
}
"""Modules whose objects are neither harmless nor dangerous, by where the object is defined."""

HARMLESS_STDLIB = set(
    _words(
        "posixpath ntpath genericpath os.path math cmath datetime _datetime json json.decoder json.encoder glob fnmatch random "
        "_random itertools string re statistics fractions decimal _decimal numbers calendar time copy enum textwrap uuid "
        "hashlib _hashlib bisect heapq warnings numbers logging pprint csv _csv collections collections.abc"
    )
)
"""Modules of the standard library whose public functions and classes neither run, load nor write anything by themselves."""
