/* thread.c: starting and ending tasks, and what they are told about themselves. */
#include <linux/rseq.h>
#include <linux/sched.h>
#include "ports.h"
#include "process.h"

/* What makes a new task a thread of this process: clone(2). */
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define KNOWN_FLAGS                                                                                \
    (THREAD_FLAGS | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |      \
     CLONE_CHILD_CLEARTID | CLONE_DETACHED)

static bool word_ok(uint64_t address) {
    return user_range_ok((const void *)address, sizeof(uint32_t));
}

static long start_thread(const struct clone_args *wanted) {
    uint64_t flags = wanted->flags;
    if ((flags & THREAD_FLAGS) != THREAD_FLAGS || flags & ~(uint64_t)KNOWN_FLAGS)
        return -ENOSYS;
    if ((flags & CLONE_PARENT_SETTID && !word_ok(wanted->parent_tid)) ||
        (flags & CLONE_CHILD_SETTID && !word_ok(wanted->child_tid)))
        return -EFAULT;
    struct task *task = task_new();
    if (!task)
        return -EAGAIN;
    *task->registers = *current->registers;
    task->registers->rax = 0;
    if (wanted->stack)
        task->registers->rsp = wanted->stack + wanted->stack_size;
    task->fs_base = flags & CLONE_SETTLS ? wanted->tls : fs_base();
    task->gs_base = gs_base();
    vectors_save(task->vectors);
    task->signals.blocked = current->signals.blocked;
    task->signals.stack = (stack_t){.ss_flags = SS_DISABLE};
    if (flags & CLONE_PARENT_SETTID)
        *(int32_t *)wanted->parent_tid = task->id;
    if (flags & CLONE_CHILD_SETTID)
        *(int32_t *)wanted->child_tid = task->id;
    task->clear_on_exit = flags & CLONE_CHILD_CLEARTID ? wanted->child_tid : 0;
    task_start(task);
    return task->id;
}

long sys_clone(const struct syscall_arguments *arguments) {
    struct clone_args wanted = {
        .flags = arguments->a[0] & ~(uint64_t)CSIGNAL,
        .stack = arguments->a[1],
        .parent_tid = arguments->a[2],
        .child_tid = arguments->a[3],
        .tls = arguments->a[4],
    };
    return start_thread(&wanted);
}

long sys_clone3(const struct syscall_arguments *arguments) {
    const struct clone_args *given = (const struct clone_args *)arguments->a[0];
    size_t size = arguments->a[1];
    struct clone_args wanted = {0};
    if (size < CLONE_ARGS_SIZE_VER0)
        return -EINVAL;
    if (size > sizeof wanted)
        return -E2BIG;
    if (!user_range_ok(given, size))
        return -EFAULT;
    memcpy(&wanted, given, size);
    return start_thread(&wanted);
}

/* ---- ending ---------------------------------------------------------------------------------- */
long sys_exit(const struct syscall_arguments *arguments) {
    if (task_count() == 1)
        process_exit((int)arguments->a[0]);
    futex_task_exit(current);
    task_exit();
}

long sys_exit_group(const struct syscall_arguments *arguments) {
    process_exit((int)arguments->a[0]);
}

/* ---- identity -------------------------------------------------------------------------------- */
long sys_gettid(const struct syscall_arguments *arguments) {
    (void)arguments;
    return current->id;
}

long sys_set_tid_address(const struct syscall_arguments *arguments) {
    current->clear_on_exit = arguments->a[0];
    return current->id;
}

long sys_sched_yield(const struct syscall_arguments *arguments) {
    (void)arguments;
    task_yield();
    return 0;
}

/* rseq(2): nothing is ever preempted in the middle, and there is one processor, number 0. */
long sys_rseq(const struct syscall_arguments *arguments) {
    struct rseq *area = (struct rseq *)arguments->a[0];
    bool leave = arguments->a[2] & RSEQ_FLAG_UNREGISTER;
    if (arguments->a[1] < sizeof *area || arguments->a[2] & ~(uint64_t)RSEQ_FLAG_UNREGISTER)
        return -EINVAL;
    if (leave ? current->rseq != area : current->rseq != NULL)
        return leave ? -EINVAL : -EBUSY;
    if (!user_range_ok(area, sizeof *area))
        return -EFAULT;
    area->cpu_id_start = 0;
    area->cpu_id = leave ? (uint32_t)RSEQ_CPU_ID_UNINITIALIZED : 0;
    current->rseq = leave ? NULL : area;
    return 0;
}
