/* test_snapshots.c: random walks over trees of snapshots, compared byte for byte with whole copies. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "harness.h"
#include "snapshot.h"

enum { VMS = 2, KEPT = 8, STEPS = 400 };

/* A snapshot and what memory and registers were when it was taken. */
struct kept {
    hl_snapshot *snapshot;
    uint8_t *memory;
    struct hl_registers registers;
};

static uint8_t *memory_of(hl_vm *vm) {
    uint8_t *place = hl_vm_pointer(vm, HL_RAM_ADDRESS, TEST_MEMORY, 0);
    CHECK(place);
    return place;
}

static void keep(hl_vm *vm, struct kept *kept) {
    hl_snapshot *old = kept->snapshot;
    CHECK(!hl_vm_snapshot(vm, &kept->snapshot));
    hl_snapshot_unref(old);
    if (!kept->memory)
        kept->memory = malloc(TEST_MEMORY);
    memcpy(kept->memory, memory_of(vm), TEST_MEMORY);
    CHECK(!hl_vm_get_registers(vm, &kept->registers));
}

static void go_back(hl_vm *vm, const struct kept *kept) {
    struct hl_registers registers;
    CHECK(!hl_vm_restore(vm, kept->snapshot));
    CHECK(!memcmp(memory_of(vm), kept->memory, TEST_MEMORY));
    CHECK(!hl_vm_get_registers(vm, &registers));
    CHECK(!memcmp(&registers, &kept->registers, sizeof registers));
}

/* Puts the snapshot into a file and takes it out again: a root of its own, or a child of `parent`. */
static void through_a_file(struct kept *kept, hl_snapshot *parent) {
    struct test_files files = test_save(kept->snapshot, parent);
    hl_snapshot *loaded;
    CHECK(!test_load(&files, parent, &loaded));
    close(files.memory_fd);
    hl_snapshot_unref(kept->snapshot);
    kept->snapshot = loaded;
}

static void guest_writes(hl_vm *vm, uint64_t *state) {
    char params[128];
    /* Mostly a few pages, now and then so many that the log is started anew. */
    uint64_t count = random_below(state, 8) ? random_below(state, 40) : 1500;
    snprintf(params, sizeof params, "\"seed\":%llu,\"count\":%llu",
             (unsigned long long)(random_next(state) >> 2), (unsigned long long)count);
    CHECK(test_call(vm, "scribble", params, &no_limits).kind == HL_EXIT_PARK);
}

/* Behind the guest's program, before its stack. */
static void host_writes(hl_vm *vm, uint64_t *state) {
    uint8_t bytes[5000];
    uint64_t value = random_next(state), size = random_below(state, sizeof bytes);
    memset(bytes, (int)(value & 0xff), sizeof bytes);
    CHECK(!hl_vm_write(vm, 0x300000 + random_below(state, 0x300000), bytes, size));
}

static struct hl_exit release(hl_vm *vm, uint64_t address, uint64_t size) {
    char params[128];
    snprintf(params, sizeof params, "\"address\":%lld,\"size\":%lld", (long long)address,
             (long long)size);
    return test_call(vm, "release", params, &no_limits);
}

/* Gives pages back where others have left their bytes; they are zero at once. */
static void guest_releases(hl_vm *vm, uint64_t *state) {
    static const uint8_t zeros[0x40000];
    uint64_t address = 0x300000 + random_below(state, 0x300) * HL_PAGE_SIZE,
             size = random_below(state, sizeof zeros / HL_PAGE_SIZE) * HL_PAGE_SIZE;
    CHECK(release(vm, address, size).kind == HL_EXIT_PARK);
    CHECK(!memcmp(hl_vm_pointer(vm, address, size, 0), zeros, size));
}

static void walk(uint64_t state) {
    hl_vm *vms[VMS];
    struct kept kept[KEPT] = {0};
    for (int i = 0; i < VMS; i++)
        vms[i] = test_vm();
    for (int i = 0; i < KEPT; i++)
        keep(vms[0], &kept[i]);
    for (int step = 0; step < STEPS; step++) {
        hl_vm *vm = vms[random_below(&state, VMS)];
        struct kept *one = &kept[random_below(&state, KEPT)], *other = &kept[0];
        switch (random_below(&state, 16)) {
        case 0: keep(vm, one); break;
        case 1: keep(vm, one), guest_writes(vm, &state), go_back(vm, one); break;
        case 2: through_a_file(one, random_below(&state, 2) ? other->snapshot : NULL); break;
        case 3:
        case 4: host_writes(vm, &state); break;
        case 5: guest_releases(vm, &state); break;
        case 6: guest_writes(vm, &state), guest_releases(vm, &state); break;
        case 7:
        case 8: guest_writes(vm, &state); break;
        default: go_back(vm, one);
        }
    }
    for (int i = 0; i < VMS; i++)
        hl_vm_close(vms[i]);
    for (int i = 0; i < KEPT; i++) {
        hl_snapshot_unref(kept[i].snapshot);
        free(kept[i].memory);
    }
}

#ifndef WALKS
#define WALKS 4
#endif
TEST(every_restore_brings_back_memory_and_registers_byte_for_byte) {
    for (uint64_t seed = 1; seed <= WALKS; seed++)
        walk(seed);
}

static uint64_t memory_taken_back(hl_vm *vm, hl_snapshot *to) {
    struct hl_counters counters;
    CHECK(!hl_vm_restore(vm, to));
    hl_vm_get_counters(vm, &counters);
    return counters.resets + counters.restores;
}

TEST(a_vm_that_is_there_already_takes_no_memory_back) {
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    CHECK(memory_taken_back(vm, start) == 0);
    for (uint64_t round = 0; round < 8; round += 2) {
        CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
        CHECK(memory_taken_back(vm, start) == round + 1);
        CHECK(memory_taken_back(vm, start) == round + 1);
        CHECK(!hl_vm_write(vm, 0x300000, "x", 1));
        CHECK(memory_taken_back(vm, start) == round + 2);
    }
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

TEST(a_snapshot_of_what_is_known_asks_kvm_for_nothing) {
    hl_vm *vm = test_vm();
    hl_snapshot *start, *again, *changed;
    struct hl_counters before, after;
    struct hl_registers registers;
    CHECK(!hl_vm_snapshot(vm, &start) && !hl_vm_restore(vm, start));
    hl_vm_get_counters(vm, &before);
    CHECK(!hl_vm_snapshot(vm, &again) && hl_snapshot_size(again) == 0);
    hl_vm_get_counters(vm, &after);
    CHECK(before.ioctls == after.ioctls);
    /* What the host did to the vCPU alone is in the next one. */
    CHECK(!hl_vm_get_registers(vm, &registers));
    registers.r12 ^= 1;
    CHECK(!hl_vm_set_registers(vm, &registers) && !hl_vm_snapshot(vm, &changed));
    CHECK(!hl_vm_restore(vm, again) && !hl_vm_restore(vm, changed));
    struct hl_registers back;
    CHECK(!hl_vm_get_registers(vm, &back) && back.r12 == registers.r12);
    hl_vm_close(vm);
    hl_snapshot_unref(start), hl_snapshot_unref(again), hl_snapshot_unref(changed);
}

TEST(only_memory_of_the_guests_own_is_given_back) {
    static const uint64_t lies[][2] = {
        {HL_RAM_ADDRESS, 0x1000},
        {HL_GUEST_ADDRESS - 0x1000, 0x2000},
        {0x300800, 0x1000},
        {0x300000, 0x800},
        {0x300000, TEST_MEMORY},
        {0x300000, UINT64_MAX - 0xfff},
        {UINT64_MAX - 0xfff, 0x1000},
        {HL_GUEST_ADDRESS, 2ULL * HL_RELEASE_MAXIMUM},
        {HL_RAM_ADDRESS + TEST_MEMORY - 0x1000, 0x1000},
        {HL_IMAGE_ADDRESS, 0x1000},
    };
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        CHECK(release(vm, lies[i][0], lies[i][1]).kind == HL_EXIT_VIOLATION);
        CHECK(!hl_vm_restore(vm, start));
    }
    CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

/* How many pages the process has at [address, address + size) of the guest. */
static size_t resident(hl_vm *vm, uint64_t address, size_t size) {
    static uint64_t entries[TEST_MEMORY / HL_PAGE_SIZE];
    uint64_t first = (uintptr_t)hl_vm_pointer(vm, address, size, 0) / HL_PAGE_SIZE;
    size_t count = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    CHECK(fd >= 0 && pread(fd, entries, size / HL_PAGE_SIZE * 8, (off_t)first * 8) > 0);
    close(fd);
    for (size_t i = 0; i < size / HL_PAGE_SIZE; i++)
        count += entries[i] >> 63; /* Documentation/admin-guide/mm/pagemap.rst: present */
    return count;
}

TEST(released_and_reset_memory_goes_back_to_the_host) {
    enum { FIRST = 0x300000, SIZE = 0x600000 };
    static uint8_t bytes[SIZE];
    hl_vm *vm = test_vm();
    hl_snapshot *start;
    CHECK(!hl_vm_snapshot(vm, &start));
    memset(bytes, 1, sizeof bytes);
    for (int round = 0; round < 8; round++) {
        /* A small run first: where large ones are usual their pages are kept. */
        CHECK(!hl_vm_restore(vm, start));
        CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
        CHECK(!hl_vm_restore(vm, start));
        CHECK(!hl_vm_write(vm, FIRST, bytes, SIZE));
        CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
        CHECK(resident(vm, FIRST, SIZE) == SIZE / HL_PAGE_SIZE);
        if (round & 1)
            CHECK(release(vm, FIRST, SIZE).kind == HL_EXIT_PARK);
        else
            CHECK(!hl_vm_restore(vm, start));
        CHECK(resident(vm, FIRST, SIZE) <= 1024); /* a reset copies as many */
        CHECK(round % 2 == 0 || resident(vm, FIRST, SIZE) == 0);
    }
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

TEST(a_snapshot_outlives_its_vm_and_its_parents) {
    hl_vm *vm = test_vm();
    struct kept one = {0}, two = {0};
    uint64_t state = 7;
    keep(vm, &one);
    guest_writes(vm, &state);
    keep(vm, &two);
    hl_snapshot_unref(one.snapshot);
    hl_vm_close(vm);
    vm = test_vm();
    go_back(vm, &two);
    hl_snapshot_unref(two.snapshot);
    CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(vm);
    free(one.memory);
    free(two.memory);
}

TEST(snapshots_that_nobody_holds_do_not_pile_up) {
    hl_vm *vm = test_vm(), *other = test_vm();
    struct kept last = {0};
    uint64_t state = 8;
    keep(vm, &last);
    guest_writes(vm, &state);
    go_back(vm, &last); /* from here on the log of dirtied pages is on */
    for (int round = 0; round < 200; round++) {
        if (round % 3)
            host_writes(vm, &state);
        keep(vm, &last);
        CHECK(snapshot_depth(last.snapshot) <= 16);
        if (round % 20 == 19)
            go_back(other, &last);
    }
    hl_snapshot_unref(last.snapshot);
    free(last.memory);
    hl_vm_close(vm);
    hl_vm_close(other);
}

TEST(a_snapshot_of_another_configuration_is_refused) {
    struct hl_config config = test_config();
    hl_vm *vm = test_vm(), *other;
    hl_snapshot *snapshot;
    config.memory *= 2;
    CHECK(!hl_vm_snapshot(vm, &snapshot) && !hl_vm_create(&config, &other));
    CHECK(hl_vm_restore(other, snapshot) == -EINVAL);
    hl_vm_close(other);
    config = test_config();
    config.in_size *= 2;
    CHECK(!hl_vm_create(&config, &other) && hl_vm_restore(other, snapshot) == -EINVAL);
    hl_vm_close(other);
    hl_vm_close(vm);
    hl_snapshot_unref(snapshot);
}

/* A snapshot whose vCPU state KVM refuses, with another memory than the one to go back to. */
TEST(a_restore_that_fails_half_way_leaves_nothing_of_it_behind) {
    uint64_t state = 10;
    hl_vm *vm = test_vm();
    hl_snapshot *forged;
    struct kept good = {0}, other = {0};
    keep(vm, &good);
    for (int round = 0; round < 4; round++) {
        guest_writes(vm, &state);
        host_writes(vm, &state);
        keep(vm, &other);
        struct test_files files = test_save(other.snapshot, NULL);
        memset(files.state + sizeof(struct hl_registers), 0xff,
               HL_VCPU_STATE_SIZE - sizeof(struct hl_registers));
        CHECK(!test_load(&files, NULL, &forged));
        go_back(vm, &good);
        CHECK(hl_vm_restore(vm, forged));
        struct hl_exit left;
        CHECK(hl_vm_run(vm, 0, &no_limits, &left) == -ENOEXEC);
        hl_snapshot_unref(forged);
        close(files.memory_fd);
        go_back(vm, &good);
        CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    }
    hl_snapshot_unref(good.snapshot);
    hl_snapshot_unref(other.snapshot);
    free(good.memory);
    free(other.memory);
    hl_vm_close(vm);
}
