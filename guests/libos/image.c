/* image.c: the read-only file system in the ZIP image; files are read and mapped where they lie. */
#include "archive.h"
#include "vfs.h"

#define IMAGE_DEVICE 1
#define ROOT 0
#define NONE 0 /* the root is nobody's child */

struct entry {
    struct node node;
    uint32_t parent, first_child, last_child, next_sibling, next_in_bucket;
    uint32_t mode;
    const char *name; /* in the archive */
    uint64_t name_size;
    uint64_t header;
    uint64_t size;
    int64_t time;
    const uint8_t *data; /* NULL until somebody looked at the local header */
};

static struct archive archive;
static struct entry *entries;
static uint32_t entry_count, entry_room;
static uint32_t *buckets;
static uint32_t bucket_mask;
static const struct node_operations image_operations;

static struct entry *entry_of(const struct node *node) { return (struct entry *)node; }

/* ---- the index ------------------------------------------------------------------------------- */
/* FNV-1a, 32 bits, over the name, begun with the parent's number. */
static uint32_t bucket_of(uint32_t parent, const char *name, size_t size) {
    uint32_t hash = (2166136261u ^ parent) * 16777619u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    return hash & bucket_mask;
}

static uint32_t entry_find(uint32_t parent, const char *name, size_t size) {
    uint32_t at = buckets[bucket_of(parent, name, size)];
    while (at != NONE && !(entries[at].parent == parent && entries[at].name_size == size &&
                           memcmp(entries[at].name, name, size) == 0))
        at = entries[at].next_in_bucket;
    return at;
}

/* The number of the new entry, or NONE when memory is out. */
static uint32_t entry_add(uint32_t parent, const char *name, size_t size) {
    if (entry_count == entry_room) {
        uint32_t room = entry_room * 2;
        struct entry *grown = heap_resize(entries, room * sizeof(*entries));
        if (!grown)
            return NONE;
        entries = grown;
        entry_room = room;
    }
    uint32_t number = entry_count++, bucket = bucket_of(parent, name, size);
    entries[number] = (struct entry){
        .node = {&image_operations, 1, S_IFDIR},
        .parent = parent,
        .next_in_bucket = buckets[bucket],
        .mode = S_IFDIR | 0755,
        .name = name,
        .name_size = size,
    };
    buckets[bucket] = number;
    struct entry *directory = &entries[parent];
    if (directory->first_child == NONE)
        directory->first_child = number;
    else
        entries[directory->last_child].next_sibling = number;
    directory->last_child = number;
    return number;
}

/* ---- loading --------------------------------------------------------------------------------- */
static bool name_is_good(const char *name, size_t size) {
    if (size == 0 || size > NAME_LIMIT || (name[0] == '.' && size == 1))
        return false;
    if (size == 2 && name[0] == '.' && name[1] == '.')
        return false;
    for (size_t i = 0; i < size; i++)
        if (name[i] == '\0')
            return false;
    return true;
}

static const char *entry_describe(uint32_t number, const struct archive_member *member,
                                  bool is_directory) {
    struct entry *entry = &entries[number];
    uint32_t type = member->mode & S_IFMT, permissions = member->mode & 07777;
    if (type == 0)
        type = is_directory ? S_IFDIR : S_IFREG;
    if (permissions == 0)
        permissions = is_directory ? 0755 : 0644;
    if ((type == S_IFDIR) != is_directory)
        return "a member whose name and mode disagree";
    if (type != S_IFDIR && type != S_IFREG && type != S_IFLNK)
        return "a member that is neither file, directory nor link";
    if (type == S_IFLNK && (member->size == 0 || member->size >= PATH_LIMIT))
        return "a symbolic link of impossible length";
    entry->node.type = type;
    entry->mode = type | permissions;
    entry->header = member->header;
    entry->size = is_directory ? 0 : member->size;
    entry->time = member->time;
    return NULL;
}

static const char *member_add(const struct archive_member *member) {
    const char *name = member->name, *end = name + member->name_size;
    bool is_directory = name < end && end[-1] == '/';
    uint32_t parent = ROOT;
    end -= is_directory;
    for (;;) {
        const char *part = name;
        while (name < end && *name != '/')
            name++;
        size_t size = name - part;
        if (!name_is_good(part, size))
            return "a member with an impossible name";
        uint32_t number = entry_find(parent, part, size);
        bool is_last = name++ == end, is_new = number == NONE;
        if (is_new)
            number = entry_add(parent, part, size);
        if (number == NONE)
            return "it has more members than memory";
        /* A directory may come behind what is in it; nothing else comes twice. */
        if (!is_new && (entries[number].node.type != S_IFDIR || (is_last && !is_directory)))
            return "two members with one name";
        if (is_last)
            return entry_describe(number, member, is_directory);
        parent = number;
    }
}

static const char *index_members(void) {
    while (archive.left > 0) {
        struct archive_member member;
        const char *wrong = archive_next(&archive, &member);
        if (!wrong)
            wrong = member_add(&member);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *image_load(const uint8_t *bytes, size_t size, struct node **root) {
    const char *wrong = archive_open(&archive, bytes, size);
    if (wrong)
        return wrong;
    if (archive.left > UINT32_MAX / 4)
        return "too many members";
    for (bucket_mask = 63; bucket_mask < archive.left; bucket_mask = bucket_mask * 2 + 1)
        ;
    entry_room = archive.left + archive.left / 8 + 64;
    entry_count = ROOT + 1;
    entries = heap_alloc(entry_room * sizeof(*entries));
    buckets = heap_alloc((bucket_mask + 1UL) * sizeof(*buckets));
    if (!entries || !buckets)
        return "it has more members than memory";
    entries[ROOT] =
        (struct entry){.node = {&image_operations, 1, S_IFDIR}, .mode = S_IFDIR | 0755, .name = ""};
    wrong = index_members();
    *root = &entries[ROOT].node;
    return wrong;
}

/* ---- nodes ----------------------------------------------------------------------------------- */
static const uint8_t *entry_data(struct entry *entry) {
    uint64_t offset;
    if (entry->data)
        return entry->data;
    const char *wrong = archive_data(&archive, entry->header, entry->size, &offset);
    if (wrong) {
        console_message("library OS: broken image: ");
        console_message(wrong);
        console_message("\n");
        guest_exit(127);
    }
    entry->data = archive.bytes + offset;
    return entry->data;
}

static long image_lookup(struct node *directory, const char *name, size_t size,
                         struct node **child) {
    uint32_t number = entry_find(entry_of(directory) - entries, name, size);
    if (number == NONE)
        return -ENOENT;
    *child = node_hold(&entries[number].node);
    return 0;
}

static long image_parent(struct node *directory, struct node **parent) {
    *parent = node_hold(&entries[entry_of(directory)->parent].node);
    return 0;
}

static long image_read_link(struct node *link, char *to, size_t room) {
    struct entry *entry = entry_of(link);
    size_t size = entry->size < room ? entry->size : room;
    memcpy(to, entry_data(entry), size);
    return size;
}

static long image_stat(struct node *node, bool follow, struct stat *status) {
    struct entry *entry = entry_of(node);
    (void)follow;
    status->st_dev = IMAGE_DEVICE;
    status->st_ino = entry - entries + 1;
    status->st_nlink = node_is(node, S_IFDIR) ? 2 : 1;
    status->st_mode = entry->mode;
    status->st_size = entry->size;
    status->st_blocks = (entry->size + 511) / 512;
    status->st_atime = status->st_mtime = status->st_ctime = entry->time;
    return 0;
}

static long image_statfs(struct node *node, struct statfs *status) {
    (void)node;
    status->f_type = 0x73717368; /* SQUASHFS_MAGIC, linux/magic.h: another read-only image */
    status->f_blocks = archive.size / HL_PAGE_SIZE;
    status->f_files = entry_count;
    return 0;
}

/* ---- open files ------------------------------------------------------------------------------ */
static long image_read(struct file *file, void *to, size_t size, uint64_t offset) {
    struct entry *entry = entry_of(file->node);
    if (offset >= entry->size)
        return 0;
    if (size > entry->size - offset)
        size = entry->size - offset;
    memcpy(to, entry_data(entry) + offset, size);
    return size;
}

static int64_t image_size(struct file *file) { return entry_of(file->node)->size; }

static const void *image_mapped(struct file *file, uint64_t offset, size_t size) {
    struct entry *entry = entry_of(file->node);
    if (offset > entry->size || size > entry->size - offset)
        return NULL;
    const uint8_t *data = entry_data(entry) + offset;
    return (uintptr_t)data % HL_PAGE_SIZE == 0 ? data : NULL;
}

/* The position is the number of the next child. */
static long image_list(struct file *file, uint64_t position, struct list_sink *sink) {
    uint32_t at = position ? position : entry_of(file->node)->first_child;
    while (at != NONE && at < entry_count) {
        const struct entry *entry = &entries[at];
        uint64_t next = entry->next_sibling ? entry->next_sibling : entry_count;
        if (!sink->take(sink, entry->name, entry->name_size, at + 1, entry->mode, next))
            return 0;
        at = next;
    }
    return 0;
}

static const struct file_operations image_file_operations = {
    .is_seekable = true,
    .read = image_read,
    .size = image_size,
    .mapped = image_mapped,
};
static const struct file_operations image_directory_operations = {.list = image_list};

static long image_open(struct node *node, struct file *file, int flags, uint32_t mode) {
    (void)mode;
    if ((flags & O_ACCMODE) != O_RDONLY)
        return -EROFS;
    file->operations =
        node_is(node, S_IFDIR) ? &image_directory_operations : &image_file_operations;
    return 0;
}

static const struct node_operations image_operations = {
    .refusal = -EROFS,
    .lookup = image_lookup,
    .parent = image_parent,
    .read_link = image_read_link,
    .stat = image_stat,
    .statfs = image_statfs,
    .open = image_open,
};
