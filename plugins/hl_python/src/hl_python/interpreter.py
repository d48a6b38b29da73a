"""What belongs to the interpreter that runs this program, and where it lies in an image.

In the image the interpreter is /usr/bin/python3 and its library /usr/lib/python3.X, wherever they
are on the host; the interpreter finds the second from the first, as any Python does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path

from hyperlight_core.image import ImageFile

__all__ = [
    "PROGRAM",
    "SITE_PACKAGES",
    "STDLIB",
    "Scrubber",
    "interpreter",
    "standard_library",
    "system_files",
]

PROGRAM = "usr/bin/python3"
STDLIB = f"usr/{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = f"{STDLIB}/site-packages"
_ZONEINFO = "usr/share/zoneinfo"

#: Where distributions keep all certificate authorities in one file: Debian, Fedora, SUSE, Alpine.
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
#: Folders of the standard library a sandbox has no use for: tests, GUI, installers, other packages.
_FOLDERS_LEFT_OUT = {
    *("__pycache__", "dist-packages", "ensurepip", "idlelib", "site-packages"),
    *("test", "tests", "tkinter", "turtledemo"),
}
#: Files: the host's site customisation, and what needs the folders above.
_FILES_LEFT_OUT = ("sitecustomize.py", "usercustomize.py", "turtle.py", "EXTERNALLY-MANAGED")
_EXTENSIONS_LEFT_OUT = ("_tkinter.", "_test", "_ctypes_test", "_xxtestfuzz", "xxlimited")


def interpreter() -> Path:
    """The program of the interpreter: a virtual environment's is the one it was made from."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def standard_library() -> Iterator[ImageFile]:
    """Every file of the standard library that a guest may need."""
    for name, path in _walk(str(Path(os.__file__).parent), _wanted_folder):
        if _wanted_file(path.name):
            yield ImageFile(f"{STDLIB}{name}", path)


def _walk(root: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Path]]:
    """Every file below `root`: what follows the root in its path, and its path."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(filter(wanted, folders))
        for path in (f"{folder}/{name}" for name in sorted(files)):
            yield path[len(root) :], Path(path)


def _wanted_folder(name: str) -> bool:
    # config-3.X-… holds what programs that embed Python are linked with.
    return name not in _FOLDERS_LEFT_OUT and not name.startswith("config-")


def _wanted_file(name: str) -> bool:
    if name in _FILES_LEFT_OUT or name.endswith((".pyc", ".a", ".exe")):
        return False
    return not (name.endswith(".so") and name.startswith(_EXTENSIONS_LEFT_OUT))


def system_files() -> Iterator[ImageFile]:
    """The time zones and the certificate authorities, where Python looks for them."""
    for root in list(filter(os.path.isdir, zoneinfo.TZPATH))[:1]:
        for name, path in _walk(root, lambda folder: folder not in ("posix", "right")):
            yield ImageFile(f"{_ZONEINFO}{name}", path)
    with contextlib.suppress(ImportError):  # an interpreter built without OpenSSL
        import ssl  # noqa: PLC0415

        paths = ssl.get_default_verify_paths()
        for bundle in list(filter(os.path.isfile, (paths.cafile or "", *_AUTHORITIES)))[:1]:
            yield ImageFile(Scrubber().path(paths.openssl_cafile), Path(bundle))


class Scrubber:
    """Removes the host's installation prefix from files of the interpreter.

    In text the prefix becomes /usr. In ELF files no byte may move, so there it becomes /usr and as
    many slashes as keep the length, which names the same place.
    """

    def __init__(self, prefix: str = sys.base_prefix) -> None:
        both = dict.fromkeys((prefix, os.path.realpath(prefix)))
        self._prefixes = [path for path in both if _is_private(path)]

    def path(self, path: str) -> str:
        """The name in the image of a file that programs look for under its path on the host."""
        for prefix in self._prefixes:
            path = path.replace(f"{prefix}/", "/usr/", 1)
        return path.lstrip("/")

    def content(self, source: Path) -> bytes | None:
        """The scrubbed content of a file, or None if it can stay as it is."""
        if not self._prefixes or not source.resolve().is_relative_to(self._prefixes[-1]):
            return None
        content = original = source.read_bytes()
        for prefix in self._prefixes:
            content = _scrubbed(content, prefix.encode())
        return None if content == original else content


def _is_private(prefix: str) -> bool:
    """Whether the prefix says something of the host, and is long enough to be replaced."""
    parent = Path(prefix).parent
    return not parent.is_relative_to("/usr") and len(str(parent)) >= len("/usr")


def _scrubbed(content: bytes, prefix: bytes) -> bytes:
    if not content.startswith(b"\x7fELF"):
        return content.replace(prefix, b"/usr")
    content = content.replace(prefix + b"/", b"/usr".ljust(len(prefix), b"/") + b"/")
    # Linkers let one string be the end of another: the version may be the prefix's last part.
    parent = os.path.dirname(prefix)
    return content.replace(prefix, b"/usr".ljust(len(parent), b"/") + prefix[len(parent) :])
