/* hl_fs.h: a capability filesystem. Untrusted callers reach files beneath a few granted directories,
 * with explicit rights and limits, and nothing else.
 *
 * Every function returns a result of 0 or more, or a negative code: HL_FS_KIND tells who refused and
 * HL_FS_ERRNO the errno, 0 where none exists (a path that leads outside of its mount). Paths are
 * bytes with a size, absolute, as the guest sees them; they need no terminator. Pointers are valid
 * for the call; none may be NULL but where that is said, and a NULL `fs` answers EBADF. Any thread may
 * call any function.
 */
#ifndef HL_FS_H
#define HL_FS_H
#include <stddef.h>
#include <stdint.h>

#define HL_FS_KIND(code) ((int)(-(code) >> 16))
#define HL_FS_ERRNO(code) ((int)(-(code) & 0xffff))

#ifdef __cplusplus
extern "C" {
#endif

/* ---- declarations ----------------------------------------------------------------------------- */
/* Who refused. */
#define HL_FS_SYSTEM 1
#define HL_FS_ESCAPE 2
#define HL_FS_DENIED 3
#define HL_FS_LIMIT 4
#define HL_FS_INVALID 5
#define HL_FS_PANIC 6

/* Rights of a mount. */
#define HL_FS_READ 1
#define HL_FS_WRITE 2
#define HL_FS_LIST 4
#define HL_FS_CREATE 8
#define HL_FS_REMOVE 16
#define HL_FS_RENAME 32
#define HL_FS_CHMOD 64
#define HL_FS_CROSS 128

/* Flags of hl_fs_open. */
#define HL_FS_OPEN_READ 1
#define HL_FS_OPEN_WRITE 2
#define HL_FS_OPEN_APPEND 4
#define HL_FS_OPEN_CREATE 8
#define HL_FS_OPEN_EXCLUSIVE 16
#define HL_FS_OPEN_TRUNCATE 32
#define HL_FS_OPEN_DIRECTORY 64
#define HL_FS_OPEN_NOFOLLOW 128

/* Kinds of files. */
#define HL_FS_FILE 1
#define HL_FS_DIRECTORY 2
#define HL_FS_SYMLINK 3
#define HL_FS_OTHER 4

/* Where hl_fs_seek counts from. */
#define HL_FS_START 0
#define HL_FS_CURRENT 1
#define HL_FS_END 2

typedef struct hl_fs hl_fs;
typedef struct hl_fs_snapshot hl_fs_snapshot;

/* How much a guest may use; UINT64_MAX is no limit. */
typedef struct hl_fs_limits {
    uint64_t handles;
    uint64_t path_bytes;
    uint64_t depth;
    uint64_t call_bytes;
    uint64_t list_entries;
    uint64_t file_bytes;
    uint64_t mount_bytes;
    uint64_t mount_files;
} hl_fs_limits;

/* A directory to grant. An ephemeral one is private and empty; its `host` says where it is made, or
 * is NULL with size 0 for the system's temporary directory. */
typedef struct hl_fs_mount {
    const uint8_t *host;
    size_t host_size;
    const uint8_t *guest;
    size_t guest_size;
    uint32_t permissions;
    uint32_t ephemeral;
} hl_fs_mount;

/* stat(2); the mode without the bits of the kind. */
typedef struct hl_fs_status {
    uint32_t kind;
    uint32_t mode;
    uint64_t size;
    uint64_t nlink;
    uint64_t inode;
    uint64_t device;
    uint64_t blocks;
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns;
} hl_fs_status;

/* statvfs(3), within the limits. */
typedef struct hl_fs_space {
    uint64_t block_size;
    uint64_t blocks;
    uint64_t blocks_free;
    uint64_t files;
    uint64_t files_free;
    uint64_t name_max;
} hl_fs_space;

/* What a mount holds: bytes of files, holes included, and names. */
typedef struct hl_fs_usage {
    uint64_t bytes;
    uint64_t files;
} hl_fs_usage;

/* What hl_fs_list has put into the buffer, where to go on, and 1 if there is nothing more. */
typedef struct hl_fs_listing {
    uint64_t count;
    uint64_t bytes;
    uint64_t cursor;
    uint32_t end;
} hl_fs_listing;

int64_t hl_fs_default_limits(hl_fs_limits *limits);

/* On error `failed` is the index of the mount at fault, or `count`. */
int64_t hl_fs_new(const hl_fs_limits *limits, const hl_fs_mount *mounts, size_t count, hl_fs **fs,
                  size_t *failed);
/* Nobody may be inside a call, nor use `fs` afterwards. NULL is allowed. */
int64_t hl_fs_free(hl_fs *fs);

/* Returns a handle; no number is used twice. `mode` is for a file that is made; `kind`
 * may be NULL. */
int64_t hl_fs_open(const hl_fs *fs, const uint8_t *path, size_t path_size, uint32_t flags,
                   uint32_t mode, uint32_t *kind);
int64_t hl_fs_close(const hl_fs *fs, uint64_t handle);
/* Closes every handle and empties the ephemeral mounts. */
int64_t hl_fs_close_all(const hl_fs *fs);

/* Return the bytes moved. An offset of -1 is the position of the handle, which then moves. */
int64_t hl_fs_read(const hl_fs *fs, uint64_t handle, uint8_t *data, size_t size, int64_t offset);
int64_t hl_fs_write(const hl_fs *fs, uint64_t handle, const uint8_t *data, size_t size,
                    int64_t offset);
/* Returns the new position. */
int64_t hl_fs_seek(const hl_fs *fs, uint64_t handle, int64_t offset, uint32_t whence);
int64_t hl_fs_truncate(const hl_fs *fs, uint64_t handle, uint64_t size);
int64_t hl_fs_sync(const hl_fs *fs, uint64_t handle, uint32_t data_only);
int64_t hl_fs_fstat(const hl_fs *fs, uint64_t handle, hl_fs_status *status);
/* Entries from `cursor` on (0 at first), packed, little endian: u64 inode, u8 kind, u16 length, name.
 * EINVAL if the buffer takes not even one. */
int64_t hl_fs_list(const hl_fs *fs, uint64_t handle, uint64_t cursor, uint64_t limit, uint8_t *data,
                   size_t size, hl_fs_listing *listing);

int64_t hl_fs_stat(const hl_fs *fs, const uint8_t *path, size_t path_size, uint32_t follow,
                   hl_fs_status *status);
int64_t hl_fs_mkdir(const hl_fs *fs, const uint8_t *path, size_t path_size, uint32_t mode);
int64_t hl_fs_rmdir(const hl_fs *fs, const uint8_t *path, size_t path_size);
int64_t hl_fs_unlink(const hl_fs *fs, const uint8_t *path, size_t path_size);
int64_t hl_fs_rename(const hl_fs *fs, const uint8_t *source, size_t source_size,
                     const uint8_t *target, size_t target_size);
int64_t hl_fs_link(const hl_fs *fs, const uint8_t *source, size_t source_size,
                   const uint8_t *target, size_t target_size);
int64_t hl_fs_symlink(const hl_fs *fs, const uint8_t *target, size_t target_size,
                      const uint8_t *path, size_t path_size);
/* Returns the bytes of the target; ERANGE if it does not fit. */
int64_t hl_fs_readlink(const hl_fs *fs, const uint8_t *path, size_t path_size, uint8_t *target,
                       size_t target_size);
int64_t hl_fs_chmod(const hl_fs *fs, const uint8_t *path, size_t path_size, uint32_t mode);
/* In ns since 1970; INT64_MIN leaves a time as it is. */
int64_t hl_fs_utimes(const hl_fs *fs, const uint8_t *path, size_t path_size, int64_t access_ns,
                     int64_t change_ns, uint32_t follow);
int64_t hl_fs_statfs(const hl_fs *fs, const uint8_t *path, size_t path_size, hl_fs_space *space);
/* What the mount of `path` holds; with `recount` counted anew, after the host has changed it. */
int64_t hl_fs_usage_of(const hl_fs *fs, const uint8_t *path, size_t path_size, uint32_t recount,
                       hl_fs_usage *used);

/* What is open, and what the ephemeral mounts hold. It may outlive `fs`, and be restored in another
 * file system with the same mounts. */
int64_t hl_fs_snapshot_take(const hl_fs *fs, hl_fs_snapshot **snapshot);
/* NULL goes back to the start. After an error every handle is closed. */
int64_t hl_fs_restore(const hl_fs *fs, const hl_fs_snapshot *snapshot);
/* For a snapshot that goes to another process, from which nothing but a number can come: returns the
 * number that the next handle would have had. There, hl_fs_restart goes to the start, with the handles
 * below it stale: they answer ESTALE, closing them succeeds, and none is given out. */
int64_t hl_fs_snapshot_next_handle(const hl_fs_snapshot *snapshot);
int64_t hl_fs_restart(const hl_fs *fs, uint64_t next);
int64_t hl_fs_snapshot_free(hl_fs_snapshot *snapshot);
/* ---- end of the declarations ------------------------------------------------------------------ */

#ifdef __cplusplus
}
#endif
#endif
