/* stream.c: a byte stream with two ends over a ring that grows with its use. */
#include "process.h"
#include "stream.h"

#define FIRST_ROOM 4096UL

struct stream *stream_new(void) {
    struct stream *stream = heap_alloc(sizeof(*stream));
    if (stream)
        *stream = (struct stream){
            .read_open = true, .write_open = true, .read_held = true, .write_held = true};
    return stream;
}

static void ring_take(const struct stream *stream, uint8_t *to, size_t size) {
    size_t first = stream->room - stream->start;
    if (first > size)
        first = size;
    memcpy(to, stream->bytes + stream->start, first);
    memcpy(to + first, stream->bytes, size - first);
}

static void ring_put(struct stream *stream, const uint8_t *from, size_t size) {
    size_t end = (stream->start + stream->used) % stream->room;
    size_t first = stream->room - end;
    if (first > size)
        first = size;
    memcpy(stream->bytes + end, from, first);
    memcpy(stream->bytes, from + first, size - first);
    stream->used += size;
}

/* Makes the ring large enough for `size` more bytes, as far as the limit allows. */
static void ring_grow(struct stream *stream, size_t size) {
    size_t room = stream->room ? stream->room : FIRST_ROOM;
    while (room < stream->used + size && room < STREAM_LIMIT)
        room *= 2;
    if (room == stream->room)
        return;
    uint8_t *bytes = heap_alloc(room);
    if (!bytes)
        return;
    if (stream->used)
        ring_take(stream, bytes, stream->used);
    heap_free(stream->bytes);
    stream->bytes = bytes;
    stream->room = room;
    stream->start = 0;
}

long stream_read(struct stream *stream, void *to, size_t size, bool may_block, bool peek) {
    if (size == 0)
        return 0;
    while (stream->used == 0) {
        if (!stream->write_open || !stream->read_open)
            return 0;
        if (!may_block)
            return -EAGAIN;
        long error = wait_on(&stream->readiness.queue, INT64_MAX);
        if (error && stream->used == 0)
            return error;
    }
    if (size > stream->used)
        size = stream->used;
    ring_take(stream, to, size);
    if (peek)
        return size;
    stream->start = (stream->start + size) % stream->room;
    stream->used -= size;
    readiness_changed(&stream->readiness);
    return size;
}

/* How much of `size` bytes fits now; small writes fit whole or not at all. */
static size_t stream_room(struct stream *stream, size_t size) {
    ring_grow(stream, size < STREAM_LIMIT ? size : STREAM_LIMIT);
    size_t room = stream->room - stream->used;
    if (room < size && size <= STREAM_ATOMIC)
        return 0;
    return room < size ? room : size;
}

long stream_write(struct stream *stream, const void *from, size_t size, bool may_block) {
    size_t done = 0;
    while (done < size) {
        if (!stream->read_open || !stream->write_open)
            return done ? (long)done : -EPIPE;
        size_t part = stream_room(stream, size - done);
        if (part) {
            ring_put(stream, (const uint8_t *)from + done, part);
            done += part;
            readiness_changed(&stream->readiness);
            continue;
        }
        if (!may_block)
            return done ? (long)done : stream->room ? -EAGAIN : -ENOMEM;
        long error = wait_on(&stream->readiness.queue, INT64_MAX);
        if (error)
            return done ? (long)done : error;
    }
    return done;
}

void stream_signal_broken(void) {
    siginfo_t details = {.si_signo = SIGPIPE, .si_code = SI_USER, .si_pid = PROCESS_ID};
    signal_send(current, SIGPIPE, &details);
}

unsigned stream_poll_read(const struct stream *stream) {
    unsigned events = stream->used ? POLLIN | POLLRDNORM : 0;
    return stream->write_open ? events : events | POLLHUP;
}

unsigned stream_poll_write(const struct stream *stream) {
    bool has_room = STREAM_LIMIT - stream->used >= STREAM_ATOMIC;
    return (has_room ? POLLOUT | POLLWRNORM : 0) | (stream->read_open ? 0 : POLLERR);
}

void stream_end_read(struct stream *stream) {
    stream->read_open = false;
    readiness_changed(&stream->readiness);
}

void stream_end_write(struct stream *stream) {
    stream->write_open = false;
    readiness_changed(&stream->readiness);
}

static void stream_free(struct stream *stream) {
    if (stream->read_held || stream->write_held)
        return;
    heap_free(stream->bytes);
    heap_free(stream);
}

void stream_release_read(struct stream *stream) {
    stream_end_read(stream);
    stream->read_held = false;
    stream_free(stream);
}

void stream_release_write(struct stream *stream) {
    stream_end_write(stream);
    stream->write_held = false;
    stream_free(stream);
}
