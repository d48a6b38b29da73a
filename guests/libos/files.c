/* files.c: what there is before the program starts: mounts and the first three descriptors. */
#include "vfs.h"

_Noreturn static void give_up(const char *why, const char *what) {
    console_message("library OS: ");
    console_message(why);
    console_message(what);
    console_message("\n");
    guest_exit(127);
}

static void mount_or_give_up(const char *path, struct node *root, unsigned flags) {
    if (!root || mount_add(path, root, flags) != 0)
        give_up("no memory to mount ", path);
}

static void open_or_give_up(struct node *node, const char *path, int flags) {
    struct file *file;
    if (!node || file_of_node(node, path, flags, 0, &file) != 0 || descriptor_open(file, 0) < 0)
        give_up("no memory to open ", path);
    node_release(node);
}

static void open_standard(void) {
    struct node *null = NULL;
    if (node_at("/dev/null", strlen("/dev/null"), &null) != 0)
        give_up("no memory to open ", "/dev/null");
    open_or_give_up(null, "/dev/null", O_RDONLY);
    open_or_give_up(console_node(HL_CONSOLE_STDOUT), "pipe:[1]", O_WRONLY);
    open_or_give_up(console_node(HL_CONSOLE_STDERR), "pipe:[2]", O_WRONLY);
}

void files_init(void) {
    const struct hl_boot_info *info = boot_info();
    struct node *root = NULL;
    if (info->image_size == 0)
        give_up("there is no image", "");
    const char *wrong = image_load((const uint8_t *)info->image_address, info->image_size, &root);
    if (wrong)
        give_up("broken image: ", wrong);
    mount_or_give_up("", root, MOUNT_READ_ONLY);
    mount_or_give_up("/tmp", tmpfs_new(01777), 0);
    mount_or_give_up("/dev", devices_new(), 0);
    mount_or_give_up("/dev/shm", tmpfs_new(01777), 0);
    mount_or_give_up("/proc", procfs_new(), 0);
    mount_or_give_up("/sys", sysfs_new(), 0);
    if (etc_mount() != 0)
        give_up("no memory to mount ", "/etc");
    node_at("", 0, &root);
    if (directory_enter(root, "") != 0)
        give_up("no memory", "");
    node_release(root);
    open_standard();
}
