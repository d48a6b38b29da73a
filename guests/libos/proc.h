/* proc.h: what the files of /proc and /sys share. */
#ifndef LIBOS_PROC_H
#define LIBOS_PROC_H
#include "tree.h"

/* proc_self.c: /proc/<id>; `to` is its directory. */
void proc_self_fill(struct tree_node *to);
/* proc_machine.c: the files about the machine as a whole. */
void proc_machine_fill(struct tree_node *to);
/* proc_fd.c: /proc/<id>/fd and fdinfo. */
extern const struct node_operations proc_fd_operations;
extern const struct node_operations proc_fdinfo_operations;

/* "name:    value kB" */
static inline void text_kilobytes(struct text *text, const char *name, uint64_t bytes) {
    text_string(text, name);
    text_string(text, ":\t");
    text_decimal(text, bytes / 1024);
    text_string(text, " kB\n");
}

static inline void text_field(struct text *text, const char *name, uint64_t value) {
    text_string(text, name);
    text_string(text, ":\t");
    text_decimal(text, value);
    text_string(text, "\n");
}

#endif
