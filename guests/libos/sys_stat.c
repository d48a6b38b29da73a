/* sys_stat.c: what is known of files and file systems: stat, statx, access, statfs. */
#include "sys.h"

#define F_OK 0
#define X_OK 1
#define W_OK 2
#define R_OK 4
#define ST_RDONLY 1 /* statvfs(3) */

/* ---- stat ------------------------------------------------------------------------------------ */
static long stat_path(int directory, uint64_t path, unsigned flags, struct stat *status) {
    struct place place;
    long error = walk_user(directory, (const char *)path, flags, &place);
    if (error)
        return error;
    error = node_stat(place.node, place.follow, status);
    if (error == 0 && place.directory && (status->st_mode & S_IFMT) != S_IFDIR)
        error = -ENOTDIR;
    place_release(&place);
    return error;
}

static long stat_descriptor(int descriptor, struct stat *status) {
    struct file *file = file_of(descriptor);
    if (!file)
        return -EBADF;
    long error = file_stat(file, status);
    file_close(file);
    return error;
}

static bool path_is_empty(uint64_t path) {
    return !path || (user_range_ok((void *)path, 1) && *(const char *)path == '\0');
}

/* The path of a call with AT_ flags, or with AT_EMPTY_PATH the descriptor itself. */
static long stat_any(int directory, uint64_t path, int flags, struct stat *status) {
    if ((flags & AT_EMPTY_PATH) && directory != AT_FDCWD && path_is_empty(path))
        return stat_descriptor(directory, status);
    unsigned walk_flags = flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW;
    return stat_path(directory, path, walk_flags | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
                     status);
}

static long give_status(uint64_t to, const struct stat *status) {
    if (!user_range_ok((void *)to, sizeof(*status)))
        return -EFAULT;
    memcpy((void *)to, status, sizeof(*status));
    return 0;
}

long sys_stat(const struct syscall_arguments *arguments) {
    struct stat status;
    long error = stat_path(AT_FDCWD, arguments->a[0], WALK_FOLLOW, &status);
    return error ? error : give_status(arguments->a[1], &status);
}

long sys_lstat(const struct syscall_arguments *arguments) {
    struct stat status;
    long error = stat_path(AT_FDCWD, arguments->a[0], 0, &status);
    return error ? error : give_status(arguments->a[1], &status);
}

long sys_fstat(const struct syscall_arguments *arguments) {
    struct stat status;
    long error = stat_descriptor(arguments->a[0], &status);
    return error ? error : give_status(arguments->a[1], &status);
}

long sys_newfstatat(const struct syscall_arguments *arguments) {
    struct stat status;
    int flags = arguments->a[3];
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH))
        return -EINVAL;
    long error = stat_any(arguments->a[0], arguments->a[1], flags, &status);
    return error ? error : give_status(arguments->a[2], &status);
}

static struct statx_timestamp statx_time(uint64_t seconds, uint64_t nanoseconds) {
    return (struct statx_timestamp){.tv_sec = seconds, .tv_nsec = nanoseconds};
}

static void statx_fill(struct statx *to, const struct stat *from) {
    *to = (struct statx){
        .stx_mask = STATX_BASIC_STATS,
        .stx_blksize = from->st_blksize,
        .stx_nlink = from->st_nlink,
        .stx_uid = from->st_uid,
        .stx_gid = from->st_gid,
        .stx_mode = from->st_mode,
        .stx_ino = from->st_ino,
        .stx_size = from->st_size,
        .stx_blocks = from->st_blocks,
        .stx_atime = statx_time(from->st_atime, from->st_atime_nsec),
        .stx_mtime = statx_time(from->st_mtime, from->st_mtime_nsec),
        .stx_ctime = statx_time(from->st_ctime, from->st_ctime_nsec),
        .stx_rdev_major = from->st_rdev >> 8,
        .stx_rdev_minor = from->st_rdev & 0xff,
        .stx_dev_major = from->st_dev >> 8,
        .stx_dev_minor = from->st_dev & 0xff,
    };
}

long sys_statx(const struct syscall_arguments *arguments) {
    struct stat status;
    int flags = arguments->a[2];
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE))
        return -EINVAL;
    long error = stat_any(arguments->a[0], arguments->a[1], flags, &status);
    if (error)
        return error;
    if (!user_range_ok((void *)arguments->a[4], sizeof(struct statx)))
        return -EFAULT;
    statx_fill((struct statx *)arguments->a[4], &status);
    return 0;
}

/* ---- access ---------------------------------------------------------------------------------- */
/* The program is the superuser: only execution asks for a mode bit (path_resolution(7)), and only
 * read-only mounts refuse to be written. */
static long access_check(const struct place *place, int wanted) {
    struct stat status;
    long error = node_stat(place->node, place->follow, &status);
    if (error)
        return error;
    uint32_t type = status.st_mode & S_IFMT;
    bool is_special = type != S_IFREG && type != S_IFDIR && type != S_IFLNK;
    const struct mount *mount = mount_of(place->path, strlen(place->path));
    if ((wanted & W_OK) && !is_special && (mount->flags & MOUNT_READ_ONLY))
        return -EROFS;
    if ((wanted & X_OK) && type != S_IFDIR && !(status.st_mode & 0111))
        return -EACCES;
    return 0;
}

static long access_path(int directory, uint64_t path, int wanted, int flags) {
    struct place place;
    unsigned walk_flags = flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW;
    if ((wanted & ~(R_OK | W_OK | X_OK)) || (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EACCESS)))
        return -EINVAL;
    long error = walk_user(directory, (const char *)path, walk_flags, &place);
    if (error)
        return error;
    error = access_check(&place, wanted);
    place_release(&place);
    return error;
}

long sys_access(const struct syscall_arguments *arguments) {
    return access_path(AT_FDCWD, arguments->a[0], arguments->a[1], 0);
}

long sys_faccessat(const struct syscall_arguments *arguments) {
    return access_path(arguments->a[0], arguments->a[1], arguments->a[2], 0);
}

long sys_faccessat2(const struct syscall_arguments *arguments) {
    return access_path(arguments->a[0], arguments->a[1], arguments->a[2], arguments->a[3]);
}

/* ---- statfs ---------------------------------------------------------------------------------- */
static long statfs_node(struct node *node, const char *path, struct statfs *status) {
    *status =
        (struct statfs){.f_bsize = HL_PAGE_SIZE, .f_frsize = HL_PAGE_SIZE, .f_namelen = NAME_LIMIT};
    long error = node->operations->statfs ? node->operations->statfs(node, status) : 0;
    const struct mount *mount = path[0] == '/' || !path[0] ? mount_of(path, strlen(path)) : NULL;
    if (mount && (mount->flags & MOUNT_READ_ONLY))
        status->f_flags |= ST_RDONLY;
    return error;
}

static long give_statfs(uint64_t to, const struct statfs *status) {
    if (!user_range_ok((void *)to, sizeof(*status)))
        return -EFAULT;
    memcpy((void *)to, status, sizeof(*status));
    return 0;
}

long sys_statfs(const struct syscall_arguments *arguments) {
    struct place place;
    struct statfs status;
    long error = walk_user(AT_FDCWD, (const char *)arguments->a[0], WALK_FOLLOW, &place);
    if (error)
        return error;
    error = statfs_node(place.node, place.path, &status);
    place_release(&place);
    return error ? error : give_statfs(arguments->a[1], &status);
}

long sys_fstatfs(const struct syscall_arguments *arguments) {
    struct statfs status;
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    long error = file->node ? statfs_node(file->node, file->path, &status) : -ENOSYS;
    file_close(file);
    return error ? error : give_statfs(arguments->a[1], &status);
}
