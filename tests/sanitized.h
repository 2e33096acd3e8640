/* sanitized.h - for tests: whether this one was compiled under a sanitizer of memory or threads. */
#ifndef GGUFC_TESTS_SANITIZED_H
#define GGUFC_TESTS_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#endif
