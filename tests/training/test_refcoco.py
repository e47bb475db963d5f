"""The reader of RefCOCO's pickles: all of Python 2's plain data, and nothing that runs."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from tests.training.refer_files import python2, refs
from training.dataset.records import DatasetError
from training.dataset.refcoco import read_refs


def written(folder: Path, data: bytes) -> Path:
    path = folder / "refs(unc).p"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_plain_data(tmp_path: Path, protocol: int) -> None:
    assert read_refs(written(tmp_path, pickle.dumps(refs(lists=False), protocol))) == refs(
        lists=False
    )


def test_python_2_text_numbers_and_longs(tmp_path: Path) -> None:
    content = [{b"split": b"val", b"raw": "tap\u00e9", b"ann_id": 5, b"image_id": 2**40}]
    (ref,) = read_refs(written(tmp_path, python2(content)))
    assert ref == {"split": "val", "raw": "tap\u00e9", "ann_id": 5, "image_id": 2**40}


def test_python_2_binary_strings(tmp_path: Path) -> None:
    # protocol 2: SHORT_BINSTRING, a str of Python 2; one in UTF-8, one in Latin-1
    for data, text in [(b"caf\xc3\xa9", "caf\u00e9"), (b"caf\xe9", "caf\ufffd")]:
        pickled = b"\x80\x02]U" + bytes([len(data)]) + data + b"a."
        assert read_refs(written(tmp_path, pickled)) == [text]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_is_refused_by_name(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    data = pickle.dumps([{"split": "val", "ref_id": Evil(trap)}], protocol)
    with pytest.raises(DatasetError, match=r"refs\(unc\)\.p: .*asks for (posix|nt)\.mkdir"):
        read_refs(written(tmp_path, data))
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()  # so the pickle does what it is refused for


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"(S'echo'\nios\nsystem\n.", r"asks for os\.system"),  # INST, protocol 0 alone has it
        (b"cos\nsystem\n.", r"asks for os\.system"),
        (pickle.dumps([OrderedDict()]), r"asks for collections\.OrderedDict"),
        (pickle.dumps([len]), r"asks for builtins\.len"),
        (b"\x80\x02Ppersistent\n.", "plain pickle"),
        (b"\x80\x02\x82\x01.", "plain pickle"),  # EXT1
        (b"", "plain pickle"),
        (b"hello", "plain pickle"),
        (pickle.dumps(refs(lists=False))[:-20], "plain pickle"),
        (pickle.dumps({"split": "val"}), "holds a dict, not a list"),
    ],
)
def test_what_is_no_plain_list_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"refs\(unc\)\.p: .*{says}"):
        read_refs(written(tmp_path, data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"refs\(unc\)\.p: no such file"):
        read_refs(tmp_path / "refs(unc).p")
