/* proc_fd.c: /proc/<id>/fd and fdinfo: one entry for every open descriptor, proc(5). */
#include "proc.h"

/* Made by a lookup, gone with its last user. */
struct entry {
    struct node node;
    struct tree_node *directory;
    int descriptor;
};

static const struct node_operations link_operations;
static const struct node_operations info_operations;

static struct entry *entry_of(const struct node *node) { return (struct entry *)node; }

/* The descriptor a name stands for, or -ENOENT. */
static long descriptor_named(const char *name, size_t size) {
    long descriptor = 0;
    if (size == 0 || size > 4 || (size > 1 && name[0] == '0'))
        return -ENOENT;
    for (size_t i = 0; i < size; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -ENOENT;
        descriptor = descriptor * 10 + name[i] - '0';
    }
    return descriptor_flag(descriptor) < 0 ? -ENOENT : descriptor;
}

static long entry_make(struct node *directory, const char *name, size_t size, uint32_t type,
                       const struct node_operations *operations, struct node **child) {
    long descriptor = descriptor_named(name, size);
    if (descriptor < 0)
        return descriptor;
    struct entry *entry = heap_alloc(sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    *entry = (struct entry){{operations, 1, type}, tree_of(directory), descriptor};
    *child = &entry->node;
    return 0;
}

static void entry_release(struct node *node) { heap_free(entry_of(node)); }

static long entry_stat(struct node *node, bool follow, struct stat *status) {
    (void)follow;
    status->st_dev = entry_of(node)->directory->device;
    status->st_ino = entry_of(node)->descriptor + 1;
    status->st_nlink = 1;
    status->st_mode = node->type | (node_is(node, S_IFLNK) ? 0700 : 0444);
    return 0;
}

/* The directories differ only in what their entries are. */
static long number_list(struct file *file, uint64_t position, struct list_sink *sink) {
    uint32_t type = file->node->operations == &proc_fd_operations ? S_IFLNK : S_IFREG;
    for (long at = descriptor_next(position); at >= 0; at = descriptor_next(at + 1)) {
        char name[12];
        struct text text = {name, sizeof name, 0};
        text_decimal(&text, at);
        if (!sink->take(sink, name, text.used, at + 1, type, at + 1))
            break;
    }
    return 0;
}

static const struct file_operations directory_operations = {.list = number_list};

static long directory_open(struct node *node, struct file *file, int flags, uint32_t mode) {
    (void)node, (void)mode;
    file->operations = &directory_operations;
    return (flags & O_ACCMODE) == O_RDONLY ? 0 : -EACCES;
}

/* ---- fd: links to the open files ------------------------------------------------------------- */
static long fd_lookup(struct node *directory, const char *name, size_t size, struct node **child) {
    return entry_make(directory, name, size, S_IFLNK, &link_operations, child);
}

static long link_read(struct node *link, char *to, size_t room) {
    struct file *file = file_of(entry_of(link)->descriptor);
    if (!file)
        return -ENOENT;
    size_t size = strlen(file_path(file));
    if (size > room)
        size = room;
    memcpy(to, file_path(file), size);
    file_close(file);
    return size;
}

static long link_jump(struct node *link, struct node **target, const char **path) {
    struct file *file = file_of(entry_of(link)->descriptor);
    if (!file)
        return -ENOENT;
    bool has_node = file->node != NULL;
    if (has_node) {
        *target = node_hold(file->node);
        *path = file->path;
    }
    file_close(file);
    return has_node ? 0 : -ENXIO;
}

static const struct node_operations link_operations = {
    .refusal = -EPERM,
    .read_link = link_read,
    .jump = link_jump,
    .stat = entry_stat,
    .release = entry_release,
};
const struct node_operations proc_fd_operations = {
    .refusal = -EPERM,
    .lookup = fd_lookup,
    .parent = tree_parent,
    .stat = tree_stat,
    .open = directory_open,
};

/* ---- fdinfo: a text about each --------------------------------------------------------------- */
static long fdinfo_lookup(struct node *directory, const char *name, size_t size,
                          struct node **child) {
    return entry_make(directory, name, size, S_IFREG, &info_operations, child);
}

static long info_open(struct node *node, struct file *opened, int flags, uint32_t mode) {
    char bytes[128];
    struct text text = {bytes, sizeof bytes, 0};
    int descriptor = entry_of(node)->descriptor;
    struct file *file = file_of(descriptor);
    (void)mode;
    if (!file)
        return -ENOENT;
    int shown = file->flags | (descriptor_flag(descriptor) > 0 ? O_CLOEXEC : 0);
    text_string(&text, "pos:\t");
    text_decimal(&text, file->offset);
    text_string(&text, "\nflags:\t0");
    text_number(&text, shown, 8, 1);
    text_string(&text, "\nmnt_id:\t1\n");
    file_close(file);
    if ((flags & O_ACCMODE) != O_RDONLY)
        return -EACCES;
    return tree_open_bytes(opened, bytes, text.used);
}

static const struct node_operations info_operations = {
    .refusal = -EPERM,
    .stat = entry_stat,
    .open = info_open,
    .release = entry_release,
};
const struct node_operations proc_fdinfo_operations = {
    .refusal = -EPERM,
    .lookup = fdinfo_lookup,
    .parent = tree_parent,
    .stat = tree_stat,
    .open = directory_open,
};
