/* mount.c: the mount table, by path, and directories that exist only for a mount inside them. */
#include "vfs.h"

#define BARE_MODE (S_IFDIR | 0555)

static struct mount *mounts;
static size_t mount_count;

/* ---- a directory on the way to a mount that no file system has ------------------------------- */
static long bare_lookup(struct node *directory, const char *name, size_t size,
                        struct node **child) {
    (void)directory, (void)name, (void)size, (void)child;
    return -ENOENT;
}

static long bare_stat(struct node *node, bool follow, struct stat *status) {
    (void)follow;
    status->st_mode = BARE_MODE;
    status->st_ino = (uintptr_t)node;
    status->st_nlink = 2;
    return 0;
}

static long bare_list(struct file *file, uint64_t position, struct list_sink *sink) {
    (void)file, (void)position, (void)sink;
    return 0;
}

static const struct file_operations bare_file_operations = {.list = bare_list};

static long bare_open(struct node *node, struct file *file, int flags, uint32_t mode) {
    (void)node, (void)flags, (void)mode;
    file->operations = &bare_file_operations;
    return 0;
}

static void bare_release(struct node *node) { heap_free(node); }

static const struct node_operations bare_operations = {
    .refusal = -EROFS,
    .lookup = bare_lookup,
    .stat = bare_stat,
    .open = bare_open,
    .release = bare_release,
};

/* ---- the table ------------------------------------------------------------------------------- */
static long mount_append(const char *path, size_t size, struct node *root, unsigned flags) {
    struct mount *grown = heap_resize(mounts, (mount_count + 1) * sizeof(*mounts));
    char *copy = heap_alloc(size + 1);
    if (grown)
        mounts = grown;
    if (!grown || !copy) {
        heap_free(copy);
        node_release(root);
        return -ENOMEM;
    }
    memcpy(copy, path, size);
    mounts[mount_count++] = (struct mount){copy, size, root, flags};
    return 0;
}

/* Makes up what is missing of the directories above `path`. */
static long mount_prepare(const char *path, unsigned flags) {
    for (size_t i = 1; path[i]; i++) {
        struct node *node = NULL;
        if (path[i] != '/')
            continue;
        if (node_at(path, i, &node) == 0) {
            node_release(node);
            continue;
        }
        node = heap_alloc(sizeof(*node));
        if (!node)
            return -ENOMEM;
        *node = (struct node){&bare_operations, 1, S_IFDIR};
        long error = mount_append(path, i, node, flags);
        if (error)
            return error;
    }
    return 0;
}

long mount_add(const char *path, struct node *root, unsigned flags) {
    size_t size = strlen(path);
    long error = size ? mount_prepare(path, flags) : 0;
    if (error) {
        node_release(root);
        return error;
    }
    return mount_append(path, size, root, flags);
}

void mount_remove_host(void) {
    size_t kept = 0;
    for (size_t i = 0; i < mount_count; i++) {
        if (mounts[i].flags & MOUNT_HOST) {
            node_release(mounts[i].root);
            heap_free((char *)mounts[i].path);
        } else {
            mounts[kept++] = mounts[i];
        }
    }
    mount_count = kept;
}

const struct mount *mount_get(size_t index) { return index < mount_count ? &mounts[index] : NULL; }

const struct mount *mount_at(const char *path, size_t size) {
    /* From the end: a later mount covers an earlier one. */
    for (size_t i = mount_count; i-- > 0;)
        if (mounts[i].size == size && memcmp(mounts[i].path, path, size) == 0)
            return &mounts[i];
    return NULL;
}

const struct mount *mount_of(const char *path, size_t size) {
    for (;;) {
        const struct mount *mount = mount_at(path, size);
        if (mount || size == 0)
            return mount;
        while (path[--size] != '/')
            ;
    }
}

const char *mount_name_in(const struct mount *mount, const char *directory) {
    size_t size = strlen(directory);
    if (mount->size <= size + 1 || memcmp(mount->path, directory, size) != 0)
        return NULL;
    const char *name = mount->path + size + 1;
    return mount->path[size] == '/' && !strchr(name, '/') ? name : NULL;
}

long node_at(const char *path, size_t size, struct node **node) {
    const struct mount *mount = mount_of(path, size);
    if (!mount)
        return -ENOENT;
    struct node *at = node_hold(mount->root);
    for (size_t i = mount->size; i < size;) {
        size_t name = ++i;
        while (i < size && path[i] != '/')
            i++;
        struct node *child = NULL;
        long error = node_may_be_directory(at)
                         ? at->operations->lookup(at, path + name, i - name, &child)
                         : -ENOTDIR;
        node_release(at);
        if (error)
            return error;
        at = child;
    }
    *node = at;
    return 0;
}
