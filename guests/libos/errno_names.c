/* errno_names.c: the numbers of the errno names that host functions answer with. */
#include "errno_names.h"
#include <linux/errno.h>
#include "libos.h"

#define NAME(name) {#name, name}
static const struct {
    const char *name;
    long number;
} names[] = {
    NAME(EPERM),           NAME(ENOENT),
    NAME(EINTR),           NAME(EIO),
    NAME(ENXIO),           NAME(E2BIG),
    NAME(EBADF),           NAME(EAGAIN),
    NAME(EWOULDBLOCK),     NAME(ENOMEM),
    NAME(EACCES),          NAME(EFAULT),
    NAME(EBUSY),           NAME(EEXIST),
    NAME(EXDEV),           NAME(ENODEV),
    NAME(ENOTDIR),         NAME(EISDIR),
    NAME(EINVAL),          NAME(ENFILE),
    NAME(EMFILE),          NAME(ENOTTY),
    NAME(ETXTBSY),         NAME(EFBIG),
    NAME(ENOSPC),          NAME(ESPIPE),
    NAME(EROFS),           NAME(EMLINK),
    NAME(EPIPE),           NAME(EDOM),
    NAME(ERANGE),          NAME(EDEADLK),
    NAME(ENAMETOOLONG),    NAME(ENOLCK),
    NAME(ENOSYS),          NAME(ENOTEMPTY),
    NAME(ELOOP),           NAME(ENODATA),
    NAME(ETIME),           NAME(EPROTO),
    NAME(EOVERFLOW),       NAME(EILSEQ),
    NAME(EUSERS),          NAME(ENOTSOCK),
    NAME(EDESTADDRREQ),    NAME(EMSGSIZE),
    NAME(EPROTOTYPE),      NAME(ENOPROTOOPT),
    NAME(EPROTONOSUPPORT), NAME(ESOCKTNOSUPPORT),
    NAME(EOPNOTSUPP),      NAME(EPFNOSUPPORT),
    NAME(EAFNOSUPPORT),    NAME(EADDRINUSE),
    NAME(EADDRNOTAVAIL),   NAME(ENETDOWN),
    NAME(ENETUNREACH),     NAME(ENETRESET),
    NAME(ECONNABORTED),    NAME(ECONNRESET),
    NAME(ENOBUFS),         NAME(EISCONN),
    NAME(ENOTCONN),        NAME(ESHUTDOWN),
    NAME(ETIMEDOUT),       NAME(ECONNREFUSED),
    NAME(EHOSTDOWN),       NAME(EHOSTUNREACH),
    NAME(EALREADY),        NAME(EINPROGRESS),
    NAME(ESTALE),          NAME(EDQUOT),
    NAME(ECANCELED),
};

long errno_of_name(struct hl_json_value name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (hl_json_equals(name, names[i].name))
            return names[i].number;
    return 0;
}
