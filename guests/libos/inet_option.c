/* inet_option.c: options of network sockets: the host's, the guest's own, and those without effect. */
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/tcp.h>
#include <linux/time.h>
#include "inet.h"
#include "process.h"

struct option {
    int level, number;
};

/* socket(7), SO_LINGER. */
struct linger {
    int is_on, seconds;
};

/* Those that the host lets through, by the names it knows. */
static const struct {
    struct option option;
    const char *name;
} host_options[] = {
    {{SOL_SOCKET, SO_ACCEPTCONN}, "SO_ACCEPTCONN"},  {{SOL_SOCKET, SO_ERROR}, "SO_ERROR"},
    {{SOL_SOCKET, SO_KEEPALIVE}, "SO_KEEPALIVE"},    {{SOL_SOCKET, SO_RCVBUF}, "SO_RCVBUF"},
    {{SOL_SOCKET, SO_REUSEADDR}, "SO_REUSEADDR"},    {{SOL_SOCKET, SO_SNDBUF}, "SO_SNDBUF"},
    {{IPPROTO_TCP, TCP_KEEPCNT}, "TCP_KEEPCNT"},     {{IPPROTO_TCP, TCP_KEEPIDLE}, "TCP_KEEPIDLE"},
    {{IPPROTO_TCP, TCP_KEEPINTVL}, "TCP_KEEPINTVL"}, {{IPPROTO_TCP, TCP_MAXSEG}, "TCP_MAXSEG"},
    {{IPPROTO_TCP, TCP_NODELAY}, "TCP_NODELAY"},     {{IPPROTO_IPV6, IPV6_V6ONLY}, "IPV6_V6ONLY"},
};

/* Accepted without effect: how packets are sent is the host's affair, and errors of ICMP are told
 * anyway. glibc's resolver insists on the RECVERR options. */
static const struct option idle_options[] = {
    {SOL_SOCKET, SO_BROADCAST},
    {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_PRIORITY},
    {IPPROTO_IP, IP_RECVERR},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IPV6, IPV6_RECVERR},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT},
};

/* The name of an option, or NULL: the host does not let it through. */
static const char *host_name(int level, int number) {
    for (size_t i = 0; i < sizeof host_options / sizeof *host_options; i++)
        if (host_options[i].option.level == level && host_options[i].option.number == number)
            return host_options[i].name;
    return NULL;
}

static bool is_idle(int level, int number) {
    for (size_t i = 0; i < sizeof idle_options / sizeof *idle_options; i++)
        if (idle_options[i].level == level && idle_options[i].number == number)
            return true;
    return false;
}

/* The timeout that an option of SOL_SOCKET is about, or NULL. */
static int64_t *timeout_of(struct inet_socket *socket, int level, int option) {
    if (level != SOL_SOCKET)
        return NULL;
    return option == SO_RCVTIMEO   ? &socket->receive_timeout_ns
           : option == SO_SNDTIMEO ? &socket->send_timeout_ns
                                   : NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */
static long give(const void *value, uint32_t size, void *to, uint32_t room) {
    memcpy(to, value, room < size ? room : size);
    return size;
}

static long ask_value(struct inet_socket *socket, const char *name, int *value) {
    struct hl_json_value result, member;
    int64_t number;
    inet_params(socket);
    host_param_name("option", name);
    socket->ready &= ~(POLLERR | POLLHUP); /* SO_ERROR takes the error away */
    long error = host_ask("net.getsockopt", &result);
    if (error)
        return error;
    if (!hl_json_member(result, "value", &member) || !hl_json_get_int(member, &number))
        return -EIO;
    *value = number;
    return 0;
}

static long get_number(struct inet_socket *socket, int level, int option, int *value) {
    const char *name = host_name(level, option);
    *value = 0;
    if (name)
        return ask_value(socket, name, value);
    if (is_idle(level, option))
        return 0;
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    switch (option) {
    case SO_TYPE: *value = socket->type; return 0;
    case SO_DOMAIN: *value = socket->family; return 0;
    case SO_PROTOCOL: *value = socket->type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP; return 0;
    default: return -ENOPROTOOPT;
    }
}

long inet_get_option(struct file *file, int level, int option, void *value, uint32_t room) {
    struct inet_socket *socket = inet_of(file);
    int64_t *timeout = timeout_of(socket, level, option);
    struct linger linger = {0};
    int number;
    if (timeout) {
        struct __kernel_old_timeval time = {*timeout / NANOSECONDS, *timeout % NANOSECONDS / 1000};
        return give(&time, sizeof time, value, room);
    }
    if (level == SOL_SOCKET && option == SO_LINGER)
        return give(&linger, sizeof linger, value, room);
    long error = get_number(socket, level, option, &number);
    return error ? error : give(&number, sizeof number, value, room);
}

/* ---- setting --------------------------------------------------------------------------------- */
static long set_timeout(int64_t *timeout_ns, const void *value, uint32_t size) {
    struct __kernel_old_timeval time;
    if (size < sizeof time)
        return -EINVAL;
    memcpy(&time, value, sizeof time);
    if (time.tv_usec < 0 || time.tv_usec >= 1000000)
        return -EDOM;
    bool is_none = time.tv_sec < 0 || time.tv_sec > INT32_MAX;
    *timeout_ns = is_none ? 0 : time.tv_sec * NANOSECONDS + time.tv_usec * 1000;
    return 0;
}

long inet_set_option(struct file *file, int level, int option, const void *value, uint32_t size) {
    struct inet_socket *socket = inet_of(file);
    struct hl_json_value result;
    int64_t *timeout = timeout_of(socket, level, option);
    const char *name = host_name(level, option);
    int number;
    if (timeout)
        return set_timeout(timeout, value, size);
    if (size < sizeof number)
        return -EINVAL;
    if (!name)
        return is_idle(level, option) ? 0 : -ENOPROTOOPT;
    memcpy(&number, value, sizeof number);
    struct hl_json_writer *params = inet_params(socket);
    host_param_name("option", name);
    hl_json_key(params, "value");
    hl_json_int(params, number);
    return host_ask("net.setsockopt", &result);
}
