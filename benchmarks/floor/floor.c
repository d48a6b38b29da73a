/* floor.c: what this machine's KVM and memory cost, measured in C with nothing around them.
 *
 * Usage: floor GUEST.elf, a guest that parks and does nothing else. Prints one JSON object of medians:
 * exit_ns, an exit to this process and back; copy_N_ns, a memcpy of N pages of 4 KiB; calls_ns and
 * calls_after_exit_ns, 512 calls of as many functions in a page each: in a loop, and after an exit;
 * reads_ns and reads_after_exit_ns, as many reads of a page each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "internal.h"

static int by_value(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static int64_t median(int64_t *samples, size_t count) {
    qsort(samples, count, sizeof *samples, by_value);
    return samples[count / 2];
}

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, hl_error_text());
    exit(1);
}

static hl_vm *start(const char *path) {
    static char elf[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    size_t size = fread(elf, 1, sizeof elf, file);
    fclose(file);
    struct hl_config config = {.memory = 16 << 20,
                               .in_size = 4096,
                               .out_size = 4096,
                               .console_size = 4096,
                               .image_fd = -1};
    hl_vm *vm;
    if (hl_vm_create(&config, &vm))
        fail("hl_vm_create");
    if (hl_vm_load(vm, elf, size))
        fail("hl_vm_load");
    return vm;
}

static int64_t exit_ns(hl_vm *vm) {
    enum { COUNT = 20000 };
    static int64_t samples[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int64_t before = monotonic_ns();
        if (ioctl(vm->vcpu_fd, KVM_RUN, 0))
            fail("KVM_RUN");
        samples[i] = monotonic_ns() - before;
    }
    vm->entry_pending = true;
    return median(samples, COUNT);
}

/* Functions that only return, each in a page of its own, none at the place of its neighbours. */
enum { FUNCTIONS = 512 };
static void (*functions[FUNCTIONS])(void);

static void make_functions(void) {
    uint8_t *code = mmap(NULL, FUNCTIONS * HL_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        fail("mmap");
    memset(code, 0xc3, FUNCTIONS * HL_PAGE_SIZE); /* ret */
    for (size_t i = 0; i < FUNCTIONS; i++) {
        size_t page = i * 197 % FUNCTIONS, line = i * 131 % (HL_PAGE_SIZE / 64);
        *(void **)&functions[i] = code + page * HL_PAGE_SIZE + line * 64;
    }
}

static void call_functions(void) {
    for (size_t called = 0; called < FUNCTIONS; called++)
        functions[called]();
}

static void read_pages(void) {
    for (size_t read = 0; read < FUNCTIONS; read++)
        *(volatile const uint8_t *)(uintptr_t)functions[read];
}

/* What becomes of it when the guest was left in between: `vm` is NULL where it was not. */
static int64_t work_ns(void (*work)(void), hl_vm *vm) {
    enum { COUNT = 2000 };
    static int64_t samples[COUNT];
    for (int i = 0; i < COUNT; i++) {
        if (vm && ioctl(vm->vcpu_fd, KVM_RUN, 0))
            fail("KVM_RUN");
        int64_t before = monotonic_ns();
        work();
        samples[i] = monotonic_ns() - before;
    }
    return median(samples, COUNT);
}

static int64_t copy_ns(size_t bytes, int rounds) {
    int64_t *samples = calloc((size_t)rounds, sizeof *samples);
    char *from = malloc(bytes), *to = malloc(bytes);
    if (!samples || !from || !to)
        fail("malloc");
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    for (int i = 0; i < rounds; i++) {
        int64_t before = monotonic_ns();
        memcpy(to, from, bytes);
        samples[i] = monotonic_ns() - before;
    }
    int64_t result = median(samples, (size_t)rounds);
    free(from), free(to), free(samples);
    return result;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: floor GUEST.elf\n");
        return 2;
    }
    hl_vm *vm = start(arguments[1]);
    struct hl_exit result;
    const struct hl_limits none = {INT64_MAX, INT64_MAX};
    if (hl_vm_run(vm, 0, &none, &result))
        fail("hl_vm_run");
    make_functions();
    printf("{\"calls_ns\": %lld", (long long)work_ns(call_functions, NULL));
    printf(", \"calls_after_exit_ns\": %lld", (long long)work_ns(call_functions, vm));
    printf(", \"reads_ns\": %lld", (long long)work_ns(read_pages, NULL));
    printf(", \"reads_after_exit_ns\": %lld", (long long)work_ns(read_pages, vm));
    printf(", \"exit_ns\": %lld", (long long)exit_ns(vm));
    for (size_t pages = 1; pages <= 100000; pages *= 10)
        printf(", \"copy_%zu_ns\": %lld", pages,
               (long long)copy_ns(pages * HL_PAGE_SIZE, pages < 1000 ? 2000 : 9));
    printf(", \"copy_16384_ns\": %lld}\n", (long long)copy_ns(64 << 20, 9));
    hl_vm_close(vm);
    return 0;
}
