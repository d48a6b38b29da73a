/* internal.h: the structures that the files of the helper share. */
#ifndef HL_INTERNAL_H
#define HL_INTERNAL_H
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include "hl_abi.h"
#include "hl_vmm.h"

/* ---- pages.c: sets of pages, one bit each ------------------------------------------------------ */
struct page_set {
    uint64_t *words;
    size_t pages; /* room */
};
/* 0 or -ENOMEM; all bits clear. */
int page_set_init(struct page_set *set, size_t pages);
void page_set_free(struct page_set *set);
void page_set_clear(struct page_set *set);
size_t page_set_count(const struct page_set *set);
/* set |= other */
void page_set_add(struct page_set *set, const struct page_set *other);
void page_set_add_range(struct page_set *set, size_t first, size_t count);
static inline void page_set_remove(struct page_set *set, size_t page) {
    set->words[page / 64] &= ~(UINT64_C(1) << (page % 64));
}
static inline bool page_set_has(const struct page_set *set, size_t page) {
    return set->words[page / 64] >> (page % 64) & 1;
}
/* The first page of the set at or after `from`, or set->pages. */
size_t page_set_next(const struct page_set *set, size_t from);
/* The end of the run of pages that begins at `first`, which is in the set. */
size_t page_set_run_end(const struct page_set *set, size_t first);

/* ---- cpu.c: the vCPU's state -------------------------------------------------------------------- */
#define HL_XSAVE_SIZE 4096
/* What a snapshot keeps of the vCPU: ring-3 state only. */
struct cpu_state {
    struct hl_registers registers;
    uint8_t xsave[HL_XSAVE_SIZE];
};

struct hl_snapshot {
    atomic_uint references;
    struct hl_config config; /* of the VM it was taken from; image_fd is -1 */
    hl_snapshot *parent;     /* the one it shares pages with, or NULL; holds a reference */
    struct page_set own;     /* the pages it holds itself */
    struct page_set first;   /* those that guests write to first; no room if they are not known */
    int memory_fd;   /* as large as RAM, sparse: holes where `own` has no page; -1 if it has none */
    uint8_t *memory; /* the whole of it, mapped read-only; NULL if it has none */
    struct cpu_state cpu;
};

/* ---- the VM -------------------------------------------------------------------------------------- */
enum memory_slot { HL_SLOT_SYSTEM, HL_SLOT_TABLES, HL_SLOT_RAM, HL_SLOT_IMAGE };
enum kick { KICK_KILL = 1, KICK_DEADLINE = 2, KICK_CPU = 4 };

struct hl_vm {
    struct hl_config config;
    int vm_fd, vcpu_fd;
    struct kvm_run *run;
    size_t run_size;
    uint8_t *system; /* HL_SYSTEM_SIZE bytes at guest address 0 */
    uint8_t *ram;    /* config.memory bytes at HL_RAM_ADDRESS */
    void *image;     /* read-only, or NULL */
    size_t image_size, image_mapped;
    struct kvm_sregs system_registers; /* as the host wants them, whatever the guest did */
    bool loaded;                       /* there is something to run */
    bool ram_offered;                  /* KVM knows RAM: from when it has been filled */
    bool entry_pending; /* KVM has yet to finish the last exit, or to take over registers */
    bool console_taken; /* the last exit reported console text */
    int64_t look_ns;    /* CLOCK_MONOTONIC, see LOOK_EVERY_NS */

    /* Which pages of RAM may differ from `base`. */
    hl_snapshot *base;
    bool touched;            /* whether any does, or the vCPU: by a run or the host, since then */
    bool log_on;             /* KVM's dirty log tells what the guest wrote */
    bool ran;                /* since the last mapping */
    struct page_set written; /* by the host, while the log is on */
    struct page_set scratch;
    unsigned since_audit; /* resets since pages were last let go from the log, see restore.c */
    size_t copied, usual; /* pages of the last reset; of the one that followed that audit */

    uint64_t tsc_multiplier;
    struct hl_counters counters;

    /* kill and time-outs (watchdog.c) */
    pthread_mutex_t lock; /* guards the fields below; taken after the watchdog's own */
    bool running;
    pthread_t thread;
    unsigned kicks; /* enum kick */
    int wake_fd;
    struct hl_vm *next, *previous; /* of the watchdog's list; guarded by its lock */
    int64_t deadline_ns;           /* CLOCK_MONOTONIC, INT64_MAX for none */
    int64_t cpu_deadline_ns;       /* on the thread's CPU clock, INT64_MAX for none */
    clockid_t cpu_clock;
};

/* ---- error.c: keeps the sentence and returns the negative errno given ------------------------------ */
__attribute__((format(printf, 2, 3))) int hl_fail(int error, const char *format, ...);

/* ---- system.c: the pages the host owns -------------------------------------------------------------- */
#define HL_SYSTEM_SIZE 0x40000
#define HL_SYSTEM_GDT 0x2000
#define HL_SYSTEM_IDT 0x3000
#define HL_SYSTEM_TSS 0x4000
#define HL_SYSTEM_CODE 0x5000
#define HL_SYSTEM_PML4 0x6000
#define HL_GDT_SIZE 0x50
#define HL_IDT_SIZE 0x200
#define HL_TSS_SIZE 0x90
/* Writes descriptor tables, entry code and page tables for this VM's RAM and image. */
void system_build(hl_vm *vm);
/* The bytes of entry.c's assembler code, to be placed at HL_SYSTEM_CODE; at most a page. */
extern const uint8_t entry_code[], entry_exceptions[], entry_code_end[];
/* Distance between the entries of two exceptions. */
#define HL_EXCEPTION_ENTRY_SIZE 16
static inline struct hl_boot_info *boot_info(hl_vm *vm) {
    return (struct hl_boot_info *)(vm->system + HL_BOOT_INFO_ADDRESS);
}
/* Fills in what never changes; then a new epoch and seed. */
int boot_info_init(hl_vm *vm);
int boot_info_new_epoch(hl_vm *vm);
void boot_info_set_clock(hl_vm *vm);

/* ---- dirty.c: once in a process, before its first VM ------------------------------------------------- */
int dirty_start(void);

/* ---- cpu.c ------------------------------------------------------------------------------------------- */
int cpu_init(hl_vm *vm, int kvm_fd);
int cpu_set(hl_vm *vm, const struct cpu_state *state);
int cpu_get(hl_vm *vm, struct cpu_state *state);
/* The state of a vCPU that starts at `entry` with `stack`. */
void cpu_state_start(struct cpu_state *state, uint64_t entry, uint64_t stack);
/* Lets KVM finish the instruction that left, so that registers may be read and set. */
int cpu_finish_exit(hl_vm *vm);
/* As ioctl(2), but not given up because of a signal; for all requests but KVM_RUN. */
int kvm_ioctl(int fd, unsigned long request, void *argument);
int vcpu_ioctl(hl_vm *vm, unsigned long request, void *argument, const char *name);
int vm_ioctl(hl_vm *vm, unsigned long request, void *argument, const char *name);

/* Whether KVM_RUN shall return at once; a kick may set it while the vCPU's thread does. */
static inline void vm_set_immediate_exit(hl_vm *vm, bool exit) {
    __atomic_store_n(&vm->run->immediate_exit, exit, __ATOMIC_RELAXED);
}

/* ---- vm.c --------------------------------------------------------------------------------------------- */
/* (Re)registers RAM with KVM, with or without the dirty log. */
int vm_register_ram(hl_vm *vm, bool log);
/* Registers RAM unless it is: once it has been filled, because KVM has to be told of every change of
 * the mapping from then on, and each time every VM of the process is asked. */
static inline int vm_offer_ram(hl_vm *vm) {
    return vm->ram_offered ? 0 : vm_register_ram(vm, false);
}
/* RAM between the exception stack and the buffers is the guest's; this is where the buffers begin. */
uint64_t vm_guest_end(const hl_vm *vm);

/* ---- release.c --------------------------------------------------------------------------------- */
/* Makes whole pages of the guest's own zero, giving back what can be. */
int release_range(hl_vm *vm, uint64_t address, uint64_t size);

/* ---- run.c --------------------------------------------------------------------------------- */
/* Tells the guest that the console text of its last exit was taken; before it or a snapshot goes on. */
void run_empty_console(hl_vm *vm);

/* ---- watchdog.c ----------------------------------------------------------------------------------------- */
int64_t monotonic_ns(void);
int watchdog_start(void);
/* Arms both limits for the calling thread; disarm says what has fired since. */
void watchdog_arm(hl_vm *vm, const struct hl_limits *limits, int64_t cpu_now_ns);
void watchdog_disarm(hl_vm *vm);
/* Brackets around KVM_RUN. enter returns the kicks that forbid it, 0 if it may go on. */
unsigned watchdog_enter(hl_vm *vm);
void watchdog_leave(hl_vm *vm);
/* Waits until `until_ns` or a kill without using CPU; -EINTR on a signal of the process's own. */
int watchdog_wait(hl_vm *vm, int64_t until_ns);
void watchdog_forget_kicks(hl_vm *vm);

#endif
