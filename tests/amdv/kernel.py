"""Debian's kernel and the modules that the emulated machine needs, as a kernel and an initramfs."""

from __future__ import annotations

import lzma
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["fetch_kernel", "initramfs", "modules"]

PACKAGE = "linux-image-amd64"
#: AMD-V itself; a file system that QEMU serves; one that keeps writes in memory.
MODULES = ("kvm_amd", "virtio_pci", "9pnet_virtio", "9p", "overlay")


def fetch_kernel(cache: Path) -> Path:
    """The unpacked kernel package, which is not installed: apt fetches and verifies it.

    Raises:
        SystemExit: apt does not know it.
        subprocess.CalledProcessError: it cannot be had.
    """
    depends = _output("apt-cache", "depends", "--important", PACKAGE)
    found = re.search(r"Depends: (linux-image-[0-9]\S+)", depends)
    if not found:
        raise SystemExit(f"apt does not know {PACKAGE}; to mend it: sudo apt-get update")
    name = found[1]
    place = cache / name
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", name], cwd=cache, check=True)
        package = next(cache.glob(f"{name}_*.deb"))
        half_done = cache / "unpacking"
        subprocess.run(["dpkg-deb", "-x", package, half_done], check=True)
        half_done.rename(place)
        package.unlink()
    return place


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def modules(kernel: Path) -> Iterator[bytes]:
    """The modules and those they depend on, each after what it depends on."""
    files = {_module_name(path): path for path in kernel.glob("**/*.ko*")}
    done: set[str] = set()

    def load(name: str) -> Iterator[bytes]:
        if name in done or name not in files:
            return  # a module that is not there is built into the kernel
        done.add(name)
        content = files[name].read_bytes()
        content = lzma.decompress(content) if files[name].suffix == ".xz" else content
        # modinfo(8): the section .modinfo has strings, one of them names the dependencies.
        depends = re.search(rb"\0depends=([^\0]+)\0", content)
        for other in depends[1].decode().split(",") if depends else ():
            yield from load(other.replace("-", "_"))
        yield content

    for name in MODULES:
        yield from load(name)


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def initramfs(files: Mapping[str, bytes]) -> bytes:
    """A cpio archive, "newc" of cpio(5), of executable files in directories of depth one."""
    folders = sorted({name.partition("/")[0] for name in files if "/" in name})
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    """Inode, mode, owner, group, links, time, size, four device numbers, size of name, checksum."""
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = "070701" + "".join(f"{field:08x}" for field in fields) + name + "\0"
    return _padded(header.encode()) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
