/* signal_calls.c: the system calls about signals. */
#include <linux/time_types.h>
#include "process.h"

#define SET_SIZE sizeof(signal_set)
#define NOT_BLOCKABLE (signal_bit(SIGKILL) | signal_bit(SIGSTOP))

static bool is_signal(uint64_t number) { return number >= 1 && number <= SIGNAL_COUNT; }

long sys_rt_sigaction(const struct syscall_arguments *arguments) {
    int number = (int)arguments->a[0];
    const signal_action *wanted = (const signal_action *)arguments->a[1];
    signal_action *old = (signal_action *)arguments->a[2];
    if (arguments->a[3] != SET_SIZE || !is_signal((uint64_t)number))
        return -EINVAL;
    if (wanted && (number == SIGKILL || number == SIGSTOP))
        return -EINVAL;
    if (!user_optional_ok(wanted, sizeof *wanted) || !user_optional_ok(old, sizeof *old))
        return -EFAULT;
    signal_action before = signal_actions[number - 1];
    if (wanted) {
        signal_actions[number - 1] = *wanted;
        signal_actions[number - 1].sa_mask &= ~NOT_BLOCKABLE;
    }
    if (old)
        *old = before;
    return 0;
}

long sys_rt_sigprocmask(const struct syscall_arguments *arguments) {
    const signal_set *set = (const signal_set *)arguments->a[1];
    signal_set *old = (signal_set *)arguments->a[2], *blocked = &current->signals.blocked;
    signal_set before = *blocked;
    if (arguments->a[3] != SET_SIZE)
        return -EINVAL;
    if ((set && !user_range_ok(set, SET_SIZE)) || (old && !user_range_ok(old, SET_SIZE)))
        return -EFAULT;
    if (set) {
        switch ((int)arguments->a[0]) {
        case SIG_BLOCK: *blocked |= *set; break;
        case SIG_UNBLOCK: *blocked &= ~*set; break;
        case SIG_SETMASK: *blocked = *set; break;
        default: return -EINVAL;
        }
        *blocked &= ~NOT_BLOCKABLE;
    }
    if (old)
        *old = before;
    return 0;
}

long sys_rt_sigpending(const struct syscall_arguments *arguments) {
    signal_set *to = (signal_set *)arguments->a[0];
    if (arguments->a[1] > SET_SIZE)
        return -EINVAL;
    if (!user_range_ok(to, SET_SIZE))
        return -EFAULT;
    *to = signal_pending(current) & current->signals.blocked;
    return 0;
}

/* ---- waiting --------------------------------------------------------------------------------- */
long sys_pause(const struct syscall_arguments *arguments) {
    (void)arguments;
    return task_block(NEVER);
}

long sys_rt_sigsuspend(const struct syscall_arguments *arguments) {
    const signal_set *set = (const signal_set *)arguments->a[0];
    if (arguments->a[1] != SET_SIZE)
        return -EINVAL;
    if (!user_range_ok(set, SET_SIZE))
        return -EFAULT;
    current->signals.saved = current->signals.blocked;
    current->signals.has_saved = true;
    current->signals.blocked = *set & ~NOT_BLOCKABLE;
    return task_block(NEVER);
}

long sys_rt_sigtimedwait(const struct syscall_arguments *arguments) {
    const signal_set *set = (const signal_set *)arguments->a[0];
    siginfo_t *to = (siginfo_t *)arguments->a[1];
    const struct __kernel_timespec *time = (const struct __kernel_timespec *)arguments->a[2];
    siginfo_t details;
    if (arguments->a[3] != SET_SIZE)
        return -EINVAL;
    if (!user_range_ok(set, SET_SIZE) || (to && !user_range_ok(to, sizeof *to)))
        return -EFAULT;
    int64_t ns = time ? time_from_user(time) : NEVER;
    if (ns < 0)
        return ns;
    signal_set wanted = *set & ~NOT_BLOCKABLE;
    int number = signal_take(current, wanted, &details);
    if (!number) {
        current->signals.wanted = wanted;
        long result = task_block(deadline_after(ns));
        current->signals.wanted = 0;
        number = signal_take(current, wanted, &details);
        if (!number)
            return result == -ETIMEDOUT ? -EAGAIN : -EINTR;
    }
    if (to)
        *to = details;
    return number;
}

/* ---- sending --------------------------------------------------------------------------------- */
/* `task` NULL: to the process. Number 0 only asks whether it is there. */
static long send(struct task *task, int number, const siginfo_t *details) {
    if (number < 0 || number > SIGNAL_COUNT)
        return -EINVAL;
    if (number)
        signal_send(task, number, details);
    return 0;
}

static siginfo_t details_of(int number, int code) {
    return (siginfo_t){.si_signo = number, .si_code = code, .si_pid = PROCESS_ID};
}

/* kill(2): 0, -1 and the negative number are process groups, and there is but one process. */
static bool is_this_process(int process) {
    return process == PROCESS_ID || process == 0 || process == -1 || process == -PROCESS_ID;
}

long sys_kill(const struct syscall_arguments *arguments) {
    int number = (int)arguments->a[1];
    siginfo_t details = details_of(number, SI_USER);
    return is_this_process((int)arguments->a[0]) ? send(NULL, number, &details) : -ESRCH;
}

static long send_to_task(int process, int id, int number, const siginfo_t *details) {
    if (process < 1 || id < 1)
        return -EINVAL;
    struct task *task = process == PROCESS_ID ? task_find(id) : NULL;
    return task ? send(task, number, details) : -ESRCH;
}

long sys_tgkill(const struct syscall_arguments *arguments) {
    int number = (int)arguments->a[2];
    siginfo_t details = details_of(number, SI_TKILL);
    return send_to_task((int)arguments->a[0], (int)arguments->a[1], number, &details);
}

long sys_tkill(const struct syscall_arguments *arguments) {
    int number = (int)arguments->a[1];
    siginfo_t details = details_of(number, SI_TKILL);
    return send_to_task(PROCESS_ID, (int)arguments->a[0], number, &details);
}

/* The sender's details, with the number it asked for. */
static long copy_details(siginfo_t *to, uint64_t from, int number) {
    if (!user_range_ok((const void *)from, sizeof *to))
        return -EFAULT;
    *to = *(const siginfo_t *)from;
    to->si_signo = number;
    return 0;
}

long sys_rt_sigqueueinfo(const struct syscall_arguments *arguments) {
    int number = (int)arguments->a[1];
    siginfo_t details;
    long error = copy_details(&details, arguments->a[2], number);
    if (error)
        return error;
    return is_this_process((int)arguments->a[0]) ? send(NULL, number, &details) : -ESRCH;
}

long sys_rt_tgsigqueueinfo(const struct syscall_arguments *arguments) {
    int number = (int)arguments->a[2];
    siginfo_t details;
    long error = copy_details(&details, arguments->a[3], number);
    if (error)
        return error;
    return send_to_task((int)arguments->a[0], (int)arguments->a[1], number, &details);
}
