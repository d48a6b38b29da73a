/* timer.c: the real-time interval timer: alarm, setitimer, getitimer. It rings at system calls. */
#include <linux/time.h>
#include "process.h"

#define MICROSECOND 1000LL
#define MICROSECONDS 1000000LL

static int64_t due_ns = NEVER;
static int64_t interval_ns;

int64_t timers_deadline(void) { return due_ns; }

void timers_run(void) {
    int64_t now_ns;
    if (due_ns == NEVER || (now_ns = clock_monotonic_ns()) < due_ns)
        return;
    /* Periods missed meanwhile ring once. */
    due_ns = interval_ns ? due_ns + ((now_ns - due_ns) / interval_ns + 1) * interval_ns : NEVER;
    signal_send(NULL, SIGALRM, NULL);
}

static struct __kernel_old_timeval to_timeval(int64_t ns) {
    return (struct __kernel_old_timeval){ns / NANOSECONDS, ns % NANOSECONDS / MICROSECOND};
}

/* Nanoseconds, or -EINVAL. */
static int64_t from_timeval(const struct __kernel_old_timeval *time) {
    int64_t ns;
    if (time->tv_sec < 0 || time->tv_usec < 0 || time->tv_usec >= MICROSECONDS)
        return -EINVAL;
    if (__builtin_mul_overflow((int64_t)time->tv_sec, NANOSECONDS, &ns) ||
        __builtin_add_overflow(ns, time->tv_usec * MICROSECOND, &ns))
        return NEVER;
    return ns;
}

static int64_t left_ns(void) {
    int64_t left = due_ns == NEVER ? 0 : due_ns - clock_monotonic_ns();
    return left > 0 ? left : due_ns == NEVER ? 0 : MICROSECOND;
}

static void set(int64_t first_ns, int64_t next_ns) {
    due_ns = first_ns ? deadline_after(first_ns) : NEVER;
    interval_ns = next_ns;
}

static bool is_real_timer(uint64_t which) { return which == ITIMER_REAL; }

struct interval {
    struct __kernel_old_timeval interval, value; /* struct itimerval */
};

long sys_getitimer(const struct syscall_arguments *arguments) {
    struct interval *to = (struct interval *)arguments->a[1];
    if (!is_real_timer(arguments->a[0]))
        return -EINVAL;
    if (!user_range_ok(to, sizeof *to))
        return -EFAULT;
    *to = (struct interval){to_timeval(interval_ns), to_timeval(left_ns())};
    return 0;
}

long sys_setitimer(const struct syscall_arguments *arguments) {
    const struct interval *wanted = (const struct interval *)arguments->a[1];
    struct interval *old = (struct interval *)arguments->a[2];
    if (!is_real_timer(arguments->a[0]))
        return -EINVAL;
    if (!user_optional_ok(wanted, sizeof *wanted) || !user_optional_ok(old, sizeof *old))
        return -EFAULT;
    int64_t first = wanted ? from_timeval(&wanted->value) : 0;
    int64_t next = wanted ? from_timeval(&wanted->interval) : 0;
    if (first < 0 || next < 0)
        return -EINVAL;
    struct interval before = {to_timeval(interval_ns), to_timeval(left_ns())};
    set(first, next);
    if (old)
        *old = before;
    return 0;
}

long sys_alarm(const struct syscall_arguments *arguments) {
    int64_t left = left_ns();
    set((int64_t)(uint32_t)arguments->a[0] * NANOSECONDS, 0);
    /* Rounded, but never down to "no alarm". */
    return left ? (left + NANOSECONDS / 2) / NANOSECONDS + (left < NANOSECONDS / 2) : 0;
}
