/* sys_dir.c: directories: getdents, getcwd, chdir. */
#include "sys.h"

/* Positions in a directory: the two dots, the file system's own entries, the mounts inside it. */
#define FIRST_ENTRY 2
#define FIRST_MOUNT (1ULL << 62)
/* What FUSE, too, gives where asking for the number would cost a trip. */
#define UNKNOWN_INODE 0xffffffff

/* ---- getdents -------------------------------------------------------------------------------- */
/* struct linux_dirent64 and linux_dirent, getdents(2); the old one has the type at its end. */
struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    char rest[];
};
#define ENTRY_HEADER 18

struct listing {
    struct list_sink sink;
    struct file *file;
    uint8_t *to;
    size_t room, used;
    bool is_old, is_full;
};

static bool listing_put(struct listing *listing, const char *name, size_t size, uint64_t inode,
                        uint32_t type, uint64_t next) {
    size_t whole = (ENTRY_HEADER + 1 + size + 1 + 7) & ~7UL;
    struct entry *entry = (struct entry *)(listing->to + listing->used);
    if (whole > listing->room - listing->used) {
        listing->is_full = true;
        return false;
    }
    memset(entry, 0, whole);
    entry->inode = inode;
    entry->next = next;
    entry->size = whole;
    char type_byte = (type & S_IFMT) >> 12; /* DT_ constants are the S_IFMT bits, moved down */
    if (listing->is_old)
        ((char *)entry)[whole - 1] = type_byte;
    else
        entry->rest[0] = type_byte;
    memcpy(entry->rest + !listing->is_old, name, size);
    listing->used += whole;
    listing->file->offset = next;
    return true;
}

/* A mount covers whatever the file system has of the same name. */
static bool is_covered(const char *directory, const char *name, size_t size) {
    const struct mount *mount;
    for (size_t i = 0; (mount = mount_get(i)); i++) {
        const char *covering = mount_name_in(mount, directory);
        if (covering && strlen(covering) == size && memcmp(covering, name, size) == 0)
            return true;
    }
    return false;
}

static bool listing_take(struct list_sink *sink, const char *name, size_t size, uint64_t inode,
                         uint32_t type, uint64_t next) {
    struct listing *listing = (struct listing *)sink;
    return is_covered(listing->file->path, name, size) ||
           listing_put(listing, name, size, inode, type, next + FIRST_ENTRY);
}

static void list_dots(struct listing *listing) {
    while (listing->file->offset < FIRST_ENTRY && !listing->is_full) {
        uint64_t next = listing->file->offset + 1; /* also the number of dots */
        listing_put(listing, "..", next, UNKNOWN_INODE, S_IFDIR, next);
    }
}

static void list_mounts(struct listing *listing) {
    const struct mount *mount;
    if (listing->is_full)
        return;
    uint64_t from = listing->file->offset >= FIRST_MOUNT ? listing->file->offset - FIRST_MOUNT : 0;
    for (size_t i = from; (mount = mount_get(i)); i++) {
        const char *name = mount_name_in(mount, listing->file->path);
        if (name && !listing_put(listing, name, strlen(name), i + 1, S_IFDIR, FIRST_MOUNT + i + 1))
            return;
    }
    if (listing->file->offset < FIRST_MOUNT)
        listing->file->offset = FIRST_MOUNT;
}

static long list_file(struct listing *listing) {
    struct file *file = listing->file;
    long error = 0;
    if (!file->operations->list)
        return -ENOTDIR;
    list_dots(listing);
    if (!listing->is_full && file->offset < FIRST_MOUNT)
        error = file->operations->list(file, file->offset - FIRST_ENTRY, &listing->sink);
    if (error && listing->used == 0)
        return error;
    if (error == 0)
        list_mounts(listing);
    return listing->used == 0 && listing->is_full ? -EINVAL : (long)listing->used;
}

static long list_user(const struct syscall_arguments *arguments, bool is_old) {
    struct listing listing = {
        .sink = {listing_take},
        .to = (uint8_t *)arguments->a[1],
        .room = (uint32_t)arguments->a[2],
        .is_old = is_old,
    };
    long error;
    if (!user_range_ok(listing.to, listing.room))
        return -EFAULT;
    listing.file = file_for(arguments->a[0], false, &error);
    if (!listing.file)
        return error;
    error = list_file(&listing);
    file_close(listing.file);
    return error;
}

long sys_getdents(const struct syscall_arguments *arguments) { return list_user(arguments, true); }

long sys_getdents64(const struct syscall_arguments *arguments) {
    return list_user(arguments, false);
}

/* ---- the working directory ------------------------------------------------------------------- */
long sys_getcwd(const struct syscall_arguments *arguments) {
    const char *path = directory_current();
    path = path[0] ? path : "/";
    size_t size = strlen(path) + 1;
    if (size > arguments->a[1])
        return -ERANGE;
    if (!user_range_ok((void *)arguments->a[0], size))
        return -EFAULT;
    memcpy((void *)arguments->a[0], path, size);
    return size;
}

/* Dots that a host's path had to keep are dropped where they lead to the same directory. */
static struct node *without_dots(struct node *node, const char *path, const struct stat *status) {
    struct node *plain = NULL;
    struct stat other;
    if (node->type || node_at(path, strlen(path), &plain) != 0)
        return node_hold(node);
    if (node_stat(plain, true, &other) == 0 && other.st_dev == status->st_dev &&
        other.st_ino == status->st_ino)
        return plain;
    node_release(plain);
    return node_hold(node);
}

static long enter(struct node *node, const char *path) {
    struct stat status;
    if (!node_may_be_directory(node))
        return -ENOTDIR;
    long error = node_stat(node, true, &status);
    if (error)
        return error;
    if ((status.st_mode & S_IFMT) != S_IFDIR)
        return -ENOTDIR;
    struct node *plain = without_dots(node, path, &status);
    error = directory_enter(plain, path);
    node_release(plain);
    return error;
}

long files_chdir(const char *path) {
    struct place place;
    long error = walk(AT_FDCWD, path, WALK_FOLLOW, &place);
    if (error)
        return error;
    error = enter(place.node, place.path);
    place_release(&place);
    return error;
}

long sys_chdir(const struct syscall_arguments *arguments) {
    static char path[PATH_LIMIT];
    long error = user_path(path, (const char *)arguments->a[0]);
    return error < 0 ? error : files_chdir(path);
}

long sys_fchdir(const struct syscall_arguments *arguments) {
    struct file *file = file_of(arguments->a[0]);
    if (!file)
        return -EBADF;
    long error = file->node ? enter(file->node, file->path) : -ENOTDIR;
    file_close(file);
    return error;
}
