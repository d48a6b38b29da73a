/* hostfs_file.c: open files of the host's mounts: bytes and listings by handle. */
#include "hostfs.h"

/* Entries of a directory asked for at once. */
#define LIST_LIMIT 4096
/* How long bytes that were read ahead may be given to the program. */
#define AHEAD_NS 10000000

struct host_file {
    uint64_t handle;
    bool appends; /* the host writes at the end, whatever the offset */
    bool moved;   /* it did, and file->offset is not there yet */
    /* What the last read brought, which is still in the in buffer unless the host was asked since. */
    struct {
        const uint8_t *bytes;
        uint64_t offset, size, exits;
        int64_t time_ns;
    } ahead;
    /* Directories: a batch of entries, as fs.list packs them. */
    uint8_t *batch;
    size_t batch_size, batch_at;
    uint64_t position; /* of the entry at batch_at */
    uint64_t cursor;   /* of the next batch */
    bool at_end;       /* there is none */
};

struct list_entry {
    uint64_t inode;
    uint8_t kind;
    uint16_t size;
} __attribute__((packed));

static struct host_file *host_file_of(const struct file *file) { return file->data; }

/* ---- transfers ------------------------------------------------------------------------------- */
/* Whether the last read of this file was the last thing the host was asked. */
static bool is_last(const struct host_file *host) { return host->ahead.exits == host_exits(); }

/* And just now. So nothing is read ahead across a change that the program, or the host at its wish,
 * may have made. */
static bool is_fresh(const struct host_file *host) {
    return is_last(host) && clock_monotonic_ns() - host->ahead.time_ns < AHEAD_NS;
}

/* Those of the bytes of the last read that lie at `offset`; how many there are. */
static size_t copy_ahead(const struct host_file *host, void *to, size_t size, uint64_t offset) {
    uint64_t from = offset - host->ahead.offset;
    if (offset < host->ahead.offset || from >= host->ahead.size)
        return 0;
    size_t left = host->ahead.size - from;
    memcpy(to, host->ahead.bytes + from, size < left ? size : left);
    return size < left ? size : left;
}

/* How much to ask for: a read that goes on from the last one asks for four times as much. */
static size_t size_ahead(const struct host_file *host, size_t size, uint64_t offset) {
    size_t room = boot_info()->in_size - HL_FRAME_BULK_OFFSET, more = 4 * host->ahead.size;
    bool goes_on = offset > host->ahead.offset && offset - host->ahead.offset <= host->ahead.size;
    if (goes_on && more > size && is_last(host))
        size = more;
    return size < room ? size : room;
}

static long read_some(struct host_file *host, void *to, size_t size, uint64_t offset) {
    struct hl_json_value result;
    struct host_reply reply;
    size_t wanted = size_ahead(host, size, offset);
    host_params();
    host_param_uint("handle", host->handle);
    host_param_uint("size", wanted);
    host_param_uint("offset", offset);
    long error = host_ask_with("fs.read", NULL, 0, &result, &reply);
    if (error)
        return error;
    if (reply.attachment_size > wanted)
        return -EIO;
    host->ahead.bytes = reply.attachment;
    host->ahead.offset = offset;
    host->ahead.size = reply.attachment_size;
    host->ahead.exits = host_exits();
    host->ahead.time_ns = clock_monotonic_ns();
    return copy_ahead(host, to, size, offset);
}

static long host_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct host_file *host = host_file_of(file);
    size_t room = boot_info()->in_size - HL_FRAME_BULK_OFFSET;
    size_t done = is_fresh(host) ? copy_ahead(host, to, size, offset) : 0;
    while (done < size) {
        size_t part = size - done < room ? size - done : room;
        long got = read_some(host, (uint8_t *)to + done, part, offset + done);
        if (got < 0)
            return done ? (long)done : got;
        done += got;
        if ((size_t)got < part)
            break;
    }
    return done;
}

static long write_some(uint64_t handle, const void *from, size_t size, uint64_t offset,
                       bool append) {
    struct hl_json_value result;
    struct host_reply reply;
    uint64_t written;
    struct hl_json_writer *params = host_params();
    host_param_uint("handle", handle);
    hl_json_key(params, "offset");
    if (append)
        hl_json_null(params);
    else
        hl_json_uint(params, offset);
    long error = host_ask_with("fs.write", from, size, &result, &reply);
    if (error == 0)
        error = host_get_uint(result, "size", &written);
    if (error)
        return error;
    return written <= size ? (long)written : -EIO;
}

static long write_all(struct file *file, const void *from, size_t size, uint64_t offset,
                      bool append) {
    size_t room, done = 0;
    host_call_attachment(&room);
    while (done < size) {
        size_t part = size - done < room ? size - done : room;
        long put = write_some(host_file_of(file)->handle, (const uint8_t *)from + done, part,
                              offset + done, append);
        if (put < 0)
            return done ? (long)done : put;
        done += put;
        if ((size_t)put < part)
            break;
    }
    return done;
}

static long host_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    return write_all(file, from, size, offset, false);
}

/* ---- the file -------------------------------------------------------------------------------- */
static long host_file_stat(struct file *file, struct stat *status) {
    struct hl_json_value result;
    long error = host_ask_handle("fs.fstat", host_file_of(file)->handle, &result);
    return error ? error : host_get_status(result, status);
}

static int64_t host_size(struct file *file) {
    struct stat status = {0};
    long error = host_file_stat(file, &status);
    return error ? error : (int64_t)status.st_size;
}

static long host_append(struct file *file, const void *from, size_t size) {
    struct host_file *host = host_file_of(file);
    if (host->appends) {
        host->moved = true;
        return write_all(file, from, size, 0, true);
    }
    int64_t end = host_size(file); /* O_APPEND came later, with fcntl */
    long put = end < 0 ? end : write_all(file, from, size, end, false);
    if (put > 0)
        file->offset = end + put;
    return put;
}

/* Behind what this file appended last, which only the host knows: others append, too. */
static long host_settle(struct file *file) {
    struct hl_json_value result;
    uint64_t offset;
    struct host_file *host = host_file_of(file);
    if (!host->moved)
        return 0;
    struct hl_json_writer *params = host_params();
    host_param_uint("handle", host->handle);
    host_param_uint("offset", 0);
    hl_json_key(params, "whence");
    hl_json_text(params, "current");
    long error = host_ask("fs.seek", &result);
    if (error == 0)
        error = host_get_uint(result, "offset", &offset);
    if (error)
        return error;
    file->offset = offset;
    host->moved = false;
    return 0;
}

static long host_truncate(struct file *file, uint64_t size) {
    struct hl_json_value result;
    host_params();
    host_param_uint("handle", host_file_of(file)->handle);
    host_param_uint("size", size);
    return host_ask("fs.truncate", &result);
}

static long host_sync(struct file *file, bool data_only) {
    struct hl_json_value result;
    host_params();
    host_param_uint("handle", host_file_of(file)->handle);
    host_param_bool("data_only", data_only);
    return host_ask("fs.sync", &result);
}

static void host_close(struct file *file) {
    struct hl_json_value result;
    struct host_file *host = host_file_of(file);
    /* close(2) frees the descriptor whatever happens; there is nobody to tell of an error. */
    host_ask_handle("fs.close", host->handle, &result);
    heap_free(host->batch);
    heap_free(host);
}

/* ---- listings -------------------------------------------------------------------------------- */
static long batch_fetch(struct host_file *host) {
    struct hl_json_value result, cursor;
    struct host_reply reply;
    host_params();
    host_param_uint("handle", host->handle);
    host_param_uint("cursor", host->cursor);
    host_param_uint("limit", LIST_LIMIT);
    long error = host_ask_with("fs.list", NULL, 0, &result, &reply);
    if (error)
        return error;
    if (!hl_json_member(result, "cursor", &cursor))
        return -EIO;
    host->at_end = !hl_json_get_uint(cursor, &host->cursor);
    uint8_t *batch = heap_resize(host->batch, reply.attachment_size + 1);
    if (!batch)
        return -ENOMEM;
    memcpy(batch, reply.attachment, reply.attachment_size);
    host->batch = batch;
    host->batch_size = reply.attachment_size;
    host->batch_at = 0;
    return 0;
}

/* The entry at hand, without moving on: 1, 0 at the end, or -errno. */
static long entry_get(struct host_file *host, struct list_entry *entry, const char **name) {
    while (host->batch_at == host->batch_size) {
        if (host->at_end)
            return 0;
        long error = batch_fetch(host);
        if (error)
            return error;
    }
    size_t left = host->batch_size - host->batch_at;
    if (left < sizeof(*entry))
        return -EIO;
    memcpy(entry, host->batch + host->batch_at, sizeof(*entry));
    *name = (const char *)host->batch + host->batch_at + sizeof(*entry);
    return entry->size <= left - sizeof(*entry) ? 1 : -EIO;
}

static void entry_skip(struct host_file *host, const struct list_entry *entry) {
    host->batch_at += sizeof(*entry) + entry->size;
    host->position++;
}

static void list_rewind(struct host_file *host) {
    host->batch_at = host->batch_size = 0;
    host->position = host->cursor = 0;
    host->at_end = false;
}

static long host_list(struct file *file, uint64_t position, struct list_sink *sink) {
    static const uint32_t types[] = {0, S_IFREG, S_IFDIR, S_IFLNK, 0};
    struct host_file *host = host_file_of(file);
    struct list_entry entry;
    const char *name = NULL;
    long error;
    if (position < host->position || position == 0)
        list_rewind(host);
    while ((error = entry_get(host, &entry, &name)) == 1) {
        uint32_t type = entry.kind < sizeof types / sizeof *types ? types[entry.kind] : 0;
        if (host->position >= position &&
            !sink->take(sink, name, entry.size, entry.inode, type, host->position + 1))
            return 0;
        entry_skip(host, &entry);
    }
    return error;
}

/* ---- opening --------------------------------------------------------------------------------- */
static const struct file_operations file_operations = {
    .is_seekable = true,
    .read = host_read,
    .write = host_write,
    .append = host_append,
    .settle = host_settle,
    .size = host_size,
    .stat = host_file_stat,
    .truncate = host_truncate,
    .sync = host_sync,
    .close = host_close,
};
static const struct file_operations directory_operations = {
    .list = host_list,
    .stat = host_file_stat,
    .sync = host_sync,
    .close = host_close,
};

static void param_flags(struct hl_json_writer *params, int flags) {
    static const struct {
        int flag;
        const char *name;
    } names[] = {
        {O_APPEND, "append"},  {O_CREAT, "create"},        {O_EXCL, "exclusive"},
        {O_TRUNC, "truncate"}, {O_DIRECTORY, "directory"}, {O_NOFOLLOW, "nofollow"},
    };
    int access = flags & O_ACCMODE;
    hl_json_key(params, "flags");
    hl_json_open(params, '[');
    if (access != O_WRONLY)
        hl_json_text(params, "read");
    if (access != O_RDONLY)
        hl_json_text(params, "write");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (flags & names[i].flag)
            hl_json_text(params, names[i].name);
    hl_json_close(params, ']');
}

/* Gives the handle back where the guest cannot keep it. */
static long handle_drop(uint64_t handle, long error) {
    struct hl_json_value result;
    host_ask_handle("fs.close", handle, &result);
    return error;
}

long hostfs_open(struct node *node, struct file *file, int flags, uint32_t mode) {
    struct hl_json_value result, kind;
    uint64_t handle;
    struct hl_json_writer *params = host_params();
    host_param_name("path", host_path(node));
    param_flags(params, flags);
    host_param_uint("mode", mode & 07777);
    long error = host_ask("fs.open", &result);
    if (error == 0)
        error = host_get_uint(result, "handle", &handle);
    if (error)
        return error;
    bool is_directory = hl_json_member(result, "kind", &kind) && hl_json_equals(kind, "directory");
    struct host_file *host = heap_alloc(sizeof(*host));
    if (!host)
        return handle_drop(handle, -ENOMEM);
    host->handle = handle;
    host->appends = flags & O_APPEND;
    file->data = host;
    file->operations = is_directory ? &directory_operations : &file_operations;
    return 0;
}

long hostfs_truncate(struct node *node, uint64_t size) {
    struct file *file;
    long error = file_of_node(node, "", O_WRONLY, 0, &file);
    if (error)
        return error;
    error = file->operations->truncate ? file->operations->truncate(file, size) : -EISDIR;
    file_close(file);
    return error;
}
