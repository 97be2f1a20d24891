"""The allow list: what a config may name and stay declarative. Whatever is not on it is code, and is to be read.

Everything on it was looked at for one question: can it be brought, by any argument that a config can give, to run code that the
bundle brings? It may read files, download what it is known for and fill a disk (``docs/security.md``). What reaches code by the
name in one of its arguments is listed with the texts that the argument may be (`BY_NAME`, `FIXED`, `DIRECT`).
"""

from __future__ import annotations

__all__ = [
    "ATTRIBUTES",
    "BY_NAME",
    "DIRECT",
    "FIXED",
    "FLAGS",
    "FLAG_HOLDERS",
    "FUNCTIONS",
    "IMPORTED",
    "KINDS",
    "METHODS",
    "NAMED_TRANSFORMS",
    "STRICT_METHODS",
]


def _words(text: str) -> list[str]:
    return text.split()


_NETWORKS = (
    "torch.nn.modules.* torch.nn.parallel.* torch.optim.swa_utils monai.inferers.inferer monai.networks.blocks.* "
    "monai.networks.schedulers.* monai.networks.layers.{convutils drop_path factories filtering simplelayers "
    "spatial_transforms vector_quantizer} monai.networks.nets.{ahnet attentionunet autoencoder autoencoderkl "
    "basic_unet basic_unetplusplus cell_sam_wrapper classifier controlnet daf3d densenet diffusion_model_unet dints "
    "dynunet efficientnet flexible_unet fullyconnectednet generator highresnet hovernet hyena_nd_unetr "
    "masked_autoencoder_vit mednext milmodel navit netadapter patchgan_discriminator quicknat regressor regunet "
    "resnet restormer segresnet segresnet_ds senet spade_autoencoderkl spade_diffusion_model_unet spade_network "
    "swin_unetr torchvision_fc transformer unet unetr varautoencoder vista3d vit vitautoenc vnet voxelmorph vqvae} "
    "monai.losses.{adversarial_loss aucm_loss barlow_twins boundary_loss cldice contrastive deform dice ds_loss "
    "focal_loss giou_loss hausdorff_loss image_dissimilarity mcc_loss multi_scale nacl_loss spatial_mask "
    "spectral_loss ssim_loss sure_loss tversky unified_focal_loss} monai.apps.detection.* monai.apps.generation.* "
    "monai.apps.pathology.* monai.apps.reconstruction.* monai.apps.vista3d.* monai_lighter.*"
)
_METRICS = (
    "monai.metrics.* monai.apps.pathology.metrics.* monai.apps.detection.metrics.* ignite.metrics.* "
    "torchmetrics.{aggregation collections metric} torchmetrics.classification.* torchmetrics.clustering.* "
    "torchmetrics.detection.* torchmetrics.nominal.* torchmetrics.regression.* torchmetrics.retrieval.* "
    "torchmetrics.segmentation.* torchmetrics.shape.* torchmetrics.wrappers.* torchmetrics.image.{_deprecated "
    "d_lambda d_s ergas psnr psnrb qnr rase rmse_sw sam scc ssim tv uqi vif}"
)
_DATA = (
    "torch.utils.data.{dataloader dataset distributed sampler} monai.data.{box_utils csv_saver dataloader dataset "
    "dataset_summary folder_layout grid_dataset image_dataset image_reader image_writer iterable_dataset meta_tensor "
    "samplers test_time_augmentation thread_buffer wsi_datasets wsi_reader} monai.apps.datasets monai.apps.deepgrow.* "
    "monai.apps.reconstruction.* monai_lighter.system.datasets"
)
_LIGHTNING = (
    "{0}.callbacks.* {0}.core.datamodule {0}.loggers.{{csv_logs tensorboard}} {0}.profilers.{{advanced simple}} "
    "{0}.trainer.trainer {0}.strategies.{{ddp fsdp model_parallel single_device}} {0}.plugins.precision.{{amp double "
    "fsdp half precision}} {0}.accelerators.*"
)

KINDS = {
    "torch.nn.Module": f"{_NETWORKS} {_METRICS}",
    "torch.optim.Optimizer": "torch.optim.* monai.optimizers.*",
    "torch.optim.lr_scheduler.LRScheduler": "torch.optim.lr_scheduler torch.optim.swa_utils monai.optimizers.lr_scheduler",
    "torch.utils.data.Dataset": _DATA,
    "torch.utils.data.DataLoader": _DATA,
    "torch.utils.data.Sampler": _DATA,
    "torch.amp.GradScaler": "torch.amp.grad_scaler torch.cuda.amp.grad_scaler",
    "torch.Generator": "torch torch._C",
    "monai.transforms.Transform": (
        "monai.transforms.* monai.apps.deepedit.* monai.apps.deepgrow.* monai.apps.detection.* "
        "monai.apps.generation.* monai.apps.nuclick.* monai.apps.pathology.* monai.apps.reconstruction.* "
        "monai.apps.vista3d.* monai_lighter.transforms.*"
    ),
    "monai.data.ImageReader": "monai.data.image_reader monai.data.wsi_reader monai.apps.reconstruction.fastmri_reader",
    "monai.data.ImageWriter": "monai.data.image_writer",
    "monai.data.folder_layout.FolderLayoutBase": "monai.data.folder_layout",
    "monai.inferers.Inferer": (
        "monai.inferers.inferer monai.apps.pathology.inferers.* monai.apps.vista3d.inferer monai_lighter.label_inferer "
        "monai_lighter.flip_inferer"
    ),
    "monai.inferers.Merger": "monai.inferers.merger",
    "monai.inferers.Splitter": "monai.inferers.splitter",
    "monai.metrics.Metric": _METRICS,
    "monai.metrics.Cumulative": _METRICS,
    "ignite.metrics.Metric": f"{_METRICS} monai.handlers.*",
    "ignite.engine.Engine": "ignite.engine.engine monai.engines.* monai.apps.pathology.engines.* monai_lighter.engines.*",
    "ignite.handlers.param_scheduler.BaseParamScheduler": "ignite.handlers.param_scheduler ignite.handlers.state_param_scheduler",
    "ignite.handlers.ParamScheduler": "ignite.handlers.param_scheduler ignite.handlers.state_param_scheduler",
    "enum.Enum": "monai.utils.enums ignite.engine.events monai.engines.utils",
    "builtins.object": (  # of handlers, which have no common base
        "monai.handlers.{average_precision calibration checkpoint_loader checkpoint_saver classification_saver "
        "confusion_matrix decollate_batch earlystop_handler garbage_collector hausdorff_distance ignite_metric "
        "logfile_handler lr_schedule_handler mean_dice mean_iou metric_logger metrics_saver nvtx_handlers "
        "panoptic_quality parameter_scheduler postprocessing probability_maps regression_metrics roc_auc "
        "smartcache_handler stats_handler surface_distance tensorboard_handlers validation_handler} "
        "monai.apps.deepedit.interaction monai.apps.deepgrow.interaction monai.apps.pathology.handlers.* "
        "ignite.handlers.{checkpoint early_stopping ema_handler lr_finder stores tensorboard_logger terminate_on_nan "
        "time_limit time_profilers timing tqdm_logger} monai.engines.utils monai.visualize.class_activation_maps "
        "monai.visualize.gradient_based monai.visualize.occlusion_sensitivity monai.apps.detection.utils.anchor_utils "
        "monai.apps.detection.utils.box_coder monai.apps.detection.utils.ATSS_matcher monai_lighter.system.adapters "
        "monai_lighter.data.folds"  # which writes its JSON where no file is, as any writer does
    ),
    **{
        f"{package}.{base}": _LIGHTNING.format(package)
        + (" monai_lighter.*" if package.startswith("lightning.") else "")
        for package in ("lightning.pytorch", "pytorch_lightning")
        for base in _words(
            "Trainer Callback LightningDataModule loggers.Logger profilers.Profiler strategies.Strategy "
            "plugins.Precision accelerators.Accelerator"
        )
    },
}
"""Base class, and the modules in which a class derived from it is listed if it is defined there; ``x.*``: in x and below it."""

FUNCTIONS = {
    "builtins": "abs all any bin bool bytes chr complex dict divmod enumerate filter float frozenset hash hex "
    "int isinstance "
    "issubclass len list map max min next oct ord pow print range repr reversed round set slice sorted str sum tuple "
    "zip",
    "os": "cpu_count fspath getcwd getenv listdir makedirs sep",
    "os.path": "abspath basename commonpath commonprefix dirname exists expanduser expandvars getmtime getsize "
    "isabs isdir isfile "
    "islink join normpath realpath relpath sep split splitext",
    "glob": "glob iglob escape",
    "fnmatch": "filter fnmatch",
    "json": "load loads dumps",
    "math": "ceil comb copysign cos degrees e exp fabs floor fmod fsum gcd hypot inf isclose isfinite isinf "
    "isnan log log10 log1p "
    "log2 nan pi pow prod radians sin sqrt tan tanh trunc",
    "random": "choice choices gauss randint random randrange sample seed shuffle uniform",
    "itertools": "accumulate chain chain.from_iterable combinations count cycle groupby islice permutations product repeat "
    "starmap zip_longest",
    "functools": "partial reduce",
    "operator": "add and_ eq ge gt itemgetter le lt mul ne neg not_ or_ sub truediv",
    "collections": "Counter OrderedDict defaultdict deque",
    "copy": "copy deepcopy",
    "datetime": "datetime datetime.now datetime.today datetime.utcnow date date.today timedelta",
    "time": "time strftime perf_counter monotonic",
    "logging": "CRITICAL DEBUG ERROR INFO NOTSET WARN WARNING getLogger",
    "pathlib": "Path PurePath PosixPath Path.cwd",
    "re": "escape findall fullmatch match search split sub IGNORECASE",
    "warnings": "filterwarnings simplefilter warn",
    "numpy": "abs all allclose amax amin any append arange argmax argmin argsort argwhere around array "
    "array_equal array_split "
    "asarray ascontiguousarray atleast_1d atleast_2d atleast_3d average bincount ceil clip column_stack concatenate "
    "copy cos count_nonzero cross cumprod cumsum diag diff digitize dot dtype empty empty_like exp expand_dims expm1 "
    "eye flip floor full full_like hstack identity in1d interp isclose isfinite isin isinf isnan iterable linspace "
    "log log10 log1p log2 logical_and logical_not logical_or logspace matmul max maximum mean median meshgrid min "
    "minimum mod moveaxis multiply nan_to_num nanmax nanmean nanmin nanstd nansum ndim nonzero ones ones_like outer "
    "pad percentile power prod quantile random.choice random.default_rng random.normal random.permutation random.rand "
    "random.randint random.randn random.RandomState random.seed random.shuffle random.uniform ravel repeat reshape "
    "rint roll rollaxis rot90 round searchsorted set_printoptions setdiff1d shape sign sin size sort split sqrt "
    "squeeze stack std subtract sum swapaxes take tan tanh tile transpose trunc union1d unique unravel_index var "
    "vstack where zeros zeros_like linalg.inv linalg.norm linalg.det",
    "torch": "abs all allclose amax amin any arange argmax argmin argsort as_tensor atleast_1d atleast_2d "
    "atleast_3d autocast bmm "
    "bucketize cat ceil chunk clamp clip clone concat concatenate cos count_nonzero cumsum device diag diff dot "
    "einsum empty empty_like enable_grad eq equal exp eye finfo flatten flip floor from_numpy full full_like gather "
    "ge get_default_dtype gt histc iinfo index_select inference_mode initial_seed is_tensor isfinite isin isinf isnan "
    "le linspace log log10 log1p log2 logical_and logical_not logical_or logspace logsumexp lt manual_seed matmul max "
    "maximum mean median meshgrid min minimum mm moveaxis mul multinomial nan_to_num ne no_grad nonzero norm normal "
    "numel ones ones_like outer permute pow prod quantile rand rand_like randint randn randn_like randperm reciprocal "
    "relu repeat_interleave reshape roll rot90 round rsqrt set_default_dtype set_float32_matmul_precision "
    "set_grad_enabled set_num_threads sigmoid sign sin Size softmax sort split sqrt square squeeze stack std std_mean "
    "sum swapaxes t take tan tanh tensor tensor_split tile topk transpose tril triu trunc unbind unique unsqueeze var "
    "vstack hstack where zeros zeros_like",
    "torch.amp": "autocast",
    "torch.backends.mps": "is_available",
    "torch.cuda": "amp.autocast current_device device_count empty_cache get_device_name is_available "
    "is_bf16_supported manual_seed "
    "manual_seed_all max_memory_allocated mem_get_info reset_peak_memory_stats set_device synchronize",
    "torch.distributed": "barrier destroy_process_group get_backend get_rank get_world_size is_available is_initialized",
    "torch.linalg": "det inv norm",
    "torch.nn.functional": "adaptive_avg_pool2d adaptive_avg_pool3d avg_pool2d avg_pool3d binary_cross_entropy "
    "binary_cross_entropy_with_logits conv1d conv2d conv3d cosine_similarity cross_entropy dropout elu gelu "
    "grid_sample interpolate kl_div l1_loss leaky_relu log_softmax logsigmoid max_pool2d max_pool3d mse_loss nll_loss "
    "normalize one_hot pad relu sigmoid silu smooth_l1_loss softmax softplus tanh",
    "torch.nn.init": "constant_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ trunc_normal_ "
    "uniform_ xavier_normal_ "
    "xavier_uniform_ zeros_",
    "torch.nn.utils": "clip_grad_norm_ clip_grad_value_",
    "torch.random": "manual_seed",
    "torch.utils.data": "default_collate get_worker_info random_split",
    "monai.apps.detection.networks.retinanet_network": "resnet_fpn_feature_extractor",
    "monai.apps.detection.utils.anchor_utils": "AnchorGenerator AnchorGeneratorWithAnchorShape",
    "monai.auto3dseg": "datafold_read",
    "monai.data": "create_test_image_2d create_test_image_3d decollate_batch get_track_meta list_data_collate "
    "load_decathlon_datalist load_decathlon_properties MetaTensor no_collation pad_list_data_collate "
    "partition_dataset partition_dataset_classes resample_datalist select_cross_validation_folds set_track_meta "
    "worker_init_fn set_rnd get_valid_patch_size dense_patch_slices iter_patch list_to_dict compute_importance_map",
    "monai.data.utils": "collate_meta_tensor get_extra_metadata_keys remove_extra_metadata remove_keys "
    "correct_nifti_header_if_necessary",
    "monai.engines": "default_make_latent default_metric_cmp_fn default_prepare_batch get_devices_spec",
    "monai.handlers": "from_engine ignore_data stopping_fn_from_loss stopping_fn_from_metric write_metrics_reports",
    "monai.inferers": "sliding_window_inference",
    "monai.losses": "masked_dice_loss generalized_dice dice_ce dice_focal",
    "monai.metrics": "compute_dice compute_generalized_dice compute_hausdorff_distance compute_iou compute_meandice "
    "compute_roc_auc compute_surface_dice do_metric_reduction get_confusion_matrix compute_confusion_matrix_metric",
    "monai.networks": "copy_model_state eval_mode normal_init one_hot predict_segmentation train_mode",
    "monai.networks.layers.factories": "Act Conv Dropout Norm Pad Pool",
    "monai.networks.nets": "resnet10 resnet101 resnet152 resnet18 resnet200 resnet34 resnet50 "
    "resnet.get_inplanes get_efficientnet_image_size",
    "monai.optimizers": "generate_param_groups",
    "monai.transforms": "allow_missing_keys_mode MapLabelValue get_largest_connected_component_mask reset_ops_id",
    "monai.utils": "convert_to_dst_type convert_to_numpy convert_to_tensor ensure_tuple ensure_tuple_rep ensure_tuple_size "
    "fall_back_tuple first get_seed get_torch_version_tuple is_scalar issequenceiterable list_to_dict min_version "
    "path_to_uri progress_bar pytorch_after rescale_array set_determinism star_zip_with zip_with",
    "ignite.engine": "Events",
    "ignite.handlers": "create_lr_scheduler_with_warmup global_step_from_engine",
    "ignite.metrics": "BatchFiltered BatchWise EpochWise RunningAverage",
    "lightning.pytorch": "seed_everything",
    "pytorch_lightning": "seed_everything",
    "monai_lighter": "find_common_folder load_weights BatchAdapter CriterionAdapter LoggingAdapter MetricsAdapter",
    "monai_lighter.collate": "collate_replace_corrupted",
    "monai_lighter.models": "adjust_prefix_and_load_state_dict remove_n_last_layers_sequentially replace_layer_with "
    "replace_layer_with_identity",
}
"""Functions, classes and values by module. Each may be called with anything that a config can give, and be handed on."""

ANY = None
DIRECT: dict[str, dict[str, set | None]] = {
    "builtins.open": {"file": ANY, "mode": {"r", "rt", "rb"}, "buffering": {-1}, "encoding": ANY},
    "torch.load": {"f": ANY, "map_location": ANY, "weights_only": {True}, "mmap": ANY},
    "numpy.load": {"file": ANY, "mmap_mode": {None, "r", "c"}, "allow_pickle": {False}},
    "torch.compile": {
        "model": ANY,
        "fullgraph": ANY,
        "dynamic": ANY,
        "backend": {"inductor", "eager", "aot_eager", "cudagraphs"},
        "mode": {None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"},
    },
    "torch.distributed.init_process_group": {
        "backend": {None, "nccl", "gloo", "mpi"},
        "init_method": {None, "env://"},
        "timeout": ANY,
    },
    "pandas.read_csv": dict.fromkeys(
        _words("filepath_or_buffer sep header names index_col usecols dtype skiprows nrows na_values delimiter"), ANY
    ),
    "os.environ.get": {"key": ANY, "default": ANY},
}
"""Functions that may be called, with these arguments in this order, and not be handed on; values that are texts or flags are
to stand there as they are."""

READERS = _words("ITKReader NibabelReader NrrdReader NumpyReader PILReader PydicomReader WSIReader FastMRIReader")
BY_NAME = {
    "reader": {None, *READERS, "cucim", "cuCIM", "openslide", "OpenSlide", "tifffile", "TiffFile"},
    "writer": {None, "ITKWriter", "NibabelWriter", "PILWriter"},
    "merger_cls": {None, "AvgMerger", "ZarrAvgMerger"},
}
"""Arguments of MONAI's classes whose text is imported and called, and the texts that are listed."""
NAMED_TRANSFORMS = {
    "TorchVision TorchVisiond TorchVisionD TorchVisionDict RandTorchVisiond RandTorchVisionD RandTorchVisionDict": set(
        _words(
            "CenterCrop ColorJitter GaussianBlur Grayscale Normalize Pad RandomAdjustSharpness RandomAffine "
            "RandomAutocontrast RandomCrop RandomEqualize RandomErasing RandomGrayscale RandomHorizontalFlip "
            "RandomInvert RandomPerspective RandomPosterize RandomResizedCrop RandomRotation RandomSolarize "
            "RandomVerticalFlip Resize ToPILImage ToTensor"
        )
    ),
    "TorchIO TorchIOd TorchIOD TorchIODict RandTorchIO RandTorchIOd RandTorchIOD RandTorchIODict": set(
        _words(
            "RandomAffine RandomAnisotropy RandomBiasField RandomBlur RandomElasticDeformation RandomFlip RandomGamma "
            "RandomGhosting RandomMotion RandomNoise RandomSpike RandomSwap RescaleIntensity ZNormalization"
        )
    ),
    "CuCIM CuCIMd CuCIMD CuCIMDict RandCuCIM RandCuCIMd RandCuCIMD RandCuCIMDict": set(
        _words(
            "color_jitter image_flip image_rotate_90 rand_color_jitter rand_image_flip rand_image_rotate_90 rand_zoom "
            "scale_intensity_range zoom"
        )
    ),
}
"""Transforms that are found by their ``name`` in another package, and the names that are listed."""
FIXED: dict[str, set] = {
    "weights_only": {True},
    "allow_pickle": {False, None},
    "compile_kwargs": {None},
    "_mode_": {"default", "callable"},
    "_debug_": {False, None},
    "project": {None},
}
"""Keys that may have these values alone, wherever they stand in a config, and keywords of any call."""

FLAG_HOLDERS = _words("torch.backends.cudnn torch.backends.cuda.matmul torch.backends.cuda torch.backends.mkldnn")
FLAGS = _words("allow_tf32 benchmark benchmark_limit deterministic enabled allow_fp16_reduced_precision_reduction")
"""What ``setattr`` may set, to True, False or a number."""

IMPORTED = _words(
    "argparse ast collections copy csv datetime fnmatch functools glob itertools json logging math numbers operator "
    "os os.path pathlib random re statistics string sys time typing uuid warnings monai monai.apps monai.data "
    "monai.engines monai.handlers monai.inferers monai.losses monai.metrics monai.networks monai.networks.blocks "
    "monai.networks.layers monai.networks.nets monai.optimizers monai.transforms monai.utils monai.visualize torch "
    "torch.amp torch.cuda torch.cuda.amp torch.distributed torch.nn torch.nn.functional torch.nn.init torch.optim "
    "torch.optim.lr_scheduler torch.utils torch.utils.data torch.backends torch.backends.cudnn torchvision "
    "torchvision.transforms numpy numpy.linalg numpy.random pandas scipy scipy.ndimage skimage skimage.measure "
    "nibabel PIL sklearn tqdm yaml ignite ignite.engine ignite.handlers ignite.metrics ignite.distributed lightning "
    "lightning.pytorch pytorch_lightning torchmetrics monai_lighter"
)
"""Modules that an expression may import; of what is in them it may name what is listed."""

METHODS = set(
    _words(
        # texts, lists, dictionaries
        "append count endswith extend get index insert items join keys lower lstrip partition removeprefix "
        "removesuffix reverse rpartition rsplit rstrip sort split splitlines startswith strip title update upper "
        "values zfill isdigit capitalize decode encode difference intersection union issubset most_common "
        # tensors and arrays
        "abs all amax amin any argmax argmin argsort astype bool ceil chunk clamp clip clone contiguous cpu cuda "
        "cumsum detach diagonal dim double dot expand flatten flip float floor gather half int item long matmul max "
        "mean median min mul narrow ndimension nonzero norm numel numpy permute pow prod ravel repeat reshape round "
        "sigmoid size softmax sqrt squeeze std sum swapaxes take to tolist topk transpose type_as unbind unique "
        "unsqueeze var view "
        # networks, optimizers, samplers, metrics
        "add_param_group buffers children compute freeze get_buffer load_state_dict modules named_children "
        "named_modules named_parameters parameters requires_grad_ reset set_epoch state_dict step train unfreeze "
        "zero_grad get_swa_model get_last_lr set_balanced_sampler set_atss_matcher set_box_coder_weights "
        "set_box_regression_loss set_box_selector_parameters set_cls_loss set_hard_negative_sampler "
        "set_regression_loss set_regular_matcher set_sliding_window_inferer set_target_keys set_timesteps "
        "encode_stage_2_inputs decode_stage_2_outputs "
        # engines, loggers, data
        "add_event_handler attach barrier error fit info predict run setLevel set_data start shutdown terminate test "
        "validate warning debug get_stats "
        # dates, files, paths, tables
        "absolute as_posix close date exists expanduser glob is_dir is_file isin isoformat iterdir joinpath mkdir "
        "read read_text readline readlines relative_to resolve rglob strftime timestamp to_dict to_list to_numpy "
        "total_seconds with_suffix with_name dropna fillna head iterrows itertuples reset_index sample sort_values "
        "tail"
    )
)
"""Methods that may be called, with anything, on whatever a config can make."""

STRICT_METHODS: dict[str, int] = {"eval": 0, "aggregate": 0, "copy": 0, "replace": 2, "format": -1}
"""Methods that may be called with that many plain arguments and not be handed on: of another class that has the method it does
something else (``DataFrame.eval``, ``DataFrame.aggregate`` with a method's name, ``Path.replace``). -1: of a text that stands
there, whose fields are plain names."""

ATTRIBUTES = METHODS | set(
    _words(
        "T affine applied_operations array at backbone batch batch_size best_metric best_metric_epoch best_model_path "
        "best_model_score callback_metrics columns current_epoch data dataloader dataset decoder device dtype encoder "
        "epoch epoch_length experiment feature_extractor features fc global_rank global_step grad iloc imag "
        "in_channels in_features is_global_zero iteration key_metric_name local_rank loc logged_metrics logger loss "
        "lr max_epochs max_iters meta metric_details metrics model module name ndim network network_def nelement "
        "num_channels num_classes num_embeddings num_features optimizer out_channels out_features output parent parts "
        "pending_operations persistent_workers pixdim rank real requires_grad sampler scheduler shape spatial_dims "
        "spatial_shape start state stem stop suffix test test_dataloader train train_dataloader transforms val "
        "val_dataloader value "
        "world_size year month day hour minute second scale_factor latent_channels quantizer prior_net "
        "diffusion_model class_head point_head image_encoder swinViT vit heads head classifier class_layers up_layers "
        "down_layers conv_final"
    )
)
"""Attributes that may be read."""
