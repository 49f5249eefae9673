/* Counts what Python's allocators are asked for: calls that hand out memory, and bytes.

   A counter stands in front of the allocator of PyMem_Malloc (MEM) and that of objects (OBJ), and passes each call on.
   The declarations are those of CPython's documentation, so that no header of Python is needed. */

#include <stddef.h>

typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *block, size_t size);
    void (*free)(void *ctx, void *block);
} Allocator;

enum { MEM = 1, OBJ = 2 };

extern void PyMem_GetAllocator(int domain, Allocator *allocator);
extern void PyMem_SetAllocator(int domain, Allocator *allocator);

/* Both domains are used with the interpreter's lock held, so that plain numbers do. */
static unsigned long long own[2];
static unsigned long long *counted = own; /* calls, and bytes */
static Allocator mem, obj;

static void count(size_t size) {
    counted[0]++;
    counted[1] += size;
}

static void *count_malloc(void *ctx, size_t size) {
    Allocator *next = ctx;
    count(size);
    return next->malloc(next->ctx, size);
}

static void *count_calloc(void *ctx, size_t number, size_t size) {
    Allocator *next = ctx;
    count(number * size);
    return next->calloc(next->ctx, number, size);
}

static void *count_realloc(void *ctx, void *block, size_t size) {
    Allocator *next = ctx;
    count(size);
    return next->realloc(next->ctx, block, size);
}

static void pass_free(void *ctx, void *block) {
    Allocator *next = ctx;
    next->free(next->ctx, block);
}

static void stand_before(int domain, Allocator *next) {
    PyMem_GetAllocator(domain, next);
    Allocator counter = {next, count_malloc, count_calloc, count_realloc, pass_free};
    PyMem_SetAllocator(domain, &counter);
}

void start_counting(void) {
    stand_before(MEM, &mem);
    stand_before(OBJ, &obj);
}

/* As start_counting, in two numbers that the caller has, such as in a file that other processes read. */
void start_counting_in(unsigned long long *where) {
    counted = where;
    start_counting();
}

unsigned long long counted_calls(void) { return counted[0]; }

unsigned long long counted_bytes(void) { return counted[1]; }
