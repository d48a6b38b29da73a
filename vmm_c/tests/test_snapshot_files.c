/* test_snapshot_files.c: files of snapshots that say what no helper would have written. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "harness.h"

static hl_vm *vm;
static hl_snapshot *good;
static struct test_files files;

static void begin(void) {
    vm = test_vm();
    CHECK(!hl_vm_snapshot(vm, &good));
    files = test_save(good, NULL);
}

static void end(void) {
    CHECK(!hl_vm_restore(vm, good) && test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(vm);
    hl_snapshot_unref(good);
    close(files.memory_fd);
}

static void refused(hl_snapshot *parent, const char *reason) {
    hl_snapshot *forged;
    CHECK(test_load(&files, parent, &forged) == -EINVAL);
    CHECK(strstr(hl_error_text(), reason));
}

static struct hl_registers *registers(void) { return (struct hl_registers *)files.state; }

/* ---- the vCPU ---------------------------------------------------------------------------------- */
TEST(any_vcpu_state_at_all_is_refused_or_harmless) {
    begin();
    uint64_t state = 9;
    for (int round = 0; round < 200; round++) {
        struct test_files changed = files;
        hl_snapshot *forged;
        for (int i = 0; i < 20; i++)
            changed.state[random_below(&state, HL_VCPU_STATE_SIZE)] = (uint8_t)random_next(&state);
        if (test_load(&changed, NULL, &forged))
            continue;
        struct hl_limits limits = {test_now_ns() + 2000000, INT64_MAX};
        struct hl_exit left;
        if (!hl_vm_restore(vm, forged))
            CHECK(!hl_vm_run(vm, 0, &limits, &left));
        hl_snapshot_unref(forged);
    }
    end();
}

TEST(flags_that_a_program_cannot_set_are_left_out) {
    begin();
    hl_snapshot *forged;
    struct hl_registers found;
    registers()->rflags = UINT64_MAX;
    CHECK(!test_load(&files, NULL, &forged) && !hl_vm_restore(vm, forged));
    CHECK(!hl_vm_get_registers(vm, &found));
    /* Neither VM, VIF, VIP, RF, NT nor what is reserved: Intel SDM vol. 1, 3.4.3. */
    CHECK(!(found.rflags & ~UINT64_C(0x243fd7)));
    hl_snapshot_unref(forged);
    end();
}

TEST(addresses_that_no_processor_has_are_refused) {
    begin();
    uint64_t *const places[] = {&registers()->rip, &registers()->fs_base, &registers()->gs_base};
    const uint64_t values[] = {UINT64_C(1) << 47, UINT64_C(1) << 63, ~(UINT64_C(1) << 47) << 1};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) {
            uint64_t old = *places[i];
            *places[i] = values[j];
            refused(NULL, "an address that no processor has");
            *places[i] = old;
        }
    end();
}

TEST(a_start_anywhere_stays_a_start_in_ring_3) {
    begin();
    /* Nothing, page tables, entry code, the last page of RAM, beyond it, the upper half. */
    const uint64_t places[] = {
        0, 0x6000, 0x5000, HL_RAM_ADDRESS + TEST_MEMORY - 1, 1ULL << 40, 0xffff800000000000};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        hl_snapshot *forged;
        struct hl_exit left;
        struct hl_limits limits = {test_now_ns() + 2000000, INT64_MAX};
        registers()->rip = registers()->rsp = places[i];
        CHECK(!test_load(&files, NULL, &forged) && !hl_vm_restore(vm, forged));
        CHECK(!hl_vm_run(vm, 0, &limits, &left));
        CHECK(left.kind == HL_EXIT_FAULT || left.kind == HL_EXIT_VIOLATION ||
              left.kind == HL_EXIT_TIMEOUT);
        hl_snapshot_unref(forged);
    }
    end();
}

/* ---- sizes --------------------------------------------------------------------------------------- */
TEST(files_of_another_size_are_refused) {
    begin();
    size_t size = files.size;
    for (size_t wrong = 0; wrong < HL_VCPU_STATE_SIZE; wrong += 97) {
        files.size = wrong;
        refused(NULL, "it should have");
    }
    files.size = size - 1;
    refused(NULL, "cut short");
    files.size = size;
    CHECK(!ftruncate(files.memory_fd, TEST_MEMORY - 1));
    refused(NULL, "should have 8388608");
    CHECK(!ftruncate(files.memory_fd, (off_t)1 << 40));
    refused(NULL, "should have 8388608");
    end();
}

TEST(a_memory_that_is_no_regular_file_is_refused) {
    begin();
    close(files.memory_fd);
    files.memory_fd = open("/dev/zero", O_RDONLY);
    refused(NULL, "not a regular file");
    close(files.memory_fd);
    files.memory_fd = open("/", O_RDONLY | O_DIRECTORY);
    refused(NULL, "not a regular file");
    end();
}

/* ---- ranges of pages --------------------------------------------------------------------------------- */
#define PAGES (TEST_MEMORY / HL_PAGE_SIZE)

TEST(ranges_of_pages_that_cannot_be_are_refused) {
    begin();
    const struct hl_page_range wrong[][2] = {
        {{0, 0}, {1, 1}},
        {{PAGES, 1}, {0, 1}},
        {{PAGES - 1, 2}, {0, 1}},
        {{0, PAGES + 1}, {0, 1}},
        {{UINT32_MAX, 1}, {0, 1}},
        {{1, UINT32_MAX}, {0, 1}},
        {{5, 2}, {6, 1}},
        {{5, 2}, {5, 2}},
        {{5, 2}, {1, 1}},
        {{0, 1}, {UINT32_MAX, 2}},
        {{0, 1}, {PAGES, UINT32_MAX}},
    };
    files.size = HL_VCPU_STATE_SIZE + sizeof wrong[0];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(files.state + HL_VCPU_STATE_SIZE, wrong[i], sizeof wrong[i]);
        refused(NULL, "where there can be none");
        CHECK(hl_snapshot_prefetch(good, wrong[i], sizeof wrong[i]) == -EINVAL);
    }
    CHECK(hl_snapshot_prefetch(good, wrong[0], sizeof wrong[0] - 1) == -EINVAL);
    end();
}

TEST(random_ranges_of_pages_do_no_harm) {
    begin();
    uint64_t state = 11;
    for (int round = 0; round < 2000; round++) {
        hl_snapshot *forged;
        struct hl_page_range *ranges = (void *)(files.state + HL_VCPU_STATE_SIZE);
        size_t count = random_below(&state, 8);
        for (size_t i = 0; i < count; i++)
            ranges[i] = (struct hl_page_range){(uint32_t)random_below(&state, 2 * PAGES),
                                               (uint32_t)random_below(&state, 200)};
        files.size = HL_VCPU_STATE_SIZE + count * sizeof *ranges;
        if (test_load(&files, NULL, &forged))
            continue;
        if (round % 50 == 0)
            CHECK(!hl_vm_restore(vm, forged));
        hl_snapshot_unref(forged);
    }
    end();
}

/* ---- deltas and prefetching ---------------------------------------------------------------------------- */
TEST(a_delta_holds_only_what_differs_and_zeros_where_they_differ) {
    begin();
    enum { FIRST = 0x300000, SECOND = 0x400000 };
    uint8_t ones[HL_PAGE_SIZE], nothing[HL_PAGE_SIZE] = {0}, found[HL_PAGE_SIZE];
    hl_snapshot *parent, *child, *loaded;
    memset(ones, 1, sizeof ones);
    CHECK(!hl_vm_write(vm, FIRST, ones, sizeof ones) && !hl_vm_snapshot(vm, &parent));
    CHECK(!hl_vm_write(vm, FIRST, nothing, sizeof nothing) &&
          !hl_vm_write(vm, SECOND, ones, sizeof ones) && !hl_vm_snapshot(vm, &child));
    struct test_files delta = test_save(child, parent);
    struct stat file;
    CHECK(delta.size == HL_VCPU_STATE_SIZE + 2 * sizeof(struct hl_page_range));
    CHECK(!fstat(delta.memory_fd, &file) && file.st_blocks * 512 <= 4 * HL_PAGE_SIZE);
    CHECK(!test_load(&delta, parent, &loaded));
    hl_vm *other = test_vm();
    CHECK(!hl_vm_restore(other, loaded));
    CHECK(!hl_vm_read(other, FIRST, found, sizeof found) && !memcmp(found, nothing, sizeof found));
    CHECK(!hl_vm_read(other, SECOND, found, sizeof found) && !memcmp(found, ones, sizeof found));
    CHECK(!hl_vm_restore(other, parent));
    CHECK(!hl_vm_read(other, FIRST, found, sizeof found) && !memcmp(found, ones, sizeof found));
    hl_vm_close(other);
    hl_snapshot_unref(loaded);
    hl_snapshot_unref(child);
    hl_snapshot_unref(parent);
    close(delta.memory_fd);
    end();
}

TEST(a_parent_of_another_size_is_refused) {
    begin();
    struct hl_config config = test_config();
    hl_vm *large;
    hl_snapshot *parent;
    config.memory *= 2;
    CHECK(!hl_vm_create(&config, &large) && !hl_vm_snapshot(large, &parent));
    refused(parent, "bytes of memory");
    CHECK(hl_snapshot_save(good, parent, files.memory_fd, files.memory_fd) == -EINVAL);
    hl_snapshot_unref(parent);
    hl_vm_close(large);
    end();
}

TEST(prefetched_pages_are_as_in_the_snapshot) {
    begin();
    struct hl_page_range all = {0, PAGES};
    struct hl_counters before, after;
    hl_snapshot *loaded, *again;
    uint8_t *memory = malloc(TEST_MEMORY);
    CHECK(!hl_vm_read(vm, HL_RAM_ADDRESS, memory, TEST_MEMORY));
    CHECK(!test_load(&files, NULL, &loaded) && !hl_snapshot_prefetch(loaded, &all, sizeof all));
    hl_vm *other = test_vm();
    CHECK(!hl_vm_restore(other, loaded));
    CHECK(!memcmp(hl_vm_pointer(other, HL_RAM_ADDRESS, TEST_MEMORY, 0), memory, TEST_MEMORY));
    CHECK(!hl_vm_snapshot(other, &again) && hl_snapshot_size(again) == 0);
    hl_vm_get_counters(other, &before);
    CHECK(test_call(other, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_get_counters(other, &after);
    CHECK(after.exits > before.exits);
    hl_snapshot_unref(again);
    hl_snapshot_unref(loaded);
    hl_vm_close(other);
    free(memory);
    end();
}

TEST(more_pages_than_a_first_run_writes_are_not_prefetched) {
    struct hl_config config = test_config();
    config.memory = 4 * TEST_MEMORY;
    struct hl_page_range many = {0, HL_PREFETCH_MAXIMUM}, more = {0, HL_PREFETCH_MAXIMUM + 1};
    hl_vm *large;
    hl_snapshot *snapshot;
    CHECK(!hl_vm_create(&config, &large) && !hl_vm_snapshot(large, &snapshot));
    CHECK(!hl_snapshot_prefetch(snapshot, &many, sizeof many));
    CHECK(hl_snapshot_prefetch(snapshot, &more, sizeof more) == -EINVAL);
    CHECK(!hl_vm_restore(large, snapshot));
    hl_snapshot_unref(snapshot);
    hl_vm_close(large);
}

TEST(what_a_run_writes_is_recorded_as_ranges) {
    begin();
    struct hl_page_range ranges[600];
    int fd = memfd_create("test", MFD_CLOEXEC);
    hl_vm *other = test_vm();
    CHECK(!hl_vm_restore(other, good));
    CHECK(test_call(other, "scribble", "\"seed\":3,\"count\":400", &no_limits).kind ==
          HL_EXIT_PARK);
    CHECK(!hl_vm_save_written(other, fd));
    ssize_t size = pread(fd, ranges, sizeof ranges, 0);
    CHECK(size > 0 && size < (ssize_t)sizeof ranges);
    CHECK(!hl_snapshot_prefetch(good, ranges, (size_t)size));
    size_t pages = 0;
    for (size_t i = 0; i < (size_t)size / sizeof *ranges; i++)
        pages += ranges[i].count;
    CHECK(pages > 300 && pages < 450);
    hl_vm_close(other);
    close(fd);
    end();
}
