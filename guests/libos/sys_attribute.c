/* sys_attribute.c: changing what files are: mode, owner, times, size. */
#include <linux/falloc.h>
#include <linux/time.h>
#include "process.h"
#include "sys.h"

/* utimensat(2) */
#define UTIME_NOW 0x3fffffff
#define UTIME_OMIT 0x3ffffffe

/* A change to one node. */
struct change {
    long (*apply)(struct node *node, bool follow, const struct change *change);
    uint32_t mode, owner, group;
    int64_t access_ns, change_ns;
    uint64_t size;
};

static long change_path(int directory, uint64_t path, int flags, const struct change *change) {
    struct place place;
    unsigned walk_flags =
        (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
    long error = walk_user(directory, (const char *)path, walk_flags, &place);
    if (error)
        return error;
    error = change->apply(place.node, place.follow, change);
    place_release(&place);
    return error;
}

static long change_descriptor(int descriptor, const struct change *change) {
    struct file *file = file_of(descriptor);
    if (!file)
        return -EBADF;
    long error = file->flags & O_PATH ? -EBADF
                 : file->node         ? change->apply(file->node, true, change)
                                      : 0; /* a pipe's or socket's attributes nobody sees */
    file_close(file);
    return error;
}

/* ---- mode ------------------------------------------------------------------------------------ */
static long apply_mode(struct node *node, bool follow, const struct change *change) {
    (void)follow;
    return node->operations->set_mode ? node->operations->set_mode(node, change->mode)
                                      : node->operations->refusal;
}

long sys_chmod(const struct syscall_arguments *arguments) {
    struct change change = {.apply = apply_mode, .mode = arguments->a[1] & 07777};
    return change_path(AT_FDCWD, arguments->a[0], 0, &change);
}

long sys_fchmod(const struct syscall_arguments *arguments) {
    struct change change = {.apply = apply_mode, .mode = arguments->a[1] & 07777};
    return change_descriptor(arguments->a[0], &change);
}

long sys_fchmodat(const struct syscall_arguments *arguments) {
    struct change change = {.apply = apply_mode, .mode = arguments->a[2] & 07777};
    return change_path(arguments->a[0], arguments->a[1], 0, &change);
}

/* ---- owner ----------------------------------------------------------------------------------- */
/* Where owners cannot change, to give a file to the one it belongs to is still no error. */
static long apply_owner(struct node *node, bool follow, const struct change *change) {
    struct stat status;
    if (node->operations->set_owner)
        return node->operations->set_owner(node, change->owner, change->group);
    long error = node_stat(node, follow, &status);
    if (error)
        return error;
    bool same = (change->owner == OWNER_KEEP || change->owner == status.st_uid) &&
                (change->group == OWNER_KEEP || change->group == status.st_gid);
    return same && node->operations->refusal != -EROFS ? 0 : node->operations->refusal;
}

static struct change owner_change(uint64_t owner, uint64_t group) {
    return (struct change){.apply = apply_owner, .owner = owner, .group = group};
}

long sys_chown(const struct syscall_arguments *arguments) {
    struct change change = owner_change(arguments->a[1], arguments->a[2]);
    return change_path(AT_FDCWD, arguments->a[0], 0, &change);
}

long sys_lchown(const struct syscall_arguments *arguments) {
    struct change change = owner_change(arguments->a[1], arguments->a[2]);
    return change_path(AT_FDCWD, arguments->a[0], AT_SYMLINK_NOFOLLOW, &change);
}

long sys_fchown(const struct syscall_arguments *arguments) {
    struct change change = owner_change(arguments->a[1], arguments->a[2]);
    return change_descriptor(arguments->a[0], &change);
}

long sys_fchownat(const struct syscall_arguments *arguments) {
    struct change change = owner_change(arguments->a[2], arguments->a[3]);
    return change_path(arguments->a[0], arguments->a[1], arguments->a[4], &change);
}

/* ---- times ----------------------------------------------------------------------------------- */
static long apply_times(struct node *node, bool follow, const struct change *change) {
    if (!node->operations->set_times)
        return node->operations->refusal;
    return node->operations->set_times(node, follow, change->access_ns, change->change_ns);
}

static long take_time(const struct __kernel_timespec *time, int64_t *ns) {
    if (time->tv_nsec == UTIME_OMIT) {
        *ns = TIME_KEEP;
    } else if (time->tv_nsec == UTIME_NOW) {
        *ns = clock_realtime_ns();
    } else {
        if (time->tv_nsec < 0 || time->tv_nsec >= NANOSECONDS)
            return -EINVAL;
        if (__builtin_mul_overflow(time->tv_sec, NANOSECONDS, ns) ||
            __builtin_add_overflow(*ns, time->tv_nsec, ns))
            return -EOVERFLOW;
    }
    return 0;
}

/* `times` NULL: now. `path` 0: the descriptor itself. */
static long set_times(int directory, uint64_t path, const struct __kernel_timespec *times,
                      int flags) {
    static const struct __kernel_timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    struct change change = {.apply = apply_times};
    times = times ? times : now;
    long error = take_time(&times[0], &change.access_ns);
    if (error == 0)
        error = take_time(&times[1], &change.change_ns);
    if (error)
        return error;
    if (change.access_ns == TIME_KEEP && change.change_ns == TIME_KEEP)
        return 0;
    return path ? change_path(directory, path, flags, &change)
                : change_descriptor(directory, &change);
}

long sys_utimensat(const struct syscall_arguments *arguments) {
    const struct __kernel_timespec *times = (void *)arguments->a[2];
    int flags = arguments->a[3];
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (times && !user_range_ok(times, 2 * sizeof(*times)))
        return -EFAULT;
    return set_times(arguments->a[0], arguments->a[1], times, flags);
}

static long set_times_micro(int directory, uint64_t path, const struct __kernel_old_timeval *from) {
    struct __kernel_timespec times[2];
    if (!path)
        return -EFAULT;
    if (!from)
        return set_times(directory, path, NULL, 0);
    if (!user_range_ok(from, 2 * sizeof(*from)))
        return -EFAULT;
    for (int i = 0; i < 2; i++) {
        if (from[i].tv_usec < 0 || from[i].tv_usec >= 1000000)
            return -EINVAL;
        times[i] = (struct __kernel_timespec){from[i].tv_sec, from[i].tv_usec * 1000};
    }
    return set_times(directory, path, times, 0);
}

long sys_utimes(const struct syscall_arguments *arguments) {
    return set_times_micro(AT_FDCWD, arguments->a[0], (void *)arguments->a[1]);
}

long sys_futimesat(const struct syscall_arguments *arguments) {
    return set_times_micro(arguments->a[0], arguments->a[1], (void *)arguments->a[2]);
}

long sys_utime(const struct syscall_arguments *arguments) {
    const int64_t *seconds = (const int64_t *)arguments->a[1]; /* struct utimbuf */
    if (!seconds)
        return set_times_micro(AT_FDCWD, arguments->a[0], NULL);
    if (!user_range_ok(seconds, 2 * sizeof(*seconds)))
        return -EFAULT;
    struct __kernel_timespec times[2] = {{seconds[0], 0}, {seconds[1], 0}};
    return arguments->a[0] ? set_times(AT_FDCWD, arguments->a[0], times, 0) : -EFAULT;
}

/* ---- size ------------------------------------------------------------------------------------ */
static long apply_size(struct node *node, bool follow, const struct change *change) {
    (void)follow;
    if (node_is(node, S_IFDIR))
        return -EISDIR;
    if (!node_is(node, S_IFREG) && node->type)
        return -EINVAL;
    return node->operations->truncate ? node->operations->truncate(node, change->size)
                                      : node->operations->refusal;
}

long sys_truncate(const struct syscall_arguments *arguments) {
    struct change change = {.apply = apply_size, .size = arguments->a[1]};
    if ((int64_t)arguments->a[1] < 0)
        return -EINVAL;
    return change_path(AT_FDCWD, arguments->a[0], 0, &change);
}

long sys_ftruncate(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    long error = file_check(file, true);
    if (error == 0 && file->operations->truncate && (int64_t)arguments->a[1] >= 0)
        error = file->operations->truncate(file, arguments->a[1]);
    else if (error == 0 || !(file->flags & O_PATH))
        error = -EINVAL;
    file_close(file);
    return error;
}

/* Nothing is set aside beforehand; what can be done is to make the file as long as asked. */
static long allocate(struct file *file, int mode, int64_t offset, int64_t size) {
    int64_t end;
    if (offset < 0 || size <= 0)
        return -EINVAL;
    if (__builtin_add_overflow(offset, size, &end))
        return -EFBIG;
    if (!file->operations->is_seekable)
        return -ESPIPE;
    if ((mode & ~FALLOC_FL_KEEP_SIZE) || !file->operations->allocate)
        return -EOPNOTSUPP;
    return mode & FALLOC_FL_KEEP_SIZE ? 0 : file->operations->allocate(file, end);
}

long sys_fallocate(const struct syscall_arguments *arguments) {
    long error;
    struct file *file = file_for(arguments->a[0], true, &error);
    if (!file)
        return error;
    error = allocate(file, arguments->a[1], arguments->a[2], arguments->a[3]);
    file_close(file);
    return error;
}
