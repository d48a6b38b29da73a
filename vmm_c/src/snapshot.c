/* snapshot.c: snapshots as objects: their pages, their ancestors, taking one. */
#define _GNU_SOURCE
#include "snapshot.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

hl_snapshot *hl_snapshot_ref(hl_snapshot *snapshot) {
    atomic_fetch_add_explicit(&snapshot->references, 1, memory_order_relaxed);
    return snapshot;
}

void hl_snapshot_unref(hl_snapshot *snapshot) {
    while (snapshot &&
           atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) == 1) {
        hl_snapshot *parent = snapshot->parent;
        if (snapshot->memory)
            munmap(snapshot->memory, snapshot->config.memory);
        if (snapshot->memory_fd >= 0)
            close(snapshot->memory_fd);
        page_set_free(&snapshot->own);
        page_set_free(&snapshot->first);
        free(snapshot);
        snapshot = parent;
    }
}

void snapshot_assign(hl_snapshot **place, hl_snapshot *snapshot) {
    hl_snapshot *old = *place;
    *place = snapshot ? hl_snapshot_ref(snapshot) : NULL;
    hl_snapshot_unref(old);
}

hl_snapshot *snapshot_new(const struct hl_config *config, hl_snapshot *parent) {
    hl_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot || page_set_init(&snapshot->own, config->memory / HL_PAGE_SIZE)) {
        free(snapshot);
        hl_fail(-ENOMEM, "no memory for a snapshot");
        return NULL;
    }
    atomic_init(&snapshot->references, 1);
    snapshot->config = *config;
    snapshot->config.image_fd = -1;
    snapshot->memory_fd = -1;
    snapshot->parent = parent ? hl_snapshot_ref(parent) : NULL;
    return snapshot;
}

int snapshot_set_memory(hl_snapshot *snapshot, int fd) {
    void *memory = mmap(NULL, snapshot->config.memory, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        int error = errno;
        close(fd);
        return hl_fail(-error, "mapping the snapshot: %s", strerror(error));
    }
    snapshot->memory_fd = fd;
    snapshot->memory = memory;
    return 0;
}

const uint8_t *snapshot_page(const hl_snapshot *snapshot, size_t page) {
    for (; snapshot; snapshot = snapshot->parent)
        if (page_set_has(&snapshot->own, page))
            return snapshot->memory + page * HL_PAGE_SIZE;
    return NULL;
}

const uint8_t *snapshot_bytes(const hl_snapshot *snapshot, size_t page) {
    static const uint8_t zeros[HL_PAGE_SIZE];
    const uint8_t *bytes = snapshot_page(snapshot, page);
    return bytes ? bytes : zeros;
}

const hl_snapshot *snapshot_root(const hl_snapshot *snapshot) {
    while (snapshot->parent)
        snapshot = snapshot->parent;
    return snapshot;
}

size_t snapshot_depth(const hl_snapshot *snapshot) {
    size_t count = 0;
    while ((snapshot = snapshot->parent))
        count++;
    return count;
}

void snapshot_add_path(struct page_set *set, const hl_snapshot *from, const hl_snapshot *to) {
    for (; from != to; from = from->parent)
        page_set_add(set, &from->own);
}

int snapshot_check_config(const hl_snapshot *snapshot, const struct hl_config *config) {
    const struct hl_config *own = &snapshot->config;
    if (own->memory != config->memory)
        return hl_fail(-EINVAL, "the snapshot has %llu bytes of memory, the VM %llu",
                       (unsigned long long)own->memory, (unsigned long long)config->memory);
    if (own->in_size != config->in_size || own->out_size != config->out_size ||
        own->console_size != config->console_size)
        return hl_fail(-EINVAL,
                       "the snapshot was taken with buffers of other sizes (%u, %u, %u bytes)",
                       own->in_size, own->out_size, own->console_size);
    return 0;
}

uint64_t hl_snapshot_size(const hl_snapshot *snapshot) {
    return page_set_count(&snapshot->own) * HL_PAGE_SIZE;
}

uint64_t hl_snapshot_memory(const hl_snapshot *snapshot) { return snapshot->config.memory; }

/* ---- taking one ------------------------------------------------------------------------------------ */
/* So that ancestors nobody else holds do not pile up in a long life of the VM. */
#define DEPTH_LIMIT 16

/* The snapshot to share pages with: the base, but rather its root than the last of a long chain. The
 * pages in which that differs from the base are added to `candidates`. */
static hl_snapshot *choose_parent(hl_vm *vm, struct page_set *candidates) {
    hl_snapshot *parent = vm->base, *root = parent;
    if (!parent)
        return NULL;
    while (parent->parent && !parent->memory)
        parent = parent->parent;
    if (snapshot_depth(parent) < DEPTH_LIMIT)
        return parent;
    while (root->parent)
        root = root->parent;
    snapshot_add_path(candidates, parent, root);
    return root;
}

/* Of the pages that may differ from the parent's, keeps those that do. */
static void choose_pages(hl_vm *vm, hl_snapshot *snapshot, const struct page_set *candidates) {
    size_t page = page_set_next(candidates, 0);
    for (; page < candidates->pages; page = page_set_next(candidates, page + 1))
        if (memcmp(vm->ram + page * HL_PAGE_SIZE, snapshot_bytes(snapshot->parent, page),
                   HL_PAGE_SIZE))
            page_set_add_range(&snapshot->own, page, 1);
}

int write_all(int fd, const void *bytes, size_t size, off_t offset) {
    const uint8_t *from = bytes;
    while (size) {
        ssize_t written = pwrite(fd, from, size, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return hl_fail(-(written ? errno : EIO), "writing the snapshot: %s", strerror(errno));
        from += written, offset += written, size -= (size_t)written;
    }
    return 0;
}

static int write_pages(const uint8_t *ram, const struct page_set *set, int fd) {
    size_t page = page_set_next(set, 0);
    while (page < set->pages) {
        size_t end = page_set_run_end(set, page);
        int result = write_all(fd, ram + page * HL_PAGE_SIZE, (end - page) * HL_PAGE_SIZE,
                               (off_t)(page * HL_PAGE_SIZE));
        if (result)
            return result;
        page = page_set_next(set, end);
    }
    return 0;
}

static int keep_pages(hl_vm *vm, hl_snapshot *snapshot) {
    if (page_set_next(&snapshot->own, 0) == snapshot->own.pages && snapshot->parent)
        return 0;
    int fd = memfd_create("hyperlight-snapshot", MFD_CLOEXEC);
    if (fd < 0)
        return hl_fail(-errno, "memfd_create: %s", strerror(errno));
    if (ftruncate(fd, (off_t)vm->config.memory)) {
        int error = errno;
        close(fd);
        return hl_fail(-error, "sizing the snapshot: %s", strerror(error));
    }
    int result = snapshot_set_memory(snapshot, fd);
    return result ? result : write_pages(vm->ram, &snapshot->own, fd);
}

/* The vCPU and the pages that may differ: neither has to be asked for where nothing has happened. */
static int look_for_changes(hl_vm *vm, struct page_set *candidates, struct cpu_state *cpu) {
    if (vm->base && vm->loaded && !vm->touched) {
        page_set_clear(candidates);
        *cpu = vm->base->cpu;
        return 0;
    }
    int result = dirty_pages(vm, candidates);
    return result ? result : cpu_get(vm, cpu);
}

int hl_vm_snapshot(hl_vm *vm, hl_snapshot **out) {
    struct cpu_state cpu;
    run_empty_console(vm);
    int result = look_for_changes(vm, &vm->scratch, &cpu);
    if (result)
        return result;
    hl_snapshot *snapshot = snapshot_new(&vm->config, choose_parent(vm, &vm->scratch));
    if (!snapshot)
        return -ENOMEM;
    choose_pages(vm, snapshot, &vm->scratch);
    snapshot->cpu = cpu;
    result = keep_pages(vm, snapshot);
    if (result) {
        hl_snapshot_unref(snapshot);
        return result;
    }
    snapshot_assign(&vm->base, snapshot);
    vm->touched = false;
    if (vm->log_on)
        page_set_clear(&vm->written);
    *out = snapshot;
    return 0;
}
