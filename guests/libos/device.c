/* device.c: /dev: the bottomless devices, random numbers, the console and the doors to the host. */
#include "device.h"

#define DEVICES_DEVICE 5

static long null_read(struct file *file, void *to, size_t size, uint64_t offset) {
    (void)file, (void)to, (void)size, (void)offset;
    return 0;
}

static long null_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    (void)file, (void)from, (void)offset;
    return size;
}

static long zero_read(struct file *file, void *to, size_t size, uint64_t offset) {
    (void)file, (void)offset;
    memset(to, 0, size);
    return size;
}

static long full_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    (void)file, (void)from, (void)size, (void)offset;
    return -ENOSPC;
}

static long random_read(struct file *file, void *to, size_t size, uint64_t offset) {
    (void)file, (void)offset;
    random_bytes(to, size);
    return size;
}

static int64_t no_size(struct file *file) {
    (void)file;
    return 0;
}

static const struct file_operations null_operations = {
    .is_seekable = true, .read = null_read, .write = null_write, .size = no_size};
static const struct file_operations zero_operations = {
    .is_seekable = true, .read = zero_read, .write = null_write, .size = no_size};
static const struct file_operations full_operations = {
    .is_seekable = true, .read = zero_read, .write = full_write, .size = no_size};
static const struct file_operations random_operations = {
    .is_seekable = true, .read = random_read, .write = null_write, .size = no_size};

/* ---- the console ----------------------------------------------------------------------------- */
/* To the program a pipe whose other end the host has: not a terminal, and not seekable. */
static struct tree_node *consoles[2];

static long console_file_write(struct file *file, const void *from, size_t size, uint64_t offset) {
    uint32_t stream = file->node == &consoles[0]->node ? HL_CONSOLE_STDOUT : HL_CONSOLE_STDERR;
    (void)offset;
    console_write(stream, from, size);
    return size;
}

static unsigned console_poll(struct file *file, struct poll_set *set) {
    (void)file, (void)set;
    return POLLOUT | POLLWRNORM;
}

static const struct file_operations console_operations = {
    .write = console_file_write,
    .poll = console_poll,
};

struct node *console_node(uint32_t stream) {
    struct tree_node **console = &consoles[stream == HL_CONSOLE_STDERR];
    if (!*console)
        *console = tree_unattached(S_IFIFO | 0600, &console_operations);
    return *console ? node_hold(&(*console)->node) : NULL;
}

/* ---- the directory --------------------------------------------------------------------------- */
struct node *devices_new(void) {
    struct tree_node *root = tree_root(DEVICES_DEVICE);
    /* Numbers: the kernel's list of allocated devices, major 1; 10 are miscellaneous ones. */
    tree_device(root, "null", 1, 3, &null_operations);
    tree_device(root, "zero", 1, 5, &zero_operations);
    tree_device(root, "full", 1, 7, &full_operations);
    tree_device(root, "random", 1, 8, &random_operations);
    tree_device(root, "urandom", 1, 9, &random_operations);
    tree_device(root, "hl-call", 10, 240, &call_operations);
    tree_device(root, "hl-serve", 10, 241, &serve_operations);
    tree_link(root, "fd", "/proc/self/fd");
    tree_link(root, "stdin", "/proc/self/fd/0");
    tree_link(root, "stdout", "/proc/self/fd/1");
    tree_link(root, "stderr", "/proc/self/fd/2");
    return root ? &root->node : NULL;
}
