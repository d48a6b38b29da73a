/* tmpfs.c: a file system in memory: directories, files, symbolic and hard links. */
#include "tmpfs.h"

struct tmpfs {
    uint64_t device;
    uint64_t inodes;
};

static const struct node_operations tmpfs_operations;

/* ---- names ----------------------------------------------------------------------------------- */
static uint32_t hash_of(const char *name, size_t size) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    return hash;
}

static struct tmpfs_name *name_find(struct tmpfs_node *directory, const char *text, size_t size) {
    uint32_t hash = hash_of(text, size);
    struct tmpfs_name *name = directory->first;
    while (name && !(name->hash == hash && strncmp(name->text, text, size) == 0 &&
                     name->text[size] == '\0'))
        name = name->next;
    return name;
}

static struct tmpfs_name *name_find_text(struct tmpfs_node *directory, const char *text) {
    return name_find(directory, text, strlen(text));
}

/* Takes a reference to the node. */
static long name_add(struct tmpfs_node *directory, const char *text, struct tmpfs_node *node) {
    size_t size = strlen(text);
    struct tmpfs_name *name = heap_alloc(sizeof(*name) + size + 1);
    if (!name)
        return -ENOSPC;
    memcpy(name->text, text, size);
    name->hash = hash_of(text, size);
    name->position = directory->next_position++;
    name->node = node;
    node_hold(&node->node);
    if (directory->last)
        directory->last->next = name;
    else
        directory->first = name;
    directory->last = name;
    node->links++;
    if (node_is(&node->node, S_IFDIR))
        directory->links++;
    tmpfs_touch(directory);
    return 0;
}

static void name_unlink(struct tmpfs_node *directory, struct tmpfs_name *name) {
    struct tmpfs_name *before = NULL, *at = directory->first;
    for (; at != name; at = at->next)
        before = at;
    if (before)
        before->next = name->next;
    else
        directory->first = name->next;
    if (directory->last == name)
        directory->last = before;
    name->node->links--;
    name->node->status_ns = clock_realtime_ns();
    if (node_is(&name->node->node, S_IFDIR))
        directory->links--;
    tmpfs_touch(directory);
    node_release(&name->node->node);
    heap_free(name);
}

/* ---- nodes ----------------------------------------------------------------------------------- */
static struct tmpfs_node *node_new(struct tmpfs *tmpfs, uint32_t mode) {
    struct tmpfs_node *node = heap_alloc(sizeof(*node));
    if (!node)
        return NULL;
    node->node = (struct node){&tmpfs_operations, 1, mode & S_IFMT};
    node->tmpfs = tmpfs;
    node->mode = mode;
    node->inode = ++tmpfs->inodes;
    node->links = (mode & S_IFMT) == S_IFDIR; /* its own "." */
    node->next_position = 1;
    node->access_ns = node->change_ns = node->status_ns = clock_realtime_ns();
    return node;
}

static void tmpfs_release(struct node *base) {
    struct tmpfs_node *node = tmpfs_of(base);
    tmpfs_resize(node, 0);
    heap_free(node->contents.chunks);
    heap_free(node->target);
    if (node->parent)
        node_release(&node->parent->node);
    heap_free(node);
}

struct node *tmpfs_new(uint32_t mode) {
    static uint64_t devices = 0x20;
    struct tmpfs *tmpfs = heap_alloc(sizeof(*tmpfs));
    if (!tmpfs)
        return NULL;
    tmpfs->device = devices++;
    struct tmpfs_node *root = node_new(tmpfs, S_IFDIR | mode);
    if (!root)
        return NULL;
    root->links++;
    return &root->node;
}

static long tmpfs_lookup(struct node *directory, const char *name, size_t size,
                         struct node **child) {
    struct tmpfs_name *found = name_find(tmpfs_of(directory), name, size);
    if (!found)
        return -ENOENT;
    *child = node_hold(&found->node->node);
    return 0;
}

static long tmpfs_parent(struct node *directory, struct node **parent) {
    struct tmpfs_node *above = tmpfs_of(directory)->parent;
    if (!above)
        return -ENOENT;
    *parent = node_hold(&above->node);
    return 0;
}

static long tmpfs_make(struct node *base, const char *name, uint32_t mode, const char *target,
                       struct node **child) {
    struct tmpfs_node *directory = tmpfs_of(base);
    if (name && directory->links == 0)
        return -ENOENT; /* the directory itself has been removed */
    struct tmpfs_node *node = node_new(directory->tmpfs, mode);
    if (!node)
        return -ENOSPC;
    long error = 0;
    if (target) {
        node->target = heap_alloc(strlen(target) + 1);
        if (node->target)
            memcpy(node->target, target, strlen(target));
        else
            error = -ENOSPC;
    }
    if (name && error == 0)
        error = name_add(directory, name, node);
    if (error) {
        node_release(&node->node);
        return error;
    }
    if (node_is(&node->node, S_IFDIR))
        node->parent = tmpfs_of(node_hold(base));
    *child = &node->node;
    return 0;
}

static long tmpfs_remove(struct node *base, const char *text, bool is_directory) {
    struct tmpfs_node *directory = tmpfs_of(base);
    struct tmpfs_name *name = name_find_text(directory, text);
    if (!name)
        return -ENOENT;
    bool names_directory = node_is(&name->node->node, S_IFDIR);
    if (names_directory != is_directory)
        return is_directory ? -ENOTDIR : -EISDIR;
    if (is_directory && name->node->first)
        return -ENOTEMPTY;
    if (is_directory)
        name->node->links--;
    name_unlink(directory, name);
    return 0;
}

/* ---- rename, link ---------------------------------------------------------------------------- */
static bool lies_in(const struct tmpfs_node *directory, const struct tmpfs_node *above) {
    for (; directory; directory = directory->parent)
        if (directory == above)
            return true;
    return false;
}

static long rename_check(const struct tmpfs_node *from, const struct tmpfs_node *to) {
    bool from_directory = node_is(&from->node, S_IFDIR), to_directory = node_is(&to->node, S_IFDIR);
    if (from_directory && !to_directory)
        return -ENOTDIR;
    if (!from_directory && to_directory)
        return -EISDIR;
    return to_directory && to->first ? -ENOTEMPTY : 0;
}

static long tmpfs_rename(struct node *from_base, const char *text, struct node *to_base,
                         const char *target, bool replace) {
    struct tmpfs_node *from = tmpfs_of(from_base), *to = tmpfs_of(to_base);
    if (from->tmpfs != to->tmpfs)
        return -EXDEV;
    struct tmpfs_name *name = name_find_text(from, text), *old = name_find_text(to, target);
    if (!name || to->links == 0)
        return -ENOENT;
    if (old && !replace)
        return -EEXIST;
    struct tmpfs_node *node = name->node;
    if (old && old->node == node)
        return 0; /* rename(2): two names of one file stay as they are */
    if (node_is(&node->node, S_IFDIR) && lies_in(to, node))
        return -EINVAL;
    if (old && lies_in(from, old->node))
        return -ENOTEMPTY;
    long error = old ? rename_check(node, old->node) : 0;
    if (error == 0)
        error = name_add(to, target, node);
    if (error)
        return error;
    if (old)
        tmpfs_remove(to_base, target, node_is(&old->node->node, S_IFDIR));
    if (node->parent) {
        node_release(&node->parent->node);
        node->parent = tmpfs_of(node_hold(to_base));
    }
    name_unlink(from, name);
    return 0;
}

static long tmpfs_link(struct node *base, struct node *directory, const char *text) {
    struct tmpfs_node *node = tmpfs_of(base);
    if (node->tmpfs != tmpfs_of(directory)->tmpfs)
        return -EXDEV;
    if (node_is(base, S_IFDIR))
        return -EPERM;
    node->status_ns = clock_realtime_ns();
    return name_add(tmpfs_of(directory), text, node);
}

/* ---- attributes ------------------------------------------------------------------------------ */
static long tmpfs_stat(struct node *base, bool follow, struct stat *status) {
    struct tmpfs_node *node = tmpfs_of(base);
    (void)follow;
    status->st_dev = node->tmpfs->device;
    status->st_ino = node->inode;
    status->st_nlink = node->links;
    status->st_mode = node->mode;
    status->st_uid = node->owner;
    status->st_gid = node->group;
    status->st_size = node->target ? strlen(node->target) : node->contents.size;
    status->st_blocks = (node->contents.allocated + 511) / 512;
    status->st_atime = node->access_ns / NANOSECONDS;
    status->st_atime_nsec = node->access_ns % NANOSECONDS;
    status->st_mtime = node->change_ns / NANOSECONDS;
    status->st_mtime_nsec = node->change_ns % NANOSECONDS;
    status->st_ctime = node->status_ns / NANOSECONDS;
    status->st_ctime_nsec = node->status_ns % NANOSECONDS;
    return 0;
}

static long tmpfs_statfs(struct node *base, struct statfs *status) {
    status->f_type = 0x01021994; /* TMPFS_MAGIC, linux/magic.h */
    status->f_blocks = boot_info()->ram_size / HL_PAGE_SIZE;
    status->f_bfree = status->f_bavail = status->f_blocks / 2;
    status->f_files = tmpfs_of(base)->tmpfs->inodes;
    status->f_ffree = UINT32_MAX;
    return 0;
}

static long tmpfs_read_link(struct node *link, char *to, size_t room) {
    const char *target = tmpfs_of(link)->target;
    size_t size = strlen(target);
    if (size > room)
        size = room;
    memcpy(to, target, size);
    return size;
}

static long tmpfs_set_mode(struct node *base, uint32_t mode) {
    struct tmpfs_node *node = tmpfs_of(base);
    node->mode = (node->mode & S_IFMT) | (mode & 07777);
    node->status_ns = clock_realtime_ns();
    return 0;
}

static long tmpfs_set_owner(struct node *base, uint32_t owner, uint32_t group) {
    struct tmpfs_node *node = tmpfs_of(base);
    if (owner != OWNER_KEEP)
        node->owner = owner;
    if (group != OWNER_KEEP)
        node->group = group;
    node->status_ns = clock_realtime_ns();
    return 0;
}

static long tmpfs_set_times(struct node *base, bool follow, int64_t access_ns, int64_t change_ns) {
    struct tmpfs_node *node = tmpfs_of(base);
    (void)follow;
    if (access_ns != TIME_KEEP)
        node->access_ns = access_ns;
    if (change_ns != TIME_KEEP)
        node->change_ns = change_ns;
    node->status_ns = clock_realtime_ns();
    return 0;
}

static long tmpfs_truncate(struct node *node, uint64_t size) {
    return tmpfs_resize(tmpfs_of(node), size);
}

/* ---- directories and opening ----------------------------------------------------------------- */
static long tmpfs_list(struct file *file, uint64_t position, struct list_sink *sink) {
    for (struct tmpfs_name *name = tmpfs_of(file->node)->first; name; name = name->next)
        if (name->position >= position &&
            !sink->take(sink, name->text, strlen(name->text), name->node->inode, name->node->mode,
                        name->position + 1))
            break;
    return 0;
}

static const struct file_operations tmpfs_directory_operations = {.list = tmpfs_list};

static long tmpfs_open(struct node *node, struct file *file, int flags, uint32_t mode) {
    (void)flags, (void)mode;
    file->operations =
        node_is(node, S_IFDIR) ? &tmpfs_directory_operations : &tmpfs_file_operations;
    return 0;
}

static const struct node_operations tmpfs_operations = {
    .refusal = -EPERM,
    .lookup = tmpfs_lookup,
    .parent = tmpfs_parent,
    .read_link = tmpfs_read_link,
    .stat = tmpfs_stat,
    .statfs = tmpfs_statfs,
    .open = tmpfs_open,
    .make = tmpfs_make,
    .remove = tmpfs_remove,
    .rename = tmpfs_rename,
    .link = tmpfs_link,
    .set_mode = tmpfs_set_mode,
    .set_owner = tmpfs_set_owner,
    .set_times = tmpfs_set_times,
    .truncate = tmpfs_truncate,
    .release = tmpfs_release,
};
