/* futexes.c: futex(2) as it is, below the locks of libc. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static uint32_t word, other;
static int woken;

static long futex(void *address, int operation, uint32_t value, const void *time, void *second,
                  uint32_t third) {
    return syscall(SYS_futex, address, operation | FUTEX_PRIVATE_FLAG, value, time, second, third);
}

static void *wait_on_word(void *argument) {
    uint32_t bits = (uint32_t)(uintptr_t)argument;
    CHECK(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, bits) == 0);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Threads waiting at `word` with the bits 1, 2, 4... */
static void start(pthread_t *threads, int count) {
    woken = 0;
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_on_word, (void *)(1UL << i)) == 0);
}

static void settle(int expected) {
    while (__atomic_load_n(&woken, __ATOMIC_SEQ_CST) < expected)
        sched_yield();
}

static void join(pthread_t *threads, int count) {
    for (int i = 0; i < count; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* Wakes until that many have been woken: a thread may be on its way into the wait. */
static void wake_in_all(void *address, int expected) {
    for (long sum = 0; sum < expected; sched_yield())
        sum += futex(address, FUTEX_WAKE, 100, NULL, NULL, 0);
}

static void waits_end_for_their_reasons(void) {
    struct timespec soon = {0, 5000000}, past = {1, 0}, wrong = {0, 1000000000};
    FAILS(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
    FAILS(futex(&word, FUTEX_WAIT, 0, &soon, NULL, 0), ETIMEDOUT);
    FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, &past, NULL, 1), ETIMEDOUT);
    FAILS(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, NULL, 1), ETIMEDOUT);
    FAILS(futex(&word, FUTEX_WAIT, 0, &wrong, NULL, 0), EINVAL);
    FAILS(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex((char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    FAILS(futex((void *)8, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
    FAILS(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
    CHECK(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0);
}

static void a_wake_reaches_only_its_bits(void) {
    pthread_t threads[4];
    start(threads, 4);
    for (long sum = 0; sum < 1; sched_yield())
        sum += futex(&word, FUTEX_WAKE_BITSET, 100, NULL, NULL, 4);
    settle(1);
    CHECK(woken == 1);
    wake_in_all(&word, 3);
    join(threads, 4);
}

static void a_requeue_moves_waiters(void) {
    pthread_t threads[3];
    start(threads, 3);
    FAILS(futex(&word, FUTEX_CMP_REQUEUE, 0, (void *)100, &other, 7), EAGAIN);
    for (long sum = 0; sum < 3; sched_yield())
        sum += futex(&word, FUTEX_CMP_REQUEUE, 0, (void *)100, &other, 0);
    CHECK(futex(&word, FUTEX_WAKE, 100, NULL, NULL, 0) == 0 && woken == 0);
    wake_in_all(&other, 3);
    join(threads, 3);
}

static void a_wake_operation_changes_the_second_word(void) {
    other = 5;
    CHECK(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other,
                FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)) == 0);
    CHECK(other == 8);
}

int main(void) {
    waits_end_for_their_reasons();
    a_wake_reaches_only_its_bits();
    a_requeue_moves_waiters();
    a_wake_operation_changes_the_second_word();
    return done();
}
