/* sys_socket.c: the syscalls of sockets; the only ones there are come in pairs. */
#include "socket.h"
#include "sys.h"

#define OPTION_LIMIT 128

/* As the kernel sees struct msghdr, recvmsg(2). */
struct message {
    void *name;
    uint32_t name_size;
    struct iovec *parts;
    size_t part_count;
    void *control;
    size_t control_size;
    uint32_t flags;
};

static struct file *socket_of(int descriptor, long *error) {
    struct file *file = file_of(descriptor);
    *error = !file ? -EBADF : file->operations->socket ? 0 : -ENOTSOCK;
    if (!file || *error == 0)
        return file;
    file_close(file);
    return NULL;
}

long sys_socket(const struct syscall_arguments *arguments) {
    (void)arguments;
    return -EAFNOSUPPORT;
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

/* ---- sending and receiving ------------------------------------------------------------------- */
static long transfer(struct file *file, bool sends, void *memory, size_t size, int flags) {
    if (!user_range_ok(memory, size))
        return -EFAULT;
    return sends ? file->operations->socket->send(file, memory, size, flags)
                 : file->operations->socket->receive(file, memory, size, flags);
}

static long transfer_one(const struct syscall_arguments *arguments, bool sends) {
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    long moved = transfer(file, sends, (void *)arguments->a[1], arguments->a[2], arguments->a[3]);
    file_close(file);
    return moved;
}

long sys_sendto(const struct syscall_arguments *arguments) {
    return arguments->a[4] ? -EISCONN : transfer_one(arguments, true);
}

long sys_recvfrom(const struct syscall_arguments *arguments) {
    long got = transfer_one(arguments, false);
    if (got >= 0 && arguments->a[4] && arguments->a[5])
        got = give_int(arguments->a[5], 0) ? -EFAULT : got; /* no sender's address */
    return got;
}

static long transfer_message(const struct syscall_arguments *arguments, bool sends) {
    struct message *message = (struct message *)arguments->a[1];
    long error, done = 0;
    if (!user_range_ok(message, sizeof *message) || message->part_count > UIO_MAXIOV ||
        !user_range_ok(message->parts, message->part_count * sizeof(struct iovec)))
        return -EFAULT;
    if (sends && message->control_size)
        return -EOPNOTSUPP;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    int flags = arguments->a[2];
    for (size_t i = 0; i < message->part_count; i++) {
        struct iovec part = message->parts[i];
        long moved = transfer(file, sends, part.iov_base, part.iov_len, flags);
        if (moved < 0 && done == 0)
            done = moved;
        if (moved < 0)
            break;
        done += moved;
        if ((size_t)moved < part.iov_len)
            break;
        flags |= sends || (flags & MSG_WAITALL) ? 0 : MSG_DONTWAIT; /* what is there is enough */
    }
    file_close(file);
    if (!sends && done >= 0)
        message->name_size = message->control_size = message->flags = 0;
    return done;
}

long sys_sendmsg(const struct syscall_arguments *arguments) {
    return transfer_message(arguments, true);
}

long sys_recvmsg(const struct syscall_arguments *arguments) {
    return transfer_message(arguments, false);
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

/* Gives `value`, whose whole size is `size`, as far as the program has room for it. */
static long give_sized(const void *value, long size, uint64_t to, uint64_t size_at) {
    if (size < 0)
        return size;
    uint32_t room = *(uint32_t *)size_at;
    uint32_t part = room < size ? room : size;
    if (!user_range_ok((void *)to, part))
        return -EFAULT;
    memcpy((void *)to, value, part);
    *(uint32_t *)size_at = size;
    return 0;
}

static long socket_name(const struct syscall_arguments *arguments, bool peer) {
    uint8_t name[OPTION_LIMIT];
    long error;
    if (!user_range_ok((void *)arguments->a[2], sizeof(uint32_t)))
        return -EFAULT;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    long size = file->operations->socket->name(file, peer, name, sizeof name);
    file_close(file);
    return give_sized(name, size, arguments->a[1], arguments->a[2]);
}

long sys_getsockname(const struct syscall_arguments *arguments) {
    return socket_name(arguments, false);
}

long sys_getpeername(const struct syscall_arguments *arguments) {
    return socket_name(arguments, true);
}

long sys_getsockopt(const struct syscall_arguments *arguments) {
    uint8_t value[OPTION_LIMIT];
    long error;
    if (!user_range_ok((void *)arguments->a[4], sizeof(uint32_t)))
        return -EFAULT;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    long size = file->operations->socket->get_option(file, arguments->a[1], arguments->a[2], value,
                                                     sizeof value);
    file_close(file);
    return give_sized(value, size, arguments->a[3], arguments->a[4]);
}

long sys_setsockopt(const struct syscall_arguments *arguments) {
    long error;
    struct file *file = socket_of(arguments->a[0], &error);
    if (file)
        file_close(file);
    return error;
}
