/* tree.h: read-only file systems whose nodes the code itself makes: /dev, /proc and /sys. */
#ifndef LIBOS_TREE_H
#define LIBOS_TREE_H
#include "text.h"
#include "vfs.h"

/* Writes what the file contains at the moment it is opened. */
typedef void tree_fill(struct text *text);

struct tree_node {
    struct node node;
    uint64_t device; /* of the file system */
    uint64_t inode;
    uint64_t special; /* st_rdev */
    uint32_t mode;
    const char *name;
    struct tree_node *parent, *first, *last, *next;
    const char *target;                       /* symbolic links */
    tree_fill *fill;                          /* text files */
    const struct file_operations *operations; /* devices */
};

/* The makers return NULL when memory is out, and take NULL for a parent; names are kept, not copied. */
struct tree_node *tree_root(uint64_t device);
struct tree_node *tree_directory(struct tree_node *parent, const char *name);
struct tree_node *tree_text(struct tree_node *parent, const char *name, tree_fill *fill);
struct tree_node *tree_link(struct tree_node *parent, const char *name, const char *target);
struct tree_node *tree_device(struct tree_node *parent, const char *name, unsigned major,
                              unsigned minor, const struct file_operations *operations);
/* One that is in no directory. */
struct tree_node *tree_unattached(uint32_t mode, const struct file_operations *operations);
/* A directory whose contents are worked out on every look. */
struct tree_node *tree_dynamic(struct tree_node *parent, const char *name,
                               const struct node_operations *operations);
/* Operations for those who bring their own lookup. */
long tree_parent(struct node *directory, struct node **parent);
long tree_stat(struct node *node, bool follow, struct stat *status);
/* A text file outside the tree. */
long tree_open_text(struct file *file, tree_fill *fill);
long tree_open_bytes(struct file *file, const char *bytes, size_t size);

static inline struct tree_node *tree_of(const struct node *node) {
    return (struct tree_node *)node;
}
static inline uint64_t device_number(unsigned major, unsigned minor) {
    return (major << 8) | minor; /* as in old_decode_dev: both are below 256 here */
}

#endif
