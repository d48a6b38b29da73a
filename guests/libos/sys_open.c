/* sys_open.c: open and its relatives, close, memfd_create, umask. */
#include <linux/close_range.h>
#include <linux/memfd.h>
#include <linux/openat2.h>
#include "sys.h"

static long open_user(int directory, uint64_t path, int flags, uint32_t mode) {
    static char copy[PATH_LIMIT];
    struct file *file;
    long error = user_path(copy, (const char *)path);
    if (error < 0)
        return error;
    error = file_open_at(directory, copy, flags, mode, &file);
    return error ? error : descriptor_open(file, flags);
}

long sys_open(const struct syscall_arguments *arguments) {
    return open_user(AT_FDCWD, arguments->a[0], arguments->a[1], arguments->a[2]);
}

long sys_creat(const struct syscall_arguments *arguments) {
    return open_user(AT_FDCWD, arguments->a[0], O_CREAT | O_WRONLY | O_TRUNC, arguments->a[1]);
}

long sys_openat(const struct syscall_arguments *arguments) {
    return open_user(arguments->a[0], arguments->a[1], arguments->a[2], arguments->a[3]);
}

long sys_openat2(const struct syscall_arguments *arguments) {
    const struct open_how *how = (const struct open_how *)arguments->a[2];
    if (arguments->a[3] < sizeof(*how))
        return -EINVAL;
    if (arguments->a[3] > sizeof(*how))
        return -E2BIG;
    if (!user_range_ok(how, sizeof(*how)))
        return -EFAULT;
    if (how->resolve || how->flags > INT32_MAX || how->mode > 07777)
        return -EINVAL;
    return open_user(arguments->a[0], arguments->a[1], how->flags, how->mode);
}

long sys_close(const struct syscall_arguments *arguments) {
    return descriptor_close(arguments->a[0]);
}

long sys_close_range(const struct syscall_arguments *arguments) {
    uint32_t first = arguments->a[0], last = arguments->a[1], flags = arguments->a[2];
    if (flags & ~(uint32_t)(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) || first > last)
        return -EINVAL;
    if (first >= DESCRIPTOR_LIMIT)
        return 0;
    for (long at = descriptor_next(first); at >= 0 && at <= last; at = descriptor_next(at + 1)) {
        if (flags & CLOSE_RANGE_CLOEXEC)
            descriptor_set_flag(at, true);
        else
            descriptor_close(at);
    }
    return 0;
}

/* "/memfd:name (deleted)", as /proc/self/fd shows it. */
static long memory_path(char *to, uint64_t name) {
    static const char prefix[] = "/memfd:", suffix[] = " (deleted)";
    static char copy[PATH_LIMIT];
    long error = user_path(copy, (const char *)name);
    if (error < 0)
        return error == -ENAMETOOLONG ? -EINVAL : error;
    size_t size = strlen(copy);
    if (size > NAME_LIMIT - (sizeof prefix - 2))
        return -EINVAL;
    memcpy(to, prefix, sizeof prefix - 1);
    memcpy(to + sizeof prefix - 1, copy, size);
    memcpy(to + sizeof prefix - 1 + size, suffix, sizeof suffix);
    return 0;
}

long sys_memfd_create(const struct syscall_arguments *arguments) {
    static struct node *home;
    char path[NAME_LIMIT + 32];
    struct node *node;
    struct file *file;
    int flags = arguments->a[1];
    if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING))
        return -EINVAL;
    if (!home && !(home = tmpfs_new(0700)))
        return -ENOMEM;
    long error = memory_path(path, arguments->a[0]);
    if (error)
        return error;
    error = home->operations->make(home, NULL, S_IFREG | 0777, NULL, &node);
    if (error)
        return error;
    error = file_of_node(node, path, O_RDWR, 0, &file);
    node_release(node);
    return error ? error : descriptor_open(file, flags & MFD_CLOEXEC ? O_CLOEXEC : 0);
}

long sys_umask(const struct syscall_arguments *arguments) {
    uint32_t old = file_mode_mask;
    file_mode_mask = arguments->a[0] & 0777;
    return old;
}
