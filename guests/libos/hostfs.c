/* hostfs.c: what the host mounted: paths are sent to the fs.* host functions as they are. */
#include "hostfs.h"

static const struct node_operations host_operations;

/* ---- what a stat tells -------------------------------------------------------------------------- */
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

/* ---- nodes: paths that nobody has looked at yet ---------------------------------------------- */
static struct node *node_new(const char *path, const char *name, size_t name_size, uint32_t type) {
    size_t size = strlen(path);
    struct host_node *made = heap_alloc(sizeof(*made) + size + name_size + 2);
    if (!made)
        return NULL;
    made->node = (struct node){&host_operations, 1, type};
    memcpy(made->path, path, size);
    if (name_size) {
        made->path[size] = '/';
        memcpy(made->path + size + 1, name, name_size);
    }
    return &made->node;
}

static long host_lookup(struct node *directory, const char *name, size_t size,
                        struct node **child) {
    if (strlen(host_path(directory)) + size + 1 >= PATH_LIMIT)
        return -ENAMETOOLONG;
    *child = node_new(host_path(directory), name, size, 0);
    return *child ? 0 : -ENOMEM;
}

/* Only the host knows where a link has led, so the dots stay in the path. */
static long host_parent(struct node *directory, struct node **parent) {
    return host_lookup(directory, "..", 2, parent);
}

static void host_release(struct node *node) { heap_free(node); }

static long host_stat(struct node *node, bool follow, struct stat *status) {
    struct hl_json_value result;
    host_params();
    host_param_name("path", host_path(node));
    host_param_bool("follow", follow);
    long error = host_ask("fs.stat", &result);
    return error ? error : host_get_status(result, status);
}

static long host_read_link(struct node *link, char *to, size_t room) {
    struct hl_json_value result, target;
    size_t size;
    host_params();
    host_param_name("path", host_path(link));
    long error = host_ask("fs.readlink", &result);
    if (error)
        return error;
    if (!hl_json_member(result, "target", &target) || !hl_json_get_name(target, to, room, &size))
        return -EIO;
    return size;
}

static long host_statfs(struct node *node, struct statfs *status) {
    struct hl_json_value result;
    uint64_t block = 0, blocks = 0, free = 0, files = 0, files_free = 0, name = 0;
    host_params();
    host_param_name("path", host_path(node));
    long error = host_ask("fs.statfs", &result);
    if (error)
        return error;
    error = host_get_uint(result, "block_size", &block) | host_get_uint(result, "blocks", &blocks) |
            host_get_uint(result, "blocks_free", &free) | host_get_uint(result, "files", &files) |
            host_get_uint(result, "files_free", &files_free) |
            host_get_uint(result, "name_max", &name);
    *status = (struct statfs){
        .f_type = 0x65735546, /* FUSE_SUPER_MAGIC, linux/magic.h: somebody else's file system */
        .f_bsize = block,
        .f_frsize = block,
        .f_blocks = blocks,
        .f_bfree = free,
        .f_bavail = free,
        .f_files = files,
        .f_ffree = files_free,
        .f_namelen = name,
    };
    return error ? -EIO : 0;
}

/* ---- changes --------------------------------------------------------------------------------- */
/* host_ask_path for a name in a directory. */
static long ask_name(const char *method, struct node *directory, const char *name) {
    struct node *child = NULL;
    long error = host_lookup(directory, name, strlen(name), &child);
    if (error)
        return error;
    error = host_ask_path(method, host_path(child));
    node_release(child);
    return error;
}

static long make_file(struct node *node, uint32_t mode) {
    struct file *file;
    long error = file_of_node(node, "", O_WRONLY | O_CREAT | O_EXCL, mode & 07777, &file);
    if (error == 0)
        file_close(file);
    return error;
}

static long make_directory(struct node *node, uint32_t mode) {
    struct hl_json_value result;
    host_params();
    host_param_name("path", host_path(node));
    host_param_uint("mode", mode & 07777);
    return host_ask("fs.mkdir", &result);
}

static long make_link(struct node *node, const char *target) {
    struct hl_json_value result;
    host_params();
    host_param_name("target", target);
    host_param_name("path", host_path(node));
    return host_ask("fs.symlink", &result);
}

static long host_make(struct node *directory, const char *name, uint32_t mode, const char *target,
                      struct node **child) {
    if (!name)
        return -EOPNOTSUPP;
    long error = host_lookup(directory, name, strlen(name), child);
    if (error)
        return error;
    error = target                       ? make_link(*child, target)
            : (mode & S_IFMT) == S_IFDIR ? make_directory(*child, mode)
                                         : make_file(*child, mode);
    if (error)
        node_release(*child);
    return error;
}

static long host_remove(struct node *directory, const char *name, bool is_directory) {
    return ask_name(is_directory ? "fs.rmdir" : "fs.unlink", directory, name);
}

static long ask_pair(const char *method, struct node *source, struct node *target) {
    struct hl_json_value result;
    host_params();
    host_param_name("source", host_path(source));
    host_param_name("target", host_path(target));
    return host_ask(method, &result);
}

static long host_link(struct node *node, struct node *directory, const char *name) {
    struct node *target = NULL;
    long error = host_lookup(directory, name, strlen(name), &target);
    if (error == 0)
        error = ask_pair("fs.link", node, target);
    node_release(target);
    return error;
}

static long host_rename(struct node *from, const char *name, struct node *to, const char *target,
                        bool replace) {
    struct node *source = NULL;
    if (!replace)
        return -EINVAL; /* rename(2): not offered by this file system */
    long error = host_lookup(from, name, strlen(name), &source);
    if (error)
        return error;
    struct node *new = NULL;
    error = host_lookup(to, target, strlen(target), &new);
    if (error == 0)
        error = ask_pair("fs.rename", source, new);
    node_release(source);
    node_release(new);
    return error;
}

/* A mount may refuse every chmod; one that would change nothing is no error all the same, or
 * copying a file with its mode would be one. */
static long host_set_mode(struct node *node, uint32_t mode) {
    struct hl_json_value result;
    struct stat status;
    host_params();
    host_param_name("path", host_path(node));
    host_param_uint("mode", mode & 07777);
    long error = host_ask("fs.chmod", &result);
    if (error != -EACCES && error != -EPERM)
        return error;
    return node_stat(node, true, &status) == 0 && (status.st_mode & 07777) == mode ? 0 : error;
}

static void param_time(struct hl_json_writer *params, const char *key, int64_t ns) {
    hl_json_key(params, key);
    if (ns == TIME_KEEP)
        hl_json_null(params);
    else
        hl_json_int(params, ns);
}

static long host_set_times(struct node *node, bool follow, int64_t access_ns, int64_t change_ns) {
    struct hl_json_value result;
    struct hl_json_writer *params = host_params();
    host_param_name("path", host_path(node));
    param_time(params, "atime_ns", access_ns);
    param_time(params, "mtime_ns", change_ns);
    host_param_bool("follow", follow);
    return host_ask("fs.utimes", &result);
}

static const struct node_operations host_operations = {
    .refusal = -EPERM,
    .lookup = host_lookup,
    .parent = host_parent,
    .read_link = host_read_link,
    .stat = host_stat,
    .statfs = host_statfs,
    .open = hostfs_open,
    .make = host_make,
    .remove = host_remove,
    .rename = host_rename,
    .link = host_link,
    .set_mode = host_set_mode,
    .set_times = host_set_times,
    .truncate = hostfs_truncate,
    .release = host_release,
};

/* ---- mounts ---------------------------------------------------------------------------------- */
/* A path to mount at; false if the host's text is none. "/" cannot be mounted over. */
static bool get_mount_path(struct hl_json_value mount, char *path) {
    struct hl_json_value guest;
    size_t size;
    if (!hl_json_member(mount, "guest", &guest) ||
        !hl_json_get_name(guest, path, PATH_LIMIT - 1, &size))
        return false;
    while (size > 1 && path[size - 1] == '/')
        size--;
    path[size] = '\0';
    return size > 1 && path[0] == '/';
}

struct host_mount {
    struct host_mount *next;
    bool is_read_only;
    char path[];
};

/* Copies the list out of the in buffer, which the next exit overwrites. */
static struct host_mount *get_mounts(struct hl_json_value mounts) {
    struct hl_json_value mount, mode;
    static char path[PATH_LIMIT];
    const char *at = NULL;
    struct host_mount *first = NULL, **last = &first;
    while (hl_json_next(mounts, &at, &mount)) {
        if (!get_mount_path(mount, path))
            continue;
        struct host_mount *made = heap_alloc(sizeof(*made) + strlen(path) + 1);
        if (!made)
            break;
        memcpy(made->path, path, strlen(path));
        made->is_read_only = hl_json_member(mount, "mode", &mode) && hl_json_equals(mode, "ro");
        *last = made;
        last = &made->next;
    }
    return first;
}

static void mount_all(struct host_mount *mounts) {
    while (mounts) {
        struct host_mount *mount = mounts;
        unsigned flags = MOUNT_HOST | (mount->is_read_only ? MOUNT_READ_ONLY : 0);
        struct node *root = node_new(mount->path, NULL, 0, S_IFDIR);
        if (!root || mount_add(mount->path, root, flags) != 0)
            console_message("library OS: no memory for a mount\n");
        mounts = mount->next;
        heap_free(mount);
    }
}

void hostfs_refresh(void) {
    static uint64_t seen = UINT64_MAX;
    struct hl_json_value result, mounts;
    if (boot_info()->table_version == seen)
        return;
    seen = boot_info()->table_version;
    mount_remove_host();
    host_params();
    if (host_ask("fs.mounts", &result) != 0 || !hl_json_member(result, "mounts", &mounts))
        return;
    mount_all(get_mounts(mounts));
}
