/* restore.c: taking a VM back to a snapshot, by copying what differs or by mapping anew. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "snapshot.h"

/* Beyond this many pages the log is started anew after a reset, so that one large run does not make
 * every later reset dear: 4 MiB, some hundred microseconds of copying; more where the run before was
 * large as well, because the next one will be, too. */
#define KEEP_LOGGED 1024
#define KEEP_LOGGED_OFTEN 8192

/* A page once logged stays in the log, mapped writable, because it will be written again. Those that have
 * not changed are let go when there are many more in the log than one run writes, and not too often:
 * what is written again after all costs a fault each. */
#define AUDIT_AFTER 32
#define AUDIT_SLACK 64

/* The nearest snapshot that both descend from; they have the same root. */
static const hl_snapshot *common_ancestor(const hl_snapshot *a, const hl_snapshot *b) {
    size_t depth_a = snapshot_depth(a), depth_b = snapshot_depth(b);
    for (; depth_a > depth_b; depth_a--)
        a = a->parent;
    for (; depth_b > depth_a; depth_b--)
        b = b->parent;
    while (a != b)
        a = a->parent, b = b->parent;
    return a;
}

/* As many zero pages in a row are worth a system call: they go back to the host. */
#define GIVE_BACK 16

/* Where those end that were given back from `page` on. */
static size_t give_back(hl_vm *vm, const hl_snapshot *snapshot, const struct page_set *set,
                        size_t page) {
    size_t end = release_run(snapshot, page, page_set_run_end(set, page));
    return end - page >= GIVE_BACK && !release_pages(vm, page, end) ? end : page;
}

static size_t copy_pages(hl_vm *vm, const hl_snapshot *snapshot, const struct page_set *set,
                         size_t keep) {
    size_t count = 0, next, end;
    for (size_t page = page_set_next(set, 0); page < set->pages; page = next, count++) {
        end = count < keep ? page : give_back(vm, snapshot, set, page);
        if (end > page) {
            count += end - page - 1;
            next = page_set_next(set, end);
            continue;
        }
        next = page_set_next(set, page + 1);
        memcpy(vm->ram + page * HL_PAGE_SIZE, snapshot_bytes(snapshot, page), HL_PAGE_SIZE);
    }
    return count;
}

/* The same, but what is equal already is not copied; only that stays in the set. */
static size_t copy_changed_pages(hl_vm *vm, const hl_snapshot *snapshot, struct page_set *set) {
    size_t count = 0;
    for (size_t page = page_set_next(set, 0); page < set->pages;
         page = page_set_next(set, page + 1)) {
        uint8_t *place = vm->ram + page * HL_PAGE_SIZE;
        const uint8_t *bytes = snapshot_bytes(snapshot, page);
        if (!memcmp(place, bytes, HL_PAGE_SIZE))
            continue;
        memcpy(place, bytes, HL_PAGE_SIZE);
        page_set_remove(set, page);
        count++;
    }
    return count;
}

/* RAM is as the target has it, whatever fails from here on. */
static void arrive(hl_vm *vm, hl_snapshot *target) {
    snapshot_assign(&vm->base, target);
    page_set_clear(&vm->written);
    vm->touched = false;
}

/* RAM and target share a root, and the log knows what the guest wrote: copy the difference. */
static int reset(hl_vm *vm, hl_snapshot *target) {
    int result = dirty_pages(vm, &vm->scratch);
    if (result)
        return result;
    if (vm->base != target) {
        const hl_snapshot *meeting = common_ancestor(vm->base, target);
        snapshot_add_path(&vm->scratch, vm->base, meeting);
        snapshot_add_path(&vm->scratch, target, meeting);
    }
    bool often = vm->copied > KEEP_LOGGED / 2 && vm->copied <= KEEP_LOGGED_OFTEN;
    size_t keep = often ? KEEP_LOGGED_OFTEN : KEEP_LOGGED;
    bool audit = ++vm->since_audit > AUDIT_AFTER && vm->copied > 2 * vm->usual + AUDIT_SLACK;
    vm->copied = audit ? copy_changed_pages(vm, target, &vm->scratch)
                       : copy_pages(vm, target, &vm->scratch, keep);
    if (audit)
        vm->since_audit = 0;
    else if (vm->since_audit == 1)
        vm->usual = vm->copied;
    vm->counters.resets++;
    vm->counters.pages_copied += vm->copied;
    arrive(vm, target);
    return audit || vm->copied > keep ? dirty_forget(vm, &vm->scratch) : 0;
}

/* One fault of the guest's and two of the host's less for each page; a kernel without it, before Linux
 * 5.14, leaves that to the guest. */
static void prefetch(hl_vm *vm, const struct page_set *set) {
    for (size_t page = page_set_next(set, 0); page < set->pages;) {
        size_t end = page_set_run_end(set, page);
        madvise(vm->ram + page * HL_PAGE_SIZE, (end - page) * HL_PAGE_SIZE, MADV_POPULATE_WRITE);
        page = page_set_next(set, end);
    }
}

/* Maps RAM over the root's file and lays the pages of its descendants on top. */
static int map_anew(hl_vm *vm, hl_snapshot *target) {
    const hl_snapshot *root = snapshot_root(target);
    void *place = mmap(vm->ram, vm->config.memory, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, root->memory_fd, 0);
    if (place == MAP_FAILED)
        return hl_fail(-errno, "mapping the snapshot: %s", strerror(errno));
    /* Where the page cache has huge pages, what is only read costs one fault for 2 MiB. */
    madvise(vm->ram, vm->config.memory, MADV_HUGEPAGE);
    page_set_clear(&vm->scratch);
    snapshot_add_path(&vm->scratch, target, root);
    copy_pages(vm, target, &vm->scratch, KEEP_LOGGED);
    prefetch(vm, &target->first);
    vm->counters.restores++;
    arrive(vm, target);
    /* A VM that is restored a second time will be so again: from here on copying is cheaper. */
    return vm->ran && !vm->log_on ? vm_register_ram(vm, true) : vm_offer_ram(vm);
}

int hl_vm_restore(hl_vm *vm, hl_snapshot *target) {
    int result = snapshot_check_config(target, &vm->config);
    if (result)
        return result;
    watchdog_forget_kicks(vm); /* first, so that a kill from now on is kept */
    bool related = vm->base && snapshot_root(vm->base) == snapshot_root(target);
    vm->loaded = false;
    if (vm->touched || vm->base != target)
        result = related && vm->log_on ? reset(vm, target) : map_anew(vm, target);
    if (!result)
        result = cpu_set(vm, &target->cpu);
    if (!result)
        result = boot_info_new_epoch(vm);
    if (result)
        return result;
    vm->loaded = true;
    vm->ran = vm->console_taken = false;
    return 0;
}
