/* vfs.c: from a path to a node: names, dots, links and mounts, as path_resolution(7) says. */
#include "vfs.h"

#define LINK_LIMIT 40

uint32_t file_mode_mask = 022;

static struct {
    struct node *node;
    char *path;
} working_directory;

struct node *node_hold(struct node *node) {
    node->references++;
    return node;
}

void node_release(struct node *node) {
    if (node && --node->references == 0 && node->operations->release)
        node->operations->release(node);
}

static size_t slashes(const char *text) {
    size_t count = 0;
    while (text[count] == '/')
        count++;
    return count;
}

/* ---- one walk -------------------------------------------------------------------------------- */
/* A walk never blocks, so there is only one at a time and its long buffers need no stack. */
static char walk_rest[PATH_LIMIT], walk_path[PATH_LIMIT], walk_link[PATH_LIMIT];

struct walk {
    struct node *node;
    struct node *parent;
    size_t path_size;
    const char *rest;
    unsigned flags;
    int links;
    int last;
    bool missing;
    bool wants_directory; /* a slash stood at the end, of the path or of the last link */
};

static void walk_step(struct walk *walk, struct node *to, struct node *parent) {
    node_release(walk->parent);
    if (walk->node != parent)
        node_release(walk->node);
    walk->node = to;
    walk->parent = parent;
}

static void path_pop(struct walk *walk) {
    while (walk_path[--walk->path_size] != '/')
        ;
}

static long path_push(struct walk *walk, const char *name, size_t size) {
    if (walk->path_size + 1 + size >= PATH_LIMIT)
        return -ENAMETOOLONG;
    walk_path[walk->path_size] = '/';
    memcpy(walk_path + walk->path_size + 1, name, size);
    walk->path_size += 1 + size;
    return 0;
}

static long walk_up(struct walk *walk) {
    struct node *parent = NULL;
    long error;
    if (walk->path_size == 0) {
        walk_step(walk, node_hold(walk->node), NULL);
        return 0;
    }
    bool leaves_mount = mount_at(walk_path, walk->path_size) != NULL;
    path_pop(walk);
    if (leaves_mount)
        error = node_at(walk_path, walk->path_size, &parent);
    else
        error = walk->node->operations->parent(walk->node, &parent);
    if (error == 0)
        walk_step(walk, parent, NULL);
    return error;
}

static long walk_root(struct walk *walk) {
    struct node *root = NULL;
    long error = node_at("", 0, &root);
    if (error)
        return error;
    walk_step(walk, root, NULL);
    walk->path_size = 0;
    return 0;
}

/* Puts the target of a link in front of what is left. */
static long walk_into_link(struct walk *walk, struct node *link, const char *rest) {
    if (++walk->links > LINK_LIMIT)
        return -ELOOP;
    long size = link->operations->read_link(link, walk_link, PATH_LIMIT);
    if (size < 0)
        return size;
    size_t left = strlen(rest);
    if (size == 0)
        return -ENOENT;
    if (size + left >= PATH_LIMIT)
        return -ENAMETOOLONG;
    memmove(walk_rest + size, rest, left + 1);
    memcpy(walk_rest, walk_link, size);
    walk->rest = walk_rest;
    return walk_rest[0] == '/' ? walk_root(walk) : 0;
}

static long walk_jump(struct walk *walk, struct node *link) {
    struct node *target = NULL;
    const char *path = NULL;
    long error = link->operations->jump(link, &target, &path);
    if (error)
        return error;
    size_t size = strlen(path);
    if (path[0] != '/' || size >= PATH_LIMIT)
        size = 0;
    memcpy(walk_path, path, size);
    walk->path_size = size;
    walk_step(walk, target, NULL);
    return 0;
}

static long walk_lookup(struct walk *walk, const char *name, size_t size, struct node **child) {
    const struct mount *mount = mount_at(walk_path, walk->path_size);
    if (!mount)
        return walk->node->operations->lookup(walk->node, name, size, child);
    *child = node_hold(mount->root);
    return 0;
}

/* One name; `rest` is what lies behind it, slashes included. */
static long walk_name(struct walk *walk, const char *name, size_t size, const char *rest) {
    struct node *child = NULL;
    if (size > NAME_LIMIT)
        return -ENAMETOOLONG;
    bool is_last = rest[slashes(rest)] == '\0';
    if (is_last && *rest == '/' && (walk->flags & WALK_CREATE))
        return -EISDIR;
    long error = path_push(walk, name, size);
    if (error)
        return error;
    error = walk_lookup(walk, name, size, &child);
    if (error == -ENOENT && is_last && (walk->flags & (WALK_MISSING | WALK_CREATE))) {
        walk->missing = true;
        walk->rest = rest;
        return 0;
    }
    if (error)
        return error;
    bool is_followed =
        !is_last || (walk->flags & WALK_FOLLOW) || (*rest == '/' && !(walk->flags & WALK_NAME));
    if (!node_is(child, S_IFLNK) || !is_followed) {
        walk_step(walk, child, walk->node);
        walk->rest = rest;
        return 0;
    }
    if (child->operations->jump) {
        error = walk_jump(walk, child);
        walk->rest = rest;
    } else {
        path_pop(walk);
        error = walk_into_link(walk, child, rest);
    }
    node_release(child);
    return error;
}

static long walk_all(struct walk *walk) {
    long error = 0;
    while (error == 0 && !walk->missing) {
        walk->wants_directory = walk->rest[0] == '/';
        walk->rest += slashes(walk->rest);
        const char *name = walk->rest;
        size_t size = 0;
        while (name[size] && name[size] != '/')
            size++;
        if (size == 0)
            return 0;
        if (!node_may_be_directory(walk->node))
            return -ENOTDIR;
        walk->rest = name + size;
        walk->last = name[0] != '.' || size > 2 ? LAST_NAME
                     : size == 1                ? LAST_DOT
                     : name[1] == '.'           ? LAST_DOTS
                                                : LAST_NAME;
        if (walk->last == LAST_DOT)
            walk_step(walk, node_hold(walk->node), NULL);
        else if (walk->last == LAST_DOTS)
            error = walk_up(walk);
        else
            error = walk_name(walk, name, size, walk->rest);
    }
    walk->wants_directory = walk->rest[0] == '/';
    return error;
}

static long walk_start(struct walk *walk, int directory) {
    struct node *node;
    const char *path;
    if (walk_rest[0] == '/')
        return walk_root(walk);
    if (directory == AT_FDCWD) {
        node = working_directory.node;
        path = working_directory.path;
    } else {
        struct file *file = file_of(directory);
        if (!file)
            return -EBADF;
        node = file->node;
        path = file->path;
        file_close(file); /* the descriptor keeps it */
    }
    if (!node || (walk_rest[0] && !node_may_be_directory(node)))
        return -ENOTDIR;
    walk->node = node_hold(node);
    walk->path_size = strlen(path);
    memcpy(walk_path, path, walk->path_size);
    return 0;
}

static long place_fill(struct place *place, struct walk *walk) {
    char *path = heap_alloc(walk->path_size + 1);
    if (!path)
        return -ENOMEM;
    memcpy(path, walk_path, walk->path_size);
    size_t name = walk->path_size;
    while (name > 0 && path[name - 1] != '/')
        name--;
    *place = (struct place){
        .node = walk->missing ? NULL : walk->node,
        .parent = walk->missing ? walk->node : walk->parent,
        .last = walk->last,
        .path = path,
        .name = path + name,
        .directory = walk->wants_directory,
        .follow = walk->wants_directory || (walk->flags & WALK_FOLLOW),
    };
    return 0;
}

long walk(int directory, const char *path, unsigned flags, struct place *place) {
    struct walk walk = {.flags = flags, .rest = walk_rest, .last = LAST_ROOT};
    size_t size = strlen(path);
    hostfs_refresh();
    if (size >= PATH_LIMIT)
        return -ENAMETOOLONG;
    if (size == 0 && !(flags & WALK_EMPTY))
        return -ENOENT;
    memmove(walk_rest, path, size + 1);
    long error = walk_start(&walk, directory);
    if (error == 0)
        error = walk_all(&walk);
    if (error == 0 && walk.wants_directory && !(flags & WALK_NAME) && !walk.missing &&
        !node_may_be_directory(walk.node))
        error = -ENOTDIR;
    if (error == 0)
        error = place_fill(place, &walk);
    if (error) {
        node_release(walk.node);
        node_release(walk.parent);
    }
    return error;
}

long walk_user(int directory, const char *path, unsigned flags, struct place *place) {
    static char copy[PATH_LIMIT];
    long error = user_path(copy, path);
    return error < 0 ? error : walk(directory, copy, flags, place);
}

void place_release(struct place *place) {
    node_release(place->node);
    node_release(place->parent);
    heap_free(place->path);
}

long place_busy(const struct place *place) {
    size_t size = strlen(place->path);
    const struct mount *mount;
    for (size_t i = 0; (mount = mount_get(i)); i++)
        if (mount->size >= size && memcmp(mount->path, place->path, size) == 0 &&
            (mount->size == size || mount->path[size] == '/'))
            return -EBUSY;
    return 0;
}

/* ---- the working directory ------------------------------------------------------------------- */
long directory_enter(struct node *node, const char *path) {
    size_t size = strlen(path) + 1;
    char *copy = heap_alloc(size);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, path, size);
    node_release(working_directory.node);
    heap_free(working_directory.path);
    working_directory.node = node_hold(node);
    working_directory.path = copy;
    return 0;
}

const char *directory_current(void) { return working_directory.path; }

long node_stat(struct node *node, bool follow, struct stat *status) {
    memset(status, 0, sizeof(*status));
    status->st_blksize = HL_PAGE_SIZE;
    return node->operations->stat(node, follow, status);
}
