/* hostfs.h: what the parts of the host's file system share: paths as nodes. */
#ifndef LIBOS_HOSTFS_H
#define LIBOS_HOSTFS_H
#include "request.h"
#include "vfs.h"

struct host_node {
    struct node node;
    char path[]; /* as the guest wrote it behind the mount's own path */
};

static inline const char *host_path(const struct node *node) {
    return ((const struct host_node *)node)->path;
}

/* ---- files (hostfs.c) ------------------------------------------------------------------------ */
long host_get_status(struct hl_json_value result, struct stat *status);

/* ---- open files (hostfs_file.c) -------------------------------------------------------------- */
long hostfs_open(struct node *node, struct file *file, int flags, uint32_t mode);
long hostfs_truncate(struct node *node, uint64_t size);

#endif
