"""The model folder: round trip, refusals, replacing, and what a full disk leaves behind."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from hashfold.errors import FileFormatError, InputError, ModelFolderError
from hashfold.io import (
    CHECKPOINT,
    MODEL,
    check_destination,
    check_shapes,
    load_model_folder,
    open_folder,
    save_model_folder,
    write_folder,
)
from hashfold.io.atomic import replacing_folder

CONFIG = {"network": {"hidden": 4, "rate": 0.005, "betas": [0.9, 0.999]}, "data": {"rows": 10, "labels": 3}}
LABELS = ["plain", "two\nlines", "back\\slash\\n", "carriage\rreturn", "한국어", "", " space "]


def tensors(seed=0, rows=5):
    rng = np.random.default_rng(seed)
    return {
        "deep.weight": rng.standard_normal((rows, 4)).astype(np.float32),
        "ids": np.arange(6, dtype=np.int32),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float64(3.5) * np.ones(()),
    }


@pytest.fixture
def model(tmp_path):
    words = {"vocabulary.txt": ["a", "b"], "vectorizer.safetensors": {"idf": np.ones(2, np.float32)}}
    return save_model_folder(tmp_path / "m", CONFIG, tensors(), LABELS, extra=words)


def siblings(path):
    return sorted(p.name for p in path.parent.iterdir())


def assert_loads(path, seed=0):
    loaded = load_model_folder(path)
    assert loaded.config == CONFIG
    assert loaded.labels == LABELS
    for name, want in tensors(seed).items():
        assert loaded.tensors[name].dtype == want.dtype
        np.testing.assert_array_equal(loaded.tensors[name], want)
    return loaded


class TestRoundTrip:
    def test_everything_comes_back(self, model):
        loaded = assert_loads(model)
        assert loaded.extra["vocabulary.txt"] == ["a", "b"]
        np.testing.assert_array_equal(loaded.extra["vectorizer.safetensors"]["idf"], [1, 1])
        assert sorted(p.name for p in model.iterdir()) == [
            "README.md",
            "config.json",
            "labels.txt",
            "model.safetensors",
            "vectorizer.safetensors",
            "vocabulary.txt",
        ]
        assert siblings(model) == ["m"]

    def test_torch_tensors_any_layout(self, tmp_path):
        weight = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
        path = save_model_folder(tmp_path / "m", {}, {"w": weight})
        loaded = load_model_folder(path)
        np.testing.assert_array_equal(loaded.tensors["w"], weight.detach().numpy())
        assert loaded.labels is None

    def test_weights_are_mapped_and_changes_stay_private(self, model):
        first = load_model_folder(model).tensors["deep.weight"]
        assert isinstance(first, np.memmap)
        torch.from_numpy(first).zero_()
        assert_loads(model)

    def test_numpy_scalars_in_config(self, tmp_path):
        path = save_model_folder(tmp_path / "m", {"a": {"rows": np.int64(3), "rate": np.float32(0.5)}}, {})
        assert load_model_folder(path).config == {"a": {"rows": 3, "rate": 0.5}}

    def test_card_tells_data_and_use(self, model):
        card = (model / "README.md").read_text()
        assert "| rows | 10 |" in card
        assert 'load("m")' in card
        (model / "README.md").write_text("edited by its owner")
        assert_loads(model)

    def test_loads_without_torch(self, model):
        code = "import sys, hashfold.io as io; io.load_model_folder(sys.argv[1]); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code, str(model)], check=False).returncode == 0

    def test_format_is_named(self, model):
        config = json.loads((model / "config.json").read_text())
        assert (config["format"], config["format_version"]) == ("hashfold-model", MODEL.version)
        assert config["files"]["model.safetensors"]["bytes"] == (model / "model.safetensors").stat().st_size


class TestRefusesToSave:
    @pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": [float("inf")]}, {"x": object()}, {"files": {}}])
    def test_config(self, tmp_path, bad):
        with pytest.raises(InputError) as error:
            save_model_folder(tmp_path / "m", bad, {})
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir())

    def test_label_that_is_no_text(self, tmp_path):
        with pytest.raises(InputError, match="entry 1"):
            save_model_folder(tmp_path / "m", {}, {}, ["ok", "\udc80"])
        assert not list(tmp_path.iterdir())

    def test_tensor_that_is_no_number(self, tmp_path):
        with pytest.raises(InputError, match="tensor w"):
            save_model_folder(tmp_path / "m", {}, {"w": np.array(["a"])})

    @pytest.mark.parametrize("name", ["../x.txt", "a/b.txt", "x.pkl", "labels.txt", ".txt"])
    def test_file_name(self, tmp_path, name):
        with pytest.raises(InputError, match="names"):
            save_model_folder(tmp_path / "m", {}, {}, extra={name: ["a"]})
        assert not list(tmp_path.iterdir())


class TestReplacing:
    def test_needs_permission(self, model):
        with pytest.raises(FileFormatError, match="already holds a model folder"):
            save_model_folder(model, CONFIG, tensors(1), LABELS)
        assert_loads(model)

    def test_replaces(self, model):
        save_model_folder(model, CONFIG, tensors(1), LABELS, overwrite=True)
        assert load_model_folder(model).extra == {}
        assert_loads(model, seed=1)
        assert siblings(model) == ["m"]

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "m").mkdir()
        save_model_folder(tmp_path / "m", CONFIG, tensors(), LABELS)
        assert_loads(tmp_path / "m")

    def test_through_a_symbolic_link(self, model, tmp_path):
        (tmp_path / "link").symlink_to(model)
        save_model_folder(tmp_path / "link", CONFIG, tensors(1), LABELS, overwrite=True)
        assert (tmp_path / "link").is_symlink()
        assert_loads(model, seed=1)

    def test_never_a_folder_of_another_kind(self, tmp_path):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.txt").write_text("years")
        with pytest.raises(FileFormatError, match="no hashfold model folder"):
            save_model_folder(tmp_path / "home", CONFIG, tensors(), overwrite=True)
        assert (tmp_path / "home" / "thesis.txt").read_text() == "years"

    def test_never_a_file_it_did_not_write(self, model):
        (model / "thesis.txt").write_text("years")
        with pytest.raises(FileFormatError, match=r"thesis\.txt"):
            save_model_folder(model, CONFIG, tensors(1), overwrite=True)
        assert (model / "thesis.txt").exists()

    def test_never_a_file(self, tmp_path):
        (tmp_path / "m").write_text("x")
        with pytest.raises(FileFormatError, match="got a file"):
            save_model_folder(tmp_path / "m", CONFIG, tensors(), overwrite=True)
        with pytest.raises(FileFormatError, match="cannot be written"):
            save_model_folder(tmp_path / "m" / "below", CONFIG, tensors())

    def test_failed_swap_restores_the_old(self, model, monkeypatch):
        rename = type(model).rename

        def fails_for_new(self, target):
            if self.name.endswith(".tmp"):
                raise KeyboardInterrupt
            return rename(self, target)

        monkeypatch.setattr(type(model), "rename", fails_for_new)
        with pytest.raises(KeyboardInterrupt):
            save_model_folder(model, CONFIG, tensors(1), LABELS, overwrite=True)
        monkeypatch.undo()
        assert_loads(model)
        assert siblings(model) == ["m"]

    def test_killed_between_the_two_renames(self, model):
        model.rename(model.with_name(".m.old"))
        assert_loads(model)
        with pytest.raises(FileFormatError, match="already"):
            save_model_folder(model, CONFIG, tensors(1), LABELS)
        save_model_folder(model, CONFIG, tensors(1), LABELS, overwrite=True)
        assert_loads(model, seed=1)
        assert siblings(model) == ["m"]

    def test_killed_after_the_second_rename(self, model):
        (model.with_name(".m.old")).mkdir()
        (model.with_name(".m.old") / "rest").write_text("")
        save_model_folder(model, CONFIG, tensors(1), LABELS, overwrite=True)
        assert siblings(model) == ["m"]


class TestFullDisk:
    """The process may write no file above a few kilobytes: the kernel refuses in the middle of a write."""

    @pytest.fixture
    def small_disk(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.parametrize("big", ["tensors", "labels", "config"])
    def test_old_model_stays_and_nothing_half_written(self, model, small_disk, big):
        weights = tensors(1, rows=50_000 if big == "tensors" else 5)
        labels = ["name" * 10] * 5_000 if big == "labels" else LABELS
        config = {"notes": "x" * 100_000} if big == "config" else CONFIG
        with pytest.raises(FileFormatError, match=r"cannot be written .*free some space") as error:
            save_model_folder(model, config, weights, labels, overwrite=True)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(str(model))
        assert_loads(model)
        assert siblings(model) == ["m"]

    def test_new_model(self, tmp_path, small_disk):
        with pytest.raises(FileFormatError, match="free some space"):
            save_model_folder(tmp_path / "m", CONFIG, tensors(0, rows=50_000))
        assert not list(tmp_path.iterdir())

    def test_no_space_at_sync(self, model, monkeypatch):
        def refuse(handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.raises(FileFormatError, match="No space left"):
            save_model_folder(model, CONFIG, tensors(1), LABELS, overwrite=True)
        monkeypatch.undo()
        assert_loads(model)

    def test_no_permission(self, tmp_path, monkeypatch):
        def refuse(self, *args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.mkdir", refuse)
        with pytest.raises(FileFormatError, match="may write to"):
            save_model_folder(tmp_path / "m", CONFIG, tensors())


class TestRefusesToLoad:
    def refused(self, path, match, **options):
        with pytest.raises(ModelFolderError, match=match) as error:
            load_model_folder(path, **options)
        assert "\n" not in str(error.value)

    def reseal(self, model, **changes):
        """The manifest as another program, or a deceiver, would have written it."""
        from hashfold.io.sealed import _checksum

        manifest = json.loads((model / "config.json").read_text()) | changes
        del manifest["checksum"]
        manifest["checksum"] = _checksum(manifest)
        (model / "config.json").write_text(json.dumps(manifest))

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "none", "no such model folder")

    def test_a_file(self, model):
        self.refused(model / "config.json", "got a file")

    def test_another_folder(self, tmp_path):
        self.refused(tmp_path, r"is no hashfold model folder \(it has no config.json\)")

    def test_another_program(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        self.refused(tmp_path, "its format is None")

    def test_a_checkpoint(self, tmp_path):
        write_folder(tmp_path / "c", CHECKPOINT, {}, {})
        self.refused(tmp_path / "c", "training checkpoint: resume")
        with pytest.raises(ModelFolderError, match="no such training checkpoint"):
            open_folder(tmp_path / "none", CHECKPOINT)

    def test_newer(self, model):
        newer = MODEL.version + 1
        self.reseal(model, format_version=newer)
        self.refused(model, f"format_version {newer}; this hashfold reads up to {MODEL.version}; upgrade")

    def test_older_is_read(self, model):
        self.reseal(model, format_version=1)
        assert_loads(model)

    @pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
    def test_version_that_never_was(self, model, version):
        self.reseal(model, format_version=version)
        self.refused(model, "damaged")

    @pytest.mark.parametrize("name", ["model.safetensors", "labels.txt", "vocabulary.txt"])
    def test_missing_file(self, model, name):
        (model / name).unlink()
        self.refused(model, f"{name}: is missing")

    def test_missing_weights_entry(self, model):
        self.reseal(model, files={})
        self.refused(model, r"has no model\.safetensors")

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b.txt"])
    def test_paths_in_the_manifest(self, model, name):
        self.reseal(model, files={name: {"bytes": 0, "sha256": ""}})
        self.refused(model, "damaged")

    @pytest.mark.parametrize(
        "text", ["", "[]", "nul", '{"format": NaN}', '{"a": 1e999}', '{"a":1,"a":2}', "[" * 100_000]
    )
    def test_config_that_is_no_json(self, model, text):
        (model / "config.json").write_text(text)
        self.refused(model, r"config\.json: must")

    def test_config_edited(self, model):
        text = (model / "config.json").read_text()
        (model / "config.json").write_text(text.replace('"hidden": 4', '"hidden": 8'))
        self.refused(model, r"config\.json: was changed")

    def test_config_reformatted_is_the_same(self, model):
        manifest = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(manifest, sort_keys=True))
        assert_loads(model)

    def test_truncated_weights(self, model):
        data = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(data[:-1])
        self.refused(model, r"model\.safetensors: must have .* bytes; got")

    def test_weights_of_another_model(self, model, tmp_path):
        other = save_model_folder(tmp_path / "other", CONFIG, tensors(7))
        (model / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
        self.refused(model, r"model\.safetensors: does not match its checksum")

    def test_weights_of_another_shape_without_checksums(self, model, tmp_path):
        turned = tensors() | {"deep.weight": tensors()["deep.weight"].reshape(4, 5)}
        other = save_model_folder(tmp_path / "other", CONFIG, turned)
        (model / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
        self.refused(model, "other tensors than the manifest says", verify=False)

    def test_unreadable(self, model, monkeypatch):
        def refuse(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
        self.refused(model, "Permission denied")


class TestDestination:
    def test_free_or_replaceable(self, model, tmp_path):
        check_destination(tmp_path / "new" / "deep" / "m")
        check_destination(model, overwrite=True)
        assert siblings(model) == ["m"]

    def test_taken(self, model):
        with pytest.raises(FileFormatError, match="already holds"):
            check_destination(model)

    def test_below_a_file(self, model):
        with pytest.raises(FileFormatError, match="is a file"):
            check_destination(model / "config.json" / "m")

    def test_no_permission(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, mode: False)
        with pytest.raises(FileFormatError, match="may write to"):
            check_destination(tmp_path / "m")


def test_check_shapes_names_the_tensor():
    have = {"w": np.zeros((2, 3)), "b": np.zeros(3)}
    check_shapes("m", have, {"w": (2, 3), "b": (3,)})
    for shapes, match in (
        ({"w": (3, 2), "b": (3,)}, r"tensor w must be \(3, 2\)"),
        ({"w": (2, 3)}, "tensor b is not part"),
        ({"w": (2, 3), "b": (3,), "c": ()}, "tensor c"),
    ):
        with pytest.raises(ModelFolderError, match=match):
            check_shapes("m", have, shapes)


def test_other_exceptions_pass_and_leave_nothing(tmp_path):
    def fails_inside():
        with replacing_folder(tmp_path / "x") as folder:
            (folder / "part").write_text("half")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        fails_inside()
    assert not list(tmp_path.iterdir())


def test_every_file_is_readable_as_the_umask_says(model, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    assert {file.stat().st_mode for file in model.iterdir()} == {plain.stat().st_mode}
