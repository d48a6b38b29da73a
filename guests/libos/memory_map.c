/* memory_map.c: mmap and its family, brk. Addresses are physical: what is mapped is there at once,
 * access rights are kept as a note only, and a reservation takes real room. */
#include <linux/fcntl.h>
#include <linux/mman.h>
#include "ranges.h"

#define LARGE_PAGE 0x200000UL
#define TWO_GIB 0x80000000UL
#define PAGE_MASK (HL_PAGE_SIZE - 1UL)
#define STACK_DATA 0x10000UL

static bool page_round(uint64_t *size) {
    return !__builtin_add_overflow(*size, PAGE_MASK, size) && (*size &= ~PAGE_MASK, true);
}

static bool in_image(uint64_t address, uint64_t size) {
    uint64_t start = boot_info()->image_address;
    uint64_t length = (boot_info()->image_size + PAGE_MASK) & ~PAGE_MASK;
    return address >= start && size <= length && address - start <= length - size;
}

/* ---- contents -------------------------------------------------------------------------------- */
/* A file that may be used where it lies: nobody will write to it or put something else over a part.
 * ELF objects are mapped whole first, and then segment by segment over that. */
static const void *usable_in_place(const struct range *wanted, uint64_t size, int flags) {
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) || wanted->protection & (PROT_WRITE | PROT_EXEC))
        return NULL;
    const void *place = file_mapped(wanted->file, wanted->offset, size);
    bool is_elf = place && wanted->offset == 0 && size > 4 && memcmp(place, "\177ELF", 4) == 0;
    return is_elf ? NULL : place;
}

/* Whether all of the wanted range already holds that part of that file, unchanged. */
static bool holds_already(const struct range *wanted) {
    size_t at = range_find(wanted->start);
    struct range there;
    return wanted->file && range_next(&at, wanted->start, wanted->end, &there) &&
           there.start == wanted->start && there.end == wanted->end && there.file == wanted->file &&
           there.offset == wanted->offset && !(there.protection & PROT_WRITE);
}

static long fill_from_file(const struct range *range) {
    uint64_t length = file_size(range->file);
    uint64_t size = range->end - range->start;
    uint64_t part = length <= range->offset ? 0 : length - range->offset;
    part = part < size ? part : size;
    uint64_t whole = part & ~PAGE_MASK;
    memory_used(range->start, range->start + whole);
    memory_zero(range->start + whole, range->end);
    for (uint64_t done = 0; done < part;) {
        long count = file_read_at(range->file, (void *)(range->start + done), part - done,
                                  range->offset + done);
        if (count < 0)
            return count == -EBADF ? -EACCES : count;
        if (count == 0)
            break;
        done += (uint64_t)count;
    }
    return 0;
}

/* Of a stack only the top is zeroed, where libc keeps the thread's own data and relies on it: the rest
 * of a stack is written before it is read, and most of it is never touched at all. */
static void zero(const struct range *range) {
    uint64_t from = range->start;
    if (range->kind & RANGE_STACK && range->end - from > STACK_DATA)
        from = range->end - STACK_DATA;
    memory_used(range->start, from);
    memory_zero(from, range->end);
}

static long fill(const struct range *range) {
    if (range->file)
        return fill_from_file(range);
    if (!(range->kind & RANGE_RAW))
        zero(range);
    return 0;
}

/* ---- what there was no room for -------------------------------------------------------------- */
static bool refused;

bool memory_was_refused(void) { return refused; }

/* ---- mapping --------------------------------------------------------------------------------- */
static int64_t choose_place(uint64_t address, uint64_t size, int flags) {
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if (address & PAGE_MASK)
            return -EINVAL;
        if (address + size < address || !range_is_program(address, address + size))
            return -ENOMEM;
        bool taken = !range_is_free(address, address + size);
        return flags & MAP_FIXED_NOREPLACE && taken ? -EEXIST : (int64_t)address;
    }
    address &= ~PAGE_MASK;
    if (address && address + size > address && range_is_free(address, address + size))
        return (int64_t)address;
    uint64_t limit = flags & MAP_32BIT ? TWO_GIB : UINT64_MAX;
    uint64_t place = size >= LARGE_PAGE ? range_gap(size + LARGE_PAGE - HL_PAGE_SIZE, limit) : 0;
    /* As Linux does: the host then has a large library's code in large pages, one fault each. */
    if (place)
        return (int64_t)((place + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1));
    place = range_gap(size, limit);
    return place ? (int64_t)place : -ENOMEM;
}

static int64_t map_range(struct range wanted, uint64_t address, uint64_t size, int flags) {
    const void *in_place = wanted.file ? usable_in_place(&wanted, size, flags) : NULL;
    if (in_place) {
        file_close(wanted.file);
        return (int64_t)in_place;
    }
    if (!page_round(&size))
        return -ENOMEM;
    int64_t place = ranges_reserve() ? choose_place(address, size, flags) : -ENOMEM;
    if (place < 0)
        return place;
    wanted.start = (uint64_t)place;
    wanted.end = wanted.start + size;
    bool filled = holds_already(&wanted);
    range_carve(wanted.start, wanted.end);
    /* Before the range takes the reference over. */
    long error = filled ? 0 : fill(&wanted);
    if (error)
        return error;
    range_insert(wanted);
    if (wanted.file && wanted.protection & PROT_EXEC)
        syscall_sites_redirect(wanted.start, wanted.end);
    return place;
}

int64_t memory_map(uint64_t address, uint64_t size, int protection, int flags, struct file *file,
                   uint64_t offset) {
    int type = flags & MAP_TYPE;
    bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
    int64_t result = -EINVAL;
    if (size && !(offset & PAGE_MASK) && (shared || type == MAP_PRIVATE)) {
        bool reserved = protection == PROT_NONE && !file;
        struct range wanted = {
            .file = file,
            .offset = file ? offset : 0,
            .protection = (uint32_t)protection,
            .kind = (reserved ? RANGE_RAW : 0) | (flags & MAP_STACK ? RANGE_STACK : 0) |
                    (shared ? RANGE_SHARED : 0),
        };
        /* Writes that others are to see cannot be followed. */
        bool lost = shared && file && protection & PROT_WRITE;
        result = lost ? -ENODEV : map_range(wanted, address, size, flags);
    }
    refused |= result == -ENOMEM;
    if (result < 0 && file)
        file_close(file);
    return result;
}

long sys_mmap(const struct syscall_arguments *arguments) {
    int flags = (int)arguments->a[3];
    struct file *file = NULL;
    if (!(flags & MAP_ANONYMOUS)) {
        file = file_of((int)arguments->a[4]);
        if (!file)
            return -EBADF;
    }
    if (flags & MAP_HUGETLB) {
        if (file)
            file_close(file);
        return -ENOMEM;
    }
    return memory_map(arguments->a[0], arguments->a[1], (int)arguments->a[2] & 7, flags, file,
                      arguments->a[5]);
}

long memory_unmap(uint64_t address, uint64_t size) {
    if (address & PAGE_MASK || size == 0 || !page_round(&size) || address + size < address)
        return -EINVAL;
    if (in_image(address, size))
        return 0;
    if (!range_is_program(address, address + size))
        return -EINVAL;
    if (!ranges_reserve())
        return -ENOMEM;
    range_carve(address, address + size);
    return 0;
}

long sys_munmap(const struct syscall_arguments *arguments) {
    return memory_unmap(arguments->a[0], arguments->a[1]);
}

/* What was reserved without access is zeroed now that it is going to be used. */
static void zero_raw(uint64_t start, uint64_t end) {
    struct range part;
    for (size_t at = range_find(start); range_next(&at, start, end, &part);)
        if (part.kind & RANGE_RAW)
            zero(&part);
}

long sys_mprotect(const struct syscall_arguments *arguments) {
    uint64_t start = arguments->a[0], size = arguments->a[1];
    uint32_t protection = (uint32_t)arguments->a[2] & 7;
    if (start & PAGE_MASK)
        return -EINVAL;
    if (!page_round(&size) || start + size < start)
        return -ENOMEM;
    if (in_image(start, size))
        return protection & PROT_WRITE ? -EACCES : 0;
    if (!range_is_program(start, start + size))
        return -ENOMEM;
    if (protection != PROT_NONE)
        zero_raw(start, start + size);
    uint32_t clear = protection == PROT_NONE ? 0 : RANGE_RAW;
    return range_protect(start, start + size, protection, clear) ? 0 : -ENOMEM;
}

/* ---- brk ------------------------------------------------------------------------------------- */
static uint64_t break_start, break_end;

void memory_set_break(uint64_t address) {
    break_start = break_end = (address + PAGE_MASK) & ~PAGE_MASK;
}

long sys_brk(const struct syscall_arguments *arguments) {
    uint64_t wanted = arguments->a[0], end = wanted;
    uint64_t old_end = (break_end + PAGE_MASK) & ~PAGE_MASK;
    if (wanted < break_start || !page_round(&end) || !ranges_reserve())
        return (long)break_end;
    if (end > old_end) {
        if (!range_is_free(old_end, end))
            return (long)break_end;
        range_insert((struct range){.start = old_end,
                                    .end = end,
                                    .kind = RANGE_BREAK,
                                    .protection = PROT_READ | PROT_WRITE});
        memory_zero(old_end, end);
    } else if (end < old_end) {
        range_carve(end, old_end);
    }
    break_end = wanted;
    return (long)break_end;
}

/* ---- execve ---------------------------------------------------------------------------------- */
void memory_exec(void) {
    for (size_t i = range_count; i-- > 0;)
        if (!(ranges[i].kind & RANGE_KERNEL))
            range_carve(ranges[i].start, ranges[i].end);
    syscall_sites_forget();
}
