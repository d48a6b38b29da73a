/* snapshot.h: what the files around snapshots share. */
#ifndef HL_SNAPSHOT_H
#define HL_SNAPSHOT_H
#include <sys/types.h>
#include "internal.h"

/* The set of pages that may differ from vm->base (from zeros, if there is none). */
int dirty_pages(hl_vm *vm, struct page_set *set);
/* Starts KVM's log anew for these pages. */
int dirty_forget(hl_vm *vm, struct page_set *set);

/* The end of the run of pages from `page` on, up to `end`, that are zero in the snapshot (or in none). */
size_t release_run(const hl_snapshot *snapshot, size_t page, size_t end);
/* Gives back [first, end), which is zero in a snapshot related to vm->base. */
int release_pages(hl_vm *vm, size_t first, size_t end);

/* The page as the snapshot has it, or NULL for zeros. */
const uint8_t *snapshot_page(const hl_snapshot *snapshot, size_t page);
/* The same, but never NULL. */
const uint8_t *snapshot_bytes(const hl_snapshot *snapshot, size_t page);
/* A snapshot without pages over `parent`, of which it takes a reference; NULL and the reason on failure. */
hl_snapshot *snapshot_new(const struct hl_config *config, hl_snapshot *parent);
/* Gives it memory: a file as large as RAM and its mapping. The descriptor becomes the snapshot's. */
int snapshot_set_memory(hl_snapshot *snapshot, int fd);
/* -EINVAL and the difference if a VM made with `config` cannot take this snapshot. */
int snapshot_check_config(const hl_snapshot *snapshot, const struct hl_config *config);
/* All of it at its place in the file, or -errno. */
int write_all(int fd, const void *from, size_t size, off_t offset);
/* The oldest ancestor, which may be itself. */
const hl_snapshot *snapshot_root(const hl_snapshot *snapshot);
/* How many ancestors it has. */
size_t snapshot_depth(const hl_snapshot *snapshot);
/* Adds the pages of `from` and of its ancestors up to `to`: one of them, or NULL for all. */
void snapshot_add_path(struct page_set *set, const hl_snapshot *from, const hl_snapshot *to);
/* Takes another reference for *place and drops the one it held. */
void snapshot_assign(hl_snapshot **place, hl_snapshot *snapshot);
#endif
