/* sys_xattr.c: extended attributes, which no file system here has: ENOTSUP, as xattr(7) says. */
#include "libos.h"
#include <linux/errno.h>

#define UNSUPPORTED(name)                                                                          \
    long sys_##name(const struct syscall_arguments *arguments) {                                   \
        (void)arguments;                                                                           \
        return -EOPNOTSUPP;                                                                        \
    }
UNSUPPORTED(setxattr)
UNSUPPORTED(lsetxattr)
UNSUPPORTED(fsetxattr)
UNSUPPORTED(getxattr)
UNSUPPORTED(lgetxattr)
UNSUPPORTED(fgetxattr)
UNSUPPORTED(listxattr)
UNSUPPORTED(llistxattr)
UNSUPPORTED(flistxattr)
UNSUPPORTED(removexattr)
UNSUPPORTED(lremovexattr)
UNSUPPORTED(fremovexattr)
