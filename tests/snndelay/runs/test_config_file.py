"""Files of settings that are made to harm: one sentence each that names the file, at once."""

import os
import time

import pytest

from snndelay.errors import ConfigError
from snndelay.runs.cli import main
from snndelay.runs.config_file import MOST_BYTES, read_config

from ...helpers_formats import mutants
from ...helpers_training import call


def laughs(n: int) -> str:
    """n lists of nine of the one before: 9 to the power of n words."""
    lists = [f"x{k}: &x{k} [{', '.join([f'*x{k - 1}'] * 9)}]\n" for k in range(1, n)]
    return "x0: &x0 [ha, ha]\n" + "".join(lists) + f"epochs: *x{n - 1}\n"


HOSTILE = {  # name -> (text, what is said)
    "billion laughs": (laughs(10), r"\*x0 is an alias: write out"),
    "itself": ("epochs: &a [*a]", r"\*a is an alias"),
    "merged": ("a: &a {epochs: 1}\n<<: *a", r"\*a is an alias"),
    "5,000 digits": (f"epochs: {'9' * 5000}", "a number of 5,000 digits is no setting"),
    "hexadecimal": (f"epochs: 0x{'f' * 5000}", "a number of 5,002 digits"),
    "code": ('epochs: !!python/object/apply:os.system ["touch ran"]', "python/object/apply"),
    "code, as a name": ("!!python/name:os.system : 1", "python/name"),
    "list": ("[epochs, 1]", "has no settings: write lines such as"),
    "text": ("epochs 20", "has no settings"),
    "set": ("!!set {epochs}", "has no settings"),
    "empty": ("", "has no settings"),
    "twice": ("epochs: 1\nepochs: 2", "epochs stands there more than once"),
    "twice, in JSON": ('{"epochs": 1, "epochs": 2}', "epochs stands there more than once"),
    "no UTF-8": (b"dataset: \xff\xfe", "invalid start byte"),
    "deep": ("epochs: " + "[" * 9000, "recursion"),
    "deep and whole": ("epochs: " + "[" * 9000 + "]" * 9000, "recursion"),
    "NUL": (b"epochs: \0", "x0000"),
    "NUL in a path": (r'dataset: "a\0b"', r"'a\\x00b' is no setting: take out the NUL"),
    "no date": ("epochs: 2001-99-99", "month must be"),
    "no integer": ("epochs: !!int abc", "invalid literal"),
    "no float": ("epochs: !!float ''", "string index"),
    "no boolean": ("cache: !!bool maybe", "maybe"),
    "no time": ("epochs: !!timestamp x", "neither YAML nor JSON"),
    "several": ("epochs: 1\n---\nepochs: 2", "another document"),
    "large": ("epochs: 1\n" + "# \n" * MOST_BYTES, f"settings need {MOST_BYTES:,} at most"),
    "a list for a name": ("? [a]\n: 1", "unhashable key"),
    "a number for a name": ("7: 1", "7 is no setting"),
    "bytes": ("dataset: !!binary aGk=", "give one name"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_one_sentence_at_once(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    text, words = HOSTILE[kind]
    (tmp_path / "a.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(ConfigError, match=rf"^a\.yaml(?s:.*){words}"):
        read_config("a.yaml")
    assert time.process_time() - start < 1
    code, _, err = call(main, "train", "--config", "a.yaml")
    assert code == 2 and err.startswith("error: a.yaml") and len(err.splitlines()) == 1
    assert not (tmp_path / "ran").exists(), "the file ran a program"


def test_many_names_are_read_in_little_time(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("".join(f"k{i}: 1\n" for i in range(6000)))
    start = time.process_time()
    assert len(read_config(str(path))) == 6000
    assert time.process_time() - start < 10


def test_what_files_of_settings_may_hold(tmp_path):
    path = tmp_path / "a.yaml"
    text = "\ufeffdataset: 'café $x$'\ntransfer: off\nlr_max: 1.0e-3\nn_hidden: [8, 4]\n"
    path.write_text(text, encoding="utf-8")
    want = {"dataset": "café $x$", "transfer": "off", "lr_max": 1e-3, "n_hidden": [8, 4]}
    assert read_config(str(path)) == want


def test_places_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", "."):
        with pytest.raises(ConfigError, match="there is no config file"):
            read_config(str(tmp_path / name))


def test_damaged_files_of_settings(tmp_path):
    whole = b"dataset: spoken-digits\nepochs: 20\nn_hidden: [64, 32]\nlr_max: 1.0e-3\ncache: true\n"
    path, errors = tmp_path / "a.yaml", 0
    for raw in mutants([whole, whole.replace(b": ", b': "').replace(b"\n", b'"\n')], 2_000):
        path.write_bytes(raw)
        try:
            assert isinstance(read_config(str(path)), dict)
        except ConfigError as error:
            errors += str(path) in f"{error}"
    assert 500 < errors < 2_000


@pytest.mark.parametrize("option", ["--runs", "--run", "--test-file", "--config", "--dataset"])
def test_a_name_of_any_length_is_one_sentence(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    argv = [*("--n-hidden", 8, "--n-steps", 10, "--units-per-channel", 70, "--epochs", 1)]
    words = [option, "x" * 5000] if option == "--dataset" else ["spoken-digits", option, "x" * 5000]
    code, _, err = call(main, "train", *words, *argv)
    assert code == 2 and len(err.splitlines()) == 1 and "Traceback" not in err, err[-300:]
