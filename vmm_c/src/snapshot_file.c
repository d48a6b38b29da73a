/* snapshot_file.c: snapshots to and from files; what is read from there is untrusted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "snapshot.h"

_Static_assert(sizeof(struct cpu_state) == HL_VCPU_STATE_SIZE, "the size in hl_vmm.h");

/* ---- sets of pages as ranges ------------------------------------------------------------------- */
static int write_ranges(const struct page_set *set, int fd, off_t offset) {
    struct hl_page_range batch[512];
    size_t count = 0;
    int result = 0;
    for (size_t page = page_set_next(set, 0); page < set->pages && !result;) {
        size_t end = page_set_run_end(set, page);
        batch[count++] = (struct hl_page_range){(uint32_t)page, (uint32_t)(end - page)};
        page = page_set_next(set, end);
        if (count < sizeof batch / sizeof *batch && page < set->pages)
            continue;
        result = write_all(fd, batch, count * sizeof *batch, offset);
        offset += (off_t)(count * sizeof *batch);
        count = 0;
    }
    return result;
}

static int read_ranges(struct page_set *set, const uint8_t *from, size_t size) {
    struct hl_page_range range;
    size_t end = 0;
    if (size % sizeof range)
        return hl_fail(-EINVAL, "the ranges of pages are cut short");
    for (; size; from += sizeof range, size -= sizeof range) {
        memcpy(&range, from, sizeof range);
        if (range.first < end || !range.count || range.first >= set->pages ||
            range.count > set->pages - range.first)
            return hl_fail(-EINVAL, "a range of %u pages at page %u, where there can be none",
                           range.count, range.first);
        end = (size_t)range.first + range.count;
        page_set_add_range(set, range.first, range.count);
    }
    return 0;
}

/* ---- saving ---------------------------------------------------------------------------------------- */
/* The pages in which the two differ. */
static int differing_pages(const hl_snapshot *snapshot, const hl_snapshot *parent,
                           struct page_set *set) {
    int result = page_set_init(set, snapshot->own.pages);
    if (result)
        return result;
    snapshot_add_path(set, snapshot, NULL);
    snapshot_add_path(set, parent, NULL);
    for (size_t page = page_set_next(set, 0); page < set->pages;
         page = page_set_next(set, page + 1))
        if (!memcmp(snapshot_bytes(snapshot, page), snapshot_bytes(parent, page), HL_PAGE_SIZE))
            page_set_remove(set, page);
    return 0;
}

static int write_memory(const hl_snapshot *snapshot, const struct page_set *set, int fd) {
    int result = ftruncate(fd, (off_t)snapshot->config.memory)
                     ? hl_fail(-errno, "sizing the snapshot file: %s", strerror(errno))
                     : 0;
    for (size_t page = page_set_next(set, 0); page < set->pages && !result;
         page = page_set_next(set, page + 1))
        result = write_all(fd, snapshot_bytes(snapshot, page), HL_PAGE_SIZE,
                           (off_t)(page * HL_PAGE_SIZE));
    return result;
}

int hl_snapshot_save(const hl_snapshot *snapshot, const hl_snapshot *parent, int memory_fd,
                     int state_fd) {
    struct page_set set;
    int result = parent ? snapshot_check_config(parent, &snapshot->config) : 0;
    if (!result)
        result = differing_pages(snapshot, parent, &set);
    if (result)
        return result;
    result = write_memory(snapshot, &set, memory_fd);
    if (!result)
        result = write_all(state_fd, &snapshot->cpu, sizeof snapshot->cpu, 0);
    if (!result)
        result = write_ranges(&set, state_fd, sizeof snapshot->cpu);
    page_set_free(&set);
    return result;
}

int hl_vm_save_written(hl_vm *vm, int fd) {
    int result = dirty_pages(vm, &vm->scratch);
    return result ? result : write_ranges(&vm->scratch, fd, 0);
}

/* ---- loading --------------------------------------------------------------------------------------- */
static int check_file(const struct hl_config *config, int fd) {
    struct stat file;
    /* Not the library's fstat, which some versions make of a call that looks up names as well: a filter
     * of system calls cannot tell the two apart. */
    if (syscall(SYS_fstat, fd, &file))
        return hl_fail(-errno, "the snapshot file: %s", strerror(errno));
    if (!S_ISREG(file.st_mode))
        return hl_fail(-EINVAL, "the snapshot's memory is not a regular file");
    if ((uint64_t)file.st_size != config->memory)
        return hl_fail(-EINVAL, "the snapshot file has %lld bytes and should have %llu",
                       (long long)file.st_size, (unsigned long long)config->memory);
    return 0;
}

/* An address whose upper 17 bits are alike, Intel SDM vol. 1, 3.3.7.1: entering a guest with another
 * one fails, in a way that differs from processor to processor. */
static bool is_canonical(uint64_t address) {
    return address + (UINT64_C(1) << 47) < UINT64_C(1) << 48;
}

/* What else a state may hold, cpu_set leaves out or KVM refuses. */
static int read_cpu(struct cpu_state *cpu, const void *state, size_t size) {
    if (size < sizeof *cpu)
        return hl_fail(-EINVAL, "a vCPU state of %zu bytes; it should have %zu", size, sizeof *cpu);
    memcpy(cpu, state, sizeof *cpu);
    const struct hl_registers *registers = &cpu->registers;
    if (is_canonical(registers->rip) && is_canonical(registers->fs_base) &&
        is_canonical(registers->gs_base))
        return 0;
    return hl_fail(-EINVAL, "a vCPU state with an address that no processor has");
}

static int read_files(hl_snapshot *snapshot, int memory_fd, const void *state, size_t size) {
    int result = read_cpu(&snapshot->cpu, state, size);
    if (!result)
        result = read_ranges(&snapshot->own, (const uint8_t *)state + sizeof snapshot->cpu,
                             size - sizeof snapshot->cpu);
    if (result)
        return result;
    int fd = fcntl(memory_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return hl_fail(-errno, "the snapshot file: %s", strerror(errno));
    return snapshot_set_memory(snapshot, fd);
}

int hl_snapshot_load(const struct hl_config *config, hl_snapshot *parent, int memory_fd,
                     const void *state, size_t state_size, hl_snapshot **out) {
    int result = check_file(config, memory_fd);
    if (!result && parent)
        result = snapshot_check_config(parent, config);
    if (result)
        return result;
    hl_snapshot *snapshot = snapshot_new(config, parent);
    if (!snapshot)
        return -ENOMEM;
    result = read_files(snapshot, memory_fd, state, state_size);
    if (result)
        hl_snapshot_unref(snapshot);
    else
        *out = snapshot;
    return result;
}

int hl_snapshot_prefetch(hl_snapshot *snapshot, const void *ranges, size_t size) {
    page_set_free(&snapshot->first);
    int result = page_set_init(&snapshot->first, snapshot->own.pages);
    if (!result)
        result = read_ranges(&snapshot->first, ranges, size);
    if (!result && page_set_count(&snapshot->first) > HL_PREFETCH_MAXIMUM)
        result = hl_fail(-EINVAL, "more than %d pages to prefetch", HL_PREFETCH_MAXIMUM);
    if (result)
        page_set_free(&snapshot->first);
    return result;
}
