/* vfs.h: what the file systems, the devices and the file syscalls of the library OS share.
 *
 * A node is a thing a path leads to; a file is an open file description; a descriptor is a number in
 * the program's table. Nodes and files are counted; every function that hands one out hands out a
 * reference. An operation that is NULL is one the node or file does not have.
 */
#ifndef LIBOS_VFS_H
#define LIBOS_VFS_H
#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/stat.h>
#include <linux/uio.h>
#include <stdbool.h>
#include "libos.h"

#define NAME_LIMIT 255
#define DESCRIPTOR_LIMIT 1024
/* What one read or write moves at most, as in read(2). */
#define TRANSFER_LIMIT 0x7ffff000UL
#define NANOSECONDS 1000000000LL

struct node;
struct file;

/* ---- nodes ----------------------------------------------------------------------------------- */
struct node_operations {
    /* Errno (negative) of a change that the file system does not offer at all. */
    long refusal;
    long (*lookup)(struct node *directory, const char *name, size_t size, struct node **child);
    /* Not called at the root of a mount. */
    long (*parent)(struct node *directory, struct node **parent);
    /* Bytes written to `to`, at most `room`; no terminator. */
    long (*read_link)(struct node *link, char *to, size_t room);
    /* A link that leads to a node without a path of its own (/proc/self/fd). */
    long (*jump)(struct node *link, struct node **target, const char **path);
    long (*stat)(struct node *node, bool follow, struct stat *status);
    long (*statfs)(struct node *node, struct statfs *status);
    /* Sets operations and data of `file`. `flags` are open(2)'s; `mode` matters with O_CREAT. */
    long (*open)(struct node *node, struct file *file, int flags, uint32_t mode);
    /* Makes a file, directory or symbolic link (with `target`), as the type in `mode` says. A NULL
     * name makes a file that has none. */
    long (*make)(struct node *directory, const char *name, uint32_t mode, const char *target,
                 struct node **child);
    long (*remove)(struct node *directory, const char *name, bool is_directory);
    /* Both directories have these operations. `replace` false: -EEXIST where the target exists. */
    long (*rename)(struct node *from, const char *name, struct node *to, const char *target,
                   bool replace);
    long (*link)(struct node *node, struct node *directory, const char *name);
    long (*set_mode)(struct node *node, uint32_t mode);
    long (*set_owner)(struct node *node, uint32_t owner, uint32_t group);
    /* A time of TIME_KEEP, an owner of OWNER_KEEP is left as it is. */
    long (*set_times)(struct node *node, bool follow, int64_t access_ns, int64_t change_ns);
    long (*truncate)(struct node *node, uint64_t size);
    void (*release)(struct node *node);
};
#define TIME_KEEP INT64_MIN
#define OWNER_KEEP UINT32_MAX

struct node {
    const struct node_operations *operations;
    uint32_t references;
    /* The S_IFMT bits; 0 where only the host knows. */
    uint32_t type;
};

struct node *node_hold(struct node *node);
void node_release(struct node *node); /* NULL allowed */
static inline bool node_is(const struct node *node, uint32_t type) { return node->type == type; }
/* A directory, or something that may turn out to be one. */
static inline bool node_may_be_directory(const struct node *node) {
    return node->type == S_IFDIR || node->type == 0;
}
long node_stat(struct node *node, bool follow, struct stat *status);

/* ---- paths (vfs.c) --------------------------------------------------------------------------- */
/* Where a path leads. */
struct place {
    struct node *node;   /* NULL where the last name does not exist (only with WALK_MISSING) */
    struct node *parent; /* the directory of the last name; NULL where there is none */
    enum { LAST_NAME, LAST_DOT, LAST_DOTS, LAST_ROOT } last; /* what stands where it would be */
    char *path;       /* absolute, without links, "." and ".."; "/" is "" */
    const char *name; /* the last name, inside `path` */
    bool directory;   /* a slash at the end asks for a directory */
    bool follow;
};
#define WALK_FOLLOW 1  /* the last name, too, may be a symbolic link to follow */
#define WALK_MISSING 2 /* the last name need not exist */
#define WALK_CREATE 4 /* nor here, but a slash behind it is -EISDIR: open(2) makes no directories */
#define WALK_NAME 8   /* it is about the last name itself, whatever slashes follow it */
#define WALK_EMPTY 16 /* "" is the directory descriptor's own file */
/* `path` is the library OS's copy, `directory` a descriptor or AT_FDCWD. */
long walk(int directory, const char *path, unsigned flags, struct place *place);
/* The same for a path in the program's memory. */
long walk_user(int directory, const char *path, unsigned flags, struct place *place);
void place_release(struct place *place);
/* -EBUSY where a mount keeps the place from being removed or renamed. */
long place_busy(const struct place *place);

extern uint32_t file_mode_mask;                            /* umask(2) */
long directory_enter(struct node *node, const char *path); /* chdir */
const char *directory_current(void);

/* ---- mounts (mount.c) ------------------------------------------------------------------------ */
struct mount {
    const char *path; /* as in struct place */
    size_t size;
    struct node *root;
    unsigned flags;
};
#define MOUNT_HOST 1
#define MOUNT_READ_ONLY 2
/* Takes the reference to `root`. Directories on the way that do not exist are made up. */
long mount_add(const char *path, struct node *root, unsigned flags);
void mount_remove_host(void);
const struct mount *mount_at(const char *path, size_t size);
/* The mount `path` lies in: the one with the longest path. */
const struct mount *mount_of(const char *path, size_t size);
/* The index-th mount, or NULL at the end. */
const struct mount *mount_get(size_t index);
/* The last name of a mount directly inside `directory`, NULL for other mounts. */
const char *mount_name_in(const struct mount *mount, const char *directory);
/* The node of a path without links and dots, from the mounts' roots on. */
long node_at(const char *path, size_t size, struct node **node);

/* ---- open files (file.c) --------------------------------------------------------------------- */
/* Gathers what a waiting poll has to look at. */
struct poll_set {
    struct wait_queue **queues;
    struct file **files; /* kept open until the wait is over */
    size_t queue_count, queue_room, file_count, file_room;
    bool failed;         /* memory was out */
    uint64_t changes;    /* a sum that moves whenever one of the files had news */
    int64_t deadline_ns; /* when one of them becomes ready by itself */
    unsigned wanted;     /* events of the file at hand */
    bool is_unsure;      /* only the host knows whether one of them is ready */
};
/* What somebody may wait for on a file. */
struct readiness {
    struct wait_queue queue;
    uint64_t changes;
};
void readiness_changed(struct readiness *readiness);
void poll_add(struct poll_set *set, struct readiness *readiness);
void poll_add_deadline(struct poll_set *set, int64_t deadline_ns);
/* Calls `scan` until it finds something, which it returns, or the deadline passes (0) or a signal
 * comes (-EINTR). `scan` polls its files with the set. */
typedef long poll_scan(void *context, struct poll_set *set);
long poll_until(poll_scan *scan, void *context, int64_t deadline_ns);
/* Around the wait of ppoll and its like: sets the signal mask (0: none), and goes back. */
long poll_mask(uint64_t address, uint64_t size);
long poll_unmask(long result);

struct list_sink {
    /* False: no room left, the entry was not taken. `next` is the position behind it. */
    bool (*take)(struct list_sink *sink, const char *name, size_t size, uint64_t inode,
                 uint32_t type, uint64_t next);
};

struct socket_operations;
struct epoll_interest;

struct file_operations {
    /* `offset` is meaningless where `is_seekable` is false. */
    bool is_seekable;
    long (*read)(struct file *file, void *to, size_t size, uint64_t offset);
    long (*write)(struct file *file, const void *from, size_t size, uint64_t offset);
    /* O_APPEND: writes at the end, whatever the offset, and moves file->offset or sees to `settle`. */
    long (*append)(struct file *file, const void *from, size_t size);
    /* Makes file->offset right where an append may have left it behind. */
    long (*settle)(struct file *file);
    /* Size in bytes or -errno. */
    int64_t (*size)(struct file *file);
    /* Gives the entries from `position` on to the sink, until it takes no more; 0 is the first. */
    long (*list)(struct file *file, uint64_t position, struct list_sink *sink);
    long (*stat)(struct file *file, struct stat *status);
    long (*truncate)(struct file *file, uint64_t size);
    long (*allocate)(struct file *file, uint64_t size); /* fallocate: at least so long */
    long (*sync)(struct file *file, bool data_only);
    const void *(*mapped)(struct file *file, uint64_t offset, size_t size);
    long (*ioctl)(struct file *file, unsigned command, uint64_t argument);
    /* The POLL* bits that hold now; NULL: always ready. `set` is never NULL. */
    unsigned (*poll)(struct file *file, struct poll_set *set);
    void (*close)(struct file *file);
    const struct socket_operations *socket;
};

struct file {
    const struct file_operations *operations;
    struct node *node; /* what it was opened from; NULL for pipes, sockets and the like */
    void *data;
    uint64_t offset;
    uint32_t references;
    int flags;  /* access mode and status flags, as F_GETFL reports them */
    char *path; /* as in struct place, or a text that does not begin with a slash */
    struct epoll_interest *watchers;
};

/* An open file without node; NULL when memory is out. */
struct file *file_new(const struct file_operations *operations, int flags, const char *path,
                      void *data);
struct file *file_hold(struct file *file);
/* open(2) without the descriptor. */
long file_open_at(int directory, const char *path, int flags, uint32_t mode, struct file **file);
long file_open_place(struct place *place, int flags, uint32_t mode, struct file **file);
/* Opens a node that is known to exist. */
long file_of_node(struct node *node, const char *path, int flags, uint32_t mode,
                  struct file **file);
/* -EBADF unless it was opened for reading (writing). */
long file_check(const struct file *file, bool writing);
/* Before file->offset is looked at. */
long file_settle(struct file *file);
/* One transfer at the file's position, which moves. */
long file_read(struct file *file, void *to, size_t size);
long file_write(struct file *file, const void *from, size_t size);
long file_write_at(struct file *file, const void *from, size_t size, uint64_t offset);
long file_stat(struct file *file, struct stat *status);
unsigned file_poll(struct file *file, unsigned wanted, struct poll_set *set);
static inline bool file_may_block(const struct file *file) { return !(file->flags & O_NONBLOCK); }

/* ---- descriptors (descriptor.c) -------------------------------------------------------------- */
/* Takes the reference to `file`; the lowest free number from `lowest` on, or -EMFILE. */
long descriptor_add(struct file *file, int lowest, bool close_on_exec);
/* descriptor_add for a syscall that made the file with these open flags. */
long descriptor_open(struct file *file, int flags);
long descriptor_close(int descriptor);
/* dup2: takes the reference to `file`. */
long descriptor_replace(int descriptor, struct file *file, bool close_on_exec);
/* -EBADF, or whether FD_CLOEXEC is set. */
long descriptor_flag(int descriptor);
long descriptor_set_flag(int descriptor, bool close_on_exec);
/* The first open descriptor from `lowest` on, or -EBADF. */
long descriptor_next(int lowest);

/* ---- file systems ---------------------------------------------------------------------------- */
/* Opens the archive; NULL and its root, or what is wrong with it. */
const char *image_load(const uint8_t *bytes, size_t size, struct node **root);
struct node *tmpfs_new(uint32_t mode);
struct node *procfs_new(void);
struct node *sysfs_new(void);
struct node *devices_new(void);
/* Mounts the files of /etc that the image lacks. */
long etc_mount(void);
/* Asks the host for its mounts again where its table of functions has changed. */
void hostfs_refresh(void);
/* epoll.c: the file is about to go; no epoll file may know it any longer. */
void epoll_forget(struct file *file);
/* sys_message.c: readv and writev of a socket, whose parts are one message. */
long socket_vector(struct file *file, bool writing, const struct iovec *parts, size_t count);
/* What descriptors 1 and 2 write to; `stream` as in hl_abi.h. */
struct node *console_node(uint32_t stream);

#endif
