/* sys_transfer.c: from file to file without the program's memory: sendfile, copy_file_range. */
#include "sys.h"

#define BUFFER_SIZE 0x40000UL

struct copy {
    struct file *in, *out;
    uint64_t *in_offset, *out_offset; /* NULL: the file's position */
    uint8_t *buffer;
};

static long copy_write(const struct copy *copy, const uint8_t *from, size_t size) {
    if (!copy->out_offset)
        return file_write(copy->out, from, size);
    long put = file_write_at(copy->out, from, size, *copy->out_offset);
    if (put > 0)
        *copy->out_offset += put;
    return put;
}

/* At most one buffer full. What was read but not written is not consumed. */
static long copy_some(const struct copy *copy, size_t size) {
    if (size > BUFFER_SIZE)
        size = BUFFER_SIZE;
    if (!copy->in_offset) {
        long error = file_settle(copy->in);
        if (error)
            return error;
    }
    uint64_t *position = copy->in_offset ? copy->in_offset : &copy->in->offset;
    long got = file_read_at(copy->in, copy->buffer, size, *position);
    if (got <= 0)
        return got;
    long put = copy_write(copy, copy->buffer, got);
    if (put > 0)
        *position += put;
    return put;
}

static long copy_all(struct copy *copy, size_t size) {
    size_t done = 0;
    long moved = 0;
    copy->buffer = heap_alloc(size < BUFFER_SIZE ? size : BUFFER_SIZE);
    if (!copy->buffer)
        return -ENOMEM;
    while (done < size) {
        moved = copy_some(copy, size - done);
        if (moved <= 0)
            break;
        done += moved;
    }
    heap_free(copy->buffer);
    return done ? (long)done : moved;
}

static bool offset_ok(const uint64_t *offset) {
    return !offset || user_range_ok(offset, sizeof(*offset));
}

static long copy_between(int in, int out, struct copy *copy, size_t size) {
    long error;
    if (size > TRANSFER_LIMIT)
        size = TRANSFER_LIMIT;
    if (!offset_ok(copy->in_offset) || !offset_ok(copy->out_offset))
        return -EFAULT;
    copy->in = file_for(in, false, &error);
    if (!copy->in)
        return error;
    copy->out = file_for(out, true, &error);
    if (!copy->out) {
        file_close(copy->in);
        return error;
    }
    bool needs_seek = copy->out_offset && !copy->out->operations->is_seekable;
    error = copy->in->operations->is_seekable && !needs_seek ? copy_all(copy, size) : -EINVAL;
    file_close(copy->in);
    file_close(copy->out);
    return error;
}

long sys_sendfile(const struct syscall_arguments *arguments) {
    struct copy copy = {.in_offset = (uint64_t *)arguments->a[2]};
    return copy_between(arguments->a[1], arguments->a[0], &copy, arguments->a[3]);
}

long sys_copy_file_range(const struct syscall_arguments *arguments) {
    struct copy copy = {.in_offset = (uint64_t *)arguments->a[1],
                        .out_offset = (uint64_t *)arguments->a[3]};
    if (arguments->a[5])
        return -EINVAL;
    return copy_between(arguments->a[0], arguments->a[2], &copy, arguments->a[4]);
}
