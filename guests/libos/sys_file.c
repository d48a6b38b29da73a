/* sys_file.c: reading and writing: read, write and their relatives with offsets and parts. */
#include "sys.h"

#define NO_OFFSET UINT64_MAX

/* One transfer between a file and the program's memory. */
static long transfer(struct file *file, bool writing, void *memory, size_t size, uint64_t offset) {
    if (size > TRANSFER_LIMIT)
        size = TRANSFER_LIMIT;
    if (!user_range_ok(memory, size))
        return -EFAULT;
    if (offset == NO_OFFSET)
        return writing ? file_write(file, memory, size) : file_read(file, memory, size);
    return writing ? file_write_at(file, memory, size, offset)
                   : file_read_at(file, memory, size, offset);
}

static long transfer_one(const struct syscall_arguments *arguments, bool writing, uint64_t offset) {
    long error;
    struct file *file = file_for(arguments->a[0], writing, &error);
    if (!file)
        return error;
    long moved = transfer(file, writing, (void *)arguments->a[1], arguments->a[2], offset);
    file_close(file);
    return moved;
}

long sys_read(const struct syscall_arguments *arguments) {
    return transfer_one(arguments, false, NO_OFFSET);
}

long sys_write(const struct syscall_arguments *arguments) {
    return transfer_one(arguments, true, NO_OFFSET);
}

static long transfer_at(const struct syscall_arguments *arguments, bool writing) {
    if ((int64_t)arguments->a[3] < 0)
        return -EINVAL;
    return transfer_one(arguments, writing, arguments->a[3]);
}

long sys_pread64(const struct syscall_arguments *arguments) {
    return transfer_at(arguments, false);
}

long sys_pwrite64(const struct syscall_arguments *arguments) {
    return transfer_at(arguments, true);
}

/* ---- in parts -------------------------------------------------------------------------------- */
static long parts_check(const struct iovec *parts, uint64_t count) {
    size_t whole = 0;
    if (count > UIO_MAXIOV)
        return -EINVAL;
    if (!user_range_ok(parts, count * sizeof(*parts)))
        return -EFAULT;
    for (uint64_t i = 0; i < count; i++)
        if (__builtin_add_overflow(whole, parts[i].iov_len, &whole) || whole > INT64_MAX)
            return -EINVAL;
    return 0;
}

static long transfer_parts(struct file *file, bool writing, const struct iovec *parts,
                           uint64_t count, uint64_t offset) {
    long done = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct iovec part = parts[i];
        if (part.iov_len == 0)
            continue;
        uint64_t at = offset == NO_OFFSET ? NO_OFFSET : offset + done;
        long moved = transfer(file, writing, part.iov_base, part.iov_len, at);
        if (moved < 0)
            return done ? done : moved;
        done += moved;
        /* A second read of a pipe could wait, and what is there is enough. */
        if ((size_t)moved < part.iov_len || (!writing && !file->operations->is_seekable))
            break;
    }
    return done;
}

static long transfer_vector(const struct syscall_arguments *arguments, bool writing,
                            uint64_t offset) {
    const struct iovec *parts = (const struct iovec *)arguments->a[1];
    long error = parts_check(parts, arguments->a[2]);
    if (error)
        return error;
    struct file *file = file_for(arguments->a[0], writing, &error);
    if (!file)
        return error;
    if (offset != NO_OFFSET && !file->operations->is_seekable)
        error = -ESPIPE;
    long moved = error ? error
                 : file->operations->socket
                     ? socket_vector(file, writing, parts, arguments->a[2])
                     : transfer_parts(file, writing, parts, arguments->a[2], offset);
    file_close(file);
    return moved;
}

long sys_readv(const struct syscall_arguments *arguments) {
    return transfer_vector(arguments, false, NO_OFFSET);
}

long sys_writev(const struct syscall_arguments *arguments) {
    return transfer_vector(arguments, true, NO_OFFSET);
}

static long transfer_vector_at(const struct syscall_arguments *arguments, bool writing) {
    if ((int64_t)arguments->a[3] < 0)
        return -EINVAL;
    return transfer_vector(arguments, writing, arguments->a[3]);
}

long sys_preadv(const struct syscall_arguments *arguments) {
    return transfer_vector_at(arguments, false);
}

long sys_pwritev(const struct syscall_arguments *arguments) {
    return transfer_vector_at(arguments, true);
}

/* readv(2): offset -1 is the file's position; no flag is offered. */
static long transfer_vector_flags(const struct syscall_arguments *arguments, bool writing) {
    if (arguments->a[5])
        return -EOPNOTSUPP;
    return arguments->a[3] == NO_OFFSET ? transfer_vector(arguments, writing, NO_OFFSET)
                                        : transfer_vector_at(arguments, writing);
}

long sys_preadv2(const struct syscall_arguments *arguments) {
    return transfer_vector_flags(arguments, false);
}

long sys_pwritev2(const struct syscall_arguments *arguments) {
    return transfer_vector_flags(arguments, true);
}
