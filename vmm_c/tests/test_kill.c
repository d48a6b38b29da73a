/* test_kill.c: time-outs, budgets and kills at any moment, from many threads. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "harness.h"

enum { MS = 1000000, KILLERS = 3, ROUNDS = 150 };

struct storm {
    hl_vm *vm;
    atomic_bool over;
};

static void *kill_on(void *argument) {
    struct storm *storm = argument;
    while (!atomic_load(&storm->over))
        hl_vm_kill(storm->vm);
    return NULL;
}

static bool may_happen(uint32_t kind) {
    return kind == HL_EXIT_PARK || kind == HL_EXIT_KILLED || kind == HL_EXIT_TIMEOUT;
}

TEST(a_storm_of_kills_leaves_a_vm_that_works) {
    struct storm storm = {.vm = test_vm()};
    hl_snapshot *start;
    pthread_t killers[KILLERS];
    CHECK(!hl_vm_snapshot(storm.vm, &start));
    for (int i = 0; i < KILLERS; i++)
        CHECK(!pthread_create(&killers[i], NULL, kill_on, &storm));
    for (int round = 0; round < ROUNDS; round++) {
        struct hl_limits limits = {test_now_ns() + (round % 3) * MS, INT64_MAX};
        CHECK(may_happen(test_call(storm.vm, round & 1 ? "spin" : "count", "", &limits).kind));
        CHECK(!hl_vm_restore(storm.vm, start));
    }
    atomic_store(&storm.over, true);
    for (int i = 0; i < KILLERS; i++)
        pthread_join(killers[i], NULL);
    CHECK(!hl_vm_restore(storm.vm, start));
    CHECK(test_call(storm.vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(storm.vm);
    hl_snapshot_unref(start);
}

/* ---- many threads that kill, and threads that have nothing to do with it ------------------------- */
/* 100 threads, 100 kills of each and 500 calls with HL_STORM=long in the environment. */
struct crowd {
    hl_vm *vm;
    int threads, kills, calls;
    atomic_int started, finished, stopped; /* kills, kills, killers */
    atomic_bool over;
};

static void *kill_many(void *argument) {
    struct crowd *crowd = argument;
    for (int i = 0; i < crowd->kills; i++) {
        atomic_fetch_add(&crowd->started, 1);
        hl_vm_kill(crowd->vm);
        atomic_fetch_add(&crowd->finished, 1);
        sched_yield();
    }
    atomic_fetch_add(&crowd->stopped, 1);
    return NULL;
}

/* No signal of the helper's reaches a thread that runs no guest: poll(2) would tell, SA_RESTART or not. */
static void *stand_by(void *argument) {
    struct crowd *crowd = argument;
    while (!atomic_load(&crowd->over))
        CHECK(poll(NULL, 0, 1) == 0);
    return NULL;
}

/* A kill that began after the restore and was over before the run must end it. */
static void call_under_fire(struct crowd *crowd, hl_snapshot *start, int round) {
    CHECK(!hl_vm_restore(crowd->vm, start));
    int before = atomic_load(&crowd->started);
    if (round % 3 == 0)
        sched_yield();
    bool killed = atomic_load(&crowd->finished) > before;
    hl_snapshot *other;
    if (round % 5 == 0) {
        CHECK(!hl_vm_snapshot(crowd->vm, &other));
        hl_snapshot_unref(other);
    }
    uint32_t kind = test_call(crowd->vm, "count", "", &no_limits).kind;
    CHECK(kind == HL_EXIT_KILLED || (kind == HL_EXIT_PARK && !killed));
}

TEST(a_storm_of_kills_from_many_threads_loses_none_and_hits_no_other) {
    enum { MOST = 100 };
    const char *length = getenv("HL_STORM");
    bool is_long = length && !strcmp(length, "long");
    struct crowd crowd = {
        test_vm(), is_long ? 100 : 20, is_long ? 100 : 50, is_long ? 500 : 100, 0, 0, 0, false};
    pthread_t killers[MOST], bystander;
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(crowd.vm, &start));
    CHECK(!pthread_create(&bystander, NULL, stand_by, &crowd));
    for (int i = 0; i < crowd.threads; i++)
        CHECK(!pthread_create(&killers[i], NULL, kill_many, &crowd));
    int round = 0;
    while (round < crowd.calls || atomic_load(&crowd.stopped) < crowd.threads)
        call_under_fire(&crowd, start, round++);
    for (int i = 0; i < crowd.threads; i++)
        pthread_join(killers[i], NULL);
    atomic_store(&crowd.over, true);
    pthread_join(bystander, NULL);
    CHECK(!hl_vm_restore(crowd.vm, start));
    CHECK(test_call(crowd.vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(crowd.vm);
    hl_snapshot_unref(start);
}

TEST(a_kill_before_the_run_is_not_lost_and_stays_until_a_restore) {
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    hl_vm_kill(vm);
    for (int i = 0; i < 3; i++)
        CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_KILLED);
    CHECK(!hl_vm_restore(vm, start) && test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

static void *kill_once(void *vm) {
    hl_vm_kill(vm);
    return NULL;
}

/* A guest asleep for ever, and one that computes for ever. */
TEST(a_kill_ends_sleep_and_work) {
    static const char *const methods[] = {"sleep", "spin"};
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    for (int round = 0; round < 20; round++) {
        pthread_t killer;
        CHECK(!pthread_create(&killer, NULL, kill_once, vm));
        CHECK(test_call(vm, methods[round & 1], "", &no_limits).kind == HL_EXIT_KILLED);
        pthread_join(killer, NULL);
        CHECK(!hl_vm_restore(vm, start));
    }
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

TEST(a_deadline_ends_sleep_and_work) {
    static const char *const methods[] = {"sleep", "spin", "doze"};
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    for (int round = 0; round < 12; round++) {
        int64_t deadline = test_now_ns() + 3 * MS;
        struct hl_limits limits = {deadline, INT64_MAX};
        CHECK(test_call(vm, methods[round % 3], "", &limits).kind == HL_EXIT_TIMEOUT);
        CHECK(test_now_ns() >= deadline);
        CHECK(!hl_vm_restore(vm, start));
    }
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

/* A guest in a loop of parks that are over before they begin: its exits never reach the caller. */
TEST(a_guest_that_is_always_on_its_way_in_lets_the_process_look_at_its_signals) {
    hl_vm *vm = test_vm();
    struct hl_limits soon = {test_now_ns() + MS, INT64_MAX};
    struct hl_exit left;
    CHECK(test_call(vm, "doze", "", &soon).kind == HL_EXIT_TIMEOUT);
    for (int i = 0; i < 3; i++)
        CHECK(!hl_vm_run(vm, 0, &no_limits, &left) && left.kind == HL_EXIT_SIGNAL);
    hl_vm_close(vm);
}

TEST(a_budget_counts_work_and_not_sleep) {
    hl_vm *vm = test_vm();
    struct hl_limits budget = {INT64_MAX, 5 * MS},
                     both = {test_now_ns() + 20 * MS, 10000 * (int64_t)MS};
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    struct hl_exit left = test_call(vm, "spin", "", &budget);
    CHECK(left.kind == HL_EXIT_CPU_TIME && left.cpu_ns >= 5 * MS);
    CHECK(!hl_vm_restore(vm, start));
    left = test_call(vm, "sleep", "", &both);
    CHECK(left.kind == HL_EXIT_TIMEOUT && left.cpu_ns < 20 * MS);
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

struct worker {
    hl_snapshot *start;
    uint64_t seed;
};

static void *work(void *argument) {
    struct worker *worker = argument;
    struct hl_config config = test_config();
    hl_vm *vm;
    CHECK(!hl_vm_create(&config, &vm));
    for (int round = 0; round < 25; round++) {
        bool spin = random_next(&worker->seed) & 1;
        struct hl_limits limits = {test_now_ns() + (spin ? 1 : 100000) * (int64_t)MS, INT64_MAX};
        CHECK(!hl_vm_restore(vm, worker->start));
        CHECK(test_call(vm, spin ? "spin" : "count", "", &limits).kind ==
              (spin ? HL_EXIT_TIMEOUT : HL_EXIT_PARK));
    }
    hl_vm_close(vm);
    return NULL;
}

TEST(many_threads_run_vms_of_one_snapshot) {
    enum { WORKERS = 8 };
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    CHECK(!hl_vm_snapshot(vm, &start));
    hl_vm_close(vm);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){start, (uint64_t)i};
        CHECK(!pthread_create(&threads[i], NULL, work, &workers[i]));
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    hl_snapshot_unref(start);
}
