/* sys_descriptor.c: what is done to descriptors and open files: dup, fcntl, ioctl, lseek, sync. */
#include <asm-generic/ioctls.h>
#include <linux/fadvise.h>
#include <linux/fs.h>
#include "sys.h"

/* fcntl(2): what F_SETFL can change. */
#define CHANGEABLE (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | FASYNC)
#define PIPE_SIZE 65536

long sys_dup(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    return file ? descriptor_add(file, 0, false) : -EBADF;
}

static long duplicate(int from, int to, bool close_on_exec) {
    struct file *file = file_of(from);
    return file ? descriptor_replace(to, file, close_on_exec) : -EBADF;
}

long sys_dup2(const struct syscall_arguments *arguments) {
    int from = arguments->a[0], to = arguments->a[1];
    if (from == to)
        return descriptor_flag(from) < 0 ? -EBADF : to;
    return duplicate(from, to, false);
}

long sys_dup3(const struct syscall_arguments *arguments) {
    int from = arguments->a[0], to = arguments->a[1], flags = arguments->a[2];
    if (from == to || (flags & ~O_CLOEXEC))
        return -EINVAL;
    return duplicate(from, to, flags & O_CLOEXEC);
}

/* ---- fcntl ----------------------------------------------------------------------------------- */
/* All tasks are one process, whose locks never conflict with each other. */
static long lock_test(uint64_t address) {
    struct flock *lock = (struct flock *)address;
    if (!user_range_ok(lock, sizeof(*lock)))
        return -EFAULT;
    lock->l_type = F_UNLCK;
    return 0;
}

static long control_flags(struct file *file, int command, uint64_t argument) {
    if (command == F_GETFL)
        return file->flags | O_LARGEFILE;
    file->flags = (file->flags & ~CHANGEABLE) | (argument & CHANGEABLE);
    return 0;
}

static long control(int descriptor, struct file *file, int command, uint64_t argument) {
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if (argument >= DESCRIPTOR_LIMIT)
            return -EINVAL;
        return descriptor_add(file_hold(file), argument, command == F_DUPFD_CLOEXEC);
    case F_GETFD: return descriptor_flag(descriptor) ? FD_CLOEXEC : 0;
    case F_SETFD: return descriptor_set_flag(descriptor, argument & FD_CLOEXEC);
    case F_GETFL:
    case F_SETFL: return control_flags(file, command, argument);
    case F_GETLK:
    case F_OFD_GETLK: return lock_test(argument);
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
    case F_SETOWN:
    case F_GETOWN: return 0;
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ: return argument <= PIPE_SIZE ? PIPE_SIZE : -EPERM;
    default: return -EINVAL;
    }
}

long sys_fcntl(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    uint64_t argument = arguments->a[1] == F_GETPIPE_SZ ? 0 : arguments->a[2];
    long result = control(arguments->a[0], file, arguments->a[1], argument);
    file_close(file);
    return result;
}

long sys_flock(const struct syscall_arguments *arguments) {
    int operation = arguments->a[1] & ~LOCK_NB;
    if (descriptor_flag(arguments->a[0]) < 0)
        return -EBADF;
    return operation == LOCK_SH || operation == LOCK_EX || operation == LOCK_UN ? 0 : -EINVAL;
}

/* ---- ioctl ----------------------------------------------------------------------------------- */
static long set_blocking(struct file *file, uint64_t argument) {
    if (!user_range_ok((void *)argument, sizeof(int)))
        return -EFAULT;
    file->flags = *(int *)argument ? file->flags | O_NONBLOCK : file->flags & ~O_NONBLOCK;
    return 0;
}

static long bytes_left(struct file *file, uint64_t argument) {
    uint64_t size = file_size(file);
    if (!file->operations->is_seekable)
        return -ENOTTY;
    return give_int(argument, size > file->offset ? size - file->offset : 0);
}

static long ioctl_on(int descriptor, struct file *file, unsigned command, uint64_t argument) {
    switch (command) {
    case FIOCLEX: return descriptor_set_flag(descriptor, true);
    case FIONCLEX: return descriptor_set_flag(descriptor, false);
    case FIONBIO: return set_blocking(file, argument);
    }
    if (file->operations->ioctl)
        return file->operations->ioctl(file, command, argument);
    return command == FIONREAD ? bytes_left(file, argument) : -ENOTTY;
}

long sys_ioctl(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    long result = file->flags & O_PATH
                      ? -EBADF
                      : ioctl_on(arguments->a[0], file, arguments->a[1], arguments->a[2]);
    file_close(file);
    return result;
}

/* ---- lseek ----------------------------------------------------------------------------------- */
static int64_t seek_base(struct file *file, int whence) {
    if (whence == SEEK_SET)
        return 0;
    if (whence == SEEK_CUR) {
        long error = file_settle(file);
        return error ? error : (int64_t)file->offset;
    }
    return file->operations->size ? file->operations->size(file) : -EINVAL;
}

/* SEEK_DATA and SEEK_HOLE, for which all of a file is data. */
static int64_t seek_hole(struct file *file, int64_t offset, int whence) {
    int64_t size = file->operations->size ? file->operations->size(file) : -EINVAL;
    if (size < 0)
        return size;
    if (offset < 0 || offset >= size)
        return -ENXIO;
    return whence == SEEK_DATA ? offset : size;
}

static int64_t seek(struct file *file, int64_t offset, int whence) {
    int64_t target;
    if (!file->operations->is_seekable && !file->operations->list)
        return -ESPIPE;
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        target = seek_hole(file, offset, whence);
    } else {
        int64_t base = whence <= SEEK_END ? seek_base(file, whence) : -EINVAL;
        if (base < 0)
            return base;
        if (__builtin_add_overflow(base, offset, &target))
            return -EOVERFLOW;
        if (target < 0)
            return -EINVAL;
    }
    if (target >= 0) {
        file_settle(file);
        file->offset = target;
    }
    return target;
}

long sys_lseek(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    int64_t result =
        file->flags & O_PATH ? -EBADF : seek(file, arguments->a[1], (uint32_t)arguments->a[2]);
    file_close(file);
    return result;
}

/* ---- sync ------------------------------------------------------------------------------------ */
static long sync_one(int descriptor, bool data_only) {
    struct file *file = file_of(descriptor);
    if (!file)
        return -EBADF;
    long result = file->node ? 0 : -EINVAL; /* a pipe, a socket */
    if (file->operations->sync)
        result = file->operations->sync(file, data_only);
    file_close(file);
    return result;
}

long sys_fsync(const struct syscall_arguments *arguments) {
    return sync_one(arguments->a[0], false);
}

long sys_fdatasync(const struct syscall_arguments *arguments) {
    return sync_one(arguments->a[0], true);
}

/* Advice without effect, but for its errors: posix_fadvise(2). */
long sys_fadvise64(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    long error = !file->operations->is_seekable         ? -ESPIPE
                 : arguments->a[3] > POSIX_FADV_NOREUSE ? -EINVAL
                                                        : 0;
    file_close(file);
    return error;
}

long sys_sync(const struct syscall_arguments *arguments) {
    (void)arguments;
    return 0;
}
