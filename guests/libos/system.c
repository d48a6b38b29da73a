/* system.c: system calls that ask what the system is like, or set what has no meaning here. */
#include <asm/prctl.h>
#include <linux/membarrier.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include "ports.h"
#include "process.h"
#include "vfs.h"

#define KIBIBYTE 1024
#define PRIORITY_OFFSET 20 /* the system call gives 20 - nice; getpriority(2) */

/* ---- names ----------------------------------------------------------------------------------- */
const struct new_utsname system_name = {
    .sysname = "Linux",
    .nodename = "hyperlight",
    .release = "6.1.0",
    .version = "#1 hyperlight library OS",
    .machine = "x86_64",
    .domainname = "(none)",
};

long sys_uname(const struct syscall_arguments *arguments) {
    struct new_utsname *to = (struct new_utsname *)arguments->a[0];
    if (!user_range_ok(to, sizeof *to))
        return -EFAULT;
    *to = system_name;
    return 0;
}

static long set_name(uint64_t from) {
    if (!user_range_ok((const void *)from, 1))
        return -EFAULT;
    memset(current->name, 0, sizeof current->name);
    for (size_t i = 0; i < sizeof current->name - 1 && ((const char *)from)[i]; i++)
        current->name[i] = ((const char *)from)[i];
    return 0;
}

static long get_name(uint64_t to) {
    if (!user_range_ok((void *)to, sizeof current->name))
        return -EFAULT;
    memcpy((void *)to, current->name, sizeof current->name);
    return 0;
}

long sys_prctl(const struct syscall_arguments *arguments) {
    switch ((int)arguments->a[0]) {
    case PR_SET_NAME: return set_name(arguments->a[1]);
    case PR_GET_NAME: return get_name(arguments->a[1]);
    case PR_GET_DUMPABLE:
    case PR_GET_KEEPCAPS:
    case PR_GET_NO_NEW_PRIVS: return arguments->a[0] == PR_GET_DUMPABLE;
    case PR_SET_DUMPABLE:
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_PDEATHSIG:
    case PR_SET_TIMERSLACK:
    case PR_SET_CHILD_SUBREAPER: return 0;
    }
    return -EINVAL;
}

long sys_arch_prctl(const struct syscall_arguments *arguments) {
    uint64_t value = arguments->a[1];
    switch ((int)arguments->a[0]) {
    case ARCH_SET_FS: set_fs_base(value); return 0;
    case ARCH_SET_GS: set_gs_base(value); return 0;
    case ARCH_GET_FS:
    case ARCH_GET_GS:
        if (!user_range_ok((void *)value, sizeof(uint64_t)))
            return -EFAULT;
        *(uint64_t *)value = arguments->a[0] == ARCH_GET_FS ? fs_base() : gs_base();
        return 0;
    }
    return -EINVAL;
}

/* ---- identities ------------------------------------------------------------------------------ */
#define ALWAYS(name, value)                                                                        \
    long sys_##name(const struct syscall_arguments *arguments) {                                   \
        (void)arguments;                                                                           \
        return value;                                                                              \
    }
ALWAYS(getpid, PROCESS_ID)
ALWAYS(getppid, 1)
ALWAYS(getpgrp, PROCESS_ID)
ALWAYS(getuid, 0)
ALWAYS(geteuid, 0)
ALWAYS(getgid, 0)
ALWAYS(getegid, 0)
ALWAYS(setsid, PROCESS_ID)
ALWAYS(wait4, -ECHILD)
ALWAYS(waitid, -ECHILD)
ALWAYS(personality, 0)
ALWAYS(mbind, 0)
ALWAYS(set_mempolicy, 0)

static bool is_this_process(uint64_t id) { return id == 0 || (int)id == PROCESS_ID; }

long sys_getpgid(const struct syscall_arguments *arguments) {
    return is_this_process(arguments->a[0]) ? PROCESS_ID : -ESRCH;
}

long sys_getsid(const struct syscall_arguments *arguments) {
    return is_this_process(arguments->a[0]) ? PROCESS_ID : -ESRCH;
}

long sys_setpgid(const struct syscall_arguments *arguments) {
    return is_this_process(arguments->a[0]) ? 0 : -ESRCH;
}

static long three_zeros(const struct syscall_arguments *arguments) {
    for (int i = 0; i < 3; i++) {
        uint32_t *to = (uint32_t *)arguments->a[i];
        if (!user_range_ok(to, sizeof *to))
            return -EFAULT;
        *to = 0;
    }
    return 0;
}

long sys_getresuid(const struct syscall_arguments *arguments) { return three_zeros(arguments); }

long sys_getresgid(const struct syscall_arguments *arguments) { return three_zeros(arguments); }

ALWAYS(getgroups, 0)

/* ---- limits and usage ------------------------------------------------------------------------ */
/* Kept as they are set; what bounds the guest is the host. */
static struct rlimit64 limits[RLIM_NLIMITS];
static bool limits_ready;

static struct rlimit64 *limit_of(uint64_t resource) {
    if (!limits_ready) {
        for (int i = 0; i < RLIM_NLIMITS; i++)
            limits[i] = (struct rlimit64){RLIM64_INFINITY, RLIM64_INFINITY};
        limits[RLIMIT_STACK].rlim_cur = stack_limit();
        limits[RLIMIT_NOFILE] = (struct rlimit64){DESCRIPTOR_LIMIT, DESCRIPTOR_LIMIT};
        limits[RLIMIT_CORE].rlim_cur = 0;
        limits_ready = true;
    }
    return resource < RLIM_NLIMITS ? &limits[resource] : NULL;
}

static long exchange_limit(uint64_t resource, const struct rlimit64 *wanted, struct rlimit64 *old) {
    struct rlimit64 *limit = limit_of(resource);
    if (!limit)
        return -EINVAL;
    if (!user_optional_ok(wanted, sizeof *wanted) || !user_optional_ok(old, sizeof *old))
        return -EFAULT;
    if (wanted && wanted->rlim_cur > wanted->rlim_max)
        return -EINVAL;
    if (wanted && wanted->rlim_max > limit->rlim_max)
        return -EPERM;
    struct rlimit64 before = *limit;
    if (wanted)
        *limit = *wanted;
    if (old)
        *old = before;
    return 0;
}

long sys_prlimit64(const struct syscall_arguments *arguments) {
    if (!is_this_process(arguments->a[0]))
        return -ESRCH;
    return exchange_limit(arguments->a[1], (const struct rlimit64 *)arguments->a[2],
                          (struct rlimit64 *)arguments->a[3]);
}

long sys_getrlimit(const struct syscall_arguments *arguments) {
    return exchange_limit(arguments->a[0], NULL, (struct rlimit64 *)arguments->a[1]);
}

long sys_setrlimit(const struct syscall_arguments *arguments) {
    return exchange_limit(arguments->a[0], (const struct rlimit64 *)arguments->a[1], NULL);
}

long sys_getrusage(const struct syscall_arguments *arguments) {
    int who = (int)arguments->a[0];
    struct rusage *to = (struct rusage *)arguments->a[1];
    if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN && who != RUSAGE_THREAD)
        return -EINVAL;
    if (!user_range_ok(to, sizeof *to))
        return -EFAULT;
    memset(to, 0, sizeof *to);
    if (who == RUSAGE_CHILDREN)
        return 0;
    int64_t ns = who == RUSAGE_SELF ? process_cpu_ns() : task_cpu_ns(current);
    to->ru_utime.tv_sec = ns / NANOSECONDS;
    to->ru_utime.tv_usec = ns % NANOSECONDS / 1000;
    to->ru_maxrss = (long)(memory_mapped_bytes() / KIBIBYTE);
    return 0;
}

/* ---- scheduling: one processor, turns in order ----------------------------------------------- */
ALWAYS(sched_setaffinity, 0)
ALWAYS(sched_setscheduler, 0)
ALWAYS(sched_setparam, 0)
ALWAYS(sched_getscheduler, SCHED_NORMAL)
ALWAYS(setpriority, 0)
ALWAYS(getpriority, PRIORITY_OFFSET)

long sys_sched_getaffinity(const struct syscall_arguments *arguments) {
    uint64_t *mask = (uint64_t *)arguments->a[2];
    if (arguments->a[1] < sizeof *mask || arguments->a[1] % sizeof *mask)
        return -EINVAL;
    if (!user_range_ok(mask, sizeof *mask))
        return -EFAULT;
    *mask = 1;
    return sizeof *mask;
}

long sys_sched_getparam(const struct syscall_arguments *arguments) {
    int32_t *priority = (int32_t *)arguments->a[1];
    if (!user_range_ok(priority, sizeof *priority))
        return -EFAULT;
    *priority = 0;
    return 0;
}

static bool is_real_time(uint64_t policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }

static bool is_policy(uint64_t policy) {
    return is_real_time(policy) || policy == SCHED_NORMAL || policy == SCHED_BATCH ||
           policy == SCHED_IDLE;
}

long sys_sched_get_priority_max(const struct syscall_arguments *arguments) {
    uint64_t policy = arguments->a[0];
    return is_real_time(policy) ? 99 : is_policy(policy) ? 0 : -EINVAL;
}

long sys_sched_get_priority_min(const struct syscall_arguments *arguments) {
    uint64_t policy = arguments->a[0];
    return is_real_time(policy) ? 1 : is_policy(policy) ? 0 : -EINVAL;
}

long sys_getcpu(const struct syscall_arguments *arguments) {
    for (int i = 0; i < 2; i++) {
        uint32_t *to = (uint32_t *)arguments->a[i];
        if (to && !user_range_ok(to, sizeof *to))
            return -EFAULT;
        if (to)
            *to = 0;
    }
    return 0;
}

/* One processor sees its own writes in order. */
long sys_membarrier(const struct syscall_arguments *arguments) {
    uint64_t known = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
                     MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
                     MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
    uint64_t command = arguments->a[0];
    if (command == MEMBARRIER_CMD_QUERY)
        return (long)known;
    return command & known && !(command & (command - 1)) ? 0 : -EINVAL;
}
