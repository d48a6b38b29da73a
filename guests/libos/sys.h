/* sys.h: what the file syscalls share: their arguments, checked. */
#ifndef LIBOS_SYS_H
#define LIBOS_SYS_H
#include "vfs.h"

/* Stores an int where the program asked for it. */
static inline long give_int(uint64_t address, int value) {
    if (!user_range_ok((void *)address, sizeof value))
        return -EFAULT;
    *(int *)address = value;
    return 0;
}

/* The file of a descriptor that is open for reading (writing), or NULL and -EBADF in *error. */
static inline struct file *file_for(int descriptor, bool writing, long *error) {
    struct file *file = file_of(descriptor);
    *error = file ? file_check(file, writing) : -EBADF;
    if (file && *error) {
        file_close(file);
        file = NULL;
    }
    return file;
}

/* Gives two files descriptors and the program their numbers. */
static inline long descriptor_pair(struct file *files[2], int flags, int *to) {
    long first = descriptor_open(files[0], flags);
    if (first < 0) {
        file_close(files[1]);
        return first;
    }
    long second = descriptor_open(files[1], flags);
    if (second < 0) {
        descriptor_close(first);
        return second;
    }
    to[0] = first;
    to[1] = second;
    return 0;
}

#endif
