"""A folder of pictures: ROOT/<class>/<file>.png, .jpg, .jpeg or .webp, subfolders included."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from langevin.data.sources.source import Source, SourceImage, SourceInfo
from langevin.errors import ConfigError, DataError

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
FORMATS = ("PNG", "JPEG", "WEBP")
_UNSAFE = re.compile(r"[^\w/-]")


class Folder(Source):
    """Pictures cropped about the centre and resized (Lanczos) to (channels, size, size), 256 levels.

    Labels follow the sorted names of the class folders. Transparency lies on white, the camera's rotation is undone.
    ConfigError: channels or size out of range; DataError: no pictures, two with one key, or one that cannot be read.
    """

    def __init__(self, root: str | Path, size: int, channels: int = 3) -> None:
        if channels not in (1, 3):
            raise ConfigError("is no number of channels", field="channels", value=channels, mend="choose 1 or 3")
        if size < 1:
            raise ConfigError("is no size in pixels", field="size", value=size, mend="choose 1 or more")
        files = _pictures(Path(root))
        self.info = SourceInfo("folder", (channels, size, size), levels=256, classes=tuple(files))
        labelled = [(path, label) for label, paths in enumerate(files.values()) for path in paths]
        named: dict[str, Path] = {}
        for path, _ in labelled:
            key = key_of(path.relative_to(root).as_posix())
            if key in named:
                raise DataError(f"has the same key as {named[key].name}", file=path, mend="rename one of the two")
            named[key] = path
        self.keys = tuple(named)
        self._labelled = labelled

    def read(self, index: int) -> SourceImage:
        path, label = self._labelled[index]
        return SourceImage(self.keys[index], read_picture(path, *self.info.shape[:2]), label)


def key_of(relative: str) -> str:
    """The key of "class/file.png": the path without its ending, its unusual characters replaced.

    Where anything was replaced, six characters of the path's hash keep "a b" and "a.b" apart; the key depends on the
    path alone, so more pictures never rename the ones before.
    """
    stem = relative.rpartition(".")[0]
    safe = _UNSAFE.sub("_", stem)
    return safe if safe == stem else f"{safe}-{hashlib.sha256(stem.encode()).hexdigest()[:6]}"


def read_picture(path: Path, channels: int, size: int) -> np.ndarray:
    """uint8 of (size, size) for one channel, (size, size, 3) for three. DataError: damaged, or deeper than 8 bits."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip, not scale, most of such a picture to white
                raise DataError("has more than 8 bits a channel", file=path, mend="save it with 8 bits")
            picture = ImageOps.exif_transpose(image)
            if picture.has_transparency_data:
                opaque = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
            picture = picture.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be read as a picture ({error})", file=path, mend="mend or remove the file") from error
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def _pictures(root: Path) -> dict[str, list[Path]]:
    """Class -> its pictures, both sorted by name."""
    if not root.is_dir():
        raise DataError("is no folder of pictures", file=root, mend="lay the pictures out as ROOT/<class>/<file>.png")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError("holds no class folders", file=root, mend="lay the pictures out as ROOT/<class>/<file>.png")
    found = {folder.name: sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS) for folder in folders}
    for name, paths in found.items():
        if not paths:
            raise DataError("this class has no pictures", file=root / name, mend="fill or remove the folder")
    return found
