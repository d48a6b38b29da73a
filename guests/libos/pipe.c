/* pipe.c: pipes, as pipe(7) describes them. */
#include <asm-generic/ioctls.h>
#include "stream.h"
#include "sys.h"
#include "text.h"

static struct stream *stream_of(const struct file *file) { return file->data; }

static long pipe_read(struct file *file, void *to, size_t size, uint64_t offset) {
    (void)offset;
    return stream_read(stream_of(file), to, size, file_may_block(file), false);
}

static long pipe_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    (void)offset;
    long put = stream_write(stream_of(file), from, size, file_may_block(file));
    if (put == -EPIPE)
        stream_signal_broken();
    return put;
}

static long pipe_stat(struct file *file, struct stat *status) {
    status->st_mode = S_IFIFO | 0600;
    status->st_ino = (uintptr_t)stream_of(file);
    return 0;
}

static long pipe_ioctl(struct file *file, unsigned command, uint64_t argument) {
    if (command != FIONREAD)
        return -ENOTTY;
    return give_int(argument, stream_of(file)->used);
}

static unsigned pipe_poll_read(struct file *file, struct poll_set *set) {
    poll_add(set, &stream_of(file)->readiness);
    return stream_poll_read(stream_of(file));
}

static unsigned pipe_poll_write(struct file *file, struct poll_set *set) {
    poll_add(set, &stream_of(file)->readiness);
    return stream_poll_write(stream_of(file));
}

static void pipe_close_read(struct file *file) { stream_release_read(stream_of(file)); }

static void pipe_close_write(struct file *file) { stream_release_write(stream_of(file)); }

static const struct file_operations read_operations = {
    .read = pipe_read,
    .stat = pipe_stat,
    .ioctl = pipe_ioctl,
    .poll = pipe_poll_read,
    .close = pipe_close_read,
};
static const struct file_operations write_operations = {
    .write = pipe_write,
    .stat = pipe_stat,
    .ioctl = pipe_ioctl,
    .poll = pipe_poll_write,
    .close = pipe_close_write,
};

static long pipe_open(int flags, struct file *ends[2]) {
    char name[32];
    struct text text = {name, sizeof name - 1, 0};
    struct stream *stream = stream_new();
    if (!stream)
        return -ENFILE;
    text_string(&text, "pipe:[");
    text_decimal(&text, (uintptr_t)stream);
    text_string(&text, "]");
    name[text.used] = '\0';
    ends[0] = file_new(&read_operations, flags | O_RDONLY, name, stream);
    ends[1] = file_new(&write_operations, flags | O_WRONLY, name, stream);
    if (ends[0] && ends[1])
        return 0;
    ends[0] ? file_close(ends[0]) : stream_release_read(stream);
    ends[1] ? file_close(ends[1]) : stream_release_write(stream);
    return -ENFILE;
}

static long pipe_make(uint64_t to, int flags) {
    struct file *ends[2];
    if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
        return -EINVAL;
    if (!user_range_ok((void *)to, 2 * sizeof(int)))
        return -EFAULT;
    long error = pipe_open(flags & ~O_DIRECT, ends);
    return error ? error : descriptor_pair(ends, flags, (int *)to);
}

long sys_pipe(const struct syscall_arguments *arguments) { return pipe_make(arguments->a[0], 0); }

long sys_pipe2(const struct syscall_arguments *arguments) {
    return pipe_make(arguments->a[0], arguments->a[1]);
}
