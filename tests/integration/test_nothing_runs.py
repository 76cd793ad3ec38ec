"""Nothing that is loaded runs code, and nothing that it names is fetched. Each payload is harmless: it makes a file.

Every test comes with its control, which shows that a careless reader would have run the payload.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import h5py
import hydra.utils
import jinja2
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from spi_lightning.commands.scored import scored_run
from spi_lightning.config.targets import ALLOWED, check_target
from spi_lightning.errors import SpiError
from spi_lightning.inference.scores import read_scores
from spi_lightning.patterns import open_run
from spi_lightning.report.page import write_page
from spi_lightning.selection.selection_file import read_findings
from tests.integration.bad_inputs import run_here
from tests.integration.conftest import BIN, SMALL

CONFIG = "trained/config.yaml"
EVALUATE, SELECT = "spi-evaluate run=trained", "spi-select run=trained callbacks=none"
PREDICT = "spi-predict ensemble=trained/ensemble data.path=simulated/patterns.cxi callbacks=none run=out"
RESUME = " ".join(SMALL[1])


class Payload:
    """Pickled, it makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with a copy of a simulation, a training and a prediction."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that a payload would make."""
    return tmp_path / "it-ran"


def refused(command: str, *words: str) -> None:
    status, stdout, stderr = run_here(command)
    assert status == 1, stdout + stderr
    assert [word for word in words if word not in stderr] == []
    assert "Traceback" not in stderr


def ran(marker: Path) -> bool:
    """Whether the payload has run; it may then run again."""
    there = marker.exists()
    marker.unlink(missing_ok=True)
    return there


# --- pickles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["torch's zip", "torch's old form", "a bare pickle"])
@pytest.mark.parametrize("command", [EVALUATE, RESUME])
def test_a_pickle_in_a_checkpoint(form: str, command: str, here: Path, marker: Path) -> None:
    path = here / "trained/folds/0/last.ckpt"
    content = {**torch.load(path, weights_only=True), "more": Payload(marker)}
    if form == "a bare pickle":
        path.write_bytes(pickle.dumps(content["more"]))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch's zip")
        torch.load(path, weights_only=False)
    assert ran(marker)
    if command == RESUME:
        (here / "trained/folds/0/predictions.h5").unlink()
    refused(command, "folds/0/last.ckpt")
    assert not ran(marker)


def test_a_pickle_in_place_of_the_weights_of_an_ensemble(here: Path, marker: Path) -> None:
    folder = here / "trained/ensemble"
    content = pickle.dumps(Payload(marker))
    pickle.loads(content)
    assert ran(marker)
    (folder / "weights.safetensors").write_bytes(content)
    facts = json.loads((folder / "ensemble.json").read_text())
    (folder / "ensemble.json").write_text(json.dumps(facts | {"weights_sha256": sha256(content).hexdigest()}))
    refused(PREDICT, "weights.safetensors", "not a safetensors file")
    assert not ran(marker)


@pytest.mark.parametrize("key", ["data.prepare.mask_file", "data.prepare.labels.path"])
def test_objects_in_an_array(key: str, here: Path, marker: Path) -> None:
    values = np.empty((96, 48), dtype=object)
    values[:] = Payload(marker)
    np.save(here / "bad.npy", values)
    np.load(here / "bad.npy", allow_pickle=True)
    assert ran(marker)
    refused(f"spi-inspect data.path=simulated/patterns.cxi {key}=bad.npy run=out", "bad.npy")
    assert not ran(marker)


def test_a_pickle_in_an_attribute_and_in_a_dataset_of_a_file_of_scores(here: Path, marker: Path) -> None:
    path = here / "predicted/scores.h5"
    content = np.void(pickle.dumps(Payload(marker)))
    with h5py.File(path, "a") as file:
        for name in ("source", "mirrors", "more"):
            file.attrs[name] = content
        pickle.loads(file.attrs["more"].tobytes())
        del file["id"]
        file["id"] = np.array([content] * 120)
    assert ran(marker)
    refused("spi-select run=predicted callbacks=none", "predicted/scores.h5")
    assert not ran(marker)


# --- HDF5 --------------------------------------------------------------------------------------------------------


VALUE = 0.625


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of numbers that is nobody's business."""
    path = tmp_path / "secret.bin"
    np.full(120, VALUE, np.float32).tofile(path)
    return path


def leak(kind: str, file: h5py.Group, name: str, secret: Path) -> None:
    """Put a dataset of the secret's values into a file; the plain reader sees them."""
    raw = secret.with_suffix(".h5")
    with h5py.File(raw, "w") as other:
        if kind == "a virtual one of raw bytes":
            other.create_dataset("x", (120,), np.float32, external=[(str(secret), 0, 480)])
        else:
            other["x"] = np.fromfile(secret, np.float32)
    if name in file:
        del file[name]
    if kind == "raw bytes elsewhere":
        file.create_dataset(name, (120,), np.float32, external=[(str(secret), 0, 480)])
    elif kind == "an external link":
        file[name] = h5py.ExternalLink(str(raw), "/x")
    else:
        layout = h5py.VirtualLayout((120,), np.float32)
        layout[:] = h5py.VirtualSource(str(raw), "x", (120,))
        file.create_virtual_dataset(name, layout)
    assert (file[name][()] == VALUE).all()


LEAKS = ["raw bytes elsewhere", "an external link", "a virtual one of raw bytes"]


@pytest.mark.parametrize("kind", LEAKS)
def test_scores_from_another_file(kind: str, here: Path, secret: Path) -> None:
    with h5py.File(here / "predicted/scores.h5", "a") as file:
        leak(kind, file, "probability", secret)
    with pytest.raises(SpiError, match="refused"):
        read_scores(here / "predicted/scores.h5")


@pytest.mark.parametrize("kind", LEAKS)
def test_findings_from_another_file(kind: str, here: Path, secret: Path) -> None:
    with h5py.File(here / "predicted/selection.h5", "a") as file:
        leak(kind, file, "score", secret)
    with pytest.raises(SpiError, match="not read"):
        read_findings(here / "predicted/selection.h5")


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize("name", ["mask", "labels", "source_1/energy"])
def test_what_lies_beside_patterns_from_another_file(kind: str, name: str, here: Path, secret: Path) -> None:
    with h5py.File(here / "bad.cxi", "w") as file:
        image = file.create_group("entry_1/image_1")
        image["data"] = np.ones((120, 12, 10), np.uint8)
        leak(kind, image, name, secret)
    said: list[object] = []
    with contextlib.suppress(SpiError):
        run = open_run(here / "bad.cxi")
        said = [run.labels, run.mask, run.geometry.photon_energy]
    assert not any(np.any(np.asarray(each, dtype=np.float64) == VALUE) for each in said)


def test_a_link_to_a_pipe_does_not_wait_for_it(here: Path) -> None:
    os.mkfifo(here / "pipe")
    with h5py.File(here / "bad.h5", "w") as file:
        file["frames"] = h5py.ExternalLink("pipe", "/x")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["head", "-c", "1", "pipe"], timeout=0.3, check=True)  # a plain reader waits for ever
    refused("spi-inspect data.path=bad.h5 data.dataset=frames run=out", "pipe", "not a regular file")


PLUGIN = r"""
#include <stddef.h>
#include <stdio.h>
typedef struct { int version, id; unsigned encoder, decoder; const char *name; void *can, *set; size_t (*filter)(
    unsigned, size_t, const unsigned *, size_t, size_t *, void **); } H5Z_class2_t;
static size_t pass(unsigned f, size_t n, const unsigned *v, size_t bytes, size_t *size, void **data) { return bytes; }
static const H5Z_class2_t ours = {1, 32123, 1, 1, "marker", NULL, NULL, pass};
__attribute__((constructor)) static void run(void) { FILE *file = fopen(MARKER, "w"); if (file) fclose(file); }
int H5PLget_plugin_type(void) { return 0; }
const void *H5PLget_plugin_info(void) { return &ours; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make a filter plugin with")
def test_a_filter_plugin_beside_a_file(here: Path, marker: Path) -> None:
    """A file can ask for a filter by number; which libraries are looked at, only HDF5_PLUGIN_PATH says."""
    (here / "plugin.c").write_text(PLUGIN)
    build = ["gcc", "-shared", "-fPIC", f'-DMARKER="{marker}"', "-o", "libmarker.so", "plugin.c"]
    subprocess.run(build, cwd=here, check=True)
    read = (
        "import h5py, numpy; file = h5py.File('bad.h5', 'w'); "
        "made = file.create_dataset('frames', (2, 8, 8), 'u1', chunks=(1, 8, 8), compression=32123); "
        "made[:] = numpy.ones((2, 8, 8))"
    )
    plugins = os.environ | {"HDF5_PLUGIN_PATH": str(here)}
    subprocess.run([sys.executable, "-c", read], cwd=here, env=plugins, check=True, timeout=60)
    assert ran(marker)
    refused("spi-inspect data.path=bad.h5 run=out", "filter 32123", "not installed")
    assert not ran(marker)


# --- configs -----------------------------------------------------------------------------------------------------

EVIL = [
    *("os.mkdir", "os.system", "builtins.eval", "builtins.__import__", "subprocess.Popen", "subprocess.run"),
    *("torch.load", "code.InteractiveInterpreter.runsource", "runpy.run_path", "pickle.loads", "pathlib.Path.touch"),
    *("hydra.utils.call", "hydra.utils.instantiate", "spi_lightning.config.launch.launch", "spi_lightning.cores.os"),
    *("spi_lightning.training.losses.torch.load", "spi_lightning.models.small_cnn.nn.Module", "", "os", ".."),
]


@pytest.mark.parametrize("role", ALLOWED)
def test_no_role_takes_a_target_that_is_not_on_its_list(role: str, marker: Path) -> None:
    hydra.utils.instantiate({"_target_": "os.mkdir", "path": str(marker)})
    assert marker.is_dir()
    marker.rmdir()
    for target in EVIL:
        with pytest.raises(SpiError, match="not on the list"):
            check_target({"_target_": target, "path": str(marker)}, "key", role)
    assert not marker.exists()


@pytest.mark.parametrize("word", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_hydras_own_words_are_keys_like_others(word: str) -> None:
    block = {"_target_": "spi_lightning.training.losses.CrossEntropy", word: True}
    with pytest.raises(SpiError, match="no such key"):
        check_target(block, "loss", "loss")


PLACES = ("model", "loss", "optimizer", "scheduler", "augmentation", "callbacks.psd", "steps.size", "logger.csv")


@pytest.mark.parametrize("place", [*PLACES, "callbacks.em.em", "trainer", "hydra.callbacks.mine", "hydra.launcher", ""])
def test_a_target_in_the_config_of_a_loaded_run(place: str, here: Path, marker: Path) -> None:
    config = OmegaConf.load(here / CONFIG)
    evil = {"_target_": "os.mkdir", "path": str(marker)}
    hydra.utils.instantiate(evil)
    marker.rmdir()
    OmegaConf.update(config, f"{place}._target_".lstrip("."), evil["_target_"], force_add=True)
    OmegaConf.update(config, f"{place}.path".lstrip("."), evil["path"], force_add=True)
    OmegaConf.save(config, here / CONFIG)
    with pytest.raises(SpiError, match=r"config\.yaml"):
        scored_run(here / "trained")  # as spi-select does
    assert not marker.exists()


def test_every_command_that_loads_a_run_refuses_hydras_keys_in_its_config(here: Path, marker: Path) -> None:
    evil = {"mine": {"_target_": "os.mkdir", "path": str(marker)}}
    text = (here / CONFIG).read_text() + yaml.safe_dump({"hydra": {"callbacks": evil, "searchpath": ["file:///"]}})
    (here / CONFIG).write_text(text)
    for command in (EVALUATE, SELECT, RESUME, "spi-reproduce run=trained"):
        refused(command, "hydra")
    assert run_here("spi-report run=trained")[0] == 0  # which shows it as text
    assert not marker.exists()


SECRET = "SPI_TEST_SECRET"


@pytest.mark.parametrize(
    "value",
    [
        f"${{oc.env:{SECRET}}}",
        f"${{oc.decode:${{oc.env:{SECRET}}}}}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
        "${part_folder:a,b,1}",
    ],
)
def test_interpolations_in_a_loaded_config_stay_text(value: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "abcdef123456")
    if "oc.env" in value:
        assert OmegaConf.create({"it": value}).it == "abcdef123456"
    config = OmegaConf.load(here / CONFIG)
    config.data.path = value
    OmegaConf.save(config, here / CONFIG)
    with pytest.raises(SpiError) as error:
        scored_run(here / "trained")  # as spi-select and spi-evaluate do
    assert value in str(error.value)
    page = write_page(here / "trained").read_text()
    assert "abcdef123456" not in str(error.value) + page


@pytest.mark.parametrize("file", [CONFIG, "predicted/config.yaml"])
def test_yaml_tags_in_a_loaded_config(file: str, here: Path, marker: Path) -> None:
    bad = f"data: !!python/object/apply:os.mkdir ['{marker}']\n"
    yaml.unsafe_load(bad)
    marker.rmdir()
    (here / file).write_text(bad)
    folder = file.partition("/")[0]
    refused(f"spi-select run={folder} callbacks=none", "config.yaml", "python/object/apply")
    run_here(f"spi-report run={folder}")
    assert not marker.exists()


def test_plugins_of_hydra_beside_the_data_and_in_a_run_folder(here: Path, marker: Path) -> None:
    for place in (here, here / "trained"):
        (place / "hydra_plugins").mkdir()
        (place / "hydra_plugins/mine.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
        (place / "sitecustomize.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    subprocess.run([sys.executable, "-c", "import hydra_plugins.mine"], cwd=here, check=True)
    assert ran(marker)
    done = subprocess.run([BIN / "spi-report", "run=trained"], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not ran(marker)


# --- what is shown -----------------------------------------------------------------------------------------------

SHOWN = (
    "<script>document.title='ran'</script><img src=x onerror=alert(1)><svg onload=alert(1)> {{ 'x' * 9 + 'ran' }} "
    "{% for x in ().__class__.__base__.__subclasses__() %}x{% endfor %} [a](javascript:alert(1)) "
    "![b](http://example.org/c.png) <a href='javascript:alert(1)'>d</a> </style><style>e</style>"
)


class Elements(HTMLParser):
    """Counts what a browser would act on: elements with their attributes, but for what is drawn and said."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found[tag if tag in ("script", "iframe", "svg", "style", "object", "link") else ""] += 1
        for name, value in attributes:
            if name.startswith("on") or (name in ("href", "src") and not (value or "").startswith(("data:image", "#"))):
                self.found[f"{name}={value}"] += 1


def test_nothing_that_is_read_becomes_part_of_the_page(here: Path) -> None:
    assert {"script", "svg", "onerror=alert(1)", "href=javascript:alert(1)"} <= set(Elements(SHOWN).found)
    assert "xxxxxxxxxran" in jinja2.Template(SHOWN).render()
    folder = here / "trained"
    write_page(folder)
    clean = Elements((folder / "report.html").read_text()).found
    for path in (folder / "tables").glob("*.md"):
        path.write_text(
            path.read_text() + f"\n# {SHOWN}\n\n{SHOWN}\n\n| {SHOWN} | b |\n| --- | --- |\n| c | {SHOWN} |\n"
        )
    for name in ("config.yaml", "provenance.json", "status.json"):
        reader = yaml.safe_load if name.endswith("yaml") else json.loads
        content = reader((folder / name).read_text())
        content |= {"notes": [SHOWN], "commit": SHOWN, "state": SHOWN, "data": SHOWN, "seed": SHOWN, SHOWN: SHOWN}
        (folder / name).write_text(json.dumps(content))
    for path in (folder / "tables").glob("selection*.csv"):
        quoted = '"' + SHOWN.replace('"', '""') + '"'
        path.write_text("".join(f"{line.replace('singles', quoted, 1)}\n" for line in path.read_text().splitlines()))
    with h5py.File(folder / "selection.h5", "a") as file:
        file.attrs["notes"] = json.dumps([SHOWN])
    html = write_page(folder).read_text()
    found = Elements(html).found
    assert found - clean <= Counter({"": found[""]})  # more rows and items, nothing that acts
    assert html.count("&lt;script&gt;") >= 5
    assert "xxxxxxxxxran" not in html


def test_nothing_that_is_read_becomes_part_of_the_page_of_a_sweep(here: Path) -> None:
    def page_of(word: str, folder: str) -> str:
        job = {"name": word, "folder": folder, "overrides": {word: word, "seed": word}, "state": "failed"}
        job |= {"error": word, "traceback": word, "seconds": 1.0}
        other = {**job, "name": "b", "folder": "b", "overrides": {word: "2", "seed": "2"}, "state": "missing"}
        record = {"command": word, "started": word, "ended": word, "swept": [word, "seed"], "jobs": [job, other]}
        (here / "sweep").mkdir(exist_ok=True)
        (here / "sweep/sweep.json").write_text(json.dumps(record))
        status, _, stderr = run_here("spi-report run=sweep")
        assert status == 0, stderr
        return (here / "sweep/report.html").read_text()

    shutil.copytree(here / "trained", here / "sweep/a")
    clean = Elements(page_of("a", "a")).found
    for folder in ("a", "../trained", str(here / "trained"), SHOWN):
        html = page_of(SHOWN, folder)
        assert {name for name in (Elements(html).found - clean) if name and not name.startswith("href=")} == set()
        assert not [name for name in Elements(html).found if "javascript" in name or "example.org" in name]
        assert "&lt;script&gt;" in html
        assert "xxxxxxxxxran" not in html


def test_names_that_a_shell_would_run(here: Path, marker: Path) -> None:
    name = f"a;touch {marker.name};$(touch {marker.name})`touch {marker.name}`.cxi"
    shutil.copy(here / "simulated/patterns.cxi", here / name)
    subprocess.run(f"ls {name}", shell=True, capture_output=True, cwd=here, check=False)
    assert ran(here / marker.name)
    with contextlib.chdir(here):
        status, _, stderr = run_here(f"""spi-inspect 'data.path="{name}"' 'run="out;touch {marker.name}"'""")
    assert status == 0, stderr
    assert not ran(here / marker.name)
