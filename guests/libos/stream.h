/* stream.h: a byte stream with two ends, what a pipe is and half of a socket pair. */
#ifndef LIBOS_STREAM_H
#define LIBOS_STREAM_H
#include "vfs.h"

#define STREAM_LIMIT 65536UL
/* Writes up to this size go in whole, pipe(7). */
#define STREAM_ATOMIC 4096UL

/* Lives until both ends are closed. */
struct stream {
    uint8_t *bytes; /* a ring of `room` bytes */
    size_t room, start, used;
    bool read_open, write_open; /* reads (writes) are still to come */
    bool read_held, write_held; /* somebody still has that end */
    struct readiness readiness;
};

struct stream *stream_new(void); /* NULL: no memory */
/* Both as read(2) and write(2) do for a pipe; writing to nobody gives -EPIPE, without a signal. */
long stream_read(struct stream *stream, void *to, size_t size, bool may_block, bool peek);
long stream_write(struct stream *stream, const void *from, size_t size, bool may_block);
/* The signal that goes with -EPIPE. */
void stream_signal_broken(void);
unsigned stream_poll_read(const struct stream *stream);
unsigned stream_poll_write(const struct stream *stream);
/* shutdown(2): no more of it, though the end stays. */
void stream_end_read(struct stream *stream);
void stream_end_write(struct stream *stream);
/* Gives the end back; the stream goes with the second one. */
void stream_release_read(struct stream *stream);
void stream_release_write(struct stream *stream);

#endif
