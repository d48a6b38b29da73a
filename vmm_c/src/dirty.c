/* dirty.c: which pages of RAM may differ from the VM's last snapshot. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "snapshot.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FILE (UINT64_C(1) << 61)

/* /proc/self/pagemap of the process that started the helper: one that confines itself afterwards could
 * not open it when it is needed. */
static int pagemap = -1;

int dirty_start(void) {
    if (pagemap >= 0)
        close(pagemap); /* the parent's: this is a fork */
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return pagemap < 0 ? hl_fail(-errno, "/proc/self/pagemap: %s", strerror(errno)) : 0;
}

/* RAM is a private mapping: a page that is there and is not the file's own has been written. */
static int pages_of_pagemap(hl_vm *vm, struct page_set *set) {
    enum { CHUNK = 1024 };
    uint64_t entries[CHUNK];
    int result = 0;
    size_t first_entry = (uintptr_t)vm->ram / HL_PAGE_SIZE;
    for (size_t page = 0; page < set->pages && !result; page += CHUNK) {
        size_t count = set->pages - page < CHUNK ? set->pages - page : CHUNK;
        ssize_t wanted = (ssize_t)(count * sizeof *entries);
        if (pread(pagemap, entries, (size_t)wanted,
                  (off_t)((first_entry + page) * sizeof *entries)) != wanted)
            result = hl_fail(-EIO, "/proc/self/pagemap is shorter than memory");
        for (size_t i = 0; i < count && !result; i++)
            if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED) && !(entries[i] & PAGEMAP_FILE))
                page_set_add_range(set, page + i, 1);
    }
    return result;
}

int dirty_pages(hl_vm *vm, struct page_set *set) {
    page_set_clear(set);
    if (!vm->log_on && (vm->ran || !vm->base))
        return pages_of_pagemap(vm, set);
    if (!vm->log_on) {
        page_set_add(set, &vm->written);
        return 0;
    }
    struct kvm_dirty_log log = {.slot = HL_SLOT_RAM, .dirty_bitmap = set->words};
    int result = vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
    if (!result)
        page_set_add(set, &vm->written);
    return result;
}

int dirty_forget(hl_vm *vm, struct page_set *set) {
    struct kvm_clear_dirty_log clear = {
        .slot = HL_SLOT_RAM, .num_pages = (uint32_t)set->pages, .dirty_bitmap = set->words};
    return vm_ioctl(vm, KVM_CLEAR_DIRTY_LOG, &clear, "KVM_CLEAR_DIRTY_LOG");
}
