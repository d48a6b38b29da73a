/* sys_message.c: the syscalls that send and receive through sockets. */
#include <linux/time.h>
#include "process.h"
#include "socket.h"
#include "sys.h"

/* What a message in several parts has at most; a stream takes or gives the rest with the next one. */
#define MESSAGE_LIMIT 0x100000UL
#define MESSAGES_LIMIT 1024

/* As the kernel sees struct msghdr and struct mmsghdr, recvmsg(2) and recvmmsg(2). */
struct message {
    void *name;
    uint32_t name_size;
    struct iovec *parts;
    size_t part_count;
    void *control;
    size_t control_size;
    uint32_t flags;
};
struct counted_message {
    struct message message;
    uint32_t size;
};

/* ---- one buffer ------------------------------------------------------------------------------ */
long sys_sendto(const struct syscall_arguments *arguments) {
    struct socket_name name;
    void *from = (void *)arguments->a[1];
    long error = 0;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    if (!user_range_ok(from, arguments->a[2]))
        error = -EFAULT;
    else if (arguments->a[4])
        error = socket_name_take(&name, arguments->a[4], arguments->a[5]);
    if (error == 0)
        error = file->operations->socket->send(file, from, arguments->a[2], arguments->a[3],
                                               arguments->a[4] ? &name : NULL);
    file_close(file);
    return error;
}

/* What a receiving call returns: of a datagram what fitted, or with MSG_TRUNC what it had. */
static long received(long got, size_t room, int flags) {
    return got > 0 && (size_t)got > room && !(flags & MSG_TRUNC) ? (long)room : got;
}

long sys_recvfrom(const struct syscall_arguments *arguments) {
    struct socket_name name;
    void *to = (void *)arguments->a[1];
    size_t size = arguments->a[2] < TRANSFER_LIMIT ? arguments->a[2] : TRANSFER_LIMIT;
    long error;
    if (!user_range_ok(to, size))
        return -EFAULT;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    long got = file->operations->socket->receive(file, to, size, arguments->a[3], &name);
    file_close(file);
    if (got < 0)
        return got;
    error = socket_name_give(&name, arguments->a[4], arguments->a[5]);
    return error ? error : received(got, size, arguments->a[3]);
}

/* ---- several parts --------------------------------------------------------------------------- */
/* The memory of a message in one piece. */
struct piece {
    uint8_t *bytes;
    size_t size;
    bool is_copy;
};

/* Adds up the parts; -EFAULT, or -EMSGSIZE where there are too many. */
static long message_size(const struct message *message, size_t *size) {
    if (message->part_count > UIO_MAXIOV)
        return -EMSGSIZE;
    if (!user_range_ok(message->parts, message->part_count * sizeof(struct iovec)))
        return -EFAULT;
    *size = 0;
    for (size_t i = 0; i < message->part_count; i++) {
        const struct iovec *part = &message->parts[i];
        if (!user_range_ok(part->iov_base, part->iov_len))
            return -EFAULT;
        *size += part->iov_len;
    }
    return 0;
}

static long piece_open(const struct message *message, struct piece *piece) {
    long error = message_size(message, &piece->size);
    if (error)
        return error;
    piece->is_copy = message->part_count > 1;
    if (!piece->is_copy) {
        piece->bytes = piece->size ? message->parts[0].iov_base : NULL;
        return 0;
    }
    if (piece->size > MESSAGE_LIMIT)
        piece->size = MESSAGE_LIMIT;
    piece->bytes = heap_alloc(piece->size + 1);
    return piece->bytes ? 0 : -ENOMEM;
}

/* Copies `size` bytes between the parts and the piece, where it is one of its own. */
static void piece_copy(const struct message *message, const struct piece *piece, size_t size,
                       bool to_parts) {
    for (size_t i = 0, done = 0; piece->is_copy && done < size; i++) {
        const struct iovec *part = &message->parts[i];
        size_t now = part->iov_len < size - done ? part->iov_len : size - done;
        memcpy(to_parts ? part->iov_base : piece->bytes + done,
               to_parts ? piece->bytes + done : part->iov_base, now);
        done += now;
    }
}

static void piece_close(const struct piece *piece) {
    if (piece->is_copy)
        heap_free(piece->bytes);
}

/* Ancillary data has nothing to say here: there are no descriptors of others to be passed on. */
static long message_send(struct file *file, struct message *message, int flags) {
    struct socket_name name;
    struct piece piece;
    long error =
        message->name ? socket_name_take(&name, (uint64_t)message->name, message->name_size) : 0;
    if (error == 0)
        error = piece_open(message, &piece);
    if (error)
        return error;
    piece_copy(message, &piece, piece.size, false);
    long sent = file->operations->socket->send(file, piece.bytes, piece.size, flags,
                                               message->name ? &name : NULL);
    piece_close(&piece);
    return sent;
}

static long message_receive(struct file *file, struct message *message, int flags) {
    struct socket_name name;
    struct piece piece;
    long error = piece_open(message, &piece);
    if (error)
        return error;
    long got = file->operations->socket->receive(file, piece.bytes, piece.size, flags, &name);
    bool is_cut = got > 0 && (size_t)got > piece.size;
    if (got > 0)
        piece_copy(message, &piece, is_cut ? piece.size : (size_t)got, true);
    piece_close(&piece);
    if (got < 0)
        return got;
    error = socket_name_give(&name, (uint64_t)message->name, (uint64_t)&message->name_size);
    message->control_size = 0;
    message->flags = is_cut ? MSG_TRUNC : 0;
    return error ? error : received(got, piece.size, flags);
}

typedef long message_mover(struct file *file, struct message *message, int flags);

static long move_one(const struct syscall_arguments *arguments, message_mover *move) {
    struct message *message = (struct message *)arguments->a[1];
    long error;
    if (!user_range_ok(message, sizeof *message))
        return -EFAULT;
    struct file *file = socket_of(arguments->a[0], &error);
    if (!file)
        return error;
    long moved = move(file, message, arguments->a[2]);
    file_close(file);
    return moved;
}

long sys_sendmsg(const struct syscall_arguments *arguments) {
    return move_one(arguments, message_send);
}

long sys_recvmsg(const struct syscall_arguments *arguments) {
    return move_one(arguments, message_receive);
}

long socket_vector(struct file *file, bool writing, const struct iovec *parts, size_t count) {
    struct message message = {.parts = (struct iovec *)parts, .part_count = count};
    return writing ? message_send(file, &message, 0) : message_receive(file, &message, 0);
}

/* ---- several messages ------------------------------------------------------------------------ */
/* Moves one after another until the deadline; how many, or why not even one. */
static long move_each(const struct syscall_arguments *arguments, message_mover *move,
                      int64_t deadline_ns) {
    struct counted_message *messages = (struct counted_message *)arguments->a[1];
    uint32_t count = arguments->a[2] < MESSAGES_LIMIT ? arguments->a[2] : MESSAGES_LIMIT, done = 0;
    int flags = (int)arguments->a[3] & ~MSG_WAITFORONE;
    long moved = 0;
    if (!user_range_ok(messages, count * sizeof *messages))
        return -EFAULT;
    struct file *file = socket_of(arguments->a[0], &moved);
    while (file && done < count && (done == 0 || clock_monotonic_ns() < deadline_ns)) {
        moved = move(file, &messages[done].message, flags);
        if (moved < 0)
            break;
        messages[done++].size = moved;
        if (arguments->a[3] & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
    }
    if (file)
        file_close(file);
    return done ? (long)done : moved;
}

long sys_sendmmsg(const struct syscall_arguments *arguments) {
    return move_each(arguments, message_send, NEVER);
}

/* The timeout is looked at between messages only: recvmmsg(2), BUGS. */
long sys_recvmmsg(const struct syscall_arguments *arguments) {
    const struct __kernel_timespec *timeout = (const void *)arguments->a[4];
    int64_t ns = timeout ? time_from_user(timeout) : 0;
    if (ns < 0)
        return ns;
    return move_each(arguments, message_receive, timeout ? deadline_after(ns) : NEVER);
}
