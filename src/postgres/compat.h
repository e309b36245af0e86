/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between the server versions that llama3 is written for,
 *	  PostgreSQL 15 to 19.
 *
 * Code elsewhere tests no version number: what differs gets a name here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LLAMA3_COMPAT_H
#define LLAMA3_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "llama3 needs PostgreSQL 15 or later"
#endif

#endif							/* LLAMA3_COMPAT_H */
