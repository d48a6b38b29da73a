/* hostfs_call.c: the requests and responses of the fs.* host functions, docs/architecture.md. */
#include "hostfs.h"

/* Two paths in which every byte needs an escape, and the rest. */
#define PARAMS_ROOM (2 * 8 * PATH_LIMIT + 512)

static char params_text[PARAMS_ROOM];
static struct hl_json_writer params;

struct hl_json_writer *host_params(void) {
    hl_json_start(&params, params_text, sizeof params_text);
    hl_json_open(&params, '{');
    return &params;
}

void host_param_name(const char *key, const char *name) {
    hl_json_key(&params, key);
    hl_json_text(&params, name);
}

void host_param_uint(const char *key, uint64_t value) {
    hl_json_key(&params, key);
    hl_json_uint(&params, value);
}

void host_param_bool(const char *key, bool value) {
    hl_json_key(&params, key);
    hl_json_bool(&params, value);
}

long host_ask_with(const char *method, const void *attachment, size_t size,
                   struct hl_json_value *result, struct host_reply *reply) {
    hl_json_close(&params, '}');
    size_t params_size = hl_json_finish(&params);
    if (!params_size)
        return -ENAMETOOLONG;
    long error = host_call(method, params_text, params_size, attachment, size, reply);
    if (error)
        return error;
    *result = (struct hl_json_value){reply->result, reply->result_size};
    return hl_json_type(*result) == '{' ? 0 : -EIO;
}

long host_ask(const char *method, struct hl_json_value *result) {
    struct host_reply reply;
    return host_ask_with(method, NULL, 0, result, &reply);
}

long host_ask_path(const char *method, const char *path) {
    struct hl_json_value result;
    host_params();
    host_param_name("path", path);
    return host_ask(method, &result);
}

long host_ask_handle(const char *method, uint64_t handle, struct hl_json_value *result) {
    host_params();
    host_param_uint("handle", handle);
    return host_ask(method, result);
}

long host_get_uint(struct hl_json_value result, const char *key, uint64_t *value) {
    struct hl_json_value member;
    return hl_json_member(result, key, &member) && hl_json_get_uint(member, value) ? 0 : -EIO;
}

static long get_time(struct hl_json_value result, const char *key, unsigned long *seconds,
                     unsigned long *nanoseconds) {
    struct hl_json_value member;
    int64_t ns;
    if (!hl_json_member(result, key, &member) || !hl_json_get_int(member, &ns))
        return -EIO;
    int64_t part = ns % NANOSECONDS;
    *nanoseconds = part < 0 ? part + NANOSECONDS : part;
    *seconds = ns / NANOSECONDS - (part < 0);
    return 0;
}

static uint32_t type_of_kind(struct hl_json_value kind) {
    return hl_json_equals(kind, "file")        ? S_IFREG
           : hl_json_equals(kind, "directory") ? S_IFDIR
           : hl_json_equals(kind, "symlink")   ? S_IFLNK
                                               : S_IFSOCK; /* nothing that one could open */
}

long host_get_status(struct hl_json_value result, struct stat *status) {
    struct hl_json_value kind;
    uint64_t mode = 0, size = 0, blocks = 0, links = 0, inode = 0, device = 0;
    long wrong = host_get_uint(result, "mode", &mode) | host_get_uint(result, "size", &size) |
                 host_get_uint(result, "blocks", &blocks) | host_get_uint(result, "nlink", &links) |
                 host_get_uint(result, "inode", &inode) | host_get_uint(result, "device", &device) |
                 get_time(result, "atime_ns", &status->st_atime, &status->st_atime_nsec) |
                 get_time(result, "mtime_ns", &status->st_mtime, &status->st_mtime_nsec) |
                 get_time(result, "ctime_ns", &status->st_ctime, &status->st_ctime_nsec);
    if (wrong || !hl_json_member(result, "kind", &kind))
        return -EIO;
    status->st_mode = type_of_kind(kind) | (mode & 07777);
    status->st_size = size;
    status->st_blocks = blocks;
    status->st_nlink = links;
    status->st_ino = inode;
    status->st_dev = device;
    return 0;
}
