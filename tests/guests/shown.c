/* Says how it was called: as an interpreter of some format, or as a program. */
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	char text[4096];
	printf("called");
	for (int i = 0; i < count; i++)
		printf(" %s", arguments[i]);
	printf("\nflags %lu\nname %s\n", getauxval(AT_FLAGS), (char *)getauxval(AT_EXECFN));
	/* AT_EXECFD: the program, open for reading. */
	unsigned long file = getauxval(2);
	long got = file ? read(file, text, 7) : 0;
	if (file)
		printf("open %lu %.*s %ld\n", file, (int)got, text, lseek(file, 0, SEEK_CUR));
	printf("user %d\n", getauxval(AT_UID) == getuid() && getauxval(AT_PAGESZ) == 4096);
	long length = readlink("/proc/self/exe", text, sizeof text);
	if (length > 0)
		printf("program %.*s\n", (int)length, text);
	FILE *comm = fopen("/proc/self/comm", "r");
	if (comm && fgets(text, sizeof text, comm))
		printf("process %s", text);
	return 0;
}
