/* descriptor.c: the program's table of descriptors. */
#include "vfs.h"

struct descriptor {
    struct file *file;
    bool close_on_exec;
};

static struct descriptor *table;
static int table_size;

static struct descriptor *descriptor_at(int descriptor) {
    if (descriptor < 0 || descriptor >= table_size || !table[descriptor].file)
        return NULL;
    return &table[descriptor];
}

static long table_reach(int descriptor) {
    int size = table_size ? table_size : 16;
    while (size <= descriptor)
        size *= 2;
    if (size == table_size)
        return 0;
    struct descriptor *grown = heap_resize(table, size * sizeof(*table));
    if (!grown)
        return -ENOMEM;
    memset(grown + table_size, 0, (size - table_size) * sizeof(*table));
    table = grown;
    table_size = size;
    return 0;
}

static long descriptor_put(int descriptor, struct file *file, bool close_on_exec) {
    long error = table_reach(descriptor);
    if (error) {
        file_close(file);
        return error;
    }
    table[descriptor] = (struct descriptor){file, close_on_exec};
    return descriptor;
}

long descriptor_add(struct file *file, int lowest, bool close_on_exec) {
    int descriptor = lowest;
    while (descriptor_at(descriptor))
        descriptor++;
    if (descriptor >= DESCRIPTOR_LIMIT) {
        file_close(file);
        return -EMFILE;
    }
    return descriptor_put(descriptor, file, close_on_exec);
}

long descriptor_open(struct file *file, int flags) {
    return descriptor_add(file, 0, flags & O_CLOEXEC);
}

long descriptor_close(int descriptor) {
    struct descriptor *slot = descriptor_at(descriptor);
    if (!slot)
        return -EBADF;
    struct file *file = slot->file;
    slot->file = NULL;
    file_close(file);
    return 0;
}

long descriptor_replace(int descriptor, struct file *file, bool close_on_exec) {
    if (descriptor < 0 || descriptor >= DESCRIPTOR_LIMIT) {
        file_close(file);
        return -EBADF;
    }
    descriptor_close(descriptor);
    return descriptor_put(descriptor, file, close_on_exec);
}

long descriptor_flag(int descriptor) {
    struct descriptor *slot = descriptor_at(descriptor);
    return slot ? slot->close_on_exec : -EBADF;
}

long descriptor_set_flag(int descriptor, bool close_on_exec) {
    struct descriptor *slot = descriptor_at(descriptor);
    if (!slot)
        return -EBADF;
    slot->close_on_exec = close_on_exec;
    return 0;
}

long descriptor_next(int lowest) {
    for (int descriptor = lowest; descriptor < table_size; descriptor++)
        if (descriptor_at(descriptor))
            return descriptor;
    return -EBADF;
}

struct file *file_of(int descriptor) {
    struct descriptor *slot = descriptor_at(descriptor);
    return slot ? file_hold(slot->file) : NULL;
}

void files_exec(void) {
    for (int descriptor = 0; descriptor < table_size; descriptor++)
        if (descriptor_flag(descriptor) > 0)
            descriptor_close(descriptor);
}
