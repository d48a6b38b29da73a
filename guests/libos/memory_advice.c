/* memory_advice.c: system calls that move, empty or merely ask about mapped memory. */
#include <linux/mman.h>
#include "ranges.h"

#define PAGE_MASK (HL_PAGE_SIZE - 1UL)
#define LARGE 0x100000UL /* dearer to zero than to give back */

static bool page_span(uint64_t start, uint64_t size, uint64_t *end) {
    return !__builtin_add_overflow(start, size, end) &&
           !__builtin_add_overflow(*end, PAGE_MASK, end) && (*end &= ~PAGE_MASK, true);
}

/* Whether every byte of [start, end) is mapped, of the image too. */
static bool is_mapped(uint64_t start, uint64_t end) {
    struct range part;
    if (start >= boot_info()->image_address)
        return user_range_ok((void *)start, 1);
    for (size_t at = range_find(start); range_next(&at, start, end, &part); start = part.end)
        if (part.start != start)
            return false;
    return start >= end;
}

/* Anonymous memory reads as zero from now on, and large pieces go back to the host. Stacks are spared:
 * nobody relies on what is below, and zeroing would touch all the pages they never needed. */
static void empty(uint64_t start, uint64_t end) {
    struct range part;
    for (size_t at = range_find(start); range_next(&at, start, end, &part);)
        if (!part.file && !(part.kind & (RANGE_RAW | RANGE_STACK | RANGE_KERNEL))) {
            if (part.end - part.start >= LARGE)
                memory_release(part.start, part.end);
            memory_zero(part.start, part.end);
        }
}

long sys_madvise(const struct syscall_arguments *arguments) {
    uint64_t start = arguments->a[0], end;
    if (start & PAGE_MASK || !page_span(start, arguments->a[1], &end))
        return -EINVAL;
    switch (arguments->a[2]) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED: empty(start, end); break;
    case MADV_REMOVE:
    case MADV_HWPOISON:
    case MADV_SOFT_OFFLINE: return -EINVAL;
    }
    return is_mapped(start, end) ? 0 : -ENOMEM;
}

/* ---- mremap ---------------------------------------------------------------------------------- */
struct move {
    uint64_t old, old_size, size, flags, target;
    struct range range; /* what is there, cut to the part to be moved */
};

static long grow_in_place(const struct move *move) {
    uint64_t start = move->old + move->old_size, end = move->old + move->size;
    if (move->flags & MREMAP_FIXED || move->range.file || !range_is_free(start, end))
        return -ENOMEM;
    struct range more = move->range;
    more.start = start;
    more.end = end;
    range_insert(more);
    if (!(more.kind & RANGE_RAW))
        memory_zero(start, end);
    return (long)move->old;
}

static long move_elsewhere(const struct move *move) {
    bool fixed = move->flags & MREMAP_FIXED;
    if (!(move->flags & MREMAP_MAYMOVE) || move->range.file)
        return -ENOMEM;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (fixed ? MAP_FIXED : 0) |
                (move->range.kind & RANGE_STACK ? MAP_STACK : 0);
    int64_t place = memory_map(fixed ? move->target : 0, move->size, (int)move->range.protection,
                               flags, NULL, 0);
    if (place < 0)
        return place;
    uint64_t kept = move->old_size < move->size ? move->old_size : move->size;
    if (!(move->range.kind & RANGE_RAW))
        memcpy((void *)place, (const void *)move->old, kept);
    memory_unmap(move->old, move->old_size);
    return place;
}

long sys_mremap(const struct syscall_arguments *arguments) {
    struct move move = {arguments->a[0], .flags = arguments->a[3], .target = arguments->a[4]};
    uint64_t old_size = arguments->a[1], size = arguments->a[2], old_end, end, target_end;
    if (move.old & PAGE_MASK || !size || move.flags & ~3UL ||
        (move.flags & (MREMAP_FIXED | MREMAP_MAYMOVE)) == MREMAP_FIXED ||
        !page_span(move.old, old_size, &old_end) || !page_span(move.old, size, &end))
        return -EINVAL;
    move.old_size = old_end - move.old;
    move.size = end - move.old;
    if (move.flags & MREMAP_FIXED && (!page_span(move.target, move.size, &target_end) ||
                                      (move.target < old_end && move.old < target_end)))
        return -EINVAL;
    size_t at = range_find(move.old);
    if (!range_is_program(move.old, old_end) || !is_mapped(move.old, old_end) ||
        !range_next(&at, move.old, old_end, &move.range) || move.range.end != old_end)
        return -EFAULT;
    if (!ranges_reserve())
        return -ENOMEM;
    if (move.size <= move.old_size && !(move.flags & MREMAP_FIXED)) {
        range_carve(end, old_end);
        return (long)move.old;
    }
    long result = grow_in_place(&move);
    return result < 0 ? move_elsewhere(&move) : result;
}

/* ---- questions ------------------------------------------------------------------------------- */
long sys_mincore(const struct syscall_arguments *arguments) {
    uint64_t start = arguments->a[0], end;
    uint8_t *to = (uint8_t *)arguments->a[2];
    if (start & PAGE_MASK || !page_span(start, arguments->a[1], &end))
        return -EINVAL;
    if (!is_mapped(start, end))
        return -ENOMEM;
    if (!user_range_ok(to, (end - start) / HL_PAGE_SIZE))
        return -EFAULT;
    memset(to, 1, (end - start) / HL_PAGE_SIZE);
    return 0;
}

/* All memory is always in place, and no file is written through it. */
static long mapped_or_enomem(const struct syscall_arguments *arguments) {
    uint64_t start = arguments->a[0] & ~PAGE_MASK, end;
    if (!page_span(arguments->a[0], arguments->a[1], &end))
        return -EINVAL;
    return is_mapped(start, end) ? 0 : -ENOMEM;
}

long sys_msync(const struct syscall_arguments *arguments) {
    uint64_t flags = arguments->a[2];
    if (arguments->a[0] & PAGE_MASK || flags & ~7UL || (flags & 5) == 5)
        return -EINVAL;
    return mapped_or_enomem(arguments);
}

long sys_mlock(const struct syscall_arguments *arguments) { return mapped_or_enomem(arguments); }

long sys_mlock2(const struct syscall_arguments *arguments) {
    return arguments->a[2] & ~1UL ? -EINVAL : mapped_or_enomem(arguments);
}

long sys_munlock(const struct syscall_arguments *arguments) { return mapped_or_enomem(arguments); }

long sys_mlockall(const struct syscall_arguments *arguments) {
    return arguments->a[0] && !(arguments->a[0] & ~7UL) ? 0 : -EINVAL;
}

long sys_munlockall(const struct syscall_arguments *arguments) {
    (void)arguments;
    return 0;
}
