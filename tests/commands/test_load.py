"""Bundles from a real HTTP server that serves them as MONAI's hosting does."""

import json
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import monai.bundle.scripts as monai_bundle
import pytest
import torch

import monai_lighter
from monai_lighter.commands.arguments import UsageError
from monai_lighter.commands.load import load
from monai_lighter.commands.run import run
from monai_lighter.errors import ConfigError
from monai_lighter.share import fetch as fetching
from monai_lighter.share.fetch import fetch_large_files
from monai_lighter.share.layout import SharingError
from monai_lighter.share.loading import find_bundle, load_bundle
from monai_lighter.share.packaging import write_zip

DATA = "[{'image': '%s'}]"


class Handler(SimpleHTTPRequestHandler):
    """Counts what is asked for; cuts off bodies of files named ``cut``."""

    asked: list

    def do_GET(self):
        if not self.path.startswith("/api/"):  # of Hugging Face, which the server is not
            self.asked.append(self.path)
        if "/cut" in self.path:
            body = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """An HTTP server on loopback: ``.root`` is its folder, ``.url`` its address, ``.asked`` the paths asked for."""
    root = tmp_path / "served"
    root.mkdir()
    handler = type("Counting", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        http.root, http.url, http.asked = root, f"http://127.0.0.1:{http.server_address[1]}", handler.asked
        yield http
        http.shutdown()
        thread.join()


def say_version(root, version):
    file = root / "configs" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": version}))


def host_version(root, folder, version):
    """Adds a bundle as it stands."""
    files = folder / "lesion" / "versions" / version / "files"
    files.mkdir(parents=True, exist_ok=True)
    write_zip(root, files / f"lesion_v{version}.zip")


@pytest.fixture(scope="session")
def released(bundles, tmp_path_factory):
    """Folder with two versions of a bundle as MONAI's hosting has them."""
    root, folder = tmp_path_factory.mktemp("released") / "lesion", tmp_path_factory.mktemp("hosting")
    shutil.copytree(bundles(), root)
    for version in ("0.1.0", "0.2.0"):
        say_version(root, version)
        host_version(root, folder, version)
    return folder


@pytest.fixture
def hosting(server, created, released, monkeypatch):
    """MONAI's hosting of two versions of a bundle, on the server."""
    monkeypatch.setattr(monai_bundle, "MONAI_HOSTING_BASE_URL", f"{server.url}/hosting")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)  # which has nothing
    root = created()
    say_version(root, "0.2.0")
    shutil.copytree(released, server.root / "hosting")

    def host(version, said):
        say_version(root, said)
        host_version(root, server.root / "hosting", version)

    server.host, server.versions = host, ["0.1.0", "0.2.0"]

    def info(**given):
        where = {"browser_download_url": f"{server.url}/none.zip"}
        return {"lesion": {version: {"name": f"lesion_v{version}", **where} for version in server.versions}}

    monkeypatch.setattr(monai_bundle, "_get_all_bundles_info", info)
    return server


def image_of(root):
    return str(root / "data" / "images" / "test_00.nii.gz")


def test_by_name_and_version(hosting, tmp_path):
    cache = tmp_path / "cache"
    workflow = load_bundle("lesion", version="0.1.0", bundle_dir=cache, progress=False, trust="all")
    assert isinstance(workflow, monai_lighter.Workflow)
    assert workflow.bundle_path == cache / "lesion_v0.1.0"
    assert isinstance(workflow.network_def, torch.nn.Module)
    assert hosting.asked == ["/hosting/lesion/versions/0.1.0/files/lesion_v0.1.0.zip"]
    load_bundle("lesion", version="0.1.0", bundle_dir=cache, trust="all")
    assert len(hosting.asked) == 1
    newest = find_bundle("lesion", version="0.2.0", bundle_dir=cache, progress=False)
    assert find_bundle("lesion", bundle_dir=cache) == newest
    assert len(hosting.asked) == 2
    assert sorted(path.name for path in cache.iterdir()) == ["lesion_v0.1.0", "lesion_v0.2.0"]


def test_the_latest_where_none_is_asked_for(hosting, tmp_path):
    printed = json.loads(load("lesion", bundle_dir=str(tmp_path / "cache"), json=True))
    assert printed["version"] == "0.2.0"
    assert printed["bundle"] == str(tmp_path / "cache" / "lesion_v0.2.0")


def test_the_latest_is_by_its_numbers(hosting, tmp_path):
    hosting.host("0.10.0", "0.10.0")
    hosting.versions.append("0.10.0")
    assert find_bundle("lesion", bundle_dir=tmp_path / "cache", progress=False).name == "lesion_v0.10.0"


@pytest.mark.parametrize(
    "version", ["0.1.0/../../ESCAPED", "1/2", "x" * 300, {"a": 1}, None, "", ".", "..", "0.2.0\n", "0.1.0\\x"]
)
def test_a_version_that_is_no_name_of_a_directory(version, hosting, tmp_path):
    hosting.host("0.2.0", version)
    cache = tmp_path / "deep" / "er" / "cache"
    with pytest.raises(SharingError, match=r"^metadata::version: must be a version of letters, digits"):
        find_bundle("lesion", bundle_dir=cache, progress=False)
    assert [path for path in cache.parents[1].rglob("*") if path.is_file()] == []
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("left", ["nothing", "configs", "scripts"])
def test_what_is_left_of_a_bundle_is_fetched_again(left, hosting, tmp_path):
    cache = tmp_path / "cache"
    write_zip(tmp_path / "lesion", tmp_path / "lesion.zip")
    url = f"{hosting.url}/hosting/lesion/versions/0.1.0/files/lesion_v0.1.0.zip"
    for given in ("lesion", url, tmp_path / "lesion.zip"):
        found = find_bundle(given, bundle_dir=cache, progress=False)
        shutil.rmtree(found)
        (found / left if left != "nothing" else found).mkdir(parents=True)
        assert find_bundle(given, bundle_dir=cache, progress=False) == found
        assert (found / "configs" / "train.yaml").is_file()


def test_a_cache_that_cannot_be_made(hosting, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            SharingError, match=r"^bundle_dir: must be a directory that can be written, got .*Name another"
        ):
            load("lesion", bundle_dir=str(place))


def test_by_address(hosting, tmp_path):
    url = f"{hosting.url}/hosting/lesion/versions/0.1.0/files/lesion_v0.1.0.zip"
    first = find_bundle(url, bundle_dir=tmp_path / "cache", progress=True)
    assert find_bundle(url, bundle_dir=tmp_path / "cache") == first
    assert len(hosting.asked) == 1
    assert load_bundle(url, bundle_dir=tmp_path / "cache", trust="all").native


def test_from_github(hosting, tmp_path, monkeypatch):
    release = hosting.root / "me" / "models" / "releases" / "download" / "v1"
    release.mkdir(parents=True)
    shutil.copy(hosting.root / "hosting" / "lesion" / "versions" / "0.1.0" / "files" / "lesion_v0.1.0.zip", release)
    monkeypatch.setattr(fetching, "GITHUB", hosting.url)
    found = find_bundle("lesion", "0.1.0", tmp_path / "cache", "github", "me/models/v1", progress=False)
    assert found.name == "lesion_v0.1.0"


def test_file_by_file_from_ngc(server, created, tmp_path, monkeypatch):
    root = created()
    files = [
        path.relative_to(root).as_posix() for folder in ("configs", "scripts") for path in (root / folder).iterdir()
    ]
    root.rename(server.root / "content")
    monkeypatch.setattr(monai_bundle, "_get_ngc_bundle_url", lambda model_name, version: f"{server.url}/content")
    monkeypatch.setattr(monai_bundle, "_get_all_download_files", lambda url: files)
    found = find_bundle("lesion", "0.1.0", tmp_path / "cache", "ngc", progress=False)
    assert found == tmp_path / "cache" / "lesion_v0.1.0"
    assert (found / "configs" / "train.yaml").is_file()


@pytest.mark.slow
def test_a_zip_is_unpacked_once_and_predicts(created, tmp_path):
    root = created()
    write_zip(root, tmp_path / "lesion.zip")
    first = find_bundle(tmp_path / "lesion.zip", bundle_dir=tmp_path / "cache")
    stamp = (first / "LICENSE").stat().st_mtime_ns
    output = tmp_path / "out"
    quiet = {"trainer::accelerator": "cpu", "trainer::enable_progress_bar": False}
    predict_data = [{"image": image_of(root)}]
    run(str(tmp_path / "lesion.zip"), "predict", bundle_dir=str(tmp_path / "cache"), predict_data=predict_data,
        output_dir=str(output), **quiet)  # fmt: skip
    assert [path.name for path in Path(output).glob("*.nii.gz")] == ["test_00_pred.nii.gz"]
    assert (first / "LICENSE").stat().st_mtime_ns == stamp


def test_a_directory_and_its_stages(created):
    root = created("classification")
    assert load_bundle(root).stage == "predict"
    assert load_bundle(root, workflow_type="train").stage == "fit"
    assert load_bundle(root, workflow_type="evaluation").stage == "test"
    assert load_bundle(root, workflow_type="train", run_id="validate").stage == "validate"
    assert load_bundle(root, num_workers=3).parser["num_workers"] == 3


@pytest.mark.parametrize("name", ["cut.zip", "broken.zip", "hostile.zip", "empty.zip", "none.zip"])
def test_broken_truncated_and_hostile_downloads_leave_nothing(name, hosting, tmp_path):
    good = hosting.root / "hosting" / "lesion" / "versions" / "0.1.0" / "files" / "lesion_v0.1.0.zip"
    (hosting.root / "cut.zip").write_bytes(good.read_bytes())
    (hosting.root / "broken.zip").write_bytes(good.read_bytes()[:-500])
    with zipfile.ZipFile(hosting.root / "hostile.zip", "w") as archive:
        archive.writestr("lesion/configs/train.yaml", "a: 1")
        archive.writestr("../../evil", "x")
    with zipfile.ZipFile(hosting.root / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "no bundle")
    cache = tmp_path / "cache"
    with pytest.raises(SharingError):
        find_bundle(f"{hosting.url}/{name}", bundle_dir=cache, progress=False)
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_another_version_than_asked_for(hosting, tmp_path):
    files = hosting.root / "hosting" / "lesion" / "versions"
    (files / "0.3.0" / "files").mkdir(parents=True)
    source = files / "0.1.0" / "files" / "lesion_v0.1.0.zip"
    (files / "0.3.0" / "files" / "lesion_v0.3.0.zip").write_bytes(source.read_bytes())
    with pytest.raises(SharingError, match=r"version: asked for 0\.3\.0, got 0\.1\.0"):
        find_bundle("lesion", "0.3.0", tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_version_asked_for_of_an_address_a_zip_and_a_directory(hosting, tmp_path):
    url = f"{hosting.url}/hosting/lesion/versions/0.1.0/files/lesion_v0.1.0.zip"
    write_zip(tmp_path / "lesion", tmp_path / "lesion.zip")
    cache = tmp_path / "cache"
    for given, has in ((url, "0.1.0"), (tmp_path / "lesion.zip", "0.2.0"), (tmp_path / "lesion", "0.2.0")):
        with pytest.raises(SharingError, match=rf"version: asked for 9\.9\.9, got {has}"):
            load(str(given), version="9.9.9", bundle_dir=str(cache))
        assert not cache.exists() or list(cache.iterdir()) == []
    for given, has in ((url, "0.1.0"), (tmp_path / "lesion.zip", "0.2.0")):
        find_bundle(given, has, cache, progress=False)
        with pytest.raises(SharingError, match=rf"version: asked for 9\.9\.9, got {has}"):
            find_bundle(given, "9.9.9", cache, progress=False)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("metadata", "message"), [("{not json", "configs/metadata.json of lesion cannot be"), ("[1]", "must be a JSON")]
)
def test_metadata_that_cannot_be_read_leave_nothing(metadata, message, created, server, tmp_path):
    root = created()
    (root / "configs" / "metadata.json").write_text(metadata)
    write_zip(root, server.root / "lesion.zip")
    for given in (server.root / "lesion.zip", f"{server.url}/lesion.zip"):
        with pytest.raises(SharingError, match=message):
            find_bundle(given, bundle_dir=tmp_path / "cache", progress=False)
        assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bundle": "../lesion"}, "bundle: must be a directory, a zip file"),
        (
            {"bundle": "lesion_v0.1.0.zip"},
            "bundle: must be a directory, .* got 'lesion_v0.1.0.zip'. There is no such file.",
        ),
        ({"bundle": "lesions/train.yaml"}, "bundle: must be a directory"),
        ({"bundle": "liver"}, "liver could not be downloaded from .* There is no directory or file 'liver' here."),
        ({"bundle": "lesion", "source": "githib"}, "Did you mean 'github'"),
        ({"bundle": "lesion", "workflow_type": "predict"}, "workflow_type: must be one of"),
        ({"bundle": "lesion", "version": "9.9.9"}, r"lesion 9\.9\.9 could not be downloaded from monaihosting"),
        ({"bundle": "ftp://x/y.zip"}, "bundle: must be"),
    ],
)
def test_what_cannot_be_loaded(arguments, message, hosting, tmp_path):
    with pytest.raises(SharingError, match=message):
        load_bundle(**arguments, bundle_dir=tmp_path / "cache", progress=False)
    with pytest.raises(UsageError, match="stage: must be one of"):
        run("lesion", "pred")


def test_what_is_nearly_there_is_named(hosting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lesion_v0.1.0.zip").touch()
    cache = tmp_path / "cache"
    with pytest.raises(SharingError, match=r"There is no such file\. Did you mean 'lesion_v0\.1\.0\.zip'\?"):
        find_bundle("lesion_v0.1.zip", bundle_dir=cache)
    with pytest.raises(SharingError, match=r"no directory or file 'leson' here\. Did you mean 'lesion'\?"):
        find_bundle("leson", bundle_dir=cache, progress=False)
    assert not list(cache.glob("*"))


def test_a_config_that_is_wrong_says_so(created):
    root = created()
    (root / "configs" / "inference.yaml").write_text("system: {model: '@nothing'}")
    with pytest.raises(ConfigError, match="refers to `@nothing`"):
        load_bundle(root)


def test_large_files(server, created):
    root = created()
    (server.root / "big.pt").write_bytes(b"weights")
    entry = "{path: models/%s, url: '%s/big.pt', hash_val: '%s', hash_type: sha256}"
    digest = "9adfc6d9ffcdd2dee7b14b3ff1aeb7d1eed60b6d3e9a0bd0a7f08a1ff3cf8a14"
    large = root / "large_files.yml"
    large.write_text(f"large_files: [{{path: models/big.pt, url: '{server.url}/big.pt', hash_val: ''}}]")
    fetch_large_files(root, progress=False)
    assert (root / "models" / "big.pt").read_bytes() == b"weights"
    fetch_large_files(root, progress=False)
    assert len(server.asked) == 1
    for spoiled in (
        "large_files: [" + entry % ("other.pt", server.url, digest) + "]",
        "large_files: [" + entry % ("../../evil.pt", server.url, "") + "]",
        "large_files: [{path: models/passwd, url: 'file:///etc/passwd'}]",
    ):
        large.write_text(spoiled)
        with pytest.raises(SharingError, match="large_files: could not be downloaded"):
            fetch_large_files(root, progress=False)
    for spoiled in ("", "- 1", "text", "large_files: 3", "large_files: [3]", "large_files: [{path: models/x.pt}]"):
        large.write_text(spoiled)
        with pytest.raises(
            SharingError, match=r"large_files: large_files\.yml must hold large_files, a list of path and url"
        ):
            fetch_large_files(root, progress=False)
    large.write_text("large_files:")
    fetch_large_files(root, progress=False)
    for suffix, spoiled in ((".yml", "[1"), (".json", "{")):
        large.unlink()
        large = large.with_suffix(suffix)
        large.write_text(spoiled)
        with pytest.raises(SharingError, match=rf"large_files: large_files{suffix} cannot be read: .* Mend the file"):
            fetch_large_files(root, progress=False)
    assert not (root / "models" / "other.pt").exists()
    assert not (root / "models" / "passwd").exists()
    assert not (root.parent.parent / "evil.pt").exists()


def test_the_private_functions_of_monai_that_are_used_are_there():
    url = monai_bundle._get_monaihosting_bundle_url("Lesion", "0.1.0")
    assert url.endswith("/lesion/versions/0.1.0/files/Lesion_v0.1.0.zip")
    url = monai_bundle._get_git_release_url("me", "models", "v1", "lesion_v0.1.0.zip")
    assert url == "https://github.com/me/models/releases/download/v1/lesion_v0.1.0.zip"
    with pytest.raises(ValueError, match="path traversal"):
        monai_bundle._safe_large_file_path("/bundle", "../x")
