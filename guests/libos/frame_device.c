/* frame_device.c: /dev/hl-call and /dev/hl-serve: whole frames for the host, whole frames from it.
 *
 * A write is one frame. What a read does not take of a frame is kept for the next reads, because the
 * in buffer is anybody's from the next exit on.
 */
#include "device.h"

struct door {
    uint8_t *kept; /* what is left to read, or NULL */
    size_t kept_size, kept_at;
    uint8_t *reply; /* to go with the next wait, or NULL */
    size_t reply_size;
};

static struct door *door_of(struct file *file) {
    if (!file->data)
        file->data = heap_alloc(sizeof(struct door));
    return file->data;
}

static void door_close(struct file *file) {
    struct door *door = file->data;
    if (!door)
        return;
    heap_free(door->kept);
    heap_free(door->reply);
    heap_free(door);
}

static long kept_take(struct door *door, void *to, size_t size) {
    size_t left = door->kept_size - door->kept_at;
    if (size > left)
        size = left;
    memcpy(to, door->kept + door->kept_at, size);
    door->kept_at += size;
    if (door->kept_at == door->kept_size) {
        heap_free(door->kept);
        door->kept = NULL;
    }
    return size;
}

static long kept_set(struct door *door, const uint8_t *bytes, size_t size) {
    heap_free(door->kept);
    door->kept = heap_alloc(size);
    if (!door->kept)
        return -ENOMEM;
    memcpy(door->kept, bytes, size);
    door->kept_size = size;
    door->kept_at = 0;
    return 0;
}

/* ---- /dev/hl-call ---------------------------------------------------------------------------- */
static long call_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    struct door *door = door_of(file);
    const struct hl_frame *response;
    (void)offset;
    if (!door)
        return -ENOMEM;
    long error = host_call_frame(from, size, &response);
    if (error == 0)
        error = kept_set(door, (const uint8_t *)response, host_frame_size(response));
    return error ? error : (long)size;
}

static long call_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct door *door = file->data;
    (void)offset;
    return door && door->kept ? kept_take(door, to, size) : 0;
}

/* ---- /dev/hl-serve --------------------------------------------------------------------------- */
static long serve_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    struct door *door = door_of(file);
    uint8_t *reply = heap_alloc(size);
    (void)offset;
    if (!door || !reply) {
        heap_free(reply);
        return -ENOMEM;
    }
    memcpy(reply, from, size);
    heap_free(door->reply);
    door->reply = reply;
    door->reply_size = size;
    return size;
}

static long serve_wait(struct door *door, void *to, size_t size) {
    const struct hl_frame *request;
    long error = host_serve(door->reply, door->reply ? door->reply_size : 0, &request);
    heap_free(door->reply);
    door->reply = NULL;
    if (error)
        return error;
    size_t whole = host_frame_size(request), part = whole < size ? whole : size;
    memcpy(to, request, part);
    if (part < whole)
        error = kept_set(door, (const uint8_t *)request + part, whole - part);
    return error ? error : (long)part;
}

static long serve_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct door *door = door_of(file);
    (void)offset;
    if (!door)
        return -ENOMEM;
    return door->kept ? kept_take(door, to, size) : serve_wait(door, to, size);
}

const struct file_operations call_operations = {
    .read = call_read,
    .write = call_write,
    .close = door_close,
};
const struct file_operations serve_operations = {
    .read = serve_read,
    .write = serve_write,
    .close = door_close,
};
