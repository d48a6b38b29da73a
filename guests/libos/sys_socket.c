/* sys_socket.c: the syscalls that make sockets, connect them and ask about them. */
#include "socket.h"
#include "sys.h"

#define OPTION_LIMIT 128

struct file *socket_of(int descriptor, long *error) {
    struct file *file = file_of(descriptor);
    *error = !file ? -EBADF : file->operations->socket ? 0 : -ENOTSOCK;
    if (!file || *error == 0)
        return file;
    file_close(file);
    return NULL;
}

/* ---- making ---------------------------------------------------------------------------------- */
long sys_socket(const struct syscall_arguments *arguments) {
    int family = arguments->a[0], type = arguments->a[1], flags = type & ~SOCK_TYPE_MASK;
    struct file *file;
    if (family != AF_INET && family != AF_INET6)
        return -EAFNOSUPPORT;
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return -EINVAL;
    long error = inet_open(family, type & SOCK_TYPE_MASK, arguments->a[2], flags, &file);
    return error ? error : descriptor_open(file, flags);
}

long sys_socketpair(const struct syscall_arguments *arguments) {
    int type = arguments->a[1], flags = type & ~SOCK_TYPE_MASK;
    int *to = (int *)arguments->a[3];
    struct file *ends[2];
    if (arguments->a[0] != AF_UNIX)
        return -EAFNOSUPPORT;
    if ((type & SOCK_TYPE_MASK) != SOCK_STREAM)
        return -ESOCKTNOSUPPORT;
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return -EINVAL;
    if (arguments->a[2] != 0 && arguments->a[2] != AF_UNIX)
        return -EPROTONOSUPPORT;
    if (!user_range_ok(to, 2 * sizeof(int)))
        return -EFAULT;
    long error = socket_pair_open(flags, ends);
    return error ? error : descriptor_pair(ends, flags, to);
}

/* ---- names ------------------------------------------------------------------------------------ */
long socket_name_take(struct socket_name *name, uint64_t from, uint32_t size) {
    if (size > sizeof name->bytes)
        return -EINVAL;
    if (!user_range_ok((void *)from, size))
        return -EFAULT;
    memset(name, 0, sizeof *name);
    memcpy(name->bytes, (void *)from, size);
    name->size = size;
    return 0;
}

/* Gives `value`, whose whole size is `size`, as far as the program has room for it. */
static long give_sized(const void *value, uint32_t size, uint64_t to, uint64_t size_at) {
    if (!user_range_ok((void *)size_at, sizeof(uint32_t)))
        return -EFAULT;
    uint32_t room = *(uint32_t *)size_at;
    uint32_t part = room < size ? room : size;
    if (!user_range_ok((void *)to, part))
        return -EFAULT;
    memcpy((void *)to, value, part);
    *(uint32_t *)size_at = size;
    return 0;
}

long socket_name_give(const struct socket_name *name, uint64_t to, uint64_t size_at) {
    return to && size_at ? give_sized(name->bytes, name->size, to, size_at) : 0;
}

static long tell_name(const struct syscall_arguments *arguments, bool peer) {
    struct socket_name name;
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    error = file->operations->socket->name(file, peer, &name);
    file_close(file);
    return error ? error : give_sized(name.bytes, name.size, arguments->a[1], arguments->a[2]);
}

long sys_getsockname(const struct syscall_arguments *arguments) {
    return tell_name(arguments, false);
}

long sys_getpeername(const struct syscall_arguments *arguments) {
    return tell_name(arguments, true);
}

/* ---- connecting and listening ---------------------------------------------------------------- */
/* connect and bind; `refusal` of sockets that are born connected. */
static long use_name(const struct syscall_arguments *arguments, bool connects, long refusal) {
    struct socket_name name;
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    const struct socket_operations *socket = file->operations->socket;
    error = socket_name_take(&name, arguments->a[1], arguments->a[2]);
    if (error == 0 && !socket->connect)
        error = refusal;
    else if (error == 0)
        error = connects ? socket->connect(file, &name) : socket->bind(file, &name);
    file_close(file);
    return error;
}

long sys_connect(const struct syscall_arguments *arguments) {
    return use_name(arguments, true, -EISCONN);
}

long sys_bind(const struct syscall_arguments *arguments) {
    return use_name(arguments, false, -EINVAL);
}

long sys_listen(const struct syscall_arguments *arguments) {
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    const struct socket_operations *socket = file->operations->socket;
    error = socket->listen ? socket->listen(file, arguments->a[1]) : -EINVAL;
    file_close(file);
    return error;
}

static long accept_one(const struct syscall_arguments *arguments, int flags) {
    struct socket_name from;
    struct file *accepted = NULL;
    long error;
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return -EINVAL;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    const struct socket_operations *socket = file->operations->socket;
    error = socket->accept ? socket->accept(file, flags, &accepted, &from) : -EINVAL;
    file_close(file);
    if (error)
        return error;
    error = socket_name_give(&from, arguments->a[1], arguments->a[2]);
    if (error == 0)
        return descriptor_open(accepted, flags);
    file_close(accepted);
    return error;
}

long sys_accept(const struct syscall_arguments *arguments) { return accept_one(arguments, 0); }

long sys_accept4(const struct syscall_arguments *arguments) {
    return accept_one(arguments, arguments->a[3]);
}

/* ---- the rest -------------------------------------------------------------------------------- */
long sys_shutdown(const struct syscall_arguments *arguments) {
    long error;
    if (arguments->a[1] > SHUT_RDWR)
        return -EINVAL;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    error = file->operations->socket->shutdown(file, arguments->a[1]);
    file_close(file);
    return error;
}

long sys_getsockopt(const struct syscall_arguments *arguments) {
    uint8_t value[OPTION_LIMIT];
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    long size = file->operations->socket->get_option(file, arguments->a[1], arguments->a[2], value,
                                                     sizeof value);
    file_close(file);
    return size < 0 ? size : give_sized(value, size, arguments->a[3], arguments->a[4]);
}

long sys_setsockopt(const struct syscall_arguments *arguments) {
    const void *value = (const void *)arguments->a[3];
    uint32_t size = arguments->a[4];
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    const struct socket_operations *socket = file->operations->socket;
    if (!user_range_ok(value, size))
        error = -EFAULT;
    else if (socket->set_option)
        error = socket->set_option(file, arguments->a[1], arguments->a[2], value, size);
    file_close(file);
    return error;
}
