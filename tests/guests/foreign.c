/* Calls by the gates of other ABIs: int 0x80 and the x32 numbers. Prints how each fares. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    long result;
    /* getpid is 20 in i386; 20 is writev in x86_64. */
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    printf("int 0x80: %s\n", result == -ENOSYS ? "ENOSYS" : result == getpid() ? "works" : "?");
    /* socket is 41 in x32 too. */
    result = syscall(0x40000000L + SYS_socket, 2, 1, 0);
    printf("x32: %s\n", result < 0 && errno == ENOSYS ? "ENOSYS" : "works");
    return 0;
}
