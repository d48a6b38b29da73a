/* socket.h: what makes a file a socket. Numbers are Linux's, from socket(2), send(2), recv(2). */
#ifndef LIBOS_SOCKET_H
#define LIBOS_SOCKET_H
#include <asm/socket.h>
#include "vfs.h"

#define AF_UNIX 1
#define SOCK_STREAM 1
#define SOCK_TYPE_MASK 0xf
#define SOCK_CLOEXEC O_CLOEXEC
#define SOCK_NONBLOCK O_NONBLOCK
#define SHUT_RD 0
#define SHUT_WR 1
#define SHUT_RDWR 2
#define MSG_PEEK 0x2
#define MSG_DONTWAIT 0x40
#define MSG_WAITALL 0x100
#define MSG_NOSIGNAL 0x4000

/* Addresses and option values are the library OS's own copies; what is said about one returns its
 * whole size, of which at most `room` bytes were written. */
struct socket_operations {
    long (*send)(struct file *file, const void *from, size_t size, int flags);
    long (*receive)(struct file *file, void *to, size_t size, int flags);
    long (*shutdown)(struct file *file, int how);
    long (*name)(struct file *file, bool peer, void *name, uint32_t room);
    long (*get_option)(struct file *file, int level, int option, void *value, uint32_t room);
};

/* A connected pair; -ENFILE when memory is out. */
long socket_pair_open(int flags, struct file *ends[2]);

#endif
