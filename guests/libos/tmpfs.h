/* tmpfs.h: what the two halves of the in-memory file system share: names and contents. */
#ifndef LIBOS_TMPFS_H
#define LIBOS_TMPFS_H
#include "vfs.h"

struct tmpfs_contents {
    uint8_t **chunks; /* NULL where the file has a hole */
    size_t chunk_count;
    size_t first_room; /* bytes of chunk 0, which grows until it is whole; 0 while it is a hole */
    uint64_t size;
    uint64_t allocated;
};

struct tmpfs_name {
    struct tmpfs_name *next;
    struct tmpfs_node *node;
    uint64_t position; /* in the order of creation, for listings */
    uint32_t hash;
    char text[];
};

struct tmpfs_node {
    struct node node;
    struct tmpfs *tmpfs;
    uint32_t mode, links, owner, group;
    uint64_t inode;
    int64_t access_ns, change_ns, status_ns; /* CLOCK_REALTIME */
    /* Directories: */
    struct tmpfs_node *parent; /* itself at the root */
    struct tmpfs_name *first, *last;
    uint64_t next_position;
    /* Files: */
    struct tmpfs_contents contents;
    /* Symbolic links: */
    char *target;
};

static inline struct tmpfs_node *tmpfs_of(const struct node *node) {
    return (struct tmpfs_node *)node;
}

/* tmpfs_file.c */
extern const struct file_operations tmpfs_file_operations;
long tmpfs_resize(struct tmpfs_node *node, uint64_t size);
void tmpfs_touch(struct tmpfs_node *node); /* contents or names have changed now */

#endif
