/* inet.h: what the parts of the network sockets share: the host has the sockets, the guest waits. */
#ifndef LIBOS_INET_H
#define LIBOS_INET_H
#include "request.h"
#include "socket.h"

/* An IPv4 address is the IPv6 one it is mapped to (RFC 4291, 2.5.5.2). */
struct inet_address {
    uint8_t bytes[16];
    uint16_t port;
};

/* What was received before the program asked for it. */
struct inet_packet {
    struct inet_packet *next;
    struct inet_address from; /* of a datagram */
    size_t length;            /* of the whole datagram */
    size_t start, size;       /* of what is left in `bytes` */
    uint8_t bytes[];
};

struct inet_socket {
    uint64_t handle;
    int family, type;
    bool is_connected; /* as a stream, by a call that waited for it */
    bool asks_names;   /* its peer is the name server that the host stands for */
    struct inet_packet *packets;
    int64_t receive_timeout_ns, send_timeout_ns; /* 0: none */
    struct readiness readiness;
    /* POLL* bits: known to hold until the program uses the socket; asked for since the host was
     * asked last. */
    unsigned ready, wanted;
    struct inet_socket *next; /* of all */
};
static inline struct inet_socket *inet_of(const struct file *file) { return file->data; }

/* ---- addresses (inet_address.c) -------------------------------------------------------------- */
/* From a sockaddr of the program for a socket of the family; 0, -EINVAL or -EAFNOSUPPORT. */
long inet_address_take(struct inet_address *address, const struct socket_name *name, int family);
void inet_address_give(const struct inet_address *address, int family, struct socket_name *name);
/* The members "address" and "port". */
void inet_param_address(struct hl_json_writer *params, const struct inet_address *address);
long inet_get_address(struct hl_json_value result, struct inet_address *address);

/* ---- sockets (inet.c) ------------------------------------------------------------------------ */
/* The params of a request about the socket, open. */
struct hl_json_writer *inet_params(const struct inet_socket *socket);

/* ---- waiting (inet_wait.c) ------------------------------------------------------------------- */
void inet_wait_add(struct inet_socket *socket);
void inet_wait_remove(struct inet_socket *socket);
/* Blocks until one of the events may be there: 0, -EINTR, or -EAGAIN when `timeout_ns` is over
 * (0: none). */
long inet_wait(struct inet_socket *socket, unsigned events, int64_t timeout_ns);
unsigned inet_poll(struct file *file, struct poll_set *set);

/* ---- bytes (inet_transfer.c) ----------------------------------------------------------------- */
long inet_send(struct file *file, const void *from, size_t size, int flags,
               const struct socket_name *to);
long inet_receive(struct file *file, void *to, size_t size, int flags, struct socket_name *from);
/* FIONREAD. */
long inet_arrived(struct inet_socket *socket);
extern const struct inet_address inet_name_server;
/* Whether the host answers there as a name server, whatever the network's rules. */
bool inet_is_name_server(const struct inet_socket *socket, const struct inet_address *address);
void inet_packets_free(struct inet_socket *socket);

/* ---- options (inet_option.c) ----------------------------------------------------------------- */
long inet_get_option(struct file *file, int level, int option, void *value, uint32_t room);
long inet_set_option(struct file *file, int level, int option, const void *value, uint32_t size);

#endif
