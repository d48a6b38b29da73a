/* tmpfs_file.c: the contents of files in memory, in chunks, holes left out. */
#include "tmpfs.h"

#define CHUNK 65536UL
#define FIRST_ROOM 512UL
#define SIZE_LIMIT (1ULL << 40)

void tmpfs_touch(struct tmpfs_node *node) {
    node->change_ns = node->status_ns = clock_realtime_ns();
}

/* ---- chunks ---------------------------------------------------------------------------------- */
static long chunks_reach(struct tmpfs_contents *contents, size_t count) {
    size_t room = contents->chunk_count ? contents->chunk_count : 1;
    if (count <= contents->chunk_count)
        return 0;
    while (room < count)
        room *= 2;
    uint8_t **grown = heap_resize(contents->chunks, room * sizeof(*grown));
    if (!grown)
        return -ENOSPC;
    memset(grown + contents->chunk_count, 0, (room - contents->chunk_count) * sizeof(*grown));
    contents->chunks = grown;
    contents->chunk_count = room;
    return 0;
}

/* The first chunk of a small file is no larger than it has to be. */
static uint8_t *first_chunk_reach(struct tmpfs_contents *contents, size_t size) {
    size_t room = contents->first_room ? contents->first_room : FIRST_ROOM;
    if (size <= contents->first_room)
        return contents->chunks[0];
    while (room < size)
        room *= 2;
    uint8_t *grown = heap_resize(contents->chunks[0], room);
    if (!grown)
        return NULL;
    memset(grown + contents->first_room, 0, room - contents->first_room);
    contents->allocated += room - contents->first_room;
    contents->chunks[0] = grown;
    contents->first_room = room;
    return grown;
}

/* The chunk, with memory for its first `size` bytes at least; NULL when memory is out. */
static uint8_t *chunk_reach(struct tmpfs_contents *contents, size_t index, size_t size) {
    if (chunks_reach(contents, index + 1) != 0)
        return NULL;
    if (index == 0)
        return first_chunk_reach(contents, size);
    if (!contents->chunks[index]) {
        contents->chunks[index] = heap_alloc(CHUNK);
        if (contents->chunks[index])
            contents->allocated += CHUNK;
    }
    return contents->chunks[index];
}

static void chunk_drop(struct tmpfs_contents *contents, size_t index) {
    if (!contents->chunks[index])
        return;
    heap_free(contents->chunks[index]);
    contents->chunks[index] = NULL;
    contents->allocated -= index ? CHUNK : contents->first_room;
    if (index == 0)
        contents->first_room = 0;
}

/* Zeroes what lies behind the end of the file in its last chunk. */
static void tail_clear(struct tmpfs_contents *contents, uint64_t size) {
    size_t index = size / CHUNK, used = size % CHUNK;
    if (index >= contents->chunk_count || !contents->chunks[index])
        return;
    size_t room = index ? CHUNK : contents->first_room;
    if (used < room)
        memset(contents->chunks[index] + used, 0, room - used);
}

long tmpfs_resize(struct tmpfs_node *node, uint64_t size) {
    struct tmpfs_contents *contents = &node->contents;
    if (size > SIZE_LIMIT)
        return -EFBIG;
    if (size < contents->size) {
        for (size_t i = (size + CHUNK - 1) / CHUNK; i < contents->chunk_count; i++)
            chunk_drop(contents, i);
        tail_clear(contents, size);
    }
    contents->size = size;
    tmpfs_touch(node);
    return 0;
}

/* ---- open files ------------------------------------------------------------------------------ */
static long tmpfs_read(struct file *file, void *to, size_t size, uint64_t offset) {
    const struct tmpfs_contents *contents = &tmpfs_of(file->node)->contents;
    if (offset >= contents->size)
        return 0;
    if (size > contents->size - offset)
        size = contents->size - offset;
    for (size_t done = 0; done < size;) {
        size_t index = (offset + done) / CHUNK, from = (offset + done) % CHUNK;
        size_t part = CHUNK - from < size - done ? CHUNK - from : size - done, held = 0;
        const uint8_t *chunk = index < contents->chunk_count ? contents->chunks[index] : NULL;
        size_t room = !chunk ? 0 : index ? CHUNK : contents->first_room;
        if (from < room) {
            held = part < room - from ? part : room - from;
            memcpy((uint8_t *)to + done, chunk + from, held);
        }
        memset((uint8_t *)to + done + held, 0, part - held);
        done += part;
    }
    return size;
}

static long tmpfs_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    struct tmpfs_node *node = tmpfs_of(file->node);
    size_t done = 0;
    if (size > SIZE_LIMIT || offset > SIZE_LIMIT - size)
        return -EFBIG;
    while (done < size) {
        size_t index = (offset + done) / CHUNK, to = (offset + done) % CHUNK;
        size_t part = CHUNK - to < size - done ? CHUNK - to : size - done;
        uint8_t *chunk = chunk_reach(&node->contents, index, to + part);
        if (!chunk)
            break;
        memcpy(chunk + to, (const uint8_t *)from + done, part);
        done += part;
    }
    if (done == 0 && size > 0)
        return -ENOSPC;
    if (size > 0 && offset + done > node->contents.size)
        node->contents.size = offset + done;
    tmpfs_touch(node);
    return done;
}

static long tmpfs_append(struct file *file, const void *from, size_t size) {
    uint64_t end = tmpfs_of(file->node)->contents.size;
    long put = tmpfs_write(file, from, size, end);
    if (put > 0)
        file->offset = end + put;
    return put;
}

static int64_t tmpfs_size(struct file *file) { return tmpfs_of(file->node)->contents.size; }

static long tmpfs_file_truncate(struct file *file, uint64_t size) {
    return tmpfs_resize(tmpfs_of(file->node), size);
}

static long tmpfs_allocate(struct file *file, uint64_t size) {
    struct tmpfs_node *node = tmpfs_of(file->node);
    return size > node->contents.size ? tmpfs_resize(node, size) : 0;
}

static long tmpfs_sync(struct file *file, bool data_only) {
    (void)file, (void)data_only;
    return 0;
}

const struct file_operations tmpfs_file_operations = {
    .is_seekable = true,
    .read = tmpfs_read,
    .write = tmpfs_write,
    .append = tmpfs_append,
    .size = tmpfs_size,
    .truncate = tmpfs_file_truncate,
    .allocate = tmpfs_allocate,
    .sync = tmpfs_sync,
};
