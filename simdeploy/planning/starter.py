"""Two small files to begin with, an environment and an upgrade of it, each beside the schema that its first line names."""

from __future__ import annotations

import pathlib

from simdeploy.errors import Fault, FileError
from simdeploy.planning.schema import FILES, schema_text

TEMPLATES = pathlib.Path(__file__).parent.parent / "templates"


def write_starter(folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the files into *folder*, which is made if need be; the paths written, the upgrade last.

    Raises FileError, and writes nothing, where one of them is there already.
    """
    texts = {f"{file}.schema.json": schema_text(file) for file in FILES}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob("*.yaml"))}
    there = [path for name in texts if (path := folder / name).exists()]
    if there:
        way_out = "move it away, or name another folder: simdeploy init DIR"
        raise FileError([Fault(str(path), 1, 1, f"is there already and is kept; {way_out}") for path in there])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"cannot be written to ({error.strerror}); name a folder that you may write to"
        raise FileError([Fault(str(folder), 1, 1, message)]) from None
    return [folder / name for name in texts]
