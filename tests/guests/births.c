/* Makes children in every way there is; each says whether it still sees the path in argv[1]. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path;
static char **arguments;

static void say(const char *what) {
    struct stat found;
    char line[200];
    int length = snprintf(line, sizeof line, "%s: %s\n", what,
                          lstat(path, &found) == 0 ? "inside" : strerror(errno));
    if (write(1, line, length) != length) _exit(9);
}

static int child(void *what) {
    say(what);
    return 0;
}

static void cloned(const char *what, int flags) {
    static char stack[65536];
    int pid = clone(child, stack + sizeof stack, flags, (void *)what);
    if (pid < 0) printf("%s: %s\n", what, strerror(errno));
    else if (!(flags & CLONE_PARENT)) waitpid(pid, 0, __WALL);
}

/* As a C library does: clone3, and fork where it is refused. */
static void cloned3(const char *what, unsigned long long flags) {
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0 && errno == ENOSYS) pid = fork();
    if (pid == 0) {
        say(what);
        _exit(0);
    }
    waitpid(pid, 0, __WALL);
}

static void *execute(void *nothing) {
    (void)nothing;
    execl(arguments[0], arguments[0], path, "executed", (char *)0);
    return 0;
}

int main(int count, char **given) {
    path = given[1];
    arguments = given;
    setvbuf(stdout, 0, _IONBF, 0);
    if (count > 2) {
        say(given[2]);
        return 0;
    }
    cloned("clone", SIGCHLD);
    cloned("clone, untraced", CLONE_UNTRACED | SIGCHLD);
    cloned3("clone3", 0);
    cloned3("clone3, untraced", CLONE_UNTRACED);
    cloned("clone, vfork, shared memory", CLONE_VM | CLONE_VFORK | SIGCHLD);
    if (vfork() == 0) execl(given[0], given[0], path, "vfork and exec", (char *)0);
    wait(0);
    pid_t pid;
    char *words[] = {given[0], given[1], "posix_spawn", 0};
    if (posix_spawn(&pid, given[0], 0, 0, words, environ) == 0) waitpid(pid, 0, 0);
    if (fork() == 0) {
        cloned("clone, parent", CLONE_PARENT | SIGCHLD);
        _exit(0);
    }
    while (wait(0) > 0) {}
    int ends[2];
    if (pipe(ends)) return 1;
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            say("daemon");
            _exit(0);
        }
        _exit(0);
    }
    close(ends[1]);
    wait(0);
    while (read(ends[0], &pid, 1) > 0) {}
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        say("parent death signal");
        prctl(PR_SET_DUMPABLE, 0);
        say("not dumpable");
        if (fork() == 0) {
            say("child of one not dumpable");
            _exit(0);
        }
        wait(0);
        _exit(0);
    }
    wait(0);
    pthread_t thread;
    pthread_create(&thread, 0, execute, 0);
    pthread_join(thread, 0);
    return 1;
}
