"""Two small files to begin with, an environment and an upgrade of it, each beside the schema that its first line names."""

from __future__ import annotations

import contextlib
import os
import pathlib

from simdeploy.errors import Fault, FileError
from simdeploy.planning.schema import FILES, schema_text

TEMPLATES = pathlib.Path(__file__).parent.parent / "templates"


def write_starter(folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the files into *folder*, which is made if need be; the paths written, the upgrade last.

    Raises FileError, and leaves nothing behind, where one of them is there already or cannot be written.
    """
    texts = {f"{file}.schema.json": schema_text(file) for file in FILES}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob("*.yaml"))}
    there = [path for name in texts if os.path.lexists(path := folder / name)]
    if there:
        way_out = "move it away, or name another folder: simdeploy init DIR"
        raise FileError([Fault(str(path), 1, 1, f"is there already and is kept; {way_out}") for path in there])
    made = [path for path in (folder, *folder.parents) if not path.is_dir()]
    written: list[pathlib.Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with open(folder / name, "x", encoding="utf-8") as file:
                written.append(folder / name)
                file.write(text)
    except BaseException as error:
        with contextlib.suppress(OSError):
            for path in written:
                path.unlink()
            for path in made:
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        message = f"cannot be written to ({error.strerror}); name a folder that you may write to"
        raise FileError([Fault(str(folder), 1, 1, message)]) from None
    return written
