/* procfs.c: the trees of /proc and /sys, as far as programs look for them: proc(5), sysfs(5). */
#include "proc.h"

#define PROC_DEVICE 3
#define SYS_DEVICE 4

struct node *procfs_new(void) {
    static char id[12];
    struct text text = {id, sizeof id - 1, 0};
    text_decimal(&text, PROCESS_ID);
    struct tree_node *root = tree_root(PROC_DEVICE);
    tree_link(root, "self", id);
    tree_link(root, "thread-self", id);
    tree_link(root, "mounts", "self/mounts");
    struct tree_node *self = tree_directory(root, id);
    if (!self)
        return NULL;
    proc_self_fill(self);
    proc_machine_fill(root);
    return &root->node;
}

static void fill_one_processor(struct text *text) { text_string(text, "0\n"); }

static void fill_huge_pages(struct text *text) { text_string(text, "always madvise [never]\n"); }

static void fill_huge_page_size(struct text *text) { text_string(text, "2097152\n"); }

struct node *sysfs_new(void) {
    struct tree_node *root = tree_root(SYS_DEVICE);
    struct tree_node *devices = tree_directory(root, "devices");
    struct tree_node *processors = tree_directory(tree_directory(devices, "system"), "cpu");
    tree_text(processors, "online", fill_one_processor);
    tree_text(processors, "possible", fill_one_processor);
    tree_text(processors, "present", fill_one_processor);
    tree_directory(processors, "cpu0");
    struct tree_node *memory = tree_directory(tree_directory(root, "kernel"), "mm");
    struct tree_node *huge = tree_directory(memory, "transparent_hugepage");
    tree_text(huge, "enabled", fill_huge_pages);
    tree_text(huge, "hpage_pmd_size", fill_huge_page_size);
    return root ? &root->node : NULL;
}
