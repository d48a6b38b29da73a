"""Takes from a process what it does not need: files by Landlock, system calls by a seccomp filter.

Both are for good, and for what the process starts later. The kernel's own interfaces are used: the
bindings on PyPI were not released for years, and start programs to find a library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping

from hyperlight_core.errors import HypervisorError

__all__ = ["confine_files", "confine_system_calls", "die_with_parent"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
#: prctl(2).
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _SIGKILL = 1, 38, 9


def _call(name: str, number: int, *arguments: int | bytes | None) -> int:
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        code = ctypes.get_errno()
        raise HypervisorError(code, f"{name}: {os.strerror(code)}")
    return result


def _prctl(option: int, value: int) -> None:
    _call("prctl", 157, option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """End this process when the thread of `parent` that made it ends; at once if it has already."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# ---- files: landlock(7) ------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE, _READ, _IOCTL_DEVICE = 1 << 0, 1 << 1, 1 << 2, 1 << 15
#: Bits of file access that each version of the interface knows, up to the seventh.
_FILE_BITS = (0, 13, 14, 15, 15, 16, 16, 16)


def _everything() -> tuple[int, bytes]:
    """All accesses to files, and `struct landlock_ruleset_attr` of all that can be refused."""
    version = _call("landlock_create_ruleset", _CREATE_RULESET, None, 0, 1)
    files = (1 << _FILE_BITS[min(version, 7)]) - 1
    network_and_scopes = [0b11] * (version >= 4) + [0b11] * (version >= 6)
    return files, struct.pack(f"={1 + len(network_and_scopes)}Q", files, *network_and_scopes)


def confine_files(allowed: Mapping[str, int]) -> None:
    """Let this thread, and those it starts, open no files but these.

    Args:
        allowed: path, and os.O_RDONLY or os.O_RDWR.

    Raises:
        HypervisorError: this kernel has no Landlock.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    known, attributes = _everything()
    rules = _call("landlock_create_ruleset", _CREATE_RULESET, attributes, len(attributes), 0)
    for path, flags in allowed.items():
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        access = _READ if flags == os.O_RDONLY else _READ | _WRITE | _IOCTL_DEVICE
        # `struct landlock_path_beneath_attr`, of the type LANDLOCK_RULE_PATH_BENEATH.
        rule = struct.pack("=Qi", access & known, file)
        _call("landlock_add_rule", _ADD_RULE, rules, 1, rule, 0)
        os.close(file)
    _call("landlock_restrict_self", _RESTRICT_SELF, rules, 0)
    os.close(rules)


# ---- system calls: seccomp(2) ------------------------------------------------------------------

#: What a process that runs a VM needs, by number: arch/x86/entry/syscalls/syscall_64.tbl. A thread
#: that is still starting calls set_robust_list and rseq; the C library aborts where it may not.
_ALLOWED = {
    "read": 0,
    "write": 1,
    "close": 3,
    "fstat": 5,
    "poll": 7,
    "lseek": 8,
    "munmap": 11,
    "brk": 12,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "pread64": 17,
    "pwrite64": 18,
    "sched_yield": 24,
    "mremap": 25,
    "madvise": 28,
    "getpid": 39,
    "sendto": 44,
    "recvfrom": 45,
    "sendmsg": 46,
    "recvmsg": 47,
    "exit": 60,
    "ftruncate": 77,
    "sigaltstack": 131,
    "gettid": 186,
    "futex": 202,
    "restart_syscall": 219,
    "clock_gettime": 228,
    "clock_nanosleep": 230,
    "exit_group": 231,
    "ppoll": 271,
    "fallocate": 285,
    "set_robust_list": 273,
    "eventfd2": 290,
    "getrandom": 318,
    "memfd_create": 319,
    "rseq": 334,
}
_PROT_EXEC, _F_DUPFD_CLOEXEC, _KVMIO = 4, 1030, 0xAE00


def _conditional() -> list[tuple[int, int, int, int]]:
    """Number, argument, mask and value: the calls that are allowed with some arguments only."""
    everything = 0xFFFFFFFF
    return [
        (9, 2, _PROT_EXEC, 0),  # mmap
        (10, 2, _PROT_EXEC, 0),  # mprotect
        (16, 1, 0xFF00, _KVMIO),  # ioctl, of which only KVM's
        (72, 1, everything, _F_DUPFD_CLOEXEC),  # fcntl
        (234, 0, everything, os.getpid()),  # tgkill
    ]


# linux/filter.h, linux/bpf_common.h and linux/seccomp.h
_LOAD, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _REFUSE, _KILL_PROCESS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_AUDIT_ARCH_X86_64, _NUMBER, _ARCHITECTURE, _ARGUMENTS = 0xC000003E, 0, 4, 16


def _filter() -> list[tuple[int, int, int, int]]:
    """Instructions: code, jump if true, jump if false, operand. What no rule allows gives EPERM."""
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in _ALLOWED.values():
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number, argument, mask, value in _conditional():
        program += [
            (_JUMP_EQUAL, 0, 5, number),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),  # its lower half
            (_AND, 0, 0, mask),
            (_JUMP_EQUAL, 0, 1, value),
            (_RETURN, 0, 0, _ALLOW),
            (_LOAD, 0, 0, _NUMBER),
        ]
    return [*program, (_RETURN, 0, 0, _REFUSE)]


def confine_system_calls() -> None:
    """Let all threads of this process make no system calls but those that running a VM needs.

    Raises:
        HypervisorError: this kernel has no seccomp filters.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    program = _filter()
    code = ctypes.create_string_buffer(
        b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    )
    # `struct sock_fprog`; SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_TSYNC.
    description = struct.pack("@HP", len(program), ctypes.addressof(code))
    _call("seccomp", 317, 1, 1, description)
