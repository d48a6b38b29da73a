/* errno_names.h: from the errno name in a response to its number. */
#ifndef LIBOS_ERRNO_NAMES_H
#define LIBOS_ERRNO_NAMES_H
#include "hl_json.h"

/* The positive number, or 0 if the value is no name known here. */
long errno_of_name(struct hl_json_value name);

#endif
