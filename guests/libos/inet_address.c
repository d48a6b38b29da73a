/* inet_address.c: addresses as sockaddr structures and as text. */
#include <linux/in.h>
#include <linux/in6.h>
#include "inet.h"
#include "text.h"

#define TEXT_ROOM 64
#define GROUPS 8

static const uint8_t mapped[12] = {[10] = 0xff, 0xff};

static bool is_mapped(const struct inet_address *address) {
    return memcmp(address->bytes, mapped, sizeof mapped) == 0;
}

static uint16_t swapped(uint16_t value) { return __builtin_bswap16(value); }

/* ---- sockaddr -------------------------------------------------------------------------------- */
long inet_address_take(struct inet_address *address, const struct socket_name *name, int family) {
    const struct sockaddr_in *four = (const void *)name->bytes;
    const struct sockaddr_in6 *six = (const void *)name->bytes;
    if (name->size < (family == AF_INET ? sizeof *four : SOCKADDR_IN6_LEAST))
        return -EINVAL;
    if (four->sin_family != family)
        return -EAFNOSUPPORT;
    address->port = swapped(four->sin_port); /* at the same place in both */
    if (family == AF_INET) {
        memcpy(address->bytes, mapped, sizeof mapped);
        memcpy(address->bytes + sizeof mapped, &four->sin_addr, sizeof four->sin_addr);
    } else {
        memcpy(address->bytes, &six->sin6_addr, sizeof six->sin6_addr);
    }
    return 0;
}

void inet_address_give(const struct inet_address *address, int family, struct socket_name *name) {
    struct sockaddr_in *four = (void *)name->bytes;
    struct sockaddr_in6 *six = (void *)name->bytes;
    memset(name, 0, sizeof *name);
    name->size = family == AF_INET ? sizeof *four : sizeof *six;
    four->sin_family = family;
    four->sin_port = swapped(address->port);
    if (family == AF_INET)
        memcpy(&four->sin_addr, address->bytes + sizeof mapped, sizeof four->sin_addr);
    else
        memcpy(&six->sin6_addr, address->bytes, sizeof six->sin6_addr);
}

/* ---- text ------------------------------------------------------------------------------------ */
void inet_param_address(struct hl_json_writer *params, const struct inet_address *address) {
    char to[TEXT_ROOM];
    struct text text = {to, sizeof to, 0};
    bool is_four = is_mapped(address);
    for (int i = is_four ? 12 : 0; i < 16; i += is_four ? 1 : 2) {
        if (text.used)
            text_string(&text, is_four ? "." : ":");
        if (is_four)
            text_decimal(&text, address->bytes[i]);
        else
            text_number(&text, address->bytes[i] << 8 | address->bytes[i + 1], 16, 1);
    }
    hl_json_key(params, "address");
    hl_json_string(params, to, text.used);
    host_param_uint("port", address->port);
}

/* The number at `*at`, which is moved behind it, or -1 if there is none up to `most`. */
static long parse_number(const char **at, unsigned base, long most) {
    long value = 0;
    const char *first = *at;
    for (int digit; (digit = hl_json_hex(**at)) >= 0 && digit < (int)base && value <= most; ++*at)
        value = value * base + digit;
    return *at == first || value > most ? -1 : value;
}

static bool parse_four(const char *at, uint8_t to[4]) {
    for (int i = 0; i < 4; i++) {
        long value = parse_number(&at, 10, 255);
        if (value < 0 || *at++ != (i < 3 ? '.' : '\0'))
            return false;
        to[i] = value;
    }
    return true;
}

/* Moves the groups from `gap` on to the end: "::" stands for the zeros between. */
static bool spread(uint8_t *bytes, int count, int gap) {
    if (gap < 0)
        return count == GROUPS;
    int moved = (count - gap) * 2;
    memmove(bytes + 2 * GROUPS - moved, bytes + gap * 2, moved);
    memset(bytes + gap * 2, 0, 2 * (GROUPS - count));
    return count < GROUPS;
}

static bool parse_six(const char *at, uint8_t bytes[16]) {
    int count = 0, gap = -1;
    while (*at && count < GROUPS) {
        if (at[0] == ':' && at[1] == ':' && gap < 0) {
            gap = count;
            at += 2;
            continue;
        }
        if (count <= GROUPS - 2 && parse_four(at, bytes + 2 * count))
            return spread(bytes, count + 2, gap);
        long group = parse_number(&at, 16, 0xffff);
        if (group < 0 || (*at && *at != ':'))
            return false;
        bytes[2 * count] = group >> 8;
        bytes[2 * count++ + 1] = group;
        at += at[0] == ':' && at[1] && at[1] != ':';
    }
    return !*at && spread(bytes, count, gap);
}

long inet_get_address(struct hl_json_value result, struct inet_address *address) {
    char text[TEXT_ROOM];
    struct hl_json_value member;
    size_t size;
    uint64_t port;
    if (!hl_json_member(result, "address", &member) ||
        !hl_json_get_string(member, text, sizeof text - 1, &size) ||
        host_get_uint(result, "port", &port) != 0)
        return -EIO;
    text[size] = '\0';
    address->port = port;
    memcpy(address->bytes, mapped, sizeof mapped);
    return parse_four(text, address->bytes + sizeof mapped) || parse_six(text, address->bytes)
               ? 0
               : -EIO;
}
