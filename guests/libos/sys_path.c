/* sys_path.c: names that come, go and change: mkdir, unlink, rename, link, symlink, readlink. */
#include <linux/fs.h>
#include "sys.h"

/* ---- making ---------------------------------------------------------------------------------- */
/* Makes something at a place where nothing may be; a link if there is a target. */
static long make_at(const struct place *place, uint32_t mode, const char *target) {
    struct node *made = NULL;
    if (!place->parent || (place->node && place->node->type))
        return -EEXIST;
    const struct node_operations *operations = place->parent->operations;
    if (!operations->make)
        return operations->refusal;
    long error = operations->make(place->parent, place->name, mode, target, &made);
    node_release(made);
    return error;
}

static long make_path(int directory, uint64_t path, uint32_t mode, const char *target) {
    struct place place;
    long error = walk_user(directory, (const char *)path, WALK_MISSING | WALK_NAME, &place);
    if (error)
        return error;
    if (target && place.directory)
        error = place.node ? -EEXIST : -ENOENT;
    else
        error = make_at(&place, mode, target);
    place_release(&place);
    return error;
}

static long make_directory(int directory, uint64_t path, uint32_t mode) {
    return make_path(directory, path, S_IFDIR | (mode & 01777 & ~file_mode_mask), NULL);
}

long sys_mkdir(const struct syscall_arguments *arguments) {
    return make_directory(AT_FDCWD, arguments->a[0], arguments->a[1]);
}

long sys_mkdirat(const struct syscall_arguments *arguments) {
    return make_directory(arguments->a[0], arguments->a[1], arguments->a[2]);
}

/* Only what mkdir's sibling open could make, too: there are no named pipes, and no devices to name. */
static long make_node(int directory, uint64_t path, uint32_t mode) {
    uint32_t type = mode & S_IFMT ? mode & S_IFMT : S_IFREG;
    if (type != S_IFREG)
        return type == S_IFDIR ? -EINVAL : -EPERM;
    return make_path(directory, path, S_IFREG | (mode & 07777 & ~file_mode_mask), NULL);
}

long sys_mknod(const struct syscall_arguments *arguments) {
    return make_node(AT_FDCWD, arguments->a[0], arguments->a[1]);
}

long sys_mknodat(const struct syscall_arguments *arguments) {
    return make_node(arguments->a[0], arguments->a[1], arguments->a[2]);
}

static long make_link(uint64_t target, int directory, uint64_t path) {
    static char copy[PATH_LIMIT];
    long error = user_path(copy, (const char *)target);
    if (error < 0)
        return error;
    return copy[0] ? make_path(directory, path, S_IFLNK | 0777, copy) : -ENOENT;
}

long sys_symlink(const struct syscall_arguments *arguments) {
    return make_link(arguments->a[0], AT_FDCWD, arguments->a[1]);
}

long sys_symlinkat(const struct syscall_arguments *arguments) {
    return make_link(arguments->a[0], arguments->a[1], arguments->a[2]);
}

/* ---- removing -------------------------------------------------------------------------------- */
static long remove_check(const struct place *place, bool is_directory) {
    static const long refusals[] = {
        [LAST_DOT] = -EINVAL, [LAST_DOTS] = -ENOTEMPTY, [LAST_ROOT] = -EBUSY};
    if (!place->parent)
        return is_directory ? refusals[place->last] : -EISDIR;
    if (!is_directory && place->directory)
        return node_may_be_directory(place->node) ? -EISDIR : -ENOTDIR;
    return place_busy(place);
}

static long remove_path(int directory, uint64_t path, bool is_directory) {
    struct place place;
    long error = walk_user(directory, (const char *)path, WALK_NAME, &place);
    if (error)
        return error;
    error = remove_check(&place, is_directory);
    if (error == 0) {
        const struct node_operations *operations = place.parent->operations;
        error = operations->remove ? operations->remove(place.parent, place.name, is_directory)
                                   : operations->refusal;
    }
    place_release(&place);
    return error;
}

long sys_unlink(const struct syscall_arguments *arguments) {
    return remove_path(AT_FDCWD, arguments->a[0], false);
}

long sys_rmdir(const struct syscall_arguments *arguments) {
    return remove_path(AT_FDCWD, arguments->a[0], true);
}

long sys_unlinkat(const struct syscall_arguments *arguments) {
    if (arguments->a[2] & ~(uint64_t)AT_REMOVEDIR)
        return -EINVAL;
    return remove_path(arguments->a[0], arguments->a[1], arguments->a[2] & AT_REMOVEDIR);
}

/* ---- rename, link ---------------------------------------------------------------------------- */
static long rename_places(struct place *from, struct place *to, bool replace) {
    if (!from->parent || !to->parent || place_busy(from) || place_busy(to))
        return -EBUSY;
    if (!from->node)
        return -ENOENT;
    bool moves_directory = node_may_be_directory(from->node);
    if (!moves_directory && (from->directory || to->directory))
        return -ENOTDIR;
    const struct node_operations *operations = from->parent->operations;
    if (operations != to->parent->operations)
        return -EXDEV;
    if (!operations->rename)
        return operations->refusal;
    return operations->rename(from->parent, from->name, to->parent, to->name, replace);
}

static long rename_paths(int from_directory, uint64_t from_path, int to_directory, uint64_t to_path,
                         unsigned flags) {
    const unsigned named = WALK_MISSING | WALK_NAME;
    struct place from, to;
    if (flags & ~(unsigned)RENAME_NOREPLACE)
        return -EINVAL;
    long error = walk_user(from_directory, (const char *)from_path, named, &from);
    if (error)
        return error;
    error = walk_user(to_directory, (const char *)to_path, named, &to);
    if (error == 0) {
        error = rename_places(&from, &to, !(flags & RENAME_NOREPLACE));
        place_release(&to);
    }
    place_release(&from);
    return error;
}

long sys_rename(const struct syscall_arguments *arguments) {
    return rename_paths(AT_FDCWD, arguments->a[0], AT_FDCWD, arguments->a[1], 0);
}

long sys_renameat(const struct syscall_arguments *arguments) {
    return rename_paths(arguments->a[0], arguments->a[1], arguments->a[2], arguments->a[3], 0);
}

long sys_renameat2(const struct syscall_arguments *arguments) {
    return rename_paths(arguments->a[0], arguments->a[1], arguments->a[2], arguments->a[3],
                        arguments->a[4]);
}

static long link_places(struct place *from, struct place *to) {
    if (!to->parent || (to->node && to->node->type))
        return -EEXIST;
    if (to->directory && !to->node)
        return -ENOENT;
    const struct node_operations *operations = from->node->operations;
    if (operations != to->parent->operations)
        return -EXDEV;
    if (!operations->link)
        return operations->refusal;
    return operations->link(from->node, to->parent, to->name);
}

static long link_paths(int from_directory, uint64_t from_path, int to_directory, uint64_t to_path,
                       int flags) {
    struct place from, to;
    if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    unsigned walk_flags =
        (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
    long error = walk_user(from_directory, (const char *)from_path, walk_flags, &from);
    if (error)
        return error;
    error = walk_user(to_directory, (const char *)to_path, WALK_MISSING | WALK_NAME, &to);
    if (error == 0) {
        error = link_places(&from, &to);
        place_release(&to);
    }
    place_release(&from);
    return error;
}

long sys_link(const struct syscall_arguments *arguments) {
    return link_paths(AT_FDCWD, arguments->a[0], AT_FDCWD, arguments->a[1], 0);
}

long sys_linkat(const struct syscall_arguments *arguments) {
    return link_paths(arguments->a[0], arguments->a[1], arguments->a[2], arguments->a[3],
                      arguments->a[4]);
}

/* ---- readlink -------------------------------------------------------------------------------- */
static long read_link(int directory, uint64_t path, void *to, int64_t room) {
    struct place place;
    if (room <= 0)
        return -EINVAL;
    if (room > PATH_LIMIT)
        room = PATH_LIMIT;
    if (!user_range_ok(to, room))
        return -EFAULT;
    long error = walk_user(directory, (const char *)path, WALK_EMPTY, &place);
    if (error)
        return error;
    bool may_be_link = node_is(place.node, S_IFLNK) || place.node->type == 0;
    long size = may_be_link && place.node->operations->read_link
                    ? place.node->operations->read_link(place.node, to, room)
                    : -EINVAL;
    place_release(&place);
    return size;
}

long sys_readlink(const struct syscall_arguments *arguments) {
    return read_link(AT_FDCWD, arguments->a[0], (void *)arguments->a[1], (int)arguments->a[2]);
}

long sys_readlinkat(const struct syscall_arguments *arguments) {
    return read_link(arguments->a[0], arguments->a[1], (void *)arguments->a[2],
                     (int)arguments->a[3]);
}
