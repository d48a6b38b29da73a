/* etc.c: files of /etc that programs find a network by, where the image has none of its own. */
#include "tree.h"

#define ETC_DEVICE 7

/* The address at which inet_transfer.c asks the host; resolv.conf(5). */
static void fill_resolver(struct text *text) { text_string(text, "nameserver 127.0.0.53\n"); }

/* The host first: it lets a program reach the addresses it gave for a name. nsswitch.conf(5) */
static void fill_name_services(struct text *text) { text_string(text, "hosts: dns files\n"); }

static void fill_hosts(struct text *text) {
    text_string(text, "127.0.0.1\tlocalhost\n::1\tlocalhost\n");
}

static const struct {
    const char *path, *name;
    tree_fill *fill;
} etc_files[] = {
    {"/etc/resolv.conf", "resolv.conf", fill_resolver},
    {"/etc/nsswitch.conf", "nsswitch.conf", fill_name_services},
    {"/etc/hosts", "hosts", fill_hosts},
};

long etc_mount(void) {
    struct tree_node *root = tree_root(ETC_DEVICE);
    long error = 0;
    for (size_t i = 0; i < sizeof etc_files / sizeof *etc_files && error == 0; i++) {
        struct node *own = NULL;
        if (node_at(etc_files[i].path, strlen(etc_files[i].path), &own) == 0) {
            node_release(own);
            continue;
        }
        struct tree_node *file = tree_text(root, etc_files[i].name, etc_files[i].fill);
        error = file ? mount_add(etc_files[i].path, &file->node, MOUNT_READ_ONLY) : -ENOMEM;
    }
    return error;
}
