/* hl_vmm.h: the helper's interface: one micro-VM with one vCPU, its exits, its snapshots.
 *
 * Every function that can fail returns 0 or a negative errno and leaves a sentence about it in
 * hl_error_text(). Nothing here exits, prints or aborts. Sizes and addresses that come from a guest
 * are checked here; sizes and pointers that come from the caller are the caller's.
 *
 * Threads: a VM may be used by any thread, by one at a time; the caller sees to that. Only hl_vm_kill
 * may be called at any moment from any thread, until hl_vm_close begins. Snapshots are reference
 * counted and immutable: any number of VMs and threads may use one at once.
 */
#ifndef HL_VMM_H
#define HL_VMM_H
#include <stddef.h>
#include <stdint.h>

/* cdef: everything from here to the end mark is also what Python sees. */

typedef struct hl_vm hl_vm;
typedef struct hl_snapshot hl_snapshot;

struct hl_config {
    uint64_t memory;       /* bytes of RAM, a multiple of 2 MiB, at most HL_RAM_MAXIMUM */
    uint32_t in_size;      /* bytes of the buffer towards the guest, a multiple of 4 KiB */
    uint32_t out_size;     /* the same from the guest */
    uint32_t console_size; /* bytes of the console buffer, a multiple of 4 KiB */
    uint32_t flags;        /* HL_BOOT_*, handed on to the guest */
    int image_fd; /* a regular file mapped read-only at HL_IMAGE_ADDRESS, or -1; stays the caller's */
};

enum hl_exit_kind {
    HL_EXIT_CALL = 1, /* a request frame is in the out buffer */
    HL_EXIT_PARK,     /* the guest is idle; a reply frame may be in the out buffer */
    HL_EXIT_CONSOLE,  /* the console buffer wants to be read */
    HL_EXIT_ENDED,    /* the guest has ended; `value` is its status */
    HL_EXIT_FAULT,    /* a CPU exception nobody handled; `vector`, `error_code`, `address` */
    HL_EXIT_VIOLATION, /* the guest left in a way it must not; `value` says how, hl_error_text() in words */
    HL_EXIT_TIMEOUT,  /* the deadline passed */
    HL_EXIT_CPU_TIME, /* the CPU-time budget is used up */
    HL_EXIT_KILLED,   /* hl_vm_kill was called */
    HL_EXIT_SIGNAL    /* the process's own signals may wait: handle them, then run again */
};

struct hl_exit {
    uint32_t kind;
    uint32_t value;
    uint32_t vector;
    uint32_t console_used; /* bytes in the console buffer, already checked against its size */
    uint64_t error_code;
    uint64_t address;
    int64_t cpu_ns; /* CPU time this thread spent in the call, only measured under a budget */
};

struct hl_limits {
    int64_t deadline_ns; /* CLOCK_MONOTONIC; INT64_MAX for none */
    int64_t cpu_ns;      /* budget for this call; INT64_MAX for none */
};

/* The ring-3 register state: all of a snapshot that is not memory. */
struct hl_registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags, fs_base, gs_base;
};

struct hl_counters {
    uint64_t exits;        /* returns from KVM_RUN */
    uint64_t ioctls;       /* all other ioctls on the vCPU and the VM */
    uint64_t resets;       /* restores done by copying dirtied pages */
    uint64_t pages_copied; /* by those, or given back where many were zero */
    uint64_t restores;     /* restores done by mapping anew */
};

/* The sentence for the last failure in this thread; never NULL; valid until the thread's next call. */
const char *hl_error_text(void);
/* HL_ABI_VERSION this helper was built with. */
uint32_t hl_abi_version(void);
/* 0 when KVM is there and has what is needed, or the negative errno of what is missing. */
int hl_probe(void);

/* Makes a VM with nothing loaded. On success *vm is the caller's, to be given to hl_vm_close. */
int hl_vm_create(const struct hl_config *config, hl_vm **vm);
/* Ends the VM and frees it, whatever state it is in. Nobody may be using it. NULL is allowed. */
void hl_vm_close(hl_vm *vm);
/* Loads a static ELF with the ABI note and sets the vCPU to its entry. -ENOEXEC and the reason if it
 * is not one; -EPROTO if it was built for another ABI version; -ENOMEM if it does not fit. */
int hl_vm_load(hl_vm *vm, const void *elf, size_t size);

/* Runs the guest until the host is needed, waiting without CPU while it is blocked. 0 and *result. The
 * first `written` bytes of the in buffer are those that the host has written since the last run; -EFAULT
 * if it has not as many. */
int hl_vm_run(hl_vm *vm, size_t written, const struct hl_limits *limits, struct hl_exit *result);
/* Makes the running or next hl_vm_run return HL_EXIT_KILLED; sticks until a restore that begins later.
 * Any thread. */
void hl_vm_kill(hl_vm *vm);
/* A descriptor, owned by the VM, that polls readable from hl_vm_kill until the next restore. */
int hl_vm_wake_fd(hl_vm *vm);

/* Copies out of or into guest RAM; -EFAULT unless [address, address + size) is RAM. */
int hl_vm_read(hl_vm *vm, uint64_t address, void *to, size_t size);
int hl_vm_write(hl_vm *vm, uint64_t address, const void *from, size_t size);
/* The place of [address, address + size) in this process, or NULL if it is not RAM. A writable place
 * counts as written. Valid until the next run, restore or close. */
void *hl_vm_pointer(hl_vm *vm, uint64_t address, size_t size, int writable);
/* Guest addresses of the buffers. */
uint64_t hl_vm_in_address(const hl_vm *vm);
uint64_t hl_vm_out_address(const hl_vm *vm);
uint64_t hl_vm_console_address(const hl_vm *vm);

/* What the guest sees in hl_boot_info. */
void hl_vm_set_table_version(hl_vm *vm, uint64_t version);

int hl_vm_get_registers(hl_vm *vm, struct hl_registers *registers);
int hl_vm_set_registers(hl_vm *vm, const struct hl_registers *registers);
void hl_vm_get_counters(const hl_vm *vm, struct hl_counters *counters);

/* Takes a snapshot of a guest that is not running. Pages equal to those of the VM's last snapshot are
 * shared with it. On success *snapshot holds one reference, the caller's. */
int hl_vm_snapshot(hl_vm *vm, hl_snapshot **snapshot);
/* Takes the VM back to the snapshot, clears earlier kills and gives the guest a new epoch and seed. Copies
 * only what differs where the two are related, and maps anew otherwise. -EINVAL and the difference if
 * the VM was made with another memory size or other buffers. */
int hl_vm_restore(hl_vm *vm, hl_snapshot *snapshot);

hl_snapshot *hl_snapshot_ref(hl_snapshot *snapshot);
/* Drops one reference. NULL is allowed. */
void hl_snapshot_unref(hl_snapshot *snapshot);
/* Bytes of memory that this snapshot holds itself, beyond the one it shares pages with. */
uint64_t hl_snapshot_size(const hl_snapshot *snapshot);
/* Bytes of RAM of the guest it was taken from. */
uint64_t hl_snapshot_memory(const hl_snapshot *snapshot);
/* Bytes that the vCPU's state takes in a state file; ranges of pages follow to its end. */
#define HL_VCPU_STATE_SIZE 4256
/* In a file: `count` pages from the page `first` of RAM on; ascending, and no two of them overlap. */
struct hl_page_range {
    uint32_t first, count;
};

/* Writes what differs from `parent` (from zeros, if that is NULL): the pages into the memory file,
 * which is as large as RAM and sparse; the vCPU's state, and which pages those are, into the state file.
 * Both files are empty. */
int hl_snapshot_save(const hl_snapshot *snapshot, const hl_snapshot *parent, int memory_fd,
                     int state_fd);
/* Makes a snapshot over such files, which are untrusted. The memory file is mapped, not read, and must
 * neither change nor shrink while the snapshot lives; the descriptor stays the caller's. `parent`, of
 * which it takes a reference, or NULL as when it was saved. -EINVAL and the reason if anything is not
 * what hl_snapshot_save writes for the same config. */
int hl_snapshot_load(const struct hl_config *config, hl_snapshot *parent, int memory_fd,
                     const void *state, size_t state_size, hl_snapshot **snapshot);
#define HL_PREFETCH_MAXIMUM 2048
/* Has VMs get these pages as their own as soon as they map this snapshot, without waiting until the
 * guest writes to them; before it is used. -EINVAL if `ranges` is not what hl_vm_save_written writes, or
 * more than HL_PREFETCH_MAXIMUM pages. */
int hl_snapshot_prefetch(hl_snapshot *snapshot, const void *ranges, size_t size);
/* Writes the ranges of the pages that may differ from the VM's last snapshot into an empty file. */
int hl_vm_save_written(hl_vm *vm, int fd);

/* cdef end */
#endif
