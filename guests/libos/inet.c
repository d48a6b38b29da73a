/* inet.c: sockets of AF_INET and AF_INET6: the host's, under the rules of the net.* functions. */
#include <asm-generic/ioctls.h>
#include <linux/in.h>
#include "inet.h"
#include "sys.h"

static const struct file_operations inet_operations;

struct hl_json_writer *inet_params(const struct inet_socket *socket) {
    struct hl_json_writer *params = host_params();
    host_param_uint("handle", socket->handle);
    return params;
}

static long ask(const struct inet_socket *socket, const char *method) {
    struct hl_json_value result;
    return host_ask_handle(method, socket->handle, &result);
}

static long ask_at(const struct inet_socket *socket, const char *method,
                   const struct inet_address *address) {
    struct hl_json_value result;
    inet_param_address(inet_params(socket), address);
    return host_ask(method, &result);
}

/* ---- opening and closing --------------------------------------------------------------------- */
static long ask_handle(int family, int type, uint64_t *handle) {
    struct hl_json_value result;
    host_params();
    host_param_name("family", family == AF_INET ? "inet" : "inet6");
    host_param_name("type", type == SOCK_STREAM ? "stream" : "dgram");
    long error = host_ask("net.socket", &result);
    if (error == -ENOSYS)
        return -EAFNOSUPPORT; /* the guest has no network */
    return error ? error : host_get_uint(result, "handle", handle);
}

/* The file of a socket that the host has; without memory the host's is closed. */
static long file_of_handle(const struct inet_socket *like, int flags, struct file **file) {
    struct inet_socket *socket = heap_alloc(sizeof *socket);
    *file = socket ? file_new(&inet_operations, (flags & O_NONBLOCK) | O_RDWR, "socket:[]", socket)
                   : NULL;
    if (!*file) {
        ask(like, "net.close");
        heap_free(socket);
        return -ENFILE;
    }
    socket->handle = like->handle;
    socket->family = like->family;
    socket->type = like->type;
    inet_wait_add(socket);
    return 0;
}

/* The protocol that goes with a type of socket; socket(2). */
static long check_kind(int type, int protocol) {
    if (type != SOCK_STREAM && type != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    int usual = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    return protocol == 0 || protocol == usual ? 0 : -EPROTONOSUPPORT;
}

long inet_open(int family, int type, int protocol, int flags, struct file **file) {
    struct inet_socket opened = {.family = family, .type = type};
    long error = check_kind(type, protocol);
    if (error == 0)
        error = ask_handle(family, type, &opened.handle);
    return error ? error : file_of_handle(&opened, flags, file);
}

static void inet_close(struct file *file) {
    struct inet_socket *socket = inet_of(file);
    ask(socket, "net.close");
    inet_wait_remove(socket);
    inet_packets_free(socket);
    heap_free(socket);
}

/* ---- connecting ------------------------------------------------------------------------------ */
/* How connecting ended. */
static long connect_result(struct file *file) {
    int number;
    long error = inet_get_option(file, SOL_SOCKET, SO_ERROR, &number, sizeof number);
    return error < 0 ? error : -number;
}

/* connect(2), AF_UNSPEC: a datagram socket forgets its peer, which for the host is another one. */
static long disconnect(struct inet_socket *socket) {
    uint64_t handle;
    if (socket->type != SOCK_DGRAM)
        return -EAFNOSUPPORT;
    long error = ask_handle(socket->family, socket->type, &handle);
    if (error)
        return error;
    ask(socket, "net.close");
    socket->handle = handle;
    socket->asks_names = false;
    return 0;
}

/* As if the host's socket blocked, where the guest's does. */
static long connect_to(struct file *file, const struct inet_address *address) {
    struct inet_socket *socket = inet_of(file);
    long error = ask_at(socket, "net.connect", address);
    if (error != -EINPROGRESS || !file_may_block(file))
        return error;
    error = inet_wait(socket, POLLOUT, socket->send_timeout_ns);
    if (error)
        return error == -EAGAIN ? -EINPROGRESS : error;
    error = connect_result(file);
    socket->is_connected = error == 0;
    return error;
}

static long inet_connect(struct file *file, const struct socket_name *name) {
    struct inet_socket *socket = inet_of(file);
    struct inet_address address;
    socket->ready = 0;
    if (name->size >= sizeof(uint16_t) && *(const uint16_t *)name->bytes == AF_UNSPEC)
        return disconnect(socket);
    long error = inet_address_take(&address, name, socket->family);
    if (error)
        return error;
    if (socket->is_connected)
        return -EISCONN; /* the host would end a connecting that has ended */
    socket->asks_names = inet_is_name_server(socket, &address);
    return socket->asks_names ? 0 : connect_to(file, &address);
}

/* ---- listening ------------------------------------------------------------------------------- */
static long inet_bind(struct file *file, const struct socket_name *name) {
    struct inet_address address;
    long error = inet_address_take(&address, name, inet_of(file)->family);
    return error ? error : ask_at(inet_of(file), "net.bind", &address);
}

static long inet_listen(struct file *file, int backlog) {
    struct hl_json_value result;
    struct inet_socket *socket = inet_of(file);
    if (socket->type != SOCK_STREAM)
        return -EOPNOTSUPP;
    struct hl_json_writer *params = inet_params(socket);
    hl_json_key(params, "backlog");
    hl_json_int(params, backlog);
    socket->ready = 0;
    return host_ask("net.listen", &result);
}

static long accept_now(struct inet_socket *socket, uint64_t *handle, struct inet_address *from) {
    struct hl_json_value result;
    inet_params(socket);
    long error = host_ask("net.accept", &result);
    if (error == 0)
        error = host_get_uint(result, "handle", handle);
    return error ? error : inet_get_address(result, from);
}

static long inet_accept(struct file *file, int flags, struct file **accepted,
                        struct socket_name *from) {
    struct inet_socket *socket = inet_of(file);
    struct inet_socket made = {.family = socket->family, .type = socket->type};
    struct inet_address address;
    long error;
    if (socket->type != SOCK_STREAM)
        return -EOPNOTSUPP;
    while ((error = accept_now(socket, &made.handle, &address)) == -EAGAIN) {
        socket->ready = 0;
        error =
            file_may_block(file) ? inet_wait(socket, POLLIN, socket->receive_timeout_ns) : -EAGAIN;
        if (error)
            return error;
    }
    socket->ready = 0;
    if (error)
        return error;
    inet_address_give(&address, socket->family, from);
    return file_of_handle(&made, flags, accepted);
}

/* ---- the rest -------------------------------------------------------------------------------- */
static long inet_shutdown(struct file *file, int how) {
    static const char *const names[] = {"read", "write", "both"};
    struct hl_json_value result;
    inet_params(inet_of(file));
    host_param_name("how", names[how]);
    inet_of(file)->ready = 0;
    return host_ask("net.shutdown", &result);
}

static long inet_name(struct file *file, bool peer, struct socket_name *name) {
    struct hl_json_value result;
    struct inet_address address;
    struct inet_socket *socket = inet_of(file);
    if (peer && socket->asks_names) {
        inet_address_give(&inet_name_server, socket->family, name);
        return 0;
    }
    inet_params(socket);
    long error = host_ask(peer ? "net.getpeername" : "net.getsockname", &result);
    if (error == 0)
        error = inet_get_address(result, &address);
    if (error)
        return error;
    inet_address_give(&address, socket->family, name);
    return 0;
}

static long inet_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct socket_name from;
    (void)offset;
    long got = inet_receive(file, to, size, 0, &from);
    return got > 0 && (size_t)got > size ? (long)size : got;
}

static long inet_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    (void)offset;
    return inet_send(file, from, size, 0, NULL);
}

static long inet_stat(struct file *file, struct stat *status) {
    status->st_mode = S_IFSOCK | 0777;
    status->st_ino = inet_of(file)->handle;
    return 0;
}

static long inet_ioctl(struct file *file, unsigned command, uint64_t argument) {
    return command == FIONREAD ? give_int(argument, inet_arrived(inet_of(file))) : -ENOTTY;
}

static const struct socket_operations inet_socket_operations = {
    .send = inet_send,
    .receive = inet_receive,
    .shutdown = inet_shutdown,
    .name = inet_name,
    .get_option = inet_get_option,
    .set_option = inet_set_option,
    .connect = inet_connect,
    .bind = inet_bind,
    .listen = inet_listen,
    .accept = inet_accept,
};
static const struct file_operations inet_operations = {
    .read = inet_read,
    .write = inet_write,
    .stat = inet_stat,
    .ioctl = inet_ioctl,
    .poll = inet_poll,
    .close = inet_close,
    .socket = &inet_socket_operations,
};
