"""Stable pseudonyms for image names and patients: HMAC-SHA256 with a key that is kept apart from the set (RFC 2104).

With the key, the pseudonym of a known name can be computed; without it, names and ids cannot be tried out. The map
from names to pseudonyms is written only on request.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets.manifest import Source
from d2_cxr.labels.annotations import Annotations
from d2_cxr.labels.spelling import id_key

_KEY_BYTES = 32
_LENGTH = 16  # hexadecimal digits: 64 bits, so that a million names meet with a chance of 3 in 10^8


class Pseudonyms:
    """Names -> pseudonyms under one key."""

    def __init__(self, key_file: str | Path, output: str | Path):
        """Read the key, or make it where the file does not exist.

        Args:
            key_file: 64 hexadecimal digits; it must not lie in `output`, which is given to others.
            output: folder of the set.

        Raises:
            ValueError: the file is in the set's folder, or is not a key.
        """
        path = Path(key_file)
        if path.resolve().is_relative_to(Path(output).resolve()):
            raise ValueError(f"the key file {path} is in the set's folder {output}; keep it outside the set")
        if not path.exists():
            artifacts.write_text(path, secrets.token_hex(_KEY_BYTES) + "\n")
            os.chmod(path, 0o600)
        try:
            self._key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except ValueError:
            self._key = b""
        if len(self._key) != _KEY_BYTES:
            raise ValueError(f"{path} is not a key file: {2 * _KEY_BYTES} hexadecimal digits are expected")
        self._names: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """Identifies the key in dataset.json without revealing it."""
        return self._code("d2_cxr: fingerprint of the key")

    def of(self, name: str) -> str:
        """Return the pseudonym of an image name, 16 hexadecimal digits."""
        return self._names.setdefault(name, self._code(name))

    def of_patient(self, patient: str) -> str:
        """Return the pseudonym of a patient, the same for all spellings of the id."""
        return self._code("patient " + id_key(patient))

    def rename_source(self, source: Source) -> Source:
        """Return a source under its pseudonym; `file`, which the manifest shows, is one too."""
        return replace(source, image_name=self.of(source.image_name), file=self._code("file " + source.file))

    def rename_annotations(self, table: Annotations | None) -> Annotations | None:
        """Return annotations under pseudonyms."""
        if table is None:
            return None
        return replace(
            table,
            boxes=table.boxes.assign(image_name=table.boxes["image_name"].map(self.of)),
            readings=table.readings.assign(image_name=table.readings["image_name"].map(self.of)),
            image_names=[self.of(name) for name in table.image_names],
            negative_ids=[self.of(name) for name in table.negative_ids],
            sizes=self.rename_keys(table.sizes),
            patients=self.rename_keys(table.patients),
        )

    def rename_keys(self, values: Mapping | None) -> dict | None:
        """Return a mapping from image names with pseudonyms for keys."""
        return None if values is None else {self.of(name): value for name, value in values.items()}

    def write_map(self, path: str | Path, output: str | Path) -> None:
        """Write the CSV of image_name and pseudonym.

        Raises:
            ValueError: the path is in the set's folder.
        """
        if Path(path).resolve().is_relative_to(Path(output).resolve()):
            raise ValueError(f"the map {path} is in the set's folder {output}; keep it outside the set")
        rows = [{"image_name": name, "pseudonym": code} for name, code in sorted(self._names.items())]
        artifacts.write_csv(path, rows, ("image_name", "pseudonym"), for_people=True)

    def _code(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8"), hashlib.sha256).hexdigest()[:_LENGTH]
