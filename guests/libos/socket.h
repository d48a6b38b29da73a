/* socket.h: what makes a file a socket. Numbers are Linux's, from socket(2), send(2), recv(2). */
#ifndef LIBOS_SOCKET_H
#define LIBOS_SOCKET_H
#include <asm/socket.h>
#include "vfs.h"

#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_TYPE_MASK 0xf
#define SOCK_CLOEXEC O_CLOEXEC
#define SOCK_NONBLOCK O_NONBLOCK
#define SHUT_RD 0
#define SHUT_WR 1
#define SHUT_RDWR 2
#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_WAITALL 0x100
#define MSG_ERRQUEUE 0x2000
#define MSG_NOSIGNAL 0x4000
#define MSG_WAITFORONE 0x10000
/* A sockaddr_in6 may lack its last member, the scope (ipv6(7)). */
#define SOCKADDR_IN6_LEAST 24
#define SOCKET_NAME_LIMIT 128

/* A sockaddr structure; size 0: there is none. */
struct socket_name {
    uint32_t size;
    uint8_t bytes[SOCKET_NAME_LIMIT] __attribute__((aligned(8)));
};

/* Addresses and option values are the library OS's own copies. */
struct socket_operations {
    /* `to` NULL: where the socket is connected. */
    long (*send)(struct file *file, const void *from, size_t size, int flags,
                 const struct socket_name *to);
    /* May be more than `size`: a datagram's length, of which so much fitted. */
    long (*receive)(struct file *file, void *to, size_t size, int flags, struct socket_name *from);
    long (*shutdown)(struct file *file, int how);
    long (*name)(struct file *file, bool peer, struct socket_name *name);
    /* The whole size of the value, of which at most `room` bytes were written. */
    long (*get_option)(struct file *file, int level, int option, void *value, uint32_t room);
    /* NULL: every option is accepted without effect. */
    long (*set_option)(struct file *file, int level, int option, const void *value, uint32_t size);
    /* NULL, all four: the socket has been connected all its life. */
    long (*connect)(struct file *file, const struct socket_name *name);
    long (*bind)(struct file *file, const struct socket_name *name);
    long (*listen)(struct file *file, int backlog);
    long (*accept)(struct file *file, int flags, struct file **accepted, struct socket_name *from);
};

/* ---- syscalls (sys_socket.c) ------------------------------------------------------------------ */
/* The socket of a descriptor, held, or NULL and why. */
struct file *socket_of(int descriptor, long *error);
/* From and to the program's memory; nothing is given where it asked for none. */
long socket_name_take(struct socket_name *name, uint64_t from, uint32_t size);
long socket_name_give(const struct socket_name *name, uint64_t to, uint64_t size_at);

/* A connected pair; -ENFILE when memory is out. */
long socket_pair_open(int flags, struct file *ends[2]);
/* inet.c: a socket of the host's network; -EAFNOSUPPORT where none is granted. */
long inet_open(int family, int type, int protocol, int flags, struct file **file);

/* ---- waiting for the host's sockets (inet_wait.c) --------------------------------------------- */
/* Waits in the host until one of the sockets that tasks wait for is ready, or the deadline; false
 * if no task waits for a socket. */
bool sockets_wait(int64_t deadline_ns);
/* Asks the host once about all sockets that somebody wanted to be ready; whether one became so. */
bool sockets_ask(void);
/* When sockets should be asked about, however busy the tasks are; INT64_MAX: nobody wants to know. */
extern int64_t sockets_due_ns;

#endif
