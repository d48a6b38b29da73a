/* syscall_sites.c: lets code that is loaded from files jump into the library OS where it would trap.
 *
 * Where KVM works on page tables a `syscall` costs several microseconds and leaves branch prediction
 * empty. Nearly all of libc's are `mov $number, %eax; syscall`. There the mov becomes a jump to an exit
 * of 21 bytes, which returns behind the syscall; the syscall itself stays, for whoever jumps to it and
 * for calls that a signal restarts. Neither the stack nor the flags are touched on the way. What a
 * program sees of it is its own code, if it compares that with the file.
 */
#include <linux/mman.h>
#include "process.h"

#define NUMBER_LIMIT 512
#define POOL_SIZE 0x4000UL

struct __attribute__((packed)) site {
    uint8_t mov_eax; /* 0xb8 */
    uint32_t number;
    uint16_t syscall; /* 0f 05 */
};

struct __attribute__((packed)) exit {
    uint8_t mov_eax;
    uint32_t number;
    uint8_t lea_rcx[3];
    int32_t to_return; /* from the end of this instruction */
    uint8_t mov_r11d[2];
    uint32_t entry;
    uint8_t jmp_r11[3];
};

#define MOV_EAX 0xb8
#define SYSCALL 0x050f
#define JMP 0xe9
#define JMP_SIZE 5

static struct {
    struct exit *next, *end;
} pool;

static bool reaches(const void *from, const void *to) {
    int64_t distance = (int64_t)to - (int64_t)from;
    return distance == (int32_t)distance;
}

/* Room for one more exit that the site can reach and that can reach it, or NULL. */
static struct exit *exit_take(const struct site *site) {
    if (pool.next == pool.end || !reaches(site, pool.next) || !reaches(pool.end, site)) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        int64_t place = memory_map(0, POOL_SIZE, PROT_READ | PROT_EXEC, flags, NULL, 0);
        if (place < 0)
            return NULL;
        pool.next = (struct exit *)place;
        pool.end = pool.next + POOL_SIZE / sizeof *pool.next;
    }
    return reaches(site, pool.next) && reaches(pool.end, site) ? pool.next++ : NULL;
}

static void redirect(struct site *site) {
    struct exit *exit = exit_take(site);
    if (!exit)
        return;
    *exit = (struct exit){
        .mov_eax = MOV_EAX,
        .number = site->number,
        .lea_rcx = {0x48, 0x8d, 0x0d},
        .to_return = (int32_t)((uint8_t *)(site + 1) - exit->mov_r11d),
        .mov_r11d = {0x41, 0xbb},
        .entry = (uint32_t)(uint64_t)syscall_direct_entry,
        .jmp_r11 = {0x41, 0xff, 0xe3},
    };
    site->mov_eax = JMP;
    site->number = (uint32_t)((uint8_t *)exit - ((uint8_t *)site + JMP_SIZE));
}

/* A REX prefix would make it a mov to another register. */
static bool is_site(const uint8_t *code, const uint8_t *begin) {
    struct site site;
    memcpy(&site, code, sizeof site);
    return site.mov_eax == MOV_EAX && site.number < NUMBER_LIMIT && site.syscall == SYSCALL &&
           (code == begin || (code[-1] & 0xf0) != 0x40);
}

void syscall_sites_redirect(uint64_t start, uint64_t end) {
    const uint8_t *begin = (const uint8_t *)start;
    for (uint8_t *code = (uint8_t *)start; code + sizeof(struct site) <= (uint8_t *)end; code++)
        if (code[sizeof(struct site) - 1] == SYSCALL >> 8 && is_site(code, begin))
            redirect((struct site *)code);
}

void syscall_sites_forget(void) { pool.next = pool.end = NULL; }
