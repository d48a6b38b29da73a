/* clocks.c: clocks go on, agree with each other, and sleeping lasts as long as asked for. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

#define MILLISECOND 1000000LL
#define SECOND 1000000000LL

static int64_t ns(struct timespec time) { return time.tv_sec * SECOND + time.tv_nsec; }

static int64_t now(clockid_t clock) {
    struct timespec time;
    CHECK(clock_gettime(clock, &time) == 0 && time.tv_nsec >= 0 && time.tv_nsec < SECOND);
    return ns(time);
}

static int64_t now_by_syscall(clockid_t clock) {
    struct timespec time;
    CHECK(syscall(SYS_clock_gettime, clock, &time) == 0);
    return ns(time);
}

static void clocks_never_go_back(void) {
    const clockid_t clocks[] = {CLOCK_MONOTONIC,          CLOCK_REALTIME,
                                CLOCK_BOOTTIME,           CLOCK_MONOTONIC_RAW,
                                CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int64_t last = now(clocks[i]);
        for (int round = 0; round < 1000; round++) {
            int64_t next = round & 1 ? now(clocks[i]) : now_by_syscall(clocks[i]);
            CHECK(next >= last);
            last = next;
        }
    }
}

static void ways_to_ask_agree(void) {
    struct timeval time_of_day;
    int64_t before = now(CLOCK_REALTIME);
    CHECK(gettimeofday(&time_of_day, NULL) == 0);
    int64_t between = time_of_day.tv_sec * SECOND + time_of_day.tv_usec * 1000;
    CHECK(between >= before - 1000 && between <= now(CLOCK_REALTIME));
    CHECK(time(NULL) >= before / SECOND && time(NULL) <= now(CLOCK_REALTIME) / SECOND);
    CHECK(before > 1577836800 * SECOND); /* the year 2020 */
    CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
}

static void clocks_have_resolutions_and_limits(void) {
    struct timespec resolution;
    CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && ns(resolution) == 1);
    FAILS(clock_gettime(77, &resolution), EINVAL);
    FAILS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8), EFAULT);
    FAILS(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &resolution), EINVAL);
}

static void sleeping_lasts_long_enough(void) {
    struct timespec some = {0, 10 * MILLISECOND}, wrong = {0, SECOND}, until;
    int64_t before = now(CLOCK_MONOTONIC);
    CHECK(nanosleep(&some, NULL) == 0);
    CHECK(now(CLOCK_MONOTONIC) - before >= 10 * MILLISECOND);
    FAILS(nanosleep(&wrong, NULL), EINVAL);
    before = now(CLOCK_REALTIME) + 10 * MILLISECOND;
    until = (struct timespec){before / SECOND, before % SECOND};
    CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL) == 0);
    CHECK(now(CLOCK_REALTIME) >= before);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){1, 0}, NULL) == 0);
}

static void sleeping_uses_no_processor_time(void) {
    struct timespec some = {0, 100 * MILLISECOND};
    int64_t before = now(CLOCK_PROCESS_CPUTIME_ID), started = now(CLOCK_MONOTONIC);
    CHECK(nanosleep(&some, NULL) == 0);
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID) - before;
    CHECK(used < (now(CLOCK_MONOTONIC) - started) / 2);
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0);
    CHECK(times(&(struct tms){0}) != -1);
}

/* Long beside what a busy host may take from a guest, whose clocks go on meanwhile. */
#define WORK (100 * MILLISECOND)

static void *work(void *argument) {
    while (now(CLOCK_THREAD_CPUTIME_ID) < WORK)
        continue;
    return argument;
}

static void each_thread_has_a_clock(void) {
    pthread_t thread;
    int64_t before = now(CLOCK_PROCESS_CPUTIME_ID), own = now(CLOCK_THREAD_CPUTIME_ID);
    clockid_t clock;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(now(CLOCK_PROCESS_CPUTIME_ID) - before >= WORK);
    CHECK(now(CLOCK_THREAD_CPUTIME_ID) - own < WORK / 2);
    CHECK(pthread_getcpuclockid(pthread_self(), &clock) == 0 && now(clock) > 0);
}

static void the_interval_timer_tells_what_is_left(void) {
    struct itimerval set = {{1, 0}, {10, 0}}, left;
    CHECK(setitimer(ITIMER_REAL, &set, NULL) == 0 && getitimer(ITIMER_REAL, &left) == 0);
    CHECK(left.it_interval.tv_sec == 1 && left.it_value.tv_sec >= 8 && left.it_value.tv_sec <= 10);
    CHECK(alarm(0) >= 9 && alarm(0) == 0);
}

int main(void) {
    clocks_never_go_back();
    ways_to_ask_agree();
    clocks_have_resolutions_and_limits();
    sleeping_lasts_long_enough();
    sleeping_uses_no_processor_time();
    each_thread_has_a_clock();
    the_interval_timer_tells_what_is_left();
    return done();
}
