/* tree.c: read-only file systems whose nodes the code itself makes: /dev, /proc and /sys. */
#include "tree.h"

#define TEXT_ROOM 1024UL

static const struct node_operations tree_operations;

/* ---- making ---------------------------------------------------------------------------------- */
static struct tree_node *tree_new(struct tree_node *parent, const char *name, uint32_t mode) {
    static uint64_t inodes;
    struct tree_node *made = heap_alloc(sizeof(*made));
    if (!made)
        return NULL;
    made->node = (struct node){&tree_operations, 1, mode & S_IFMT};
    made->inode = ++inodes;
    made->mode = mode;
    made->name = name;
    made->parent = parent;
    if (!parent)
        return made;
    made->device = parent->device;
    if (parent->last)
        parent->last->next = made;
    else
        parent->first = made;
    parent->last = made;
    return made;
}

struct tree_node *tree_root(uint64_t device) {
    struct tree_node *root = tree_new(NULL, "", S_IFDIR | 0555);
    if (root)
        root->device = device;
    return root;
}

struct tree_node *tree_directory(struct tree_node *parent, const char *name) {
    return parent ? tree_new(parent, name, S_IFDIR | 0555) : NULL;
}

struct tree_node *tree_text(struct tree_node *parent, const char *name, tree_fill *fill) {
    struct tree_node *made = parent ? tree_new(parent, name, S_IFREG | 0444) : NULL;
    if (made)
        made->fill = fill;
    return made;
}

struct tree_node *tree_link(struct tree_node *parent, const char *name, const char *target) {
    struct tree_node *made = parent ? tree_new(parent, name, S_IFLNK | 0777) : NULL;
    if (made)
        made->target = target;
    return made;
}

struct tree_node *tree_device(struct tree_node *parent, const char *name, unsigned major,
                              unsigned minor, const struct file_operations *operations) {
    struct tree_node *made = parent ? tree_new(parent, name, S_IFCHR | 0666) : NULL;
    if (made) {
        made->special = device_number(major, minor);
        made->operations = operations;
    }
    return made;
}

struct tree_node *tree_unattached(uint32_t mode, const struct file_operations *operations) {
    struct tree_node *made = tree_new(NULL, "", mode);
    if (made)
        made->operations = operations;
    return made;
}

struct tree_node *tree_dynamic(struct tree_node *parent, const char *name,
                               const struct node_operations *operations) {
    struct tree_node *made = tree_directory(parent, name);
    if (made)
        made->node.operations = operations;
    return made;
}

/* ---- nodes ----------------------------------------------------------------------------------- */
static long tree_lookup(struct node *directory, const char *name, size_t size,
                        struct node **child) {
    struct tree_node *at = tree_of(directory)->first;
    while (at && (strlen(at->name) != size || memcmp(at->name, name, size) != 0))
        at = at->next;
    if (!at)
        return -ENOENT;
    *child = node_hold(&at->node);
    return 0;
}

long tree_parent(struct node *directory, struct node **parent) {
    *parent = node_hold(&tree_of(directory)->parent->node);
    return 0;
}

static long tree_read_link(struct node *link, char *to, size_t room) {
    const char *target = tree_of(link)->target;
    size_t size = strlen(target);
    if (size > room)
        size = room;
    memcpy(to, target, size);
    return size;
}

long tree_stat(struct node *base, bool follow, struct stat *status) {
    struct tree_node *node = tree_of(base);
    int64_t now = clock_realtime_ns();
    (void)follow;
    status->st_dev = node->device;
    status->st_ino = node->inode;
    status->st_nlink = node_is(base, S_IFDIR) ? 2 : 1;
    status->st_mode = node->mode;
    status->st_rdev = node->special;
    status->st_size = node->target ? strlen(node->target) : 0;
    status->st_atime = status->st_mtime = status->st_ctime = now / NANOSECONDS;
    return 0;
}

static long tree_list(struct file *file, uint64_t position, struct list_sink *sink) {
    uint64_t index = 0;
    for (struct tree_node *at = tree_of(file->node)->first; at; at = at->next)
        if (index++ >= position &&
            !sink->take(sink, at->name, strlen(at->name), at->inode, at->mode, index))
            break;
    return 0;
}

/* ---- text files ------------------------------------------------------------------------------ */
struct contents {
    size_t size;
    char text[];
};

static long contents_read(struct file *file, void *to, size_t size, uint64_t offset) {
    const struct contents *contents = file->data;
    if (offset >= contents->size)
        return 0;
    if (size > contents->size - offset)
        size = contents->size - offset;
    memcpy(to, contents->text + offset, size);
    return size;
}

static void contents_close(struct file *file) { heap_free(file->data); }

static const struct file_operations text_operations = {
    .is_seekable = true,
    .read = contents_read,
    .close = contents_close,
};

long tree_open_text(struct file *file, tree_fill *fill) {
    for (size_t room = TEXT_ROOM;; room *= 2) {
        struct contents *contents = heap_alloc(sizeof(*contents) + room);
        if (!contents)
            return -ENOMEM;
        struct text text = {contents->text, room, 0};
        fill(&text);
        if (text.used < room) {
            contents->size = text.used;
            file->data = contents;
            file->operations = &text_operations;
            return 0;
        }
        heap_free(contents);
    }
}

long tree_open_bytes(struct file *file, const char *bytes, size_t size) {
    struct contents *contents = heap_alloc(sizeof(*contents) + size);
    if (!contents)
        return -ENOMEM;
    memcpy(contents->text, bytes, size);
    contents->size = size;
    file->data = contents;
    file->operations = &text_operations;
    return 0;
}

static const struct file_operations directory_operations = {.list = tree_list};

static long tree_open(struct node *base, struct file *file, int flags, uint32_t mode) {
    struct tree_node *node = tree_of(base);
    (void)mode;
    if (node->operations) {
        file->operations = node->operations;
        return 0;
    }
    if ((flags & O_ACCMODE) != O_RDONLY)
        return -EACCES;
    if (node->fill)
        return tree_open_text(file, node->fill);
    file->operations = &directory_operations;
    return 0;
}

/* Changing a device's size or times is accepted, as it is for the devices of Linux. */
static long tree_truncate(struct node *node, uint64_t size) {
    (void)size;
    return tree_of(node)->operations ? 0 : -EACCES;
}

static const struct node_operations tree_operations = {
    .refusal = -EPERM,
    .lookup = tree_lookup,
    .parent = tree_parent,
    .read_link = tree_read_link,
    .stat = tree_stat,
    .open = tree_open,
    .truncate = tree_truncate,
};
