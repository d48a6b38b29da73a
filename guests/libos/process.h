/* process.h: what the files of the process half share: registers, tasks, signals, memory, time. */
#ifndef LIBOS_PROCESS_H
#define LIBOS_PROCESS_H

/* Offsets in struct registers, for entry.S. */
#define REGISTERS_SIZE 0xb0
#define REGISTERS_NUMBER 0x78
#define REGISTERS_RIP 0x88
#define REGISTERS_RFLAGS 0x98

#ifndef __ASSEMBLER__
#include <linux/errno.h>
#include <linux/signal.h>
#include <linux/utsname.h>
#include <stdbool.h>
#include "libos.h"

#define NANOSECONDS 1000000000LL
#define NEVER INT64_MAX

/* ---- registers (entry.S) --------------------------------------------------------------------- */
/* The program's registers at the top of its task's kernel stack; ends as iretq wants it. */
struct registers {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t number; /* of the syscall, or of the exception */
    uint64_t error;  /* the exception's error code */
    uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct registers) == REGISTERS_SIZE, "entry.S pushes as many");
_Static_assert(offsetof(struct registers, number) == REGISTERS_NUMBER, "entry.S knows it");
_Static_assert(offsetof(struct registers, rip) == REGISTERS_RIP, "entry.S knows it");
_Static_assert(offsetof(struct registers, rflags) == REGISTERS_RFLAGS, "entry.S knows it");

void syscall_entry(void);
/* Where code comes that does not trap: RAX is the number, RCX the return address. */
void syscall_direct_entry(void);
void exception_entry(void);
/* Where a task that has never run begins: with its struct registers on the stack. */
void task_begin(void);
/* Stores the stack pointer in *save and continues where `load` was stored. */
void context_switch(uint64_t *save, uint64_t load);
/* The top of the current task's kernel stack: where syscalls and exceptions begin. */
extern uint64_t kernel_stack;

/* ---- signals (signal.c) ---------------------------------------------------------------------- */
#include <asm/siginfo.h>
#include <asm/signal.h>
#define SIGNAL_COUNT 64
typedef uint64_t signal_set; /* bit number - 1 */
static inline signal_set signal_bit(int number) { return 1UL << (number - 1); }
struct signals {
    signal_set blocked;
    signal_set pending;
    siginfo_t *details; /* of the pending ones, by number - 1; NULL while there never was one */
    signal_set wanted;  /* rt_sigtimedwait is waiting for these, blocked or not */
    stack_t stack;
    bool has_saved; /* the blocked set to go back to after the next delivery */
    signal_set saved;
};
/* The kernel's form, which differs from libc's. */
typedef struct sigaction signal_action;
extern signal_action signal_actions[SIGNAL_COUNT]; /* by number - 1 */

/* ---- tasks (task.c) -------------------------------------------------------------------------- */
enum task_state { TASK_RUNNABLE, TASK_BLOCKED, TASK_DEAD };

struct task {
    int id;
    enum task_state state;
    long wake_result;             /* of the wait that ended last */
    int64_t deadline_ns;          /* while blocked */
    bool uninterruptible;         /* signals do not end the wait */
    struct wait_node *wait_nodes; /* its places in queues, for whoever ends it */
    size_t wait_count;
    struct task *next_runnable;
    struct task *next;      /* of all tasks */
    uint8_t *stack;         /* kernel stack */
    uint64_t stack_pointer; /* while not running */
    struct registers *registers;
    bool registers_changed;    /* by the syscall, beyond what a syscall changes */
    uint64_t fs_base, gs_base; /* while not running */
    void *vectors;             /* xsave area, likewise */
    int64_t cpu_ns;            /* up to the last switch */
    uint64_t clear_on_exit;    /* CLONE_CHILD_CLEARTID: the address, or 0 */
    uint64_t robust_list;
    struct rseq *rseq;
    struct signals signals;
    uint64_t fault_address; /* of the last page fault */
    char name[16];
};
extern struct task *all_tasks;

void tasks_init(void);
/* A task with registers zeroed but for the selectors and flags, not yet runnable; NULL: no memory. */
struct task *task_new(void);
void task_start(struct task *task);
/* Blocks until task_wake, whose result it returns, a signal (-EINTR) or the deadline (-ETIMEDOUT). */
long task_block(int64_t deadline_ns);
void task_wake(struct task *task, long result);
struct task *task_find(int id);
_Noreturn void task_exit(void);
/* Lets another task run if this one has had the processor for long; at the end of a syscall. */
void task_preempt(void);
/* Ends every other task, for execve. */
void tasks_end_others(void);
int64_t task_cpu_ns(const struct task *task);
int64_t process_cpu_ns(void);
/* Components and size of an xsave area; saves to and restores from one, 64-byte aligned. */
extern uint64_t vectors_features;
extern size_t vectors_size;
void vectors_save(void *area);
void vectors_restore(const void *area);

/* ---- wait queues (wait.c) -------------------------------------------------------------------- */
/* One task's place in one queue. */
struct wait_node {
    struct wait_queue *queue; /* NULL: in none */
    struct task *task;
    struct wait_node *next, *previous; /* a ring */
};
/* Puts the current task at the end of the queue. */
void wait_join(struct wait_node *node, struct wait_queue *queue);
/* Takes a node out of its queue, if it is in one. */
void wait_remove(struct wait_node *node);
/* Blocks the current task, which is in queues with these nodes, and takes them out. */
long wait_blocked(struct wait_node *nodes, size_t count, int64_t deadline_ns);
/* Takes a task that is about to end out of every queue. */
void wait_leave(struct task *task);

/* ---- futexes (futex.c) ----------------------------------------------------------------------- */
/* Wakes up to `count` tasks that wait at the address. */
long futex_wake(uint64_t address, long count, uint32_t bits);
/* What a task leaves behind: its robust list, and the word of set_tid_address. */
void futex_task_exit(struct task *task);

/* ---- signals (signal.c, signal_frame.c) ------------------------------------------------------ */
/* Whether the task has a signal that a wait should end for. */
bool signal_waiting(const struct task *task);
signal_set signal_pending(const struct task *task);
/* Takes one of the signals in `set` that the task has; 0 if it has none. */
int signal_take(struct task *task, signal_set set, siginfo_t *details);
/* Sends it to one task, or with NULL to the process. Details NULL: it comes from the system. */
void signal_send(struct task *task, int number, const siginfo_t *details);
/* Before the program goes on, after a syscall or an exception: runs default actions, prepares
 * handlers. Returns whether registers changed beyond what a syscall changes. */
bool signal_deliver(struct registers *registers, bool after_syscall);
/* A signal for an exception of the current task, which cannot be blocked. */
void signal_fault(int number, int code, uint64_t address);
/* Makes the registers those of the handler; false if there is no room on the program's stack. */
bool signal_enter(struct registers *registers, int number, const siginfo_t *details,
                  const signal_action *action);
size_t signal_frame_size(void);
void signals_exec(void);

/* ---- timers (timer.c) ------------------------------------------------------------------------ */
/* When the next interval timer rings; rings those that are due. */
int64_t timers_deadline(void);
void timers_run(void);

/* ---- time (clock.c) -------------------------------------------------------------------------- */
struct __kernel_timespec;
/* Time since `since_ns` (CLOCK_MONOTONIC) was nobody's processor time. */
void clock_idle(int64_t since_ns);
/* Nanoseconds, or -EFAULT, -EINVAL. */
int64_t time_from_user(const struct __kernel_timespec *time);
/* The CLOCK_MONOTONIC deadline of a wait of `ns`, without overflow. */
int64_t deadline_after(int64_t ns);

/* ---- memory (memory.c) ----------------------------------------------------------------------- */
void memory_init(void);
/* Whether a pointer that may be NULL may be passed to a syscall. */
static inline bool user_optional_ok(const void *address, size_t size) {
    return !address || user_range_ok(address, size);
}
/* Zeroed pages for the library OS itself; NULL when memory is out. */
void *memory_take(size_t size);
void memory_give(void *pages, size_t size);
/* Whether pages taken before could grow in place. */
bool memory_extend(void *pages, size_t old_size, size_t size);
/* Pages about to be overwritten need not be zeroed; others must be before they are handed out. */
void memory_used(uint64_t start, uint64_t end);
void memory_zero(uint64_t start, uint64_t end);
/* Gives the host what is used of [start, end), but for scraps: it reads as zero from then on. */
void memory_release(uint64_t start, uint64_t end);
/* The same for all that is free, once at least so many bytes have become so. */
void memory_release_free(uint64_t least);
/* memory_map.c: as mmap(2); the address or -errno. `file` keeps its reference. */
int64_t memory_map(uint64_t address, uint64_t size, int protection, int flags, struct file *file,
                   uint64_t offset);
long memory_unmap(uint64_t address, uint64_t size);
/* The program's break starts here and memory above may be used for it. */
void memory_set_break(uint64_t address);
/* Forgets everything of the program, for execve. */
void memory_exec(void);
/* Whether the program has asked for more than there was. */
bool memory_was_refused(void);
uint64_t stack_limit(void);
uint64_t memory_bytes(void);

/* ---- system calls without a trap (syscall_sites.c) --------------------------------------------- */
/* Redirects the system calls of code just loaded. */
void syscall_sites_redirect(uint64_t start, uint64_t end);
/* For execve: the memory of the redirections is gone. */
void syscall_sites_forget(void);

/* ---- programs (exec.c) ----------------------------------------------------------------------- */
_Noreturn void exec_first(const char *request, size_t size);
/* exit_group: tells what was unsupported if asked to, and ends the guest. */
_Noreturn void process_exit(int status);

/* ---- the system (system.c) ------------------------------------------------------------------- */
extern const struct new_utsname system_name; /* what uname(2) says */

/* ---- host (host.c) --------------------------------------------------------------------------- */
void host_park_blocked(int64_t deadline_ns);
/* Makes whole pages zero and gives them back; at most HL_RELEASE_MAXIMUM bytes. */
void host_release(uint64_t address, uint64_t size);
uint64_t host_fault_address(void);

#endif
#endif
