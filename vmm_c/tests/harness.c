/* harness.c: runs the test cases named on the command line; --list names them all. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "harness.h"

static struct test_case *tests;
const struct hl_limits no_limits = {INT64_MAX, INT64_MAX};

void test_add(struct test_case *test) {
    test->next = tests;
    tests = test;
}

int main(int count, char **names) {
    bool list = count == 2 && !strcmp(names[1], "--list");
    int ran = 0;
    for (struct test_case *test = tests; test; test = test->next) {
        bool wanted = count == 1;
        for (int i = 1; i < count; i++)
            wanted |= !strcmp(names[i], test->name);
        if (list)
            puts(test->name);
        if (!wanted || list)
            continue;
        printf("%s\n", test->name);
        fflush(stdout);
        test->run();
        ran++;
    }
    return list || ran == count - 1 || (count == 1 && ran) ? 0 : 2;
}

uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct hl_config test_config(void) {
    return (struct hl_config){.memory = TEST_MEMORY,
                              .in_size = 0x10000,
                              .out_size = 0x10000,
                              .console_size = 0x1000,
                              .image_fd = -1};
}

uint8_t *test_program(size_t *size) {
    FILE *file = fopen(TEST_GUEST, "rb");
    CHECK(file && !fseek(file, 0, SEEK_END));
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *program = malloc(*size);
    CHECK(program && fread(program, 1, *size, file) == *size);
    fclose(file);
    return program;
}

hl_vm *test_vm(void) {
    struct hl_config config = test_config();
    struct hl_exit left;
    hl_vm *vm = NULL;
    size_t size;
    uint8_t *program = test_program(&size);
    CHECK(!hl_vm_create(&config, &vm) && !hl_vm_load(vm, program, size));
    free(program);
    CHECK(!hl_vm_run(vm, 0, &no_limits, &left) && left.kind == HL_EXIT_PARK);
    return vm;
}

struct hl_exit test_call(hl_vm *vm, const char *method, const char *params,
                         const struct hl_limits *limits) {
    struct hl_exit left;
    uint8_t frame[1024];
    struct hl_frame header = {HL_ABI_VERSION, 0, 0, 0};
    int size = snprintf((char *)frame + sizeof header, sizeof frame - sizeof header,
                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":{%s}}", method,
                        params);
    header.json_size = (uint32_t)size;
    memcpy(frame, &header, sizeof header);
    size_t written = sizeof header + (size_t)size;
    memcpy(hl_vm_pointer(vm, hl_vm_in_address(vm), written, 0), frame, written);
    do
        CHECK(!hl_vm_run(vm, written, limits, &left));
    while (left.kind == HL_EXIT_SIGNAL);
    return left;
}

int64_t test_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct test_files test_save(const hl_snapshot *snapshot, const hl_snapshot *parent) {
    struct test_files files = {.memory_fd = memfd_create("test", MFD_CLOEXEC)};
    int state_fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(files.memory_fd >= 0 && state_fd >= 0);
    CHECK(!hl_snapshot_save(snapshot, parent, files.memory_fd, state_fd));
    ssize_t size = pread(state_fd, files.state, sizeof files.state, 0);
    CHECK(size >= HL_VCPU_STATE_SIZE && (size_t)size < sizeof files.state);
    files.size = (size_t)size;
    close(state_fd);
    return files;
}

int test_load(const struct test_files *files, hl_snapshot *parent, hl_snapshot **snapshot) {
    struct hl_config config = test_config();
    return hl_snapshot_load(&config, parent, files->memory_fd, files->state, files->size, snapshot);
}
