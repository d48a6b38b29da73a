"""Types of the cffi binding of the C helper; its contracts are in vmm_c/include/hl_vmm.h.

The classes exist for type checkers only: at run time every value is a cffi `CData`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar, overload

from typing_extensions import Buffer

_T = TypeVar("_T")

class CData:
    """Any C value; a pointer to bytes if nothing else is said."""

class VM(CData):
    """`struct hl_vm *`."""

class Snapshot(CData):
    """`struct hl_snapshot *`."""

class Out(CData, Generic[_T]):
    """Memory of this process for one value that a function returns through a pointer."""

    def __getitem__(self, index: Literal[0], /) -> _T: ...
    def __setitem__(self, index: Literal[0], value: _T, /) -> None: ...

class Config(CData):
    """`struct hl_config *`."""

    memory: int
    in_size: int
    out_size: int
    console_size: int
    flags: int
    image_fd: int

class Exit(CData):
    """`struct hl_exit *`."""

    kind: int
    value: int
    vector: int
    console_used: int
    error_code: int
    address: int
    cpu_ns: int

class Limits(CData):
    """`struct hl_limits *`."""

    deadline_ns: int
    cpu_ns: int

class Registers(CData):
    """`struct hl_registers *`."""

    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    rsp: int
    rbp: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    fs_base: int
    gs_base: int

class Counters(CData):
    """`struct hl_counters *`."""

    exits: int
    ioctls: int
    resets: int
    pages_copied: int
    restores: int

class PageRange(CData):
    """`struct hl_page_range *`."""

    first: int
    count: int

class FFI:
    """The part of cffi's compiled FFI object that this package uses."""

    NULL: Any
    error: type[Exception]

    @overload
    def new(self, cdecl: Literal["hl_vm **"], /) -> Out[VM]: ...
    @overload
    def new(self, cdecl: Literal["hl_snapshot **"], /) -> Out[Snapshot]: ...
    @overload
    def new(self, cdecl: Literal["size_t *"], init: int = ..., /) -> Out[int]: ...
    @overload
    def new(
        self, cdecl: Literal["struct hl_config *"], init: Mapping[str, int] = ..., /
    ) -> Config: ...
    @overload
    def new(self, cdecl: Literal["struct hl_exit *"], /) -> Exit: ...
    @overload
    def new(
        self, cdecl: Literal["struct hl_limits *"], init: Mapping[str, int] = ..., /
    ) -> Limits: ...
    @overload
    def new(
        self, cdecl: Literal["struct hl_registers *"], init: Mapping[str, int] = ..., /
    ) -> Registers: ...
    @overload
    def new(self, cdecl: Literal["struct hl_counters *"], /) -> Counters: ...
    @overload
    def new(self, cdecl: Literal["char[]", "uint8_t[]"], init: int | bytes, /) -> CData: ...
    def buffer(self, cdata: CData, size: int = -1) -> memoryview: ...
    def from_buffer(self, data: Buffer, /) -> CData: ...
    def gc(self, cdata: _T, destructor: Callable[[_T], object] | None, size: int = 0) -> _T: ...
    def memmove(self, dest: CData | Buffer, src: CData | Buffer, n: int) -> None: ...
    def sizeof(self, cdecl: str | CData, /) -> int: ...
    def string(self, cdata: CData, maxlen: int = -1) -> bytes: ...

class Lib:
    """The functions and constants of the helper."""

    HL_EXIT_CALL: int
    HL_EXIT_PARK: int
    HL_EXIT_CONSOLE: int
    HL_EXIT_ENDED: int
    HL_EXIT_FAULT: int
    HL_EXIT_VIOLATION: int
    HL_EXIT_TIMEOUT: int
    HL_EXIT_CPU_TIME: int
    HL_EXIT_KILLED: int
    HL_EXIT_SIGNAL: int

    HL_ABI_VERSION: int
    HL_PAGE_SIZE: int
    HL_BOOT_INFO_ADDRESS: int
    HL_RAM_ADDRESS: int
    HL_VCPU_STATE_SIZE: int
    HL_PREFETCH_MAXIMUM: int
    HL_EXCEPTION_STACK_TOP: int
    HL_GUEST_ADDRESS: int
    HL_IMAGE_ADDRESS: int
    HL_RAM_MAXIMUM: int
    HL_IMAGE_MAXIMUM: int
    HL_PORT_CALL: int
    HL_PORT_PARK: int
    HL_PORT_CONSOLE: int
    HL_PORT_EXIT: int
    HL_PORT_FAULT: int
    HL_PORT_FAULT_ADDRESS: int
    HL_PORT_RELEASE: int
    HL_RELEASE_MAXIMUM: int
    HL_PARK_IDLE: int
    HL_PARK_BLOCKED: int
    HL_SELECTOR_USER_CODE: int
    HL_SELECTOR_USER_DATA: int
    HL_RFLAGS: int
    HL_CONTROL_SYSCALL_ENTRY: int
    HL_CONTROL_SYSCALL_RIP: int
    HL_CONTROL_SYSCALL_RFLAGS: int
    HL_CONTROL_EXCEPTION_ENTRY: int
    HL_BOOT_STREAM_CONSOLE: int
    HL_FRAME_BULK_OFFSET: int
    HL_CONSOLE_STDOUT: int
    HL_CONSOLE_STDERR: int
    HL_NOTE_ABI: int

    def hl_error_text(self, /) -> CData: ...
    def hl_abi_version(self, /) -> int: ...
    def hl_probe(self, /) -> int: ...
    def hl_vm_create(self, config: Config, vm: Out[VM], /) -> int: ...
    def hl_vm_close(self, vm: VM, /) -> None: ...
    def hl_vm_load(self, vm: VM, elf: CData | bytes, size: int, /) -> int: ...
    def hl_vm_run(self, vm: VM, written: int, limits: Limits, result: Exit, /) -> int: ...
    def hl_vm_kill(self, vm: VM, /) -> None: ...
    def hl_vm_wake_fd(self, vm: VM, /) -> int: ...
    def hl_vm_read(self, vm: VM, address: int, to: CData, size: int, /) -> int: ...
    def hl_vm_write(self, vm: VM, address: int, source: CData | bytes, size: int, /) -> int: ...
    def hl_vm_pointer(self, vm: VM, address: int, size: int, writable: int, /) -> CData: ...
    def hl_vm_in_address(self, vm: VM, /) -> int: ...
    def hl_vm_out_address(self, vm: VM, /) -> int: ...
    def hl_vm_console_address(self, vm: VM, /) -> int: ...
    def hl_vm_set_table_version(self, vm: VM, version: int, /) -> None: ...
    def hl_vm_get_registers(self, vm: VM, registers: Registers, /) -> int: ...
    def hl_vm_set_registers(self, vm: VM, registers: Registers, /) -> int: ...
    def hl_vm_get_counters(self, vm: VM, counters: Counters, /) -> None: ...
    def hl_vm_snapshot(self, vm: VM, snapshot: Out[Snapshot], /) -> int: ...
    def hl_vm_restore(self, vm: VM, snapshot: Snapshot, /) -> int: ...
    def hl_snapshot_ref(self, snapshot: Snapshot, /) -> Snapshot: ...
    def hl_snapshot_unref(self, snapshot: Snapshot, /) -> None: ...
    def hl_snapshot_size(self, snapshot: Snapshot, /) -> int: ...
    def hl_snapshot_memory(self, snapshot: Snapshot, /) -> int: ...
    def hl_snapshot_save(
        self, snapshot: Snapshot, parent: Snapshot, memory_fd: int, state_fd: int, /
    ) -> int: ...
    def hl_snapshot_load(
        self,
        config: Config,
        parent: Snapshot,
        memory_fd: int,
        state: CData | bytes,
        state_size: int,
        snapshot: Out[Snapshot],
        /,
    ) -> int: ...
    def hl_snapshot_prefetch(
        self, snapshot: Snapshot, ranges: CData | bytes, size: int, /
    ) -> int: ...
    def hl_vm_save_written(self, vm: VM, fd: int, /) -> int: ...

ffi: FFI
lib: Lib
