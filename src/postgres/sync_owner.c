/*-------------------------------------------------------------------------
 *
 * sync_owner.c
 *	  Whose rights a sync has.
 *
 * A sync belongs to the owner of its table.  View and queue are his too, as he
 * made them, but nothing keeps one of the three from being given to somebody
 * else; so a statement runs as the owner of what it reads and writes, and one
 * that reads and writes several runs only while they have one owner
 * (sync_definition.c).
 *
 * Whoever is in front of the server when that happens, the worker too, must
 * gain and lose nothing by it: the owner's code has no way back to his rights,
 * leaves nothing behind that would run with them at the end of the transaction,
 * and makes no setting that lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "sync.h"

Oid
llama_sync_relation_owner(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

bool
llama_sync_is_owner(const LlamaSync *sync)
{
	return has_privs_of_role(GetUserId(), sync->owner);
}

void
llama_sync_check_owner(const LlamaSync *sync)
{
	if (!llama_sync_is_owner(sync))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(sync->target));
}

LlamaSyncIdentity
llama_sync_become(Oid owner)
{
	LlamaSyncIdentity before = {.nest = NewGUCNestLevel()};

	GetUserIdAndSecContext(&before.user, &before.context);
	if (before.user != owner)
		SetUserIdAndSecContext(owner, before.context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	return before;
}

void
llama_sync_become_again(LlamaSyncIdentity before)
{
	SetUserIdAndSecContext(before.user, before.context);
	AtEOXact_GUC(false, before.nest);
}
