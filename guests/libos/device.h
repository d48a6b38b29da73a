/* device.h: what the files of /dev share. */
#ifndef LIBOS_DEVICE_H
#define LIBOS_DEVICE_H
#include "tree.h"

/* frame_device.c: /dev/hl-call and /dev/hl-serve. */
extern const struct file_operations call_operations;
extern const struct file_operations serve_operations;

#endif
