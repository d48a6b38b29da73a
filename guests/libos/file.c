/* file.c: open file descriptions: how they come to be, are used and end. */
#include "vfs.h"

/* Flags of open(2) that matter only while opening. */
#define OPENING_FLAGS (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define O_TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static const struct file_operations path_only_operations;

static char *text_copy(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = heap_alloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

struct file *file_new(const struct file_operations *operations, int flags, const char *path,
                      void *data) {
    struct file *file = heap_alloc(sizeof(*file));
    if (!file)
        return NULL;
    *file = (struct file){
        .operations = operations, .data = data, .references = 1, .flags = flags & ~OPENING_FLAGS};
    file->path = text_copy(path);
    if (file->path)
        return file;
    heap_free(file);
    return NULL;
}

struct file *file_hold(struct file *file) {
    file->references++;
    return file;
}

void file_close(struct file *file) {
    if (--file->references > 0)
        return;
    if (file->watchers)
        epoll_forget(file);
    if (file->operations && file->operations->close)
        file->operations->close(file);
    node_release(file->node);
    heap_free(file->path);
    heap_free(file);
}

/* ---- opening --------------------------------------------------------------------------------- */
static bool wants_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

static long open_check(const struct place *place, int flags) {
    const struct node *node = place->node;
    if (!node || node->type == 0)
        return 0;
    if ((flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if ((flags & O_CREAT) && place->last != LAST_NAME)
        return -EISDIR;
    if ((flags & O_DIRECTORY) && !node_is(node, S_IFDIR))
        return -ENOTDIR;
    if (flags & O_PATH)
        return 0;
    if (node_is(node, S_IFLNK))
        return -ELOOP;
    if (node_is(node, S_IFDIR) && (wants_write(flags) || (flags & (O_CREAT | O_TRUNC))))
        return -EISDIR;
    return 0;
}

static long open_path_only(struct node *node, struct file *file, int flags) {
    struct stat status;
    long error = node_stat(node, !(flags & O_NOFOLLOW), &status);
    if (error == 0 && (flags & O_DIRECTORY) && (status.st_mode & S_IFMT) != S_IFDIR)
        error = -ENOTDIR;
    file->operations = &path_only_operations;
    return error;
}

long file_of_node(struct node *node, const char *path, int flags, uint32_t mode,
                  struct file **file) {
    struct file *opened = file_new(NULL, flags, path, NULL);
    if (!opened)
        return -ENOMEM;
    opened->node = node_hold(node);
    long error;
    if (flags & O_PATH)
        error = open_path_only(node, opened, flags);
    else if (node->operations->open)
        error = node->operations->open(node, opened, flags, mode);
    else
        error = -ENXIO;
    if (error == 0) {
        *file = opened;
        return 0;
    }
    opened->operations = NULL;
    file_close(opened);
    return error;
}

static long open_unnamed(struct place *place, int flags, uint32_t mode, struct file **file) {
    struct node *node = NULL;
    if (!node_may_be_directory(place->node))
        return -ENOTDIR;
    if (!place->node->operations->make)
        return -EOPNOTSUPP;
    if (!wants_write(flags))
        return -EINVAL;
    long error = place->node->operations->make(place->node, NULL, S_IFREG | mode, NULL, &node);
    if (error)
        return error;
    error = file_of_node(node, place->path, flags & ~O_TMPFILE, mode, file);
    node_release(node);
    return error;
}

long file_open_place(struct place *place, int flags, uint32_t mode, struct file **file) {
    long error;
    mode &= ~file_mode_mask & 07777;
    if (place->directory)
        flags |= O_DIRECTORY;
    if (flags & O_TMPFILE_BIT)
        return place->node ? open_unnamed(place, flags, mode, file) : -ENOENT;
    error = open_check(place, flags);
    if (error)
        return error;
    if (!place->node) {
        const struct node_operations *operations = place->parent->operations;
        if (!operations->make)
            return operations->refusal;
        error = operations->make(place->parent, place->name, S_IFREG | mode, NULL, &place->node);
        flags &= ~O_TRUNC;
    }
    if (error == 0 && (flags & O_TRUNC) && node_is(place->node, S_IFREG)) {
        const struct node_operations *operations = place->node->operations;
        error = operations->truncate ? operations->truncate(place->node, 0) : operations->refusal;
    }
    return error ? error : file_of_node(place->node, place->path, flags, mode, file);
}

static unsigned open_walk_flags(int flags) {
    bool exclusive = (flags & O_CREAT) && (flags & O_EXCL);
    return (flags & O_CREAT ? WALK_CREATE : 0) |
           ((flags & O_NOFOLLOW) || exclusive ? 0 : WALK_FOLLOW);
}

long file_open_at(int directory, const char *path, int flags, uint32_t mode, struct file **file) {
    struct place place;
    if ((flags & O_CREAT) && (flags & O_DIRECTORY))
        return -EINVAL;
    long error = walk(directory, path, open_walk_flags(flags), &place);
    if (error)
        return error;
    error = file_open_place(&place, flags, mode, file);
    place_release(&place);
    return error;
}

long file_open(const char *path, int flags, struct file **file) {
    return file_open_at(AT_FDCWD, path, flags, 0, file);
}

/* ---- using ----------------------------------------------------------------------------------- */
long file_check(const struct file *file, bool writing) {
    int unwanted = writing ? O_RDONLY : O_WRONLY;
    return (file->flags & O_PATH) || (file->flags & O_ACCMODE) == unwanted ? -EBADF : 0;
}

long file_settle(struct file *file) {
    return file->operations->settle ? file->operations->settle(file) : 0;
}

long file_read(struct file *file, void *to, size_t size) {
    if (!file->operations->read)
        return file->operations->list ? -EISDIR : -EINVAL;
    long settled = file_settle(file);
    if (settled)
        return settled;
    long got = file->operations->read(file, to, size, file->offset);
    if (got > 0 && file->operations->is_seekable)
        file->offset += got;
    return got;
}

long file_write(struct file *file, const void *from, size_t size) {
    if (!file->operations->write)
        return -EINVAL;
    if ((file->flags & O_APPEND) && file->operations->append)
        return file->operations->append(file, from, size);
    long put = file->operations->write(file, from, size, file->offset);
    if (put > 0 && file->operations->is_seekable)
        file->offset += put;
    return put;
}

long file_read_at(struct file *file, void *to, size_t size, uint64_t offset) {
    if (!file->operations->read)
        return file->operations->list ? -EISDIR : -EINVAL;
    return file->operations->is_seekable ? file->operations->read(file, to, size, offset) : -ESPIPE;
}

long file_write_at(struct file *file, const void *from, size_t size, uint64_t offset) {
    if (!file->operations->is_seekable)
        return -ESPIPE;
    if (!file->operations->write)
        return -EINVAL;
    /* pwrite(2), BUGS: with O_APPEND the data goes to the end, whatever the offset. */
    if ((file->flags & O_APPEND) && file->operations->append) {
        long error = file_settle(file);
        if (error)
            return error;
        uint64_t position = file->offset;
        long put = file->operations->append(file, from, size);
        error = file_settle(file);
        file->offset = position;
        return error ? error : put;
    }
    return file->operations->write(file, from, size, offset);
}

long file_stat(struct file *file, struct stat *status) {
    memset(status, 0, sizeof(*status));
    status->st_blksize = HL_PAGE_SIZE;
    status->st_nlink = 1;
    status->st_mode = 0600; /* what Linux shows for files without inode */
    if (file->operations->stat)
        return file->operations->stat(file, status);
    return file->node ? node_stat(file->node, !(file->flags & O_NOFOLLOW), status) : 0;
}

const void *file_mapped(struct file *file, uint64_t offset, size_t size) {
    return file->operations->mapped ? file->operations->mapped(file, offset, size) : NULL;
}

uint64_t file_size(struct file *file) {
    int64_t size = file->operations->size ? file->operations->size(file) : 0;
    return size < 0 ? 0 : size;
}

const char *file_path(const struct file *file) { return file->path[0] ? file->path : "/"; }
