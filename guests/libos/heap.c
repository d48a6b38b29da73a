/* heap.c: memory for the library OS itself: blocks of a few sizes cut from slabs, large ones whole
 * pages. */
#include "process.h"

#define SLAB_SIZE 0x10000
#define SMALLEST_SHIFT 5
#define CLASS_COUNT 8 /* blocks of 32 bytes to 4 KiB */
#define LARGEST_CLASS_SIZE ((size_t)1 << (SMALLEST_SHIFT + CLASS_COUNT - 1))

/* In front of every block handed out. */
struct block {
    union {
        size_t size;        /* of the whole block, this header included */
        struct block *next; /* while free */
    };
    uint64_t padding; /* what follows is 16-byte aligned */
};

static struct {
    struct block *free;
    uint8_t *fresh; /* the rest of the newest slab, never used and so still zero */
    size_t fresh_size;
} classes[CLASS_COUNT];

static int class_of(size_t size) {
    int index = 0;
    while (((size_t)1 << (SMALLEST_SHIFT + index)) < size)
        index++;
    return index;
}

static struct block *take_fresh(int index, size_t size) {
    if (!classes[index].fresh_size) {
        classes[index].fresh = memory_take(SLAB_SIZE);
        if (!classes[index].fresh)
            return NULL;
        classes[index].fresh_size = SLAB_SIZE;
    }
    struct block *block = (struct block *)classes[index].fresh;
    classes[index].fresh += size;
    classes[index].fresh_size -= size;
    return block;
}

static struct block *take_small(size_t needed) {
    int index = class_of(needed);
    size_t size = (size_t)1 << (SMALLEST_SHIFT + index);
    struct block *block = classes[index].free;
    if (block) {
        classes[index].free = block->next;
        memset(block, 0, size);
    } else {
        block = take_fresh(index, size);
    }
    if (block)
        block->size = size;
    return block;
}

static size_t page_round(size_t size) {
    return (size + HL_PAGE_SIZE - 1) & ~(size_t)(HL_PAGE_SIZE - 1);
}

void *heap_alloc(size_t size) {
    if (__builtin_add_overflow(size, sizeof(struct block), &size) || size > HL_RAM_MAXIMUM)
        return NULL;
    struct block *block;
    if (size <= LARGEST_CLASS_SIZE) {
        block = take_small(size);
    } else {
        size = page_round(size);
        block = memory_take(size);
        if (block)
            block->size = size;
    }
    return block ? block + 1 : NULL;
}

void heap_free(void *memory) {
    if (!memory)
        return;
    struct block *block = (struct block *)memory - 1;
    if (block->size > LARGEST_CLASS_SIZE) {
        memory_give(block, block->size);
        return;
    }
    int index = class_of(block->size);
    block->next = classes[index].free;
    classes[index].free = block;
}

/* A large block may grow into the pages behind it. */
static bool grow_in_place(struct block *block, size_t size) {
    size_t whole = page_round(size + sizeof *block);
    if (block->size <= LARGEST_CLASS_SIZE || !memory_extend(block, block->size, whole))
        return false;
    block->size = whole;
    return true;
}

void *heap_resize(void *memory, size_t size) {
    if (!memory)
        return heap_alloc(size);
    struct block *block = (struct block *)memory - 1;
    size_t old = block->size - sizeof *block;
    if (size <= old || (size <= HL_RAM_MAXIMUM && grow_in_place(block, size)))
        return memory;
    void *larger = heap_alloc(size);
    if (!larger)
        return NULL;
    memcpy(larger, memory, old);
    heap_free(memory);
    return larger;
}
