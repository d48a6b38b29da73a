/* ranges.h: which parts of RAM are handed out, as a sorted table of ranges. */
#ifndef LIBOS_RANGES_H
#define LIBOS_RANGES_H
#include "process.h"

/* Attributes of a range. */
#define RANGE_KERNEL 1 /* the library OS's own: not for the program to change */
#define RANGE_RAW 2    /* reserved without access: not zeroed before it becomes accessible */
#define RANGE_STACK 4
#define RANGE_BREAK 8
#define RANGE_SHARED 16

struct range {
    uint64_t start, end;
    struct file *file; /* what was copied here, or NULL; one reference */
    uint64_t offset;
    uint32_t protection;
    uint32_t kind;
};

extern struct range *ranges;
extern size_t range_count;
extern uint64_t ranges_bottom, ranges_top; /* what may be handed out */
extern uint64_t ranges_bytes;              /* handed out */
extern uint64_t ranges_freed;              /* taken back since this was last set to 0 */

/* The index of the first range that ends above the address. */
size_t range_find(uint64_t address);
/* The first range from index *at on that overlaps [start, end), cut to it in *part; *at moves on. */
bool range_next(size_t *at, uint64_t start, uint64_t end, struct range *part);
/* The highest free place of that size that ends at or below `limit`, or 0. */
uint64_t range_gap(uint64_t size, uint64_t limit);
bool range_is_free(uint64_t start, uint64_t end);
/* Whether [start, end) may be changed by the program: inside what is handed out, nothing of ours. */
bool range_is_program(uint64_t start, uint64_t end);
/* Makes room in the table for one insertion and one carving; false when memory is out. */
bool ranges_reserve(void);
/* Adds a range to a free place, joining it with its neighbours where they are alike. */
void range_insert(struct range range);
/* Frees whatever lies in [start, end). */
void range_carve(uint64_t start, uint64_t end);
/* Gives all ranges in [start, end) another protection and takes the kinds `clear` from them. */
bool range_protect(uint64_t start, uint64_t end, uint32_t protection, uint32_t clear);

#endif
