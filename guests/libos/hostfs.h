/* hostfs.h: what the parts of the host's file system share: requests, and paths as nodes. */
#ifndef LIBOS_HOSTFS_H
#define LIBOS_HOSTFS_H
#include "hl_json.h"
#include "vfs.h"

struct host_node {
    struct node node;
    char path[]; /* as the guest wrote it behind the mount's own path */
};

static inline const char *host_path(const struct node *node) {
    return ((const struct host_node *)node)->path;
}

/* ---- requests (hostfs_call.c) ---------------------------------------------------------------- */
/* The params object of the next request, open; there is one at a time. */
struct hl_json_writer *host_params(void);
void host_param_name(const char *key, const char *name);
void host_param_uint(const char *key, uint64_t value);
void host_param_bool(const char *key, bool value);
/* Closes the params and asks. *result is the result object; 0 or -errno, -EIO if it is none. */
long host_ask(const char *method, struct hl_json_value *result);
long host_ask_with(const char *method, const void *attachment, size_t size,
                   struct hl_json_value *result, struct host_reply *reply);
/* Asks about a path, or about a handle, with nothing else to say. */
long host_ask_path(const char *method, const char *path);
long host_ask_handle(const char *method, uint64_t handle, struct hl_json_value *result);
/* A member that is an integer, or -EIO. */
long host_get_uint(struct hl_json_value result, const char *key, uint64_t *value);
long host_get_status(struct hl_json_value result, struct stat *status);

/* ---- open files (hostfs_file.c) -------------------------------------------------------------- */
long hostfs_open(struct node *node, struct file *file, int flags, uint32_t mode);
long hostfs_truncate(struct node *node, uint64_t size);

#endif
