"""Tables of files and labels as spreadsheets and scripts write them, right and wrong."""

import pytest

from snndelay.data.tables import Listed, first_file, read_table
from snndelay.errors import DataError


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_list_has_its_columns_in_any_order(tmp_path):
    put(tmp_path, "no/0.wav", "yes/0.wav")
    lines = [
        "split,speaker,file,label,mood",
        "train,ann,no/0.wav,no,good",
        "test,bob,yes/0.wav,yes,bad",
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    found = read_table(tmp_path / "list.csv", tmp_path)
    wanted = [Listed("no/0.wav", "no", "ann", "train"), Listed("yes/0.wav", "yes", "bob", "test")]
    assert found == wanted
    assert [c.label for c in read_table(tmp_path / "list.csv", tmp_path, "mood")] == ["good", "bad"]
    (tmp_path / "upper.csv").write_text("\n".join([lines[0].upper(), *lines[1:]]))
    assert read_table(tmp_path / "upper.csv") == wanted
    (tmp_path / "semicolons.csv").write_text("\n".join(lines).replace(",", ";"))
    assert read_table(tmp_path / "semicolons.csv") == wanted
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a first line"),
        ("file,label\n", "needs a first line `file,label`"),
        ("file,word\nno/0.wav,no", "needs a first line `file,label`"),
        ("file,label\nno/9.wav,no", "row 2: there is no file"),
        ("file,label\nno/0.wav,", "row 2: a field is empty"),
        (f"file,label\n{'x' * 5000},no", "row 2: there is no file"),
        ("file,label\n..,no", "row 2: there is no file"),
        ("file,label\na,x\nno/0.wav,x\nb,x", r"row 2: there is no file .*a \(2 such rows in all"),
        ("file,label\nno/0.wav", "row 2: a field is empty"),
        ("file,label,split\nno/0.wav,no,tset", "row 2: no split 'tset': did you mean test"),
    ],
)
def test_a_list_that_cannot_be_is_one_sentence(tmp_path, text, words):
    put(tmp_path, "no/0.wav", "yes/0.wav")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "list.csv", tmp_path)


def test_splits_have_many_names_and_none_is_train(tmp_path):
    put(tmp_path, *"abcd")
    text = "file,label,split\na,x, Test\nb,x,\n\nc,x,VAL\nd,y,training\n"
    (tmp_path / "list.csv").write_text(text)
    rows = read_table(tmp_path / "list.csv")
    assert [(r.path, r.split) for r in rows] == [
        ("a", "test"), ("b", "train"), ("c", "valid"), ("d", "train"),
    ]  # fmt: skip
    (tmp_path / "list.csv").write_text(text + '"no\nsuch",z,test\n')
    with pytest.raises(DataError, match="row 8: there is no file"):
        read_table(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("text", "first"),
    [("file;label\n a.raw ;x\n", "a.raw"), ("name,label\na.raw,x\n", ""), ("file,label\n", ""),
     ("\xff", "")],
)  # fmt: skip
def test_the_first_file_tells_what_is_listed(tmp_path, text, first):
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    assert first_file(tmp_path / "list.csv") == first
