/* check.h: for test programs: a failed check names its place and ends the program with 1. The programs
 * end with "done"; the runner demands the same of them on the host's Linux, so what they check is what
 * Linux does. */
#ifndef CHECK_H
#define CHECK_H
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
/* The call fails with that errno. */
#define FAILS(call, number) CHECK((errno = 0, (long)(call) == -1 && errno == (number)))

static inline int done(void) {
    puts("done");
    return 0;
}
#endif
