"""Text files of any editor."""

from pathlib import Path

import pytest

from transformers_tcm import Lexicon
from transformers_tcm.text_files import read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_what_notepad_writes_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "words.txt"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes(f"{mark}Caf\u00e9\r\n\u041c\u0418\u0420\r".encode(encoding))
    assert read_text(path) == "Caf\u00e9\n\u041c\u0418\u0420\n"
    assert list(Lexicon.from_file(path)) == ["Caf\u00e9", "\u041c\u0418\u0420"]


def test_other_encodings_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("Caf\u00e9".encode("cp1252"))
    with pytest.raises(ValueError, match=r"words\.txt: not a UTF-8 text file .*; save it as UTF-8"):
        read_text(path)
