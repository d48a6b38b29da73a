/* release.c: pages of RAM that go back to the host and read as zero from then on. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "snapshot.h"

size_t release_run(const hl_snapshot *snapshot, size_t page, size_t end) {
    while (page < end && !snapshot_page(snapshot, page))
        page++;
    return page;
}

/* What lies under RAM is nothing, or the file of the root that vm->base and its relatives share, with a
 * hole where none of them has a page: RAM without a page of its own is zero there, as the snapshot is. */
int release_pages(hl_vm *vm, size_t first, size_t end) {
    if (!madvise(vm->ram + first * HL_PAGE_SIZE, (end - first) * HL_PAGE_SIZE, MADV_DONTNEED))
        return 0;
    return hl_fail(-errno, "giving memory back: %s", strerror(errno));
}

int release_range(hl_vm *vm, uint64_t address, uint64_t size) {
    size_t page = (address - HL_RAM_ADDRESS) / HL_PAGE_SIZE, end = page + size / HL_PAGE_SIZE;
    int result = 0;
    while (!result && page < end) {
        size_t run = release_run(vm->base, page, end);
        if (run > page)
            result = release_pages(vm, page, run);
        else
            memset(hl_vm_pointer(vm, HL_RAM_ADDRESS + run++ * HL_PAGE_SIZE, HL_PAGE_SIZE, 1), 0,
                   HL_PAGE_SIZE);
        page = run;
    }
    return result;
}
