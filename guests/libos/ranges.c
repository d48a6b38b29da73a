/* ranges.c: which parts of RAM are handed out, as a sorted table of ranges. */
#include "ranges.h"

#define FIRST_CAPACITY 128
/* An insertion takes one entry, a carving one more; the table's own move takes the same again. */
#define SLACK 4

static struct range first_table[FIRST_CAPACITY];
static size_t capacity = FIRST_CAPACITY;
struct range *ranges = first_table;
size_t range_count;
uint64_t ranges_bottom, ranges_top, ranges_bytes, ranges_freed;

size_t range_find(uint64_t address) {
    size_t low = 0, high = range_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ranges[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static struct range cut(struct range range, uint64_t start, uint64_t end) {
    if (range.start < start) {
        range.offset += start - range.start;
        range.start = start;
    }
    if (range.end > end)
        range.end = end;
    return range;
}

bool range_next(size_t *at, uint64_t start, uint64_t end, struct range *part) {
    if (*at >= range_count || ranges[*at].start >= end)
        return false;
    *part = cut(ranges[(*at)++], start, end);
    return true;
}

uint64_t range_gap(uint64_t size, uint64_t limit) {
    uint64_t top = limit < ranges_top ? limit : ranges_top;
    for (size_t i = range_find(top); i <= range_count; i--) {
        if (i < range_count && ranges[i].start < top)
            top = ranges[i].start;
        uint64_t bottom = i ? ranges[i - 1].end : ranges_bottom;
        if (top > bottom && top - bottom >= size)
            return top - size;
        if (i == 0)
            break;
    }
    return 0;
}

bool range_is_free(uint64_t start, uint64_t end) {
    size_t at = range_find(start);
    return start >= ranges_bottom && end <= ranges_top &&
           (at == range_count || ranges[at].start >= end);
}

bool range_is_program(uint64_t start, uint64_t end) {
    struct range part;
    if (start < ranges_bottom || end > ranges_top)
        return false;
    for (size_t at = range_find(start); range_next(&at, start, end, &part);)
        if (part.kind & RANGE_KERNEL)
            return false;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------- */
static void open_slot(size_t at) {
    memmove(ranges + at + 1, ranges + at, (range_count - at) * sizeof *ranges);
    range_count++;
}

static void remove_slots(size_t at, size_t count) {
    memmove(ranges + at, ranges + at + count, (range_count - at - count) * sizeof *ranges);
    range_count -= count;
}

/* Whole pages for a table of so many entries. */
static uint64_t table_size(size_t entries) {
    return (entries * sizeof *ranges + HL_PAGE_SIZE - 1) & ~(HL_PAGE_SIZE - 1UL);
}

bool ranges_reserve(void) {
    if (range_count + SLACK <= capacity)
        return true;
    uint64_t old_size = table_size(capacity), size = table_size(2 * capacity);
    uint64_t start = range_gap(size, UINT64_MAX);
    if (!start)
        return false;
    struct range *old = ranges;
    range_insert((struct range){.start = start, .end = start + size, .kind = RANGE_KERNEL});
    memory_used(start, start + size);
    memcpy((void *)start, old, range_count * sizeof *old);
    ranges = (struct range *)start;
    capacity *= 2;
    if (old != first_table)
        range_carve((uint64_t)old, (uint64_t)old + old_size);
    return true;
}

static bool alike(const struct range *low, const struct range *high) {
    return low->end == high->start && low->file == high->file && low->kind == high->kind &&
           low->protection == high->protection &&
           (!low->file || low->offset + (low->end - low->start) == high->offset);
}

/* Joins the range at `at` with the one behind it if they are alike. */
static void join(size_t at) {
    if (at + 1 >= range_count || !alike(&ranges[at], &ranges[at + 1]))
        return;
    ranges[at].end = ranges[at + 1].end;
    if (ranges[at + 1].file)
        file_close(ranges[at + 1].file);
    remove_slots(at + 1, 1);
}

void range_insert(struct range range) {
    size_t at = range_find(range.start);
    open_slot(at);
    ranges[at] = range;
    ranges_bytes += range.end - range.start;
    join(at);
    if (at)
        join(at - 1);
}

/* Makes `address` a border between ranges. */
static void split(uint64_t address) {
    size_t at = range_find(address);
    if (at == range_count || ranges[at].start >= address)
        return;
    open_slot(at);
    ranges[at].end = address;
    ranges[at + 1] = cut(ranges[at + 1], address, ranges[at + 1].end);
    if (ranges[at].file)
        file_hold(ranges[at].file);
}

void range_carve(uint64_t start, uint64_t end) {
    split(start);
    split(end);
    size_t first = range_find(start), last = first;
    for (; last < range_count && ranges[last].end <= end; last++) {
        uint64_t size = ranges[last].end - ranges[last].start;
        ranges_bytes -= size;
        ranges_freed += size;
        if (ranges[last].file)
            file_close(ranges[last].file);
    }
    remove_slots(first, last - first);
}

bool range_protect(uint64_t start, uint64_t end, uint32_t protection, uint32_t clear) {
    if (!ranges_reserve())
        return false;
    split(start);
    split(end);
    size_t first = range_find(start), last = first;
    for (; last < range_count && ranges[last].start < end; last++) {
        ranges[last].protection = protection;
        ranges[last].kind &= ~clear;
    }
    for (size_t at = last + 1; at-- > first;)
        join(at);
    if (first)
        join(first - 1);
    return true;
}
