/* memory.c: RAM: which pages are still zero, pages for the library OS, checks of the program's. */
#include <linux/mman.h>
#include <linux/sysinfo.h>
#include "ranges.h"
#include "text.h"

/* Programs linked to a fixed address begin here. */
#define PROGRAM_BOTTOM 0x400000
#define LARGEST_STACK 0x800000
#define WORD_BITS 64

/* One bit per page from PROGRAM_BOTTOM on: it has been handed out, and need not be zero any more.
 * RAM is zero when the guest starts, and a page that nobody touches costs nothing. */
static uint64_t *used_pages;
static uint64_t ram_end;

void memory_init(void) {
    const struct hl_boot_info *info = boot_info();
    ram_end = info->in_address;
    ram_end = info->out_address < ram_end ? info->out_address : ram_end;
    ram_end = info->console_address < ram_end ? info->console_address : ram_end;
    uint64_t room = ram_end > PROGRAM_BOTTOM ? ram_end - PROGRAM_BOTTOM : 0;
    uint64_t size = room / HL_PAGE_SIZE / 8 + HL_PAGE_SIZE;
    ranges_bottom = ranges_top = PROGRAM_BOTTOM;
    if (room > size)
        ranges_top = (ram_end - size) & ~(uint64_t)(HL_PAGE_SIZE - 1);
    used_pages = (uint64_t *)ranges_top;
}

/* ---- what pages hold ------------------------------------------------------------------------- */
static bool page_is_used(uint64_t page) {
    return used_pages[page / WORD_BITS] >> page % WORD_BITS & 1;
}

/* The end of the run of pages from `page` on, up to `end`, that are used (or not) like it. */
static uint64_t run_end(uint64_t page, uint64_t end) {
    bool used = page_is_used(page);
    uint64_t whole = used ? UINT64_MAX : 0;
    while (page < end && page_is_used(page) == used)
        page += page % WORD_BITS == 0 && used_pages[page / WORD_BITS] == whole ? WORD_BITS : 1;
    return page < end ? page : end;
}

static void mark_used(uint64_t page, uint64_t end) {
    for (; page < end && page % WORD_BITS; page++)
        used_pages[page / WORD_BITS] |= 1UL << page % WORD_BITS;
    for (; page + WORD_BITS <= end; page += WORD_BITS)
        used_pages[page / WORD_BITS] = UINT64_MAX;
    for (; page < end; page++)
        used_pages[page / WORD_BITS] |= 1UL << page % WORD_BITS;
}

void memory_used(uint64_t start, uint64_t end) {
    mark_used((start - PROGRAM_BOTTOM) / HL_PAGE_SIZE, (end - PROGRAM_BOTTOM) / HL_PAGE_SIZE);
}

void memory_zero(uint64_t start, uint64_t end) {
    uint64_t last = (end - PROGRAM_BOTTOM) / HL_PAGE_SIZE;
    for (uint64_t page = (start - PROGRAM_BOTTOM) / HL_PAGE_SIZE, next; page < last; page = next) {
        next = run_end(page, last);
        if (page_is_used(page))
            memset((void *)(PROGRAM_BOTTOM + page * HL_PAGE_SIZE), 0, (next - page) * HL_PAGE_SIZE);
        else
            mark_used(page, next);
    }
}

/* ---- giving back ----------------------------------------------------------------------------- */
/* Shorter runs of pages are not worth an exit. */
#define RELEASE_RUN 16

static void mark_unused(uint64_t page, uint64_t end) {
    for (; page < end && page % WORD_BITS; page++)
        used_pages[page / WORD_BITS] &= ~(1UL << page % WORD_BITS);
    for (; page + WORD_BITS <= end; page += WORD_BITS)
        used_pages[page / WORD_BITS] = 0;
    for (; page < end; page++)
        used_pages[page / WORD_BITS] &= ~(1UL << page % WORD_BITS);
}

void memory_release(uint64_t start, uint64_t end) {
    uint64_t last = (end - PROGRAM_BOTTOM) / HL_PAGE_SIZE;
    for (uint64_t page = (start - PROGRAM_BOTTOM) / HL_PAGE_SIZE, next; page < last; page = next) {
        next = run_end(page, last);
        if (!page_is_used(page) || next - page < RELEASE_RUN)
            continue;
        uint64_t most = page + HL_RELEASE_MAXIMUM / HL_PAGE_SIZE;
        next = next < most ? next : most;
        host_release(PROGRAM_BOTTOM + page * HL_PAGE_SIZE, (next - page) * HL_PAGE_SIZE);
        mark_unused(page, next);
    }
}

void memory_release_free(uint64_t least) {
    if (ranges_freed < least)
        return;
    ranges_freed = 0;
    uint64_t start = ranges_bottom;
    for (size_t i = 0; i < range_count; start = ranges[i++].end)
        memory_release(start, ranges[i].start);
    memory_release(start, ranges_top);
}

/* ---- pages for the library OS ---------------------------------------------------------------- */
void *memory_take(size_t size) {
    if (!ranges_reserve())
        return NULL;
    uint64_t start = range_gap(size, UINT64_MAX);
    if (!start)
        return NULL;
    range_insert((struct range){.start = start, .end = start + size, .kind = RANGE_KERNEL});
    memory_zero(start, start + size);
    return (void *)start;
}

void memory_give(void *pages, size_t size) { range_carve((uint64_t)pages, (uint64_t)pages + size); }

bool memory_extend(void *pages, size_t old_size, size_t size) {
    uint64_t start = (uint64_t)pages + old_size, end = (uint64_t)pages + size;
    if (end < start || !range_is_free(start, end) || !ranges_reserve())
        return false;
    range_insert((struct range){.start = start, .end = end, .kind = RANGE_KERNEL});
    memory_zero(start, end);
    return true;
}

/* ---- what the program passes ----------------------------------------------------------------- */
int user_range_ok(const void *address, size_t size) {
    uint64_t start = (uint64_t)address, end;
    const struct hl_boot_info *info = boot_info();
    if (size == 0)
        return 1;
    if (__builtin_add_overflow(start, size, &end))
        return 0;
    return (start >= ranges_bottom && end <= ranges_top) ||
           (start >= info->image_address && end <= info->image_address + info->image_size);
}

long user_path(char *to, const char *from) {
    for (size_t i = 0; i < PATH_LIMIT; i++) {
        if ((i == 0 || (uint64_t)(from + i) % HL_PAGE_SIZE == 0) && !user_range_ok(from + i, 1))
            return -EFAULT;
        to[i] = from[i];
        if (!to[i])
            return 0;
    }
    return -ENAMETOOLONG;
}

/* ---- numbers for others ---------------------------------------------------------------------- */
uint64_t memory_bytes(void) { return ram_end; }

uint64_t memory_mapped_bytes(void) { return ranges_bytes; }

uint64_t memory_free_bytes(void) { return ranges_top - ranges_bottom - ranges_bytes; }

uint64_t stack_limit(void) {
    uint64_t share = ram_end / 64 & ~(uint64_t)0xffff;
    return share < LARGEST_STACK ? share : LARGEST_STACK;
}

long sys_sysinfo(const struct syscall_arguments *arguments) {
    struct sysinfo *to = (struct sysinfo *)arguments->a[0];
    if (!user_range_ok(to, sizeof *to))
        return -EFAULT;
    *to = (struct sysinfo){
        .uptime = clock_monotonic_ns() / NANOSECONDS,
        .totalram = memory_bytes(),
        .freeram = memory_free_bytes(),
        .procs = (uint16_t)task_count(),
        .mem_unit = 1,
    };
    return 0;
}

/* proc_pid_maps(5) */
size_t memory_maps_text(char *to, size_t room) {
    struct text text = {to, room, 0};
    for (size_t i = 0; i < range_count; i++) {
        const struct range *range = &ranges[i];
        if (range->kind & RANGE_KERNEL)
            continue;
        text_number(&text, range->start, 16, 8);
        text_string(&text, "-");
        text_number(&text, range->end, 16, 8);
        text_string(&text, range->protection & PROT_READ ? " r" : " -");
        text_string(&text, range->protection & PROT_WRITE ? "w" : "-");
        text_string(&text, range->protection & PROT_EXEC ? "x" : "-");
        text_string(&text, range->kind & RANGE_SHARED ? "s " : "p ");
        text_number(&text, range->file ? range->offset : 0, 16, 8);
        text_string(&text, range->file ? " 00:01 1 " : " 00:00 0 ");
        text_string(&text, range->file                 ? file_path(range->file)
                           : range->kind & RANGE_BREAK ? "[heap]"
                           : range->kind & RANGE_STACK ? "[stack]"
                                                       : "");
        text_string(&text, "\n");
    }
    return text.used;
}
