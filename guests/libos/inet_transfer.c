/* inet_transfer.c: sending and receiving through the host's sockets. */
#include "inet.h"
#include "stream.h"

/* How much is received at once, whether the program asked for it or not: more than any datagram has. */
#define AHEAD 0x10000UL

/* ---- name server ----------------------------------------------------------------------------- */
#define NAME_PORT 53

/* The address that the images' /etc/resolv.conf names; a resolver of the host's own is known by it,
 * too: systemd-resolved.service(8). */
const struct inet_address inet_name_server = {
    {[10] = 0xff, 0xff, 127, 0, 0, 53},
    NAME_PORT,
};

bool inet_is_name_server(const struct inet_socket *socket, const struct inet_address *address) {
    return socket->type == SOCK_DGRAM && address->port == NAME_PORT &&
           memcmp(address->bytes, inet_name_server.bytes, sizeof address->bytes) == 0;
}

static long packet_add(struct inet_socket *socket, const uint8_t *bytes, size_t size, size_t length,
                       const struct inet_address *from) {
    struct inet_packet **last = &socket->packets;
    struct inet_packet *packet = heap_alloc(sizeof *packet + size);
    if (!packet)
        return -ENOMEM;
    packet->length = length;
    packet->size = size;
    packet->from = *from;
    memcpy(packet->bytes, bytes, size);
    while (*last)
        last = &(*last)->next;
    *last = packet;
    return 0;
}

/* The answer to a query is there before sendto returns. */
static long ask_name(struct inet_socket *socket, const void *query, size_t size) {
    struct hl_json_value result;
    struct host_reply reply;
    host_params();
    long error = host_ask_with("net.dns", query, size, &result, &reply);
    if (error == 0)
        error = packet_add(socket, reply.attachment, reply.attachment_size, reply.attachment_size,
                           &inet_name_server);
    if (error)
        return error;
    readiness_changed(&socket->readiness);
    return size;
}

/* ---- sending --------------------------------------------------------------------------------- */
static long send_now(struct inet_socket *socket, const void *from, size_t size,
                     const struct inet_address *to) {
    struct hl_json_value result;
    struct host_reply reply;
    uint64_t sent;
    struct hl_json_writer *params = inet_params(socket);
    if (to)
        inet_param_address(params, to);
    long error = host_ask_with("net.send", from, size, &result, &reply);
    if (error == 0)
        error = host_get_uint(result, "size", &sent);
    /* What the host said of the socket may have changed, but for room after a whole transfer. */
    socket->ready &= error == 0 && sent == size ? ~POLLERR : ~(POLLOUT | POLLWRNORM | POLLERR);
    if (error)
        return error;
    return sent <= size ? (long)sent : -EIO;
}

static long send_datagram(struct inet_socket *socket, const void *from, size_t size,
                          const struct socket_name *to) {
    struct inet_address address;
    size_t room;
    host_call_attachment(&room);
    if (size > room)
        return -EMSGSIZE;
    long error = to ? inet_address_take(&address, to, socket->family) : 0;
    if (error)
        return error;
    if (to ? inet_is_name_server(socket, &address) : socket->asks_names)
        return ask_name(socket, from, size);
    return send_now(socket, from, size, to ? &address : NULL);
}

static long send_some(struct inet_socket *socket, const void *from, size_t size,
                      const struct socket_name *to) {
    size_t room;
    if (socket->type == SOCK_DGRAM)
        return send_datagram(socket, from, size, to);
    host_call_attachment(&room);
    return size ? send_now(socket, from, size < room ? size : room, NULL) : 0;
}

long inet_send(struct file *file, const void *from, size_t size, int flags,
               const struct socket_name *to) {
    struct inet_socket *socket = inet_of(file);
    bool may_block = file_may_block(file) && !(flags & MSG_DONTWAIT);
    size_t done = 0;
    long put;
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    do {
        put = send_some(socket, (const uint8_t *)from + done, size - done, to);
        if (put == -EAGAIN && may_block)
            put = inet_wait(socket, POLLOUT, socket->send_timeout_ns);
        else if (put > 0)
            done += put;
    } while (put >= 0 && done < size);
    if (put == -EPIPE && done == 0 && !(flags & MSG_NOSIGNAL))
        stream_signal_broken();
    return done ? (long)done : put;
}

/* ---- receiving ------------------------------------------------------------------------------- */
/* A datagram's whole length, or what came of a stream; *reply has the bytes. */
static long receive_reply(struct inet_socket *socket, size_t size, struct host_reply *reply,
                          struct inet_address *from) {
    struct hl_json_value result;
    uint64_t length;
    size_t room = boot_info()->in_size - HL_FRAME_BULK_OFFSET;
    if (socket->asks_names)
        return -EAGAIN;
    inet_params(socket);
    host_param_uint("size", size < room ? size : room);
    long error = host_ask_with("net.recv", NULL, 0, &result, reply);
    socket->ready &= POLLOUT | POLLWRNORM;
    if (error == 0)
        error = host_get_uint(result, "length", &length);
    if (error)
        return error;
    if (socket->type == SOCK_DGRAM && inet_get_address(result, from) != 0)
        return -EIO;
    return reply->attachment_size <= size ? (long)length : -EIO;
}

/* Takes more of what has arrived, ahead of the program; 0 at the end of a stream. */
static long fetch(struct inet_socket *socket) {
    struct inet_address from = {0};
    struct host_reply reply;
    long got = receive_reply(socket, AHEAD, &reply, &from);
    if (got < 0 || (got == 0 && socket->type == SOCK_STREAM))
        return got;
    long error = packet_add(socket, reply.attachment, reply.attachment_size, got, &from);
    return error ? error : got;
}

static void packet_drop(struct inet_socket *socket) {
    struct inet_packet *packet = socket->packets;
    socket->packets = packet->next;
    heap_free(packet);
}

void inet_packets_free(struct inet_socket *socket) {
    while (socket->packets)
        packet_drop(socket);
}

static size_t packets_size(const struct inet_socket *socket) {
    size_t size = 0;
    for (const struct inet_packet *packet = socket->packets; packet; packet = packet->next)
        size += packet->size;
    return size;
}

long inet_arrived(struct inet_socket *socket) {
    bool is_stream = socket->type == SOCK_STREAM;
    if (is_stream ? packets_size(socket) < AHEAD : !socket->packets)
        fetch(socket);
    if (is_stream)
        return packets_size(socket);
    return socket->packets ? (long)socket->packets->size : 0; /* udp(7): of the first */
}

static long take_datagram(struct inet_socket *socket, void *to, size_t size, bool peek,
                          struct inet_address *from) {
    struct inet_packet *packet = socket->packets;
    long length = packet->length;
    *from = packet->from;
    memcpy(to, packet->bytes, packet->size < size ? packet->size : size);
    if (!peek)
        packet_drop(socket);
    return length;
}

static long take_stream(struct inet_socket *socket, uint8_t *to, size_t size, bool peek) {
    size_t done = 0;
    for (struct inet_packet *packet = socket->packets, *next; packet && done < size;
         packet = next) {
        size_t part = packet->size < size - done ? packet->size : size - done;
        next = packet->next;
        memcpy(to + done, packet->bytes + packet->start, part);
        done += part;
        if (peek)
            continue;
        packet->start += part;
        packet->size -= part;
        if (packet->size == 0)
            packet_drop(socket);
    }
    return done;
}

/* From what was received ahead. To peek, at least one byte must have been. */
static long receive_ahead(struct inet_socket *socket, void *to, size_t size, bool peek,
                          struct inet_address *from) {
    long got = 1;
    if (peek && socket->type == SOCK_STREAM)
        while (packets_size(socket) < size && got > 0)
            got = fetch(socket);
    else if (!socket->packets)
        got = fetch(socket);
    if (!socket->packets)
        return got;
    return socket->type == SOCK_DGRAM ? take_datagram(socket, to, size, peek, from)
                                      : take_stream(socket, to, size, peek);
}

/* A small read of a stream takes along what else has arrived: it often is the next one. */
static long receive_once(struct inet_socket *socket, void *to, size_t size, bool peek,
                         struct inet_address *from) {
    struct host_reply reply;
    if (peek || socket->packets || size == 0)
        return receive_ahead(socket, to, size, peek, from);
    bool is_stream = socket->type == SOCK_STREAM;
    long got = receive_reply(socket, is_stream && size < AHEAD ? AHEAD : size, &reply, from);
    if (got < 0)
        return got;
    size_t part = reply.attachment_size < size ? reply.attachment_size : size;
    memcpy(to, reply.attachment, part);
    if (!is_stream)
        return got;
    size_t rest = reply.attachment_size - part;
    long error = rest ? packet_add(socket, reply.attachment + part, rest, rest, from) : 0;
    return error ? error : (long)part;
}

static long receive_some(struct inet_socket *socket, void *to, size_t size, bool peek,
                         bool may_block, struct inet_address *from) {
    long got;
    while ((got = receive_once(socket, to, size, peek, from)) == -EAGAIN && may_block) {
        long error = inet_wait(socket, POLLIN, socket->receive_timeout_ns);
        if (error)
            return error;
    }
    return got;
}

long inet_receive(struct file *file, void *to, size_t size, int flags, struct socket_name *from) {
    struct inet_socket *socket = inet_of(file);
    struct inet_address address = {0};
    bool may_block = file_may_block(file) && !(flags & MSG_DONTWAIT), peek = flags & MSG_PEEK;
    bool is_stream = socket->type == SOCK_STREAM;
    from->size = 0;
    if (flags & (MSG_OOB | MSG_ERRQUEUE))
        return flags & MSG_OOB ? -EINVAL : -EAGAIN; /* there never is any */
    if (is_stream && size == 0)
        return 0;
    long got = receive_some(socket, to, size, peek, may_block, &address);
    while (is_stream && (flags & MSG_WAITALL) && !peek && got > 0 && (size_t)got < size) {
        long more =
            receive_some(socket, (uint8_t *)to + got, size - got, false, may_block, &address);
        if (more <= 0)
            break;
        got += more;
    }
    if (got >= 0 && !is_stream)
        inet_address_give(&address, socket->family, from);
    return got;
}
