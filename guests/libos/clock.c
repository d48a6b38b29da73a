/* clock.c: clocks and sleeping; time comes from the host's clock page. */
#include "clock_page.h"
#include "process.h"
#include <linux/time.h>
#include <linux/time_types.h>
#include <linux/times.h>

#define CLOCK_TICKS 100 /* sysconf(_SC_CLK_TCK): per second, for times(2) */
#define MICROSECOND 1000

int64_t clock_monotonic_ns(void) { return clock_read(CLOCK_BASE_MONOTONIC); }

int64_t clock_realtime_ns(void) { return clock_read(CLOCK_BASE_REALTIME); }

int64_t deadline_after(int64_t ns) {
    int64_t deadline;
    return __builtin_add_overflow(clock_monotonic_ns(), ns, &deadline) ? NEVER : deadline;
}

int64_t time_from_user(const struct __kernel_timespec *time) {
    int64_t ns;
    if (!user_range_ok(time, sizeof *time))
        return -EFAULT;
    if (time->tv_sec < 0 || (uint64_t)time->tv_nsec >= NANOSECONDS)
        return -EINVAL;
    if (__builtin_mul_overflow((int64_t)time->tv_sec, NANOSECONDS, &ns) ||
        __builtin_add_overflow(ns, (int64_t)time->tv_nsec, &ns))
        return NEVER;
    return ns;
}

static long time_to_user(struct __kernel_timespec *to, int64_t ns) {
    if (!user_range_ok(to, sizeof *to))
        return -EFAULT;
    *to = (struct __kernel_timespec){ns / NANOSECONDS, ns % NANOSECONDS};
    return 0;
}

/* ---- clocks ---------------------------------------------------------------------------------- */
/* Negative identifiers are CPU clocks: the complement of the task's, shifted by three; bit 2 is set
 * for one task and clear for the process (clock_getcpuclockid(3), pthread_getcpuclockid(3)). */
static int64_t cpu_clock_ns(int32_t clock) {
    int id = ~(clock >> 3);
    if (!(clock & 4))
        return id == 0 || id == PROCESS_ID ? process_cpu_ns() : -EINVAL;
    struct task *task = id ? task_find(id) : current;
    return task ? task_cpu_ns(task) : -EINVAL;
}

/* The clock's time, or -EINVAL. */
static int64_t clock_ns(int32_t clock) {
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_TAI: return clock_realtime_ns();
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME: return clock_monotonic_ns();
    case CLOCK_PROCESS_CPUTIME_ID: return process_cpu_ns();
    case CLOCK_THREAD_CPUTIME_ID: return task_cpu_ns(current);
    }
    return clock < 0 ? cpu_clock_ns(clock) : -EINVAL;
}

long sys_clock_gettime(const struct syscall_arguments *arguments) {
    int64_t ns = clock_ns((int32_t)arguments->a[0]);
    return ns < 0 ? ns : time_to_user((struct __kernel_timespec *)arguments->a[1], ns);
}

long sys_clock_getres(const struct syscall_arguments *arguments) {
    int64_t ns = clock_ns((int32_t)arguments->a[0]);
    struct __kernel_timespec *to = (struct __kernel_timespec *)arguments->a[1];
    return ns < 0 ? ns : to ? time_to_user(to, 1) : 0;
}

long sys_clock_settime(const struct syscall_arguments *arguments) {
    return arguments->a[0] == CLOCK_REALTIME ? -EPERM : -EINVAL;
}

long sys_settimeofday(const struct syscall_arguments *arguments) {
    (void)arguments;
    return -EPERM;
}

long sys_gettimeofday(const struct syscall_arguments *arguments) {
    struct __kernel_old_timeval *to = (void *)arguments->a[0];
    struct timezone *zone = (void *)arguments->a[1];
    int64_t ns = clock_realtime_ns();
    if ((to && !user_range_ok(to, sizeof *to)) || (zone && !user_range_ok(zone, sizeof *zone)))
        return -EFAULT;
    if (to)
        *to = (struct __kernel_old_timeval){ns / NANOSECONDS, ns % NANOSECONDS / MICROSECOND};
    if (zone)
        *zone = (struct timezone){0, 0};
    return 0;
}

long sys_time(const struct syscall_arguments *arguments) {
    int64_t seconds = clock_realtime_ns() / NANOSECONDS;
    int64_t *to = (int64_t *)arguments->a[0];
    if (to && !user_range_ok(to, sizeof *to))
        return -EFAULT;
    if (to)
        *to = seconds;
    return seconds;
}

long sys_times(const struct syscall_arguments *arguments) {
    struct tms *to = (struct tms *)arguments->a[0];
    if (to && !user_range_ok(to, sizeof *to))
        return -EFAULT;
    if (to)
        *to = (struct tms){.tms_utime = process_cpu_ns() / (NANOSECONDS / CLOCK_TICKS)};
    return clock_monotonic_ns() / (NANOSECONDS / CLOCK_TICKS);
}

/* ---- sleeping -------------------------------------------------------------------------------- */
/* `rest` gets what is left when a signal ends the sleep; NULL allowed. */
static long sleep_until(int64_t deadline_ns, struct __kernel_timespec *rest) {
    long result = task_block(deadline_ns);
    if (result != -EINTR)
        return 0;
    int64_t left = deadline_ns - clock_monotonic_ns();
    if (rest && time_to_user(rest, left > 0 ? left : 0))
        return -EFAULT;
    return -EINTR;
}

long sys_nanosleep(const struct syscall_arguments *arguments) {
    int64_t ns = time_from_user((const struct __kernel_timespec *)arguments->a[0]);
    if (ns < 0)
        return ns;
    return sleep_until(deadline_after(ns), (struct __kernel_timespec *)arguments->a[1]);
}

long sys_clock_nanosleep(const struct syscall_arguments *arguments) {
    int32_t clock = (int32_t)arguments->a[0];
    int64_t now = clock_ns(clock);
    int64_t ns = time_from_user((const struct __kernel_timespec *)arguments->a[2]);
    if (now < 0 || clock == CLOCK_THREAD_CPUTIME_ID)
        return -EINVAL;
    if (ns < 0)
        return ns;
    if (!(arguments->a[1] & TIMER_ABSTIME))
        return sleep_until(deadline_after(ns), (struct __kernel_timespec *)arguments->a[3]);
    return ns <= now ? 0 : sleep_until(deadline_after(ns - now), NULL);
}
