/* vdso.c: clock functions that the program calls without a system call, see vdso(7). */
#include <asm/unistd_64.h>
#include <linux/time.h>
#include <linux/time_types.h>
#include <stddef.h>
#include "../clock_page.h"

#define NANOSECONDS 1000000000LL

int __vdso_clock_gettime(int32_t clock, struct __kernel_timespec *to);
int __vdso_gettimeofday(struct __kernel_old_timeval *to, struct timezone *zone);
int64_t __vdso_time(int64_t *to);
int __vdso_clock_getres(int32_t clock, struct __kernel_timespec *to);
int __vdso_getcpu(uint32_t *cpu, uint32_t *node, void *unused);

static int system_call(long number, int32_t clock, void *to) {
    long result = number;
    __asm__ volatile("syscall" : "+a"(result) : "D"((long)clock), "S"(to) : "rcx", "r11", "memory");
    return (int)result;
}

int __vdso_clock_gettime(int32_t clock, struct __kernel_timespec *to) {
    int64_t ns;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_TAI: ns = clock_read(CLOCK_BASE_REALTIME); break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME: ns = clock_read(CLOCK_BASE_MONOTONIC); break;
    default: return system_call(__NR_clock_gettime, clock, to);
    }
    to->tv_sec = ns / NANOSECONDS;
    to->tv_nsec = ns % NANOSECONDS;
    return 0;
}

int __vdso_gettimeofday(struct __kernel_old_timeval *to, struct timezone *zone) {
    int64_t ns = clock_read(CLOCK_BASE_REALTIME);
    if (to) {
        to->tv_sec = ns / NANOSECONDS;
        to->tv_usec = ns % NANOSECONDS / 1000;
    }
    if (zone)
        *zone = (struct timezone){0, 0};
    return 0;
}

int64_t __vdso_time(int64_t *to) {
    int64_t seconds = clock_read(CLOCK_BASE_REALTIME) / NANOSECONDS;
    if (to)
        *to = seconds;
    return seconds;
}

int __vdso_clock_getres(int32_t clock, struct __kernel_timespec *to) {
    return system_call(__NR_clock_getres, clock, to);
}

int __vdso_getcpu(uint32_t *cpu, uint32_t *node, void *unused) {
    (void)unused;
    if (cpu)
        *cpu = 0;
    if (node)
        *node = 0;
    return 0;
}
