/* socket_pair.c: connected pairs of AF_UNIX stream sockets: two streams, crossed. */
#include <asm-generic/ioctls.h>
#include <linux/net.h>
#include <linux/socket.h>
#include "socket.h"
#include "stream.h"
#include "sys.h"

struct pair_end {
    struct stream *in, *out;
};

static struct pair_end *end_of(const struct file *file) { return file->data; }

static long pair_receive(struct file *file, void *to, size_t size, int flags,
                         struct socket_name *from) {
    from->size = 0;
    bool may_block = file_may_block(file) && !(flags & MSG_DONTWAIT);
    long got = stream_read(end_of(file)->in, to, size, may_block, flags & MSG_PEEK);
    while (got > 0 && (size_t)got < size && (flags & MSG_WAITALL) && !(flags & MSG_PEEK)) {
        long more =
            stream_read(end_of(file)->in, (uint8_t *)to + got, size - got, may_block, false);
        if (more <= 0)
            break;
        got += more;
    }
    return got;
}

static long pair_send(struct file *file, const void *from, size_t size, int flags,
                      const struct socket_name *to) {
    if (to)
        return -EISCONN;
    bool may_block = file_may_block(file) && !(flags & MSG_DONTWAIT);
    long put = stream_write(end_of(file)->out, from, size, may_block);
    if (put == -EPIPE && !(flags & MSG_NOSIGNAL))
        stream_signal_broken();
    return put;
}

static long pair_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct socket_name name;
    (void)offset;
    return pair_receive(file, to, size, 0, &name);
}

static long pair_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    (void)offset;
    return pair_send(file, from, size, 0, NULL);
}

static long pair_shutdown(struct file *file, int how) {
    if (how == SHUT_RD || how == SHUT_RDWR)
        stream_end_read(end_of(file)->in);
    if (how == SHUT_WR || how == SHUT_RDWR)
        stream_end_write(end_of(file)->out);
    return 0;
}

/* Both ends have no name: only the family is told (unix(7), unnamed sockets). */
static long pair_name(struct file *file, bool peer, struct socket_name *name) {
    uint16_t family = AF_UNIX;
    (void)file, (void)peer;
    name->size = sizeof family;
    memcpy(name->bytes, &family, sizeof family);
    return 0;
}

static long pair_get_option(struct file *file, int level, int option, void *value, uint32_t room) {
    int number = 0;
    (void)file;
    if (level != SOL_SOCKET)
        return -EOPNOTSUPP;
    switch (option) {
    case SO_TYPE: number = SOCK_STREAM; break;
    case SO_DOMAIN: number = AF_UNIX; break;
    case SO_SNDBUF:
    case SO_RCVBUF: number = STREAM_LIMIT; break;
    case SO_ERROR:
    case SO_ACCEPTCONN:
    case SO_PROTOCOL: break;
    default: return -ENOPROTOOPT;
    }
    memcpy(value, &number, room < sizeof number ? room : sizeof number);
    return sizeof number;
}

static long pair_stat(struct file *file, struct stat *status) {
    status->st_mode = S_IFSOCK | 0777;
    status->st_ino = (uintptr_t)end_of(file);
    return 0;
}

static long pair_ioctl(struct file *file, unsigned command, uint64_t argument) {
    return command == FIONREAD ? give_int(argument, end_of(file)->in->used) : -ENOTTY;
}

static unsigned pair_poll(struct file *file, struct poll_set *set) {
    struct pair_end *end = end_of(file);
    poll_add(set, &end->in->readiness);
    poll_add(set, &end->out->readiness);
    unsigned in = stream_poll_read(end->in), out = stream_poll_write(end->out);
    unsigned events = (in & ~POLLHUP) | (out & ~POLLERR);
    if (in & POLLHUP)
        events |= POLLIN | POLLRDNORM | POLLRDHUP;
    if (out & POLLERR)
        events |= POLLOUT | POLLWRNORM;
    return (in & POLLHUP) && (out & POLLERR) ? events | POLLHUP : events;
}

static void pair_close(struct file *file) {
    struct pair_end *end = end_of(file);
    stream_release_read(end->in);
    stream_release_write(end->out);
    heap_free(end);
}

static const struct socket_operations pair_socket_operations = {
    .send = pair_send,
    .receive = pair_receive,
    .shutdown = pair_shutdown,
    .name = pair_name,
    .get_option = pair_get_option,
};
static const struct file_operations pair_operations = {
    .read = pair_read,
    .write = pair_write,
    .stat = pair_stat,
    .ioctl = pair_ioctl,
    .poll = pair_poll,
    .close = pair_close,
    .socket = &pair_socket_operations,
};

/* Takes one half of each stream; NULL: no memory, and the halves are given back. */
static struct file *end_new(struct stream *in, struct stream *out, int flags) {
    struct pair_end *end = heap_alloc(sizeof(*end));
    struct file *file = end ? file_new(&pair_operations, flags | O_RDWR, "socket:[]", end) : NULL;
    if (file) {
        *end = (struct pair_end){in, out};
        return file;
    }
    heap_free(end);
    stream_release_read(in);
    stream_release_write(out);
    return NULL;
}

long socket_pair_open(int flags, struct file *ends[2]) {
    struct stream *there = stream_new(), *back = stream_new();
    if (!there || !back) {
        heap_free(there);
        heap_free(back);
        return -ENFILE;
    }
    ends[0] = end_new(back, there, flags);
    ends[1] = end_new(there, back, flags);
    if (ends[0] && ends[1])
        return 0;
    for (int i = 0; i < 2; i++)
        if (ends[i])
            file_close(ends[i]);
    return -ENFILE;
}
