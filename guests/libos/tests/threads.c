/* threads.c: threads, what they share and what each has for itself. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

#define THREADS 50
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter, waiting;
static __thread long own;

static void *count(void *argument) {
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        long seen = counter;
        sched_yield();
        counter = seen + 1;
        pthread_mutex_unlock(&lock);
        own++;
    }
    return (void *)(own + (long)argument);
}

static void many_threads_count_under_a_lock(void) {
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, count, (void *)i) == 0);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        CHECK((long)result == 100 + i);
    }
    CHECK(counter == THREADS * 100 && own == 0);
}

static void *wait_for_change(void *argument) {
    pthread_mutex_lock(&lock);
    waiting++;
    pthread_cond_broadcast(&changed);
    while (counter != -1)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return argument;
}

static void a_broadcast_wakes_all(void) {
    pthread_t threads[THREADS];
    counter = 0;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_for_change, NULL) == 0);
    pthread_mutex_lock(&lock);
    while (waiting != THREADS)
        pthread_cond_wait(&changed, &lock);
    counter = -1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void a_timed_wait_ends_in_time(void) {
    struct timespec until, now;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    CHECK(pthread_cond_timedwait(&changed, &lock, &until) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK(now.tv_sec > until.tv_sec ||
          (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec));
}

/* Fills a vector register, lets others do the same, and looks whether it is still its own. */
static void *keep_vectors(void *argument) {
    for (int i = 0; i < 200; i++) {
        uint64_t put[2] = {(uint64_t)argument, (uint64_t)i}, got[2];
        __asm__ volatile("movups %1, %%xmm7\n\t"
                         "mov %2, %%eax\n\t"
                         "syscall\n\t"
                         "movups %%xmm7, %0"
                         : "=m"(got)
                         : "m"(put), "i"(SYS_sched_yield)
                         : "rax", "rcx", "r11", "xmm7", "memory");
        CHECK(got[0] == put[0] && got[1] == put[1]);
    }
    return NULL;
}

static void each_thread_keeps_its_vector_registers(void) {
    pthread_t threads[8];
    for (long i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, keep_vectors, (void *)i) == 0);
    for (long i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static pthread_mutex_t robust;

static void *die_with_lock(void *argument) {
    pthread_mutex_lock(&robust);
    return argument;
}

static void the_lock_of_a_dead_thread_says_so(void) {
    pthread_mutexattr_t attributes;
    pthread_t thread;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    CHECK(pthread_create(&thread, NULL, die_with_lock, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&robust) == 0);
    CHECK(pthread_mutex_unlock(&robust) == 0);
}

static void *identify(void *argument) {
    *(long *)argument = syscall(SYS_gettid);
    return NULL;
}

static void threads_come_and_go(void) {
    long last = getpid();
    CHECK(syscall(SYS_gettid) == getpid());
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        long id = 0;
        CHECK(pthread_create(&thread, NULL, identify, &id) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(id > 0 && id != last);
        last = id;
    }
}

static void *end_last(void *argument) {
    pthread_join(*(pthread_t *)argument, NULL);
    exit(done());
}

int main(void) {
    many_threads_count_under_a_lock();
    a_broadcast_wakes_all();
    a_timed_wait_ends_in_time();
    each_thread_keeps_its_vector_registers();
    the_lock_of_a_dead_thread_says_so();
    threads_come_and_go();
    /* The first thread may end before the others. */
    static pthread_t first, last;
    first = pthread_self();
    CHECK(pthread_create(&last, NULL, end_last, &first) == 0);
    pthread_exit(NULL);
}
